//! What is believed of generated loads: hardly ever a dependency where there is none, and the right one where there is one.

use std::f64::consts::TAU;

use prescale_domain::{QuantileForecast, ServiceName};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::*;

const SEEDS: u64 = 500;
/// Two days of minutes.
const WINDOWS: usize = 2880;
const START: Timestamp = Timestamp::from_millis(1_774_000_800_000);
const MINUTE: Span = Span::from_minutes(1);

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Noise that keeps so much of itself from window to window, with standard deviation 1; with 1 it wanders in steps of 1.
fn kept(rng: &mut ChaCha8Rng, keeps: f64, windows: usize) -> Vec<f64> {
    let step = if keeps < 1.0 { (1.0 - keeps * keeps).sqrt() } else { 1.0 };
    let mut level = if keeps < 1.0 { normal(rng) } else { 0.0 };
    let next = |_| {
        level = level * keeps + step * normal(rng);
        level
    };
    (0..windows).map(next).collect()
}

/// Learns window by window; every half hour there is a look.
fn learn(caller: &[f64], callee: &[f64], mut look: impl FnMut(&DependencyLearner)) -> DependencyLearner {
    let (settings, mut learner, mut at) = (DependencySettings::default(), DependencyLearner::default(), START);
    for (number, (caller, callee)) in caller.iter().zip(callee).enumerate() {
        learner.observe(at, Some(*caller), Some(*callee), &settings);
        at = at + settings.step;
        if number % 30 == 29 {
            look(&learner);
        }
    }
    learner
}

/// Two such loads are taken for dependent in no more than one of a hundred seeds, over all looks together.
#[track_caller]
fn is_hardly_ever_mistaken(name: &str, make: impl Fn(&mut ChaCha8Rng) -> [Vec<f64>; 2]) {
    let settings = DependencySettings::default();
    let wrong = |seed: &u64| {
        let [caller, callee] = make(&mut ChaCha8Rng::seed_from_u64(*seed));
        let mut ever = false;
        learn(&caller, &callee, |learner| ever |= learner.dependency(&settings).is_some());
        ever
    };
    let found = (0..SEEDS).filter(wrong).count();
    assert!(found <= SEEDS as usize / 100, "{name}: {found} of {SEEDS}");
}

#[test]
fn two_loads_that_wander_are_not_dependent() {
    let wander = |rng: &mut ChaCha8Rng| kept(rng, 1.0, WINDOWS).iter().map(|level| 500.0 + 5.0 * level).collect();
    is_hardly_ever_mistaken("random walks", |rng| [wander(rng), wander(rng)]);
}

#[test]
fn two_loads_that_are_noise_are_not_dependent() {
    let noisy = |rng: &mut ChaCha8Rng| {
        let keeps = rng.random_range(0.0..0.99);
        kept(rng, keeps, WINDOWS).iter().map(|noise| 500.0 + 50.0 * noise).collect()
    };
    is_hardly_ever_mistaken("AR(1)", |rng| [noisy(rng), noisy(rng)]);
}

/// A day as a wave, and as office hours with a ramp at each end.
fn days(office: bool, minute: usize) -> f64 {
    let angle = TAU * minute as f64 / 1440.0;
    let within = (minute % 1440) as f64;
    match office {
        false => 0.4 * angle.sin() + 0.15 * (2.0 * angle).cos(),
        true => ((within - 480.0) / 60.0).clamp(0.0, 1.0) - ((within - 1020.0) / 120.0).clamp(0.0, 1.0),
    }
}

fn share_a_day(office: bool, noise: f64) -> impl Fn(&mut ChaCha8Rng) -> [Vec<f64>; 2] {
    let make = move |rng: &mut ChaCha8Rng| -> Vec<f64> {
        let (size, keeps) = (rng.random_range(50.0..2000.0), rng.random_range(0.0..0.95));
        let noises = kept(rng, keeps, WINDOWS);
        noises.iter().enumerate().map(|(at, own)| size * (1.0 + days(office, at)) * (1.0 + noise * own)).collect()
    };
    move |rng| [make(rng), make(rng)]
}

