//! Patterns that are there are found, and none where there is only noise.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Normal};

use super::*;

const HOUR: Span = Span::from_minutes(60);
/// A Monday.
const START: Timestamp = Timestamp::from_millis(1_750_032_000_000);

/// `days` of hours with a mean of 100; `shape` by day and hour, `noise` as a share.
fn series(seed: u64, days: i64, noise: f64, shape: impl Fn(i64, i64) -> f64) -> Series {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let normal = Normal::new(1.0, noise).unwrap();
    let start = START.floor_to(Span::from_minutes(24 * 60));
    let values = (0..days * 24).map(|i| Some((100.0 * shape(i / 24, i % 24) * normal.sample(&mut random)).max(0.0)));
    Series { start, step: HOUR, values: values.collect() }
}

fn utc() -> OpeningHours {
    OpeningHours::usual(Zone::UTC)
}

fn wave(hour: i64) -> f64 {
    1.0 + 0.5 * ((hour - 8) as f64 * std::f64::consts::TAU / 24.0).sin()
}

#[test]
fn a_daily_cycle_is_found_with_its_period_and_high_confidence() {
    for (days, noises) in [(3, [0.05, 0.1, 0.2]), (7, [0.1, 0.2, 0.4]), (30, [0.1, 0.4, 0.8])] {
        for noise in noises {
            let found = find(&series(1, days, noise, |_, hour| wave(hour)), &utc());
            let daily = found.daily.unwrap_or_else(|| panic!("{days} days, noise {noise}"));
            assert_eq!(daily.period_hours, 24);
            assert!(daily.confidence > 0.7, "{days} {noise}: {daily:?}");
            assert!((12..=16).contains(&daily.peak) && (daily.strength - 0.35).abs() < 0.12, "{daily:?}");
        }
    }
}

#[test]
fn white_noise_has_no_cycle_no_trend_and_no_quiet_hours() {
    let mut found = 0;
    for seed in 0..100 {
        for (days, noise) in [(3, 0.3), (7, 0.3), (14, 0.6), (30, 0.6)] {
            let patterns = find(&series(seed, days, noise, |_, _| 1.0), &utc());
            found += usize::from(patterns.daily.is_some() || patterns.weekly.is_some());
            assert!(patterns.low_traffic.is_empty() && patterns.business_hours.is_none(), "{patterns:?}");
        }
    }
    assert!(found <= 1, "{found} of 400");
}

#[test]
fn hours_are_those_of_the_zone() {
    let load = series(2, 7, 0.1, |_, hour| wave(hour));
    let east = OpeningHours::usual("Africa/Nairobi".parse().unwrap());
    let (utc, east) = (find(&load, &utc()).daily.unwrap(), find(&load, &east).daily.unwrap());
    assert_eq!((utc.peak + 3) % 24, east.peak);
}

/// Busy from nine to five on weekdays, as clocks in Berlin show it, over a change of theirs.
#[track_caller]
fn business_across_a_change(first_day: &str) {
    let zone: Zone = "Europe/Berlin".parse().unwrap();
    let opening = OpeningHours::usual(zone);
    let start: Timestamp = first_day.parse().unwrap();
    let step = Span::from_minutes(15);
    let at = |i: i64| start + Span::from_minutes(15 * i);
    let values = (0..28 * 96).map(|i| Some(if opening.is_open(at(i)) { 100.0 } else { 10.0 })).collect();
    let load = Series { start, step, values };
    let local = find(&load, &opening);
    let found = local.business_hours.unwrap();
    assert_eq!((found.from_hour, found.to_hour), (9, 17));
    assert!((found.reliability - 1.0).abs() < 1e-9, "{found:?}");
    assert!((local.open_ratio.unwrap() - 10.0).abs() < 1e-9, "{:?}", local.open_ratio);
    // Hours of UTC are an hour off in one of the halves.
    let in_utc = find(&load, &utc());
    assert!(in_utc.daily.unwrap().confidence < local.daily.unwrap().confidence);
    assert!(in_utc.open_ratio.unwrap() < 9.0);
}

#[test]
fn business_hours_are_found_where_clocks_are_set_forward_and_back() {
    business_across_a_change("2026-03-16T00:00:00Z");
    business_across_a_change("2026-10-12T00:00:00Z");
}

