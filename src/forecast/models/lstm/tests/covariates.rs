//! What was measured beside the load: what it is worth, and that nothing of it comes from the future.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prescale_domain::{Series, ServiceName, Span};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::super::{Lstm, LstmSettings};
use super::{HORIZON, history, lesson, quick, request, wave};
use crate::models::{Forecaster as _, Lesson};
use crate::past::{Covariate, Covariates, Past, no_covariates};

const DAY: usize = 288;

fn web() -> ServiceName {
    ServiceName::new("web")
}

fn named<'a>(own: &[(&'a str, &'a Series)]) -> Covariates<'a> {
    let own = own.iter().map(|(name, series)| Covariate { name, series });
    BTreeMap::from([(web(), own.collect())])
}

/// A queue that jumps to another length every now and then, and a load that follows it `delay` windows later.
fn follower(count: usize, delay: usize, seed: u64) -> (Series, Series) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut queue, mut length) = (Vec::new(), 5.0);
    for _ in 0..count {
        if random.random_bool(1.0 / 12.0) {
            length = random.random_range(2.0..30.0);
        }
        queue.push(length * random.random_range(0.95..1.05));
    }
    let loads: Vec<f64> = (0..count).map(|i| 20.0 * queue[i.saturating_sub(delay)]).collect();
    let noise: Vec<f64> = (0..count).map(|_| random.random_range(0.97..1.03)).collect();
    (history(count, |i| Some(loads[i] * noise[i])), history(count, |i| Some(queue[i])))
}

/// Mean absolute error of the median at each lead, over the windows from `from` on.
fn errors(model: &Lstm, load: &Series, covariates: &Covariates<'_>, from: usize) -> Vec<f64> {
    let (service, mut sums, mut count) = (web(), vec![0.0; HORIZON], 0.0);
    for origin in (from..load.values.len() - HORIZON).step_by(3) {
        let past = Past::all(load).first(origin).with_those_of(&service, covariates);
        let rows = model.predict(&request(&service, past)).unwrap();
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum += (rows[k][1] - load.values[origin + k].unwrap()).abs();
        }
        count += 1.0;
    }
    sums.iter().map(|sum| sum / count).collect()
}

#[test]
fn a_load_that_follows_its_queue_is_forecast_with_little_more_than_half_of_the_error() {
    let delay = 6;
    let (load, queue) = follower(8 * DAY, delay, 5);
    let from = 6 * DAY;
    let histories = BTreeMap::from([(web(), load.clone())]);
    let measured = named(&[("queue_length_mean", &queue)]);
    let settings = LstmSettings { fit_samples: 16_000, fit_rate: 1e-2, hidden: 16, ..LstmSettings::default() };
    let [with, without] = [&measured, no_covariates()].map(|covariates| {
        let train_until = load.start + Span::from_minutes(5 * from as i64);
        let mut model = Lstm::new(settings.clone(), 1);
        model.fit(&Lesson { covariates, train_until, ..lesson(&histories) }).unwrap();
        errors(&model, &load, covariates, from)
    });
    // As far ahead as the queue tells: half an hour.
    assert!(with[delay - 1] < 0.6 * without[delay - 1], "{with:?} {without:?}");
    // What it does not tell yet nobody knows.
    assert!(with[HORIZON - 1] < 1.15 * without[HORIZON - 1], "{with:?} {without:?}");
}

/// A small model of a load with two covariates, and these.
fn fitted() -> &'static (Lstm, Series, Series, Series) {
    static FITTED: OnceLock<(Lstm, Series, Series, Series)> = OnceLock::new();
    FITTED.get_or_init(|| {
        let (load, queue) = follower(3 * DAY, 6, 2);
        let share = history(3 * DAY, |i| (i % 5 != 0).then_some((i * 7919 % 23) as f64 / 23.0));
        let histories = BTreeMap::from([(web(), load.clone())]);
        let covariates = named(&[("queue_length_mean", &queue), ("error_rate", &share)]);
        let mut model = Lstm::new(quick(640), 1);
        model.fit(&Lesson { covariates: &covariates, ..lesson(&histories) }).unwrap();
        (model, load, queue, share)
    })
}

fn broken() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        3 => (0.0_f64..200.0).prop_map(Some),
        2 => Just(None),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, -1e300, 1e300, -5.0]).prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_covariate_is_after_the_origin_changes_nothing_and_before_it_breaks_nothing(
        origin in 200_usize..800,
        values in prop::collection::vec(broken(), 900),
        shift in 0_usize..40,
        more in 0_usize..100,
    ) {
        let (model, load, queue, share) = fitted();
        let service = web();
        let ask = |queue: &Series, share: &Series| {
            let own = [Covariate { name: "queue_length_mean", series: queue }, Covariate { name: "error_rate", series: share }];
            model.predict(&request(&service, Past::all(load).first(origin).with(&own))).unwrap()
        };
        // Of other values after the origin, and longer than the load or cut off there.
        let other = |series: &Series, length: usize| {
            let value = |i: usize| if i < origin { series.values[i] } else { values[i % values.len()] };
            Series { values: (0..length).map(value).collect(), ..series.clone() }
        };
        let rows = ask(queue, share);
        prop_assert_eq!(&rows, &ask(&other(queue, 3 * DAY + more), &other(share, origin)));
        // A series that begins earlier says the same of the same windows.
        let mut earlier = other(queue, 3 * DAY);
        earlier.values.splice(..0, vec![Some(1.0); shift]);
        earlier.start = earlier.start - Span::from_minutes(5 * shift as i64);
        prop_assert_eq!(&rows, &ask(&earlier, share));
        // Values before the origin that are none.
        let rows = ask(&Series { values: values.clone(), ..queue.clone() }, &Series { values: vec![], ..share.clone() });
        for row in &rows {
            prop_assert!(row.iter().all(|value| value.is_finite() && *value >= 0.0) && row.is_sorted(), "{:?}", row);
        }
    }
}