#[test]
fn two_loads_that_share_a_day_are_not_dependent() {
    for noise in [0.01, 0.05, 0.2] {
        is_hardly_ever_mistaken(&format!("wave, noise {noise}"), share_a_day(false, noise));
    }
}

#[test]
fn two_loads_that_share_office_hours_are_not_dependent() {
    for noise in [0.01, 0.05, 0.2] {
        is_hardly_ever_mistaken(&format!("office hours, noise {noise}"), share_a_day(true, noise));
    }
}

#[test]
fn two_loads_that_fail_together_are_not_dependent() {
    let make = |rng: &mut ChaCha8Rng| {
        let mut loads = [0, 1].map(|_| {
            let keeps = rng.random_range(0.0..0.95);
            kept(rng, keeps, WINDOWS).iter().map(|noise| 500.0 + 50.0 * noise).collect::<Vec<_>>()
        });
        for _ in 0..3 {
            let (from, long) = (rng.random_range(0..WINDOWS - 60), rng.random_range(1..60));
            loads.iter_mut().for_each(|loads| loads[from..from + long].fill(0.0));
        }
        loads
    };
    is_hardly_ever_mistaken("three outages", make);
}

/// Of a true dependency: the caller's loads, the callee's, lag and ratio.
fn depend(rng: &mut ChaCha8Rng) -> (Vec<f64>, Vec<f64>, usize, f64) {
    let (lag, ratio) = (rng.random_range(0..=10_usize), 0.3 * 10.0_f64.powf(rng.random()));
    let (share, keeps, own) = (rng.random_range(0.05..0.3), rng.random_range(0.0..1.0), rng.random_range(0.0..0.95));
    let wave = |at: usize| 1.0 + 0.4 * (TAU * at as f64 / 1440.0).sin();
    let noise = kept(rng, keeps, WINDOWS + lag);
    let caller: Vec<f64> = noise.iter().enumerate().map(|(at, noise)| 500.0 * (wave(at) + 0.1 * noise)).collect();
    let rest = kept(rng, own, WINDOWS);
    let callee = (0..WINDOWS).map(|at| 100.0 + ratio * caller[at] * (1.0 + share * rest[at])).collect();
    (caller[lag..].to_vec(), callee, lag, ratio)
}

#[test]
fn a_dependency_is_found_with_its_lag_and_ratio() {
    let settings = DependencySettings::default();
    let (mut found, mut exact, mut near, mut ratios, mut hours) = (0, 0, 0, 0, Vec::new());
    for seed in 0..SEEDS {
        let (caller, callee, lag, ratio) = depend(&mut ChaCha8Rng::seed_from_u64(seed));
        let (mut looks, mut first) = (0, None);
        let learner = learn(&caller, &callee, |learner| {
            looks += 1;
            if first.is_none() && learner.dependency(&settings).is_some() {
                first = Some(looks);
            }
        });
        hours.extend(first.map(|look| f64::from(look) / 2.0));
        let Some(dependency) = learner.dependency(&settings) else { continue };
        let off = (dependency.lag as usize).abs_diff(lag);
        found += 1;
        exact += usize::from(off == 0);
        near += usize::from(off <= 1);
        ratios += usize::from((dependency.ratio / ratio - 1.0).abs() <= 0.15);
    }
    hours.sort_by(f64::total_cmp);
    let median = hours[hours.len() / 2];
    let enough = SEEDS as usize * 95 / 100;
    assert!(exact >= enough && near >= enough && ratios >= enough, "{found}: lag {exact}, {near}, ratio {ratios}");
    assert!(median <= 6.0, "{median} hours");
}

