//! Weights of windows, probabilities between and beyond quantiles, and the units that follow from them.

use prescale_domain::DEFAULT_QUANTILES;
use proptest::prelude::*;

use super::*;

fn forecast(values: Vec<Vec<f64>>) -> ForecastInput {
    ForecastInput {
        model: "mix".to_owned(),
        reason: "champion".to_owned(),
        origin: Timestamp::from_millis(0),
        step: Span::from_minutes(1),
        quantile: 0.99,
        from: Timestamp::from_millis(60_000),
        upper: Vec::new(),
        median: Vec::new(),
        effective_index: 0,
        levels: DEFAULT_QUANTILES.to_vec(),
        values,
    }
}

fn lead(median: Option<i64>, p90: i64, interval: i64) -> LeadTime {
    LeadTime {
        data_age: Span::ZERO,
        decision_interval: Span::from_secs(interval),
        provisioning_latency: Span::from_secs(p90),
        warm_up: Span::ZERO,
        provisioning_median: median.map(Span::from_secs),
    }
}

/// The first window by itself.
fn first(forecast: &ForecastInput) -> Outlook<'_> {
    Outlook::new(forecast, forecast.from, &lead(None, 0, 60)).unwrap()
}

fn flat(load: f64) -> Vec<f64> {
    vec![load; DEFAULT_QUANTILES.len()]
}

#[test]
fn a_window_counts_by_the_time_in_which_the_decision_determines_it() {
    let forecast = forecast((0..10).map(|k| flat(f64::from(k))).collect());
    let at = Timestamp::from_millis(60_000);
    // Effective at 4:20, the next decision at 5:20: 40 s of the window from 4:00 on, 20 s of the next.
    let outlook = Outlook::new(&forecast, at, &lead(None, 200, 60)).unwrap();
    let weights: Vec<f64> = outlook.windows.iter().map(|(weight, _)| *weight).collect();
    assert_eq!(weights.len(), 2);
    assert!((weights[0] - 2.0 / 3.0).abs() < 1e-12, "{weights:?}");
    assert_eq!((outlook.overload(2.5), outlook.overload(3.0)), (1.0, weights[1]));
    assert!(!Outlook::new(&forecast, at, &lead(None, 700, 60)).unwrap().determines());
}

#[test]
fn an_uncertain_lead_time_spreads_over_more_windows() {
    let forecast = forecast((0..20).map(|k| flat(f64::from(k))).collect());
    let at = Timestamp::from_millis(60_000);
    let sure = Outlook::new(&forecast, at, &lead(Some(300), 300, 60)).unwrap();
    let unsure = Outlook::new(&forecast, at, &lead(Some(300), 600, 60)).unwrap();
    assert_eq!(sure.windows.len(), 1);
    assert!(unsure.windows.len() > 6, "{}", unsure.windows.len());
    // On a rising load it asks for more.
    assert!(unsure.units_within(0.05, 1.0, 100) > sure.units_within(0.05, 1.0, 100));
}

#[test]
fn probabilities_are_those_of_the_quantiles() {
    let values: Vec<f64> = DEFAULT_QUANTILES.iter().map(|level| 100.0 * level).collect();
    let forecast = forecast(vec![values]);
    let at = |x: f64| first(&forecast).overload(x);
    for level in DEFAULT_QUANTILES {
        assert!((at(100.0 * level) - (1.0 - level)).abs() < 1e-12, "{level}");
    }
    assert_eq!((at(0.0), at(2.5)), (1.0, 0.975));
    // Beyond 0.99 by the rate between 0.95 and 0.99: a fifth for each 4.
    assert!((at(103.0) - 0.002).abs() < 1e-12);
}

#[test]
fn shortage_of_an_exponential_load_is_its_tail() {
    // Quantiles of an exponential load of mean 10: beyond x it is 10 exp(-x / 10).
    let values: Vec<f64> = DEFAULT_QUANTILES.iter().map(|level| -10.0 * (1.0 - level).ln()).collect();
    let forecast = forecast(vec![values]);
    for x in [5.0, 20.0, 40.0, 60.0] {
        let found = first(&forecast).shortage(x);
        let exact = 10.0 * (-x / 10.0).exp();
        assert!((found / exact - 1.0).abs() < 0.01, "{x}: {found} {exact}");
    }
}