#[test]
fn what_covariates_are_after_the_end_of_a_lesson_changes_no_byte() {
    let (load, queue) = follower(3 * DAY, 6, 2);
    let changed = history(3 * DAY, |i| if i < 700 { queue.values[i] } else { Some(1e4 + i as f64) });
    let histories = BTreeMap::from([(web(), load)]);
    let [one, other] = [&queue, &changed].map(|queue| {
        let covariates = named(&[("queue_length_mean", queue)]);
        let train_until = queue.start + Span::from_minutes(700 * 5);
        let lesson = Lesson { covariates: &covariates, train_until, ..lesson(&histories) };
        let mut model = Lstm::new(quick(640), 3);
        model.fit(&lesson).unwrap();
        model.update(&lesson).unwrap();
        model.refit(&lesson).unwrap();
        model.save()
    });
    assert!(one == other);
}

#[test]
fn without_covariates_bytes_and_inputs_are_as_before_there_were_any() {
    let (model, ..) = fitted();
    let saved = String::from_utf8(model.save()).unwrap();
    assert!(
        saved.contains("\"channels\":[\"error_rate\",\"queue_length_mean\"]") && saved.contains("encoder_inputs\":10")
    );
    let histories = BTreeMap::from([(web(), history(3 * DAY, wave))]);
    let silent = history(3 * DAY, |i| (i < 20).then_some(1.0));
    let constant = history(3 * DAY, |_| Some(7.0));
    // One that is hardly known, and one that never changes, are not worth a channel.
    let useless = named(&[("silent", &silent), ("constant", &constant)]);
    let bytes = [no_covariates(), &useless].map(|covariates| {
        let mut model = Lstm::new(quick(640), 3);
        model.fit(&Lesson { covariates, ..lesson(&histories) }).unwrap();
        String::from_utf8(model.save()).unwrap()
    });
    assert!(bytes[0] == bytes[1]);
    assert!(!bytes[0].contains("channels") && !bytes[0].contains("gauges") && bytes[0].contains("encoder_inputs\":6"));
}

#[test]
fn a_model_with_covariates_is_read_again_and_a_damaged_one_is_refused() {
    let (model, load, queue, share) = fitted();
    let saved = String::from_utf8(model.save()).unwrap();
    let covariates = named(&[("queue_length_mean", queue), ("error_rate", share)]);
    let (service, loaded) = (web(), Lstm::load(saved.as_bytes()).unwrap());
    let past = Past::all(load).with_those_of(&service, &covariates);
    let rows = model.predict(&request(&service, past)).unwrap();
    assert_eq!(loaded.predict(&request(&service, past)).unwrap(), rows);
    // It looks at them, and goes on without.
    assert_ne!(model.predict(&request(&service, Past::all(load))).unwrap(), rows);
    let changed = |from: &str, to: &str| {
        assert!(saved.contains(from), "{from} in {}", &saved[..600]);
        Lstm::load(saved.replacen(from, to, 1).as_bytes()).err().map(|error| error.to_string())
    };
    assert!(changed("[\"error_rate\",", "[").unwrap().contains("inputs"));
    assert!(changed("\"gauges\":[", "\"gauges\":[null,").unwrap().contains("channels"));
    assert!(changed("{\"log\":{\"offset\":", "{\"log\":{\"offset\":-").unwrap().contains("channels"));
}

#[test]
fn services_share_a_channel_by_name_and_loads_of_others_by_their_place() {
    let (load, queue) = follower(3 * DAY, 6, 2);
    let names: Vec<ServiceName> = ["a", "b", "c"].map(ServiceName::new).into();
    let histories: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), load.clone())).collect();
    let list = |all: &[&'static str]| all.iter().map(|name| Covariate { name, series: &queue }).collect::<Vec<_>>();
    let covariates = BTreeMap::from([
        (names[0].clone(), list(&["service:c", "queue_length_mean"])),
        (names[1].clone(), list(&["queue_length_mean", "service:a", "service:c"])),
    ]);
    let mut model = Lstm::new(quick(640), 1);
    let lesson = Lesson { covariates: &covariates, ..lesson(&histories) };
    model.fit(&lesson).unwrap();
    let saved = String::from_utf8(model.save()).unwrap();
    assert!(saved.contains("\"channels\":[\"queue_length_mean\",\"service:1\",\"service:2\"]"), "{}", &saved[..800]);
    // Small steps keep the channels; the next full training has what is there then.
    let fewer = BTreeMap::from([(names[0].clone(), list(&["queue_length_mean"]))]);
    let fewer = Lesson { covariates: &fewer, ..lesson };
    model.update(&fewer).unwrap();
    assert!(String::from_utf8(model.save()).unwrap().contains("service:2"));
    model.refit(&fewer).unwrap();
    assert!(String::from_utf8(model.save()).unwrap().contains("\"channels\":[\"queue_length_mean\"]"));
}