fn forecast(origin: Timestamp, levels: &[f64], values: Vec<Vec<f64>>) -> QuantileForecast {
    QuantileForecast {
        service: ServiceName::new("backend"),
        origin,
        step: MINUTE,
        model: "holt".to_owned(),
        reason: "champion".to_owned(),
        levels: levels.to_vec(),
        values,
    }
}

fn dependency(lag: u32, noise: f64) -> Dependency {
    Dependency {
        at: START,
        step: MINUTE,
        lag,
        ratio: 3.0,
        base: 10.0,
        daily: [0.0; 4],
        rest: Some(8.0),
        persistence: 0.5,
        noise,
        explained: 0.74,
        chance: 1e-30,
        windows: 1300,
    }
}

#[test]
fn a_rise_of_the_caller_reaches_the_callee_after_the_lag() {
    let own = forecast(START, &[0.1, 0.5, 0.9], vec![vec![10.0, 20.0, 30.0]; 4]);
    // Two windows are known, one is not, the last is the caller's forecast.
    let known = [Some(7.0), Some(5.0), None];
    let ahead = forecast(START, &[0.1, 0.5, 0.9], vec![vec![6.0, 8.0, 12.0]; 4]);
    let (lifted, by) = lift(&own, &dependency(2, 0.0), &known, Some(&ahead)).unwrap();
    // 10 + 3 × 5 + 8 / 2, 10 + 3 × 7 + 8 / 4, then 10 + 3 × (6, 8, 12) + 8 / 8 and + 8 / 16.
    let wanted = [[29.0, 29.0, 30.0], [33.0, 33.0, 33.0], [29.0, 35.0, 47.0], [28.5, 34.5, 46.5]];
    assert_eq!(lifted.values, wanted);
    assert_eq!(by, 23.0);
    // Without the caller's forecast, what is known tells two windows.
    let (near, _) = lift(&own, &dependency(2, 0.0), &known, None).unwrap();
    assert_eq!(near.values[..2], lifted.values[..2]);
    assert_eq!(near.values[2..], own.values[2..]);
    // Nothing is known that far back, the forecast is of other windows, or the last loads were not known.
    assert_eq!(lift(&own, &dependency(4, 0.0), &known[2..], None), None);
    assert_eq!(
        lift(&QuantileForecast { step: Span::from_minutes(5), ..own.clone() }, &dependency(2, 0.0), &known, None),
        None
    );
    assert_eq!(lift(&own, &Dependency { rest: None, ..dependency(2, 0.0) }, &known, None), None);
}

#[test]
fn a_dependency_reads_as_a_sentence() {
    let found = dependency(3, 1.0);
    let words = "`api` has 3.00 of load for each of `web` 3m before: that explains 74 % of what its own past leaves open, in \
                 1300 windows";
    assert_eq!(found.sentence("web", "api"), words);
    assert!(Dependency { lag: 0, ..found }.sentence("web", "api").contains("in the same window"));
}

#[test]
fn gaps_disorder_and_nonsense_teach_nothing_wrong() {
    let (caller, callee, lag, _) = depend(&mut ChaCha8Rng::seed_from_u64(3));
    let settings = DependencySettings::default();
    let mut learner = DependencyLearner::default();
    for (number, (caller, callee)) in caller.iter().zip(&callee).enumerate() {
        let at = START + Span::from_minutes(number as i64);
        match number % 40 {
            // A window that nobody tells, one that is told as nothing, and one that is no load.
            11 => continue,
            12 => learner.observe(at, None, Some(*callee), &settings),
            13 => learner.observe(at, Some(*caller), Some(f64::NAN), &settings),
            _ => learner.observe(at, Some(*caller), Some(*callee), &settings),
        }
        // Again, late, and other than before.
        learner.observe(at, Some(0.0), Some(1e9), &settings);
        learner.observe(START, Some(1e9), Some(0.0), &settings);
    }
    let found = learner.dependency(&settings).unwrap();
    assert_eq!(found.lag as usize, lag);
    let undisturbed = learn(&caller, &callee, |_| ()).dependency(&settings).unwrap();
    assert!((found.ratio / undisturbed.ratio - 1.0).abs() < 0.1, "{found:?} and {undisturbed:?}");
    // It lives on in a store, and is no larger for having lived.
    let stored = serde_json::to_vec(&learner).unwrap();
    assert_eq!(serde_json::from_slice::<DependencyLearner>(&stored).unwrap(), learner);
    assert!(stored.len() < 200_000, "{}", stored.len());
    // A load that never changes explains nothing.
    let still = learn(&vec![9.0; 500], &callee[..500], |_| ());
    assert_eq!(still.dependency(&settings), None);
    let still = learn(&caller[..500], &vec![9.0; 500], |_| ());
    assert_eq!(still.dependency(&settings), None);
}