#[test]
fn a_cycle_below_a_tenth_of_the_mean_is_none() {
    let flat = series(3, 30, 0.02, |_, hour| 1.0 + 0.1 * (wave(hour) - 1.0) / 0.5);
    assert_eq!(find(&flat, &utc()).daily, None);
}

#[test]
fn a_quiet_weekend_is_a_weekly_cycle_and_office_hours_are_found() {
    let load = series(4, 28, 0.1, |day, hour| {
        let office = day % 7 < 5 && (9..18).contains(&hour);
        if office { 2.0 } else { 0.6 }
    });
    let found = find(&load, &utc());
    let weekly = found.weekly.unwrap();
    assert_eq!((weekly.period_hours, weekly.profile.len()), (168, 7));
    assert!(weekly.confidence > 0.9 && weekly.trough >= 5, "{weekly:?}");
    let office = found.business_hours.unwrap();
    assert_eq!((office.from_hour, office.to_hour), (9, 18));
    assert!(office.ratio > 2.5 && office.reliability > 0.95, "{office:?}");
}

#[test]
fn quiet_hours_are_candidates_for_maintenance_past_midnight_too() {
    let found = find(&series(5, 14, 0.1, |_, hour| if (4..22).contains(&hour) { 1.2 } else { 0.2 }), &utc());
    let [quiet] = &found.low_traffic[..] else { panic!("{:?}", found.low_traffic) };
    assert_eq!((quiet.from_hour, quiet.to_hour), (22, 4));
    assert!(quiet.load < 0.3 && quiet.reliability > 0.95, "{quiet:?}");
}

#[test]
fn trends_have_a_direction() {
    let direction = |shape: &dyn Fn(i64) -> f64| {
        let trend = find(&series(6, 21, 0.1, |day, hour| shape(day) * wave(hour)), &utc()).trend.unwrap();
        assert!((0.0..=1.0).contains(&trend.reliability), "{trend:?}");
        (trend.direction, trend.change_per_day)
    };
    let (up, by) = direction(&|day| 1.0 + 0.03 * day as f64);
    assert_eq!(up, Direction::Increasing);
    assert!((by - 0.03 / 1.3).abs() < 0.005, "{by}");
    assert_eq!(direction(&|day| 2.0 - 0.03 * day as f64).0, Direction::Decreasing);
    assert_eq!(direction(&|_| 1.0).0, Direction::Stable);
    assert_eq!(direction(&|day| if day % 2 == 0 { 0.4 } else { 1.6 }).0, Direction::Volatile);
    assert_eq!(find(&series(6, 3, 0.1, |_, _| 1.0), &utc()).trend, None);
}

#[test]
fn spikes_have_size_duration_and_what_was_before() {
    let mut load = series(7, 14, 0.05, |_, hour| wave(hour));
    for (at, factor) in [(100, 1.5), (101, 4.0), (102, 3.0), (200, 5.0)] {
        load.values[at] = load.values[at].map(|value| value * factor);
    }
    let spikes = find(&load, &utc()).spikes.unwrap();
    let long = spikes.largest.iter().find(|spike| spike.start == load.start + Span::from_minutes(100 * 60)).unwrap();
    assert_eq!(long.duration, Span::from_minutes(180));
    assert!(long.sigmas > 20.0 && long.before.is_some_and(|before| (before - 1.0).abs() < 0.3), "{long:?}");
    assert!(spikes.largest.is_sorted_by_key(|spike| std::cmp::Reverse(spike.start)));
    let quiet = find(&series(7, 14, 0.05, |_, hour| wave(hour)), &utc()).spikes.unwrap();
    assert!(quiet.reliability < 0.6, "{quiet:?}");
}

#[test]
fn odd_histories_are_no_trouble() {
    let odd = [
        vec![],
        vec![None; 500],
        vec![Some(0.0); 500],
        vec![Some(7.0)],
        vec![Some(1e9); 900],
        vec![Some(f64::NAN); 90],
        (0..900).map(|i| (i % 3 == 0).then_some(f64::from(i) * 1e7)).collect(),
    ];
    for values in odd {
        for step in [Span::from_minutes(1), HOUR, Span::from_minutes(24 * 60), Span::ZERO] {
            let found = find(
                &Series { start: START, step, values: values.clone() },
                &OpeningHours::usual("Etc/GMT+12".parse().unwrap()),
            );
            assert!(serde_json::to_string(&found).is_ok_and(|text| !text.contains("null,null")));
        }
    }
}
