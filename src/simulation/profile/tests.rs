//! Each profile is what its line in the table says, to the second and by the seed.

use super::*;
use crate::workload::MINUTE;

/// 2026-03-02, a Monday.
fn monday() -> Timestamp {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

fn settings(profile: Profile) -> ProfileSettings {
    ProfileSettings::new(profile, "checkout".into(), monday(), 7)
}

fn load(profile: Profile) -> ProfileLoad {
    ProfileLoad::new(settings(profile)).unwrap()
}

fn at(hours: f64) -> Timestamp {
    monday() + Span::from_millis((hours * 3_600_000.0) as i64)
}

/// Expected load at hours of the week, rounded.
#[track_caller]
fn expects(profile: Profile, cases: &[(f64, i64)]) {
    let load = load(profile);
    let found: Vec<(f64, i64)> =
        cases.iter().map(|(hour, _)| (*hour, load.expected(at(*hour)).round() as i64)).collect();
    assert_eq!(found, cases);
}

#[test]
fn names_are_read_as_they_are_written() {
    for profile in Profile::ALL {
        assert_eq!(profile.to_string().parse(), Ok(profile));
        assert_eq!(load(profile).settings().profile, profile);
    }
    assert_eq!(
        "daily".parse::<Profile>().unwrap_err().to_string(),
        "unknown profile `daily`, expected one of diurnal, weekly, flash-crowd, ramp, micro-bursts, step, campaign, \
         maintenance-dip, gpu-inference"
    );
}

#[test]
fn shapes_are_as_the_table_says() {
    expects(Profile::Diurnal, &[(15.0, 100), (39.0, 100)]);
    let day: Vec<f64> = (0..240).map(|tenth| load(Profile::Diurnal).expected(at(f64::from(tenth) / 10.0))).collect();
    assert!((day.iter().copied().fold(f64::MAX, f64::min) - 20.0).abs() < 0.1);
    expects(Profile::Weekly, &[(15.0, 100), (5.0 * 24.0 + 15.0, 70)]);
    expects(Profile::Ramp, &[(0.0, 20), (10.0 / 60.0, 20), (40.0 / 60.0, 60), (1.5, 100)]);
    expects(Profile::Step, &[(0.25, 20), (0.75, 100), (1.25, 20)]);
    expects(Profile::GpuInference, &[(8.99, 0), (9.0, 20), (13.0, 90), (17.0, 0), (5.0 * 24.0 + 12.0, 0)]);
}

#[test]
fn crowds_and_bursts_come_once_in_each_period_and_nobody_knows() {
    for (profile, step) in [(Profile::FlashCrowd, MINUTE), (Profile::MicroBursts, Span::from_secs(1))] {
        let settings = ProfileSettings { length: Span::from_minutes(2 * 1440), ..settings(profile) };
        let periods = settings.length.steps_up(settings.period);
        let load = ProfileLoad::new(ProfileSettings { noise: Noise::NONE, ..settings }).unwrap();
        let rates = load.rates(step).per_second;
        let risen = rates.windows(2).filter(|pair| pair[0] < 45.0 && pair[1] >= 45.0).count();
        assert!(risen.abs_diff(periods) <= periods / 20, "{profile}: {risen} rises in {periods} periods");
        assert!(rates.iter().all(|rate| (19.9..=100.1).contains(rate)));
        assert!(load.events().is_empty());
    }
}

#[test]
fn campaigns_and_maintenance_are_announced_and_come_about_as_announced() {
    let campaign = load(Profile::Campaign);
    let events = campaign.events();
    assert_eq!(events.len(), 2);
    for event in &events {
        let ahead = event.start.since(event.known_at);
        assert!(ahead >= Span::from_minutes(240) && ahead <= Span::from_minutes(1200), "{ahead}");
        let height = event.start + Span::from_minutes(20);
        let uplift = campaign.expected(height) / load(Profile::Diurnal).expected(height);
        assert!((uplift / event.expected_uplift.unwrap() - 1.0).abs() < 0.13, "{uplift}");
    }
    let dip = load(Profile::MaintenanceDip);
    let [event] = &dip.events()[..] else { panic!("one Sunday in a week") };
    assert_eq!((event.start, event.end, event.known_at), (at(146.0), at(148.0), at(74.0)));
    assert_eq!(event.kind, "maintenance");
    let share = dip.expected(at(147.0)) / load(Profile::Diurnal).expected(at(147.0));
    assert!((share - 0.1).abs() < 1e-9);
}

#[test]
fn a_step_does_not_depend_on_what_was_asked_before_and_another_seed_is_another_load() {
    for profile in Profile::ALL {
        let load = load(profile);
        let counts = load.counts(MINUTE).counts;
        for minute in [0, 110, 7, 100] {
            assert_eq!(load.count(monday() + Span::from_minutes(minute), MINUTE), counts[minute as usize], "{profile}");
        }
        let other = ProfileLoad::new(ProfileSettings { seed: 8, ..settings(profile) }).unwrap();
        assert_ne!(other.counts(MINUTE).counts, counts, "{profile}");
    }
}

/// Variance over mean of counts around their rate.
fn dispersion(counts: &[u64], mean: f64) -> f64 {
    let squares: f64 = counts.iter().map(|count| (*count as f64 - mean).powi(2)).sum();
    squares / counts.len() as f64 / mean
}

#[test]
fn noise_is_as_dispersed_as_asked_by_second_and_by_minute() {
    let flat = |dispersion| {
        let noise = Noise { dispersion, day_spread: 0.0, short_spread: 0.0 };
        let level = ProfileSettings { base_per_second: 30.0, peak_per_second: 30.0, noise, ..settings(Profile::Step) };
        ProfileLoad::new(ProfileSettings { length: Span::from_minutes(2000), ..level }).unwrap()
    };
    for asked in [1.0, 1.9, 4.0] {
        let by_second = dispersion(&flat(asked).counts(Span::from_secs(1)).counts, 30.0);
        let by_minute = dispersion(&flat(asked).counts(MINUTE).counts, 1800.0);
        assert!((by_second / asked - 1.0).abs() < 0.05, "{asked}: {by_second} by second");
        assert!((by_minute / asked - 1.0).abs() < 0.15, "{asked}: {by_minute} by minute");
    }
}

#[test]
fn the_mean_of_a_long_load_is_that_of_its_shape() {
    let length = Span::from_minutes(56 * 1440);
    let load = ProfileLoad::new(ProfileSettings { length, ..settings(Profile::Diurnal) }).unwrap();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let shape = mean((0..1440).map(|minute| load.expected(at(f64::from(minute) / 60.0))).collect());
    let found = mean(load.rates(MINUTE).per_second);
    assert!((found / shape - 1.0).abs() < 0.02, "{found} around {shape}");
}

#[test]
fn a_step_has_as_many_requests_as_it_counts_all_inside_it_and_in_order() {
    for profile in [Profile::Diurnal, Profile::GpuInference] {
        let load = load(profile);
        for (hour, step) in [(10.0, MINUTE), (10.0, Span::from_secs(1)), (3.0, MINUTE)] {
            let requests: Vec<_> = load.requests(at(hour), step).collect();
            assert_eq!(requests.len() as u64, load.count(at(hour), step));
            assert!(requests.iter().all(|request| request.ts >= at(hour) && request.ts < at(hour) + step));
            assert!(requests.is_sorted_by_key(|request| request.ts));
            assert_eq!(requests, load.requests(at(hour), step).collect::<Vec<_>>());
        }
    }
    assert_eq!(load(Profile::GpuInference).requests(at(3.0), MINUTE).count(), 0);
}

#[test]
fn inference_has_metrics_of_its_units_and_other_profiles_have_none() {
    let gpu = load(Profile::GpuInference);
    let named = |hour: f64, name: &str| -> Vec<f64> {
        let records = gpu.metrics(at(hour), Span::from_secs(15));
        records.iter().filter(|record| record.name == name).map(|record| record.value.unwrap()).collect()
    };
    let busy = named(11.0, "gpu_utilization");
    assert!(busy.len() == 4 && busy.iter().all(|share| (0.4..1.0).contains(share)), "{busy:?}");
    assert!((1500.0..4000.0).contains(&named(11.0, "tokens_per_second")[0]));
    assert_eq!((named(3.0, "gpu_utilization")[0], named(3.0, "queue_length")[0]), (0.0, 0.0));
    assert!(load(Profile::Diurnal).metrics(at(11.0), MINUTE).is_empty());
    let json = serde_json::to_value(&gpu.metrics(at(11.0), MINUTE)[0]).unwrap();
    assert_eq!(json["service"], "checkout");
    assert!(json["value"].is_number() && json["ts"] == "2026-03-02T11:00:00Z" && json["instance"].is_null());
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let refused = |settings| ProfileLoad::new(settings).unwrap_err().to_string();
    assert_eq!(
        refused(ProfileSettings { peak_per_second: 10.0, ..settings(Profile::Ramp) }),
        "profile `ramp`: peak 10 is below base 20"
    );
    assert_eq!(
        refused(ProfileSettings { length: Span::ZERO, ..settings(Profile::Step) }),
        "profile `step`: length 0s is not positive"
    );
}
