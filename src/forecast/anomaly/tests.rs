//! Outliers, incidents and what they must not do, on generated loads.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Normal};

use super::*;

const STEP: Span = Span::from_minutes(5);
const DAY_STEPS: usize = 288;

fn load(count: usize) -> Vec<Option<f64>> {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let noise = Normal::new(1.0, 0.06).unwrap();
    (0..count)
        .map(|i| {
            let wave = 1.0 + 0.5 * (i as f64 * std::f64::consts::TAU / DAY_STEPS as f64).sin();
            Some((200.0 * wave * noise.sample(&mut random)).max(0.0))
        })
        .collect()
}

fn past(values: &[Option<f64>]) -> Past<'_> {
    Past { start: Timestamp::from_millis(0), step: STEP, values, covariates: &[] }
}

fn event(kind: &str, values: &[Option<f64>], from: usize, to: usize) -> CalendarEvent {
    let moment = |index| past(values).moment(index);
    CalendarEvent {
        id: "e".into(),
        kind: kind.into(),
        services: vec!["a".into()],
        start: moment(from),
        end: moment(to),
        expected_uplift: None,
        known_at: Timestamp::from_millis(0),
    }
}

#[track_caller]
fn found(values: &[Option<f64>], events: &[CalendarEvent]) -> Vec<(usize, Anomaly)> {
    find(past(values), &"a".into(), events, past(values).end())
}

#[test]
fn a_noisy_wave_has_next_to_no_outliers_and_a_peak_of_ten_sigmas_is_one() {
    let mut values = load(14 * DAY_STEPS);
    assert!(found(&values, &[]).len() <= 2, "{:?}", found(&values, &[]));
    let before = found(&values, &[]);
    values[2000] = values[2000].map(|v| v * 3.0);
    values[2500] = Some(0.0);
    let new: Vec<_> = found(&values, &[]).into_iter().filter(|one| !before.contains(one)).collect();
    assert_eq!(new, [(2000, Anomaly::High), (2500, Anomaly::Low)]);
    let cleaned = without(past(&values), &new);
    assert_eq!((cleaned[2000], cleaned[2500], cleaned[2001]), (None, None, values[2001]));
}

#[test]
fn what_recurs_daily_lasts_or_was_announced_is_no_outlier() {
    let quiet = load(10 * DAY_STEPS);
    let mut daily = quiet.clone();
    // Three windows at the same time each day.
    for day in 0..10 {
        for value in &mut daily[day * DAY_STEPS + 100..day * DAY_STEPS + 103] {
            *value = value.map(|v| v * 3.0);
        }
    }
    let first_day =
        |all: Vec<(usize, Anomaly)>| all.into_iter().filter(|(index, _)| *index > DAY_STEPS).collect::<Vec<_>>();
    assert_eq!(first_day(found(&daily, &[])), first_day(found(&quiet, &[])));
    let mut lasting = quiet.clone();
    lasting[1500..].iter_mut().for_each(|value| *value = value.map(|v| v * 3.0));
    assert!(found(&lasting, &[]).iter().filter(|(index, _)| *index > 1480).count() <= 2);
    let mut announced = quiet;
    announced[1500] = announced[1500].map(|v| v * 4.0);
    let campaign = event("campaign", &announced, 1498, 1503);
    assert!(found(&announced, &[]).contains(&(1500, Anomaly::High)));
    assert!(!found(&announced, &[campaign]).contains(&(1500, Anomaly::High)));
}

#[test]
fn windows_of_a_declared_incident_are_kept_out_whatever_their_values() {
    let values = load(3 * DAY_STEPS);
    let incident = event("incident", &values, 400, 406);
    let all = found(&values, std::slice::from_ref(&incident));
    let declared: Vec<usize> = all.iter().filter(|(_, kind)| *kind == Anomaly::Declared).map(|(i, _)| *i).collect();
    assert_eq!(declared, (400..406).collect::<Vec<_>>());
    // A window is touched by an incident of one second.
    let second = CalendarEvent {
        start: incident.start + Span::from_secs(70),
        end: incident.start + Span::from_secs(71),
        ..incident.clone()
    };
    assert_eq!(found(&values, &[second]).iter().filter(|(_, k)| *k == Anomaly::Declared).count(), 1);
    let other = CalendarEvent { services: vec!["b".into()], ..incident.clone() };
    assert!(found(&values, &[other]).iter().all(|(_, kind)| *kind != Anomaly::Declared));
    let later = CalendarEvent { known_at: Timestamp::MAX, ..incident };
    assert!(found(&values, &[later]).iter().all(|(_, kind)| *kind != Anomaly::Declared));
}

#[test]
fn a_fall_is_mended_for_a_quarter_of_an_hour_and_an_incident_for_as_long_as_it_is_declared() {
    let whole = load(3 * DAY_STEPS);
    let mend = |values: &[Option<f64>], events: &[CalendarEvent]| {
        mended(past(values), &"a".into(), events, past(values).end())
    };
    assert_eq!(mend(&whole, &[]), None);
    for low in 1..=3 {
        let mut values = whole.clone();
        let count = values.len();
        values[count - low..].iter_mut().for_each(|value| *value = Some(0.0));
        let mended = mend(&values, &[]).unwrap();
        for index in count - low..count {
            let ratio = mended[index].unwrap() / whole[index].unwrap();
            assert!((0.75..1.35).contains(&ratio), "{low} {index}: {ratio}");
        }
        assert_eq!(mended[..count - low], values[..count - low]);
    }
    let mut values = whole.clone();
    let count = values.len();
    values[count - 4..].iter_mut().for_each(|value| *value = Some(0.0));
    assert_eq!(mend(&values, &[]), None, "a new level");
    values[count - 24..].iter_mut().for_each(|value| *value = Some(1.0));
    let incident = event("maintenance", &values, count - 24, count + 50);
    let mended = mend(&values, &[incident]).unwrap();
    for index in count - 24..count {
        let ratio = mended[index].unwrap() / whole[index].unwrap();
        assert!((0.7..1.4).contains(&ratio), "{index}: {ratio}");
    }
}

#[test]
fn odd_histories_are_no_trouble() {
    for values in
        [vec![], vec![None; 50], vec![Some(0.0); 500], vec![Some(1e9); 500], vec![Some(f64::NAN); 40], vec![Some(3.0)]]
    {
        assert_eq!(found(&values, &[]), []);
        assert_eq!(mended(past(&values), &"a".into(), &[], Timestamp::MAX), None);
        let incident = event("incident", &values, 0, 1000);
        drop(mended(past(&values), &"a".into(), &[incident], Timestamp::MAX));
    }
}