/// With a lag, a crowd at the caller is known at the callee before it is there.
#[test]
fn a_crowd_at_the_caller_is_covered_at_the_callee() {
    let settings = DependencySettings::default();
    let (mut covered, mut covered_lifted, mut looks) = (0, 0, 0);
    for seed in 0..40 {
        let (mut caller, callee, lag, ratio) = depend(&mut ChaCha8Rng::seed_from_u64(seed));
        if lag == 0 {
            continue;
        }
        // Three times as many come now, and reach the callee after the lag.
        let now = WINDOWS - lag;
        caller[now] *= 3.0;
        let learner = learn(&caller[..=now], &callee[..=now], |_| ());
        let Some(found) = learner.dependency(&settings) else { continue };
        // A forecast that knows of the callee alone: its load of now, give or take a third.
        let load = callee[now];
        let own = forecast(found.at, &[0.5, 0.9], vec![vec![load, load * 1.33]; lag]);
        let lifted = lift(&own, &found, &learner.known(), None).map_or(own.clone(), |(lifted, _)| lifted);
        let crowd = 100.0 + ratio * caller[now];
        looks += 1;
        covered += usize::from(own.values[lag - 1][1] >= crowd);
        covered_lifted += usize::from(lifted.values[lag - 1][1] >= crowd);
    }
    assert!(looks >= 25 && covered * 10 <= looks && covered_lifted * 10 >= looks * 9, "{covered_lifted} of {looks}");
}

/// Away from crowds, a quantile that is lifted where the caller says so is the better one.
#[test]
fn a_lifted_quantile_loses_less() {
    const LEVEL: f64 = 0.9;
    let settings = DependencySettings::default();
    let (mut looks, mut covered, mut loss) = (0_u32, [0_u32; 2], [0.0; 2]);
    for seed in 0..60 {
        let (caller, callee, lag, _) = depend(&mut ChaCha8Rng::seed_from_u64(seed));
        if lag == 0 {
            continue;
        }
        // What the callee's own past tells: its last load, and how far loads have moved so far ahead on the day before.
        let mut moves: Vec<f64> = (0..1440 - lag).map(|at| callee[at + lag] - callee[at]).collect();
        moves.sort_by(f64::total_cmp);
        let of = |level: f64| moves[(level * moves.len() as f64) as usize];
        learn(&caller, &callee, |learner| {
            let Some(found) = learner.dependency(&settings) else { return };
            let now = found.at.since(START).steps_up(MINUTE);
            let Some(load) = (now > 1440).then(|| callee.get(now + lag)).flatten() else { return };
            let row = [0.5, LEVEL].map(|level| (callee[now] + of(level)).max(0.0)).to_vec();
            let own = forecast(found.at, &[0.5, LEVEL], vec![row; lag]);
            let lifted = lift(&own, &found, &learner.known(), None).map_or(own.clone(), |(lifted, _)| lifted);
            looks += 1;
            for (at, forecast) in [&own, &lifted].into_iter().enumerate() {
                let off = (load - forecast.values[lag - 1][1]) / callee[now];
                covered[at] += u32::from(off <= 0.0);
                loss[at] += if off > 0.0 { LEVEL * off } else { (LEVEL - 1.0) * off };
            }
        });
    }
    let share = covered.map(|covered| f64::from(covered) / f64::from(looks));
    let loss = loss.map(|loss| loss / f64::from(looks));
    assert!(looks > 1000 && share[1] >= share[0] && share[1] >= 0.9 && loss[1] < loss[0], "{share:?}, {loss:?}");
}