#[test]
fn a_load_that_is_known_needs_just_its_units() {
    let forecast = forecast(vec![flat(100.0)]);
    let outlook = first(&forecast);
    assert_eq!(outlook.units_within(0.01, 10.0, 99), 10);
    assert_eq!(outlook.units_within(0.01, 9.0, 99), 12);
    assert_eq!((outlook.shortage(90.0), outlook.shortage(100.0)), (10.0, 0.0));
}

proptest! {
    #[test]
    fn more_units_never_mean_more_risk_and_more_risk_never_more_units(
        mut values in prop::collection::vec(0.0..1000.0, 8),
        x in 0.0..1500.0, more in 0.0..500.0, risk in 0.0001..0.5, by in 1.0..3.0,
    ) {
        values.sort_by(f64::total_cmp);
        let forecast = forecast(vec![values]);
        let outlook = first(&forecast);
        let (here, there) = (outlook.overload(x), outlook.overload(x + more));
        prop_assert!((0.0..=1.0).contains(&here) && there <= here + 1e-12);
        prop_assert!(outlook.shortage(x + more) <= outlook.shortage(x) + 1e-6);
        let (tight, loose) = (outlook.units_within(risk, 7.0, 500), outlook.units_within(risk * by, 7.0, 500));
        prop_assert!(loose <= tight);
        prop_assert!(tight == 500 || outlook.overload(7.0 * f64::from(tight)) <= risk);
        prop_assert!(tight == 0 || outlook.overload(7.0 * f64::from(tight - 1)) > risk);
    }

    #[test]
    fn windows_together_need_what_the_one_that_needs_most_needs(
        mut rows in prop::collection::vec(prop::collection::vec(0.0..1000.0, 8), 1..12),
        risk in 0.0..0.6, capacity in 0.5..50.0, most in 0u32..300, ordered in any::<bool>(), until in 0i64..15,
    ) {
        if ordered {
            rows.iter_mut().for_each(|values| values.sort_by(f64::total_cmp));
        }
        let all = forecast(rows.clone());
        let until = all.from + Span::from_minutes(until);
        let starts = (0..).map(|index| all.from + Span::from_minutes(index));
        let alone = rows.into_iter().zip(starts).take_while(|(_, start)| *start < until).map(|(values, _)| {
            let alone = forecast(vec![values]);
            fewest(most, |units| first(&alone).overload(f64::from(units) * capacity) <= risk)
        });
        prop_assert_eq!(first(&all).units_until(until, risk, capacity, most), alone.max());
    }

    #[test]
    fn a_window_weighs_as_much_as_lead_times_overlap_with_it(
        count in 0usize..40, step in 1i64..200, from in -2000i64..4000,
        median in prop::option::of(1i64..900), p90 in 0i64..2000, interval in 0i64..300,
    ) {
        let lead = lead(median, p90, interval);
        let forecast = ForecastInput {
            from: Timestamp::from_millis(1000 * from),
            step: Span::from_secs(step),
            ..forecast((0..count).map(|k| flat(k as f64)).collect())
        };
        let at = Timestamp::from_millis(60_000);
        let overlap = |index: usize| -> i64 {
            let start = 1000 * (from + step * index as i64);
            let shares = LEADS.iter().map(|z| {
                let effective = (at + lead.until_effective_at(*z)).millis();
                let (low, high) = (start.max(effective), (start + 1000 * step).min(effective + (1000 * interval).max(1)));
                (high - low).max(0)
            });
            shares.sum()
        };
        let overlaps: Vec<i64> = (0..count).map(overlap).collect();
        let total: i64 = overlaps.iter().sum();
        let expected = overlaps.iter().enumerate().filter(|(_, overlap)| **overlap > 0);
        let expected: Vec<(f64, f64)> =
            expected.map(|(index, overlap)| (*overlap as f64 / total as f64, index as f64)).collect();
        let found = determined(&forecast, at, &lead);
        let found: Vec<(f64, f64)> = found.into_iter().map(|(weight, values)| (weight, values[0])).collect();
        prop_assert_eq!(found, expected);
    }
}
