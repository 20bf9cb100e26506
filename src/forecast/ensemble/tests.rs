//! The bound on the regret, the change of the best expert, and what never happens whatever the experts say.

use proptest::prelude::*;

use super::*;
use crate::accuracy::pinball;

const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
const STEP: Span = Span::from_minutes(1);

/// Numbers in [0, 1) that look random.
fn noise(i: usize, salt: usize) -> f64 {
    let mixed =
        (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (salt as u64 + 7).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Loss of the learner's mix, and the losses of the experts, over a stream.
fn play(learner: Learner, level: f64, stream: &[(Vec<f64>, f64)]) -> (f64, Vec<f64>) {
    let experts = stream[0].0.len();
    let mut own = Bernstein::new(learner, experts);
    let (mut mixed, mut each) = (0.0, vec![0.0; experts]);
    for (said, actual) in stream {
        mixed += pinball(*actual, own.observe(said, *actual, level).unwrap(), level);
        for (sum, value) in each.iter_mut().zip(said) {
            *sum += pinball(*actual, *value, level);
        }
    }
    (mixed, each)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Losses of values in [0, 1] are in [0, 1]: the regret is at most of the order of sqrt(T ln K) + ln K, whoever plays
    /// against the learner. The constant is that of theorem 3.1 with adaptive rates, rounded up.
    #[test]
    fn the_regret_against_the_best_expert_is_bounded(
        experts in 2_usize..12,
        level in prop::sample::select(vec![0.05, 0.5, 0.9, 0.99]),
        gradient in any::<bool>(),
        stream in prop::collection::vec((prop::collection::vec(0.0_f64..1.0, 12), 0.0_f64..1.0), 1..400),
        switch in 1_usize..60,
    ) {
        // Now and then one expert is perfect for a while, which is what hurts a learner most.
        let stream: Vec<(Vec<f64>, f64)> = stream.into_iter().enumerate().map(|(i, (mut said, actual))| {
            said.truncate(experts);
            said[(i / switch) % experts] = actual;
            (said, actual)
        }).collect();
        let (mixed, each) = play(Learner { half_life: None, gradient, rate: 1.0 }, level, &stream);
        let best = each.iter().fold(f64::INFINITY, |best, loss| best.min(*loss));
        let (rounds, logs) = (stream.len() as f64, (experts as f64).ln());
        let bound = 2.5 * (rounds * logs).sqrt() + 4.0 * logs + 2.0;
        prop_assert!(mixed - best <= bound, "regret {} over {bound}", mixed - best);
    }

    #[test]
    fn quantiles_are_finite_and_ordered_whatever_the_experts_say(
        rows in prop::collection::vec(prop::collection::vec(prop_oneof![
            5 => 0.0_f64..1e12, 1 => Just(0.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(-1.0),
        ], 3 * 4), 40),
        values in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![0.0_f64..1e9, Just(f64::NAN)]), 40),
    ) {
        let mut ensemble = Ensemble::new(&settings(), &LEVELS, STEP, 4);
        for (i, (row, value)) in rows.iter().zip(&values).enumerate() {
            let origin = Timestamp::from_millis(60_000 * i as i64);
            ensemble.observe(origin, *value);
            let said: Said = [ModelKind::Naive, ModelKind::Ses].into_iter().enumerate().map(|(e, kind)| {
                let mut rows = Rows::new(3, 4);
                (0..4).for_each(|k| rows.push((0..3).map(|q| row[3 * k + (q + e) % 3])));
                (kind, rows)
            }).collect();
            if let Some(mixed) = ensemble.combine(&said) {
                prop_assert!(mixed.len() == 4 && mixed.iter().all(<[f64]>::is_sorted), "{mixed:?}");
                prop_assert!(mixed.iter().flatten().all(|value| value.is_finite() && *value >= 0.0), "{mixed:?}");
            }
            ensemble.expect(origin, &said);
        }
    }
}

fn settings() -> EnsembleSettings {
    EnsembleSettings { experts: vec![ModelKind::Naive, ModelKind::Ses, ModelKind::Holt], ..EnsembleSettings::default() }
}

/// Constant rows: each expert says its value plus a spread of ±2.
fn said(values: &[f64]) -> Said {
    let kinds = [ModelKind::Naive, ModelKind::Ses, ModelKind::Holt];
    let rows = |value: f64| Rows::from(&[[value - 2.0, value, value + 2.0]; 4][..]);
    kinds
        .into_iter()
        .zip(values)
        .filter(|(_, value)| value.is_finite())
        .map(|(kind, value)| (kind, rows(*value)))
        .collect()
}

/// Runs a stream of `(what the experts say, what comes two steps later)` and gives the mean absolute error of the mix in
/// each fifth.
fn errors(count: usize, stream: impl Fn(usize) -> ([f64; 3], f64)) -> (Ensemble, Vec<f64>) {
    let mut ensemble = Ensemble::new(&settings(), &LEVELS, STEP, 4);
    let mut errors = vec![0.0; 5];
    for i in 0..count {
        let origin = Timestamp::from_millis(60_000 * i as i64);
        ensemble.observe(origin, i.checked_sub(2).map(|earlier| stream(earlier).1));
        let (values, actual) = stream(i);
        let said = said(&values);
        let mixed = ensemble.combine(&said).unwrap();
        errors[5 * i / count] += (mixed[1][1] - actual).abs() * 5.0 / count as f64;
        ensemble.expect(origin, &said);
    }
    (ensemble, errors)
}

#[test]
fn after_a_change_the_mix_follows_the_expert_that_is_best_then() {
    // The first is right in the first half, the second in the other.
    let (_, errors) = errors(5000, |i| {
        let actual = 100.0 + 10.0 * noise(i, 1);
        let off = 10.0 + 10.0 * noise(i, 2);
        let (one, two) =
            if i < 2500 { (actual + noise(i, 3), actual + off) } else { (actual + off, actual + noise(i, 3)) };
        ([one, two, actual - 2.0 * off], actual)
    });
    assert!(errors[1] < 1.0 && errors[4] < 1.0, "{errors:?}");
}

#[test]
fn two_experts_that_err_to_either_side_are_mixed() {
    let (_, errors) = errors(3000, |i| {
        let actual = 50.0 + 30.0 * noise(i, 1);
        ([actual + 6.0, actual - 4.0, actual + 30.0 * (noise(i, 4) - 0.5)], actual)
    });
    assert!(errors[4] < 1.5, "{errors:?}");
}

#[test]
fn an_expert_that_sleeps_keeps_its_standing_and_the_others_go_on() {
    let (ensemble, errors) = errors(3000, |i| {
        let actual = 100.0 + 20.0 * noise(i, 1);
        let asleep = (1000..2000).contains(&i);
        ([if asleep { f64::NAN } else { actual + noise(i, 2) }, actual + 5.0, actual + 9.0], actual)
    });
    assert!(errors[0] < 1.0 && errors[2] < 6.0 && errors[4] < 1.0, "{errors:?}");
    let weights = ensemble.weights(2, 0.5).unwrap();
    assert!((weights.values().sum::<f64>() - 1.0).abs() < 1e-9 && weights[&ModelKind::Naive] > 0.8, "{weights:?}");
}

#[test]
fn another_model_in_place_of_a_bad_expert_begins_where_the_best_stands() {
    let (mut ensemble, _) = errors(2000, |i| {
        let actual = 100.0 + 20.0 * noise(i, 1);
        ([actual + noise(i, 2), actual + 5.0, actual + 30.0], actual)
    });
    let weight = |ensemble: &Ensemble| ensemble.weights(2, 0.5).unwrap()[&ModelKind::Holt];
    assert!(weight(&ensemble) < 0.05, "{}", weight(&ensemble));
    ensemble.renew(ModelKind::Holt);
    assert!(weight(&ensemble) > 0.2, "{}", weight(&ensemble));
    // One that is not there changes nothing.
    let before = ensemble.clone();
    ensemble.renew(ModelKind::Lstm);
    assert_eq!(ensemble, before);
}

#[test]
fn nothing_that_is_unknown_yet_moves_a_weight() {
    let mut ensemble = Ensemble::new(&settings(), &LEVELS, STEP, 4);
    let fresh = ensemble.combine(&said(&[1.0, 2.0, 30.0])).unwrap();
    for i in 0..100 {
        ensemble.expect(Timestamp::from_millis(60_000 * i), &said(&[1.0, 2.0, 30.0]));
        // Only windows before the first target, and gaps.
        ensemble.observe(Timestamp::from_millis(60_000 * i), if i == 0 { Some(1e9) } else { None });
    }
    assert_eq!(fresh, ensemble.combine(&said(&[1.0, 2.0, 30.0])).unwrap());
}

#[test]
fn state_read_from_bytes_goes_on_in_the_same_way() {
    let stream = |i: usize| ([100.0 + noise(i, 1), 101.0, 90.0 + 20.0 * noise(i, 2)], 100.0 + 2.0 * noise(i, 3));
    let (mut one, _) = errors(500, stream);
    let mut two: Ensemble = serde_json::from_slice(&serde_json::to_vec(&one).unwrap()).unwrap();
    assert_eq!(one, two);
    for i in 500..600 {
        for ensemble in [&mut one, &mut two] {
            ensemble.observe(Timestamp::from_millis(60_000 * i), Some(stream(i as usize).1));
        }
    }
    assert_eq!(serde_json::to_vec(&one).unwrap(), serde_json::to_vec(&two).unwrap());
    assert_eq!(one.combine(&said(&[1.0, 2.0, 3.0])), two.combine(&said(&[1.0, 2.0, 3.0])));
}

#[test]
fn without_a_sound_forecast_there_is_no_mix() {
    let ensemble = Ensemble::new(&settings(), &LEVELS, STEP, 4);
    assert_eq!(ensemble.combine(&Said::new()), None);
    assert_eq!(ensemble.combine(&Said::from([(ModelKind::Naive, Rows::from(&[[f64::NAN; 3]; 4][..]))])), None);
    assert_eq!(ensemble.combine(&Said::from([(ModelKind::Lstm, Rows::from(&[[1.0; 3]; 4][..]))])), None);
}

#[test]
fn quantiles_that_are_learnt_side_by_side_learn_what_each_does_alone() {
    // More than one vector's, and one left over.
    let levels: Vec<f64> = (1..=2 * LANES + 1).map(|q| q as f64 / (2 * LANES + 2) as f64).collect();
    let mut together = Ensemble::new(&settings(), &levels, STEP, 4);
    let mut alone: Vec<Ensemble> = levels.iter().map(|level| Ensemble::new(&settings(), &[*level], STEP, 4)).collect();
    for i in 0..300 {
        let origin = Timestamp::from_millis(60_000 * i as i64);
        let actual = Some(100.0 + 10.0 * noise(i, 1));
        let of = |e: usize, q: usize| 95.0 + 10.0 * noise(i, 2 + e) + levels[q] * 20.0 * noise(i, 9 + e);
        let said = |from: usize, to: usize| -> Said {
            let each = settings().experts.into_iter().enumerate().filter(|(e, _)| i % 7 != 3 || *e > 0);
            each.map(|(e, kind)| {
                let mut rows = Rows::new(to - from, 4);
                (0..4).for_each(|_| rows.push((from..to).map(|q| of(e, q))));
                (kind, rows)
            })
            .collect()
        };
        together.observe(origin, actual);
        together.expect(origin, &said(0, levels.len()));
        let mixed = together.combine(&said(0, levels.len())).unwrap();
        for (q, own) in alone.iter_mut().enumerate() {
            own.observe(origin, actual);
            own.expect(origin, &said(q, q + 1));
            let by_itself = own.combine(&said(q, q + 1)).unwrap();
            // Rearrangement may have moved it to another level.
            assert!(mixed[1].contains(&by_itself[1][0]), "{i} {q}: {:?} {}", &mixed[1], by_itself[1][0]);
            assert_eq!(own.weights(2, levels[q]), together.weights(2, levels[q]), "{i} {q}");
        }
    }
}