proptest! {
    /// A forecast only ever rises and stays one, whatever was learnt and is known.
    #[test]
    fn a_lifted_forecast_is_a_forecast(
        rows in prop::collection::vec(prop::array::uniform3(0.0f64..100.0), 1..20),
        ahead in prop::collection::vec(prop::array::uniform3(0.0f64..100.0), 0..20),
        known in prop::collection::vec(prop::option::of(0.0f64..100.0), 0..20),
        (lag, noise, rest, persistence) in (0u32..12, 0.0f64..20.0, -200.0f64..200.0, 0.0f64..=1.0),
        later in -5i64..5,
    ) {
        let sorted = |rows: Vec<[f64; 3]>| rows.into_iter().map(|mut row| { row.sort_by(f64::total_cmp); row.to_vec() });
        let own = forecast(START, &[0.1, 0.5, 0.9], sorted(rows).collect());
        let caller = forecast(START + Span::from_minutes(later), &[0.25, 0.5, 0.95], sorted(ahead).collect());
        let found = Dependency { rest: Some(rest), persistence, ..dependency(lag, noise) };
        if let Some((lifted, by)) = lift(&own, &found, &known, Some(&caller)) {
            prop_assert_eq!(lifted.validate(), Ok(()));
            let rises = lifted.values.iter().flatten().zip(own.values.iter().flatten()).map(|(after, before)| after - before);
            let (least, most) = rises.fold((f64::MAX, 0.0_f64), |(least, most), rise| (least.min(rise), most.max(rise)));
            prop_assert!(least >= 0.0 && most == by && by > 0.0);
        }
    }

    /// Whatever comes in, nothing breaks, and what comes out is finite.
    #[test]
    fn any_loads_are_survived(
        loads in prop::collection::vec((prop::option::of(any::<f64>()), prop::option::of(any::<f64>()), -3i64..90), 0..300),
    ) {
        let settings = DependencySettings { least_windows: 5, alpha: 1.0, least_explained: 0.0, ..DependencySettings::default() };
        let (mut learner, mut at) = (DependencyLearner::default(), START);
        for (caller, callee, step) in loads {
            at = at + Span::from_millis(step * 30_000);
            learner.observe(at, caller, callee, &settings);
            if let Some(found) = learner.dependency(&settings) {
                prop_assert!(found.ratio > 0.0 && found.ratio.is_finite());
                prop_assert!((0.0..=1.0).contains(&found.explained) && (0.0..=1.0).contains(&found.persistence));
            }
        }
    }
}

#[test]
fn windows_of_another_width_are_learnt_from_anew() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let caller = kept(&mut rng, 0.9, WINDOWS);
    let noise = kept(&mut rng, 0.5, WINDOWS);
    let before = |at: usize| if at < 3 { 0.0 } else { caller[at - 3] };
    let callee: Vec<f64> = (0..WINDOWS).map(|at| 2.0 * before(at) + 0.3 * noise[at]).collect();
    let mut learner = learn(&caller, &callee, |_| ());
    let minutes = DependencySettings::default();
    let wider = DependencySettings { step: Span::from_minutes(5), ..minutes };
    assert!(learner.dependency(&minutes).is_some());
    assert_eq!(learner.dependency(&wider), None);
    learner.observe(START + Span::from_minutes(3 * 1440), Some(1.0), Some(2.0), &wider);
    assert_eq!((learner.dependency(&wider), learner.dependency(&minutes)), (None, None));
    assert!(learner.known().len() <= 1, "{:?}", learner.known());
}
