//! The day with a hundred thousand requests a second at its height. The product's LSTM is out of reach here (`simulation` may not
//! know `forecast`): the forecast is [`UsualDay`], made after each window from the past alone, as the loop makes its own,
//! fifteen minutes ahead and trusted so far. A [`ForecastStream`](crate::stream::ForecastStream) of real models is flown by
//! the same call: `scenario.fly(&configured, |end, _| stream.after(end).map_err(str::to_owned), |_| {})`.

use super::super::*;
use super::*;

const CONFIDENT: i64 = 15;

fn node(scenario: &Scenario) -> Configured {
    Configured { confident_horizon: Some(Span::from_minutes(CONFIDENT)), ..configured(scenario, 0.85) }
}

#[test]
fn a_hundred_thousand_requests_a_second_are_served_in_time_by_fewer_than_500_nodes() {
    for seed in [7, 8, 9] {
        let scenario = diurnal_peak(seed);
        let peak = scenario.rates().unwrap().per_second.into_iter().fold(0.0, f64::max);
        assert!(peak > 95_000.0, "{peak}");
        let configured = node(&scenario);
        let (mut decisions, mut forecast) = (0, 0);
        let take = |decision: &Decision| {
            decisions += 1;
            forecast += usize::from(decision.inputs.forecast.is_some());
        };
        let flown = scenario.fly(&configured, usual(&configured, CONFIDENT, 4), take).unwrap();
        missed(&flown, &[]);
        assert!(decisions >= 1440 && forecast == decisions, "{forecast} of {decisions}");
        let totals = &flown.outcome.totals;
        assert!(totals.share_good.unwrap() > 0.997 && totals.units_max < 450, "{totals:?}");
        // What a fleet for the peak would cost is not what this is bought with.
        assert!(totals.cost_usd < 0.6 * scenario.always_on_usd(), "{totals:?}");
    }
}

#[test]
fn a_day_of_a_hundred_thousand_requests_a_second_is_missed_by_a_small_fleet_and_by_too_large_a_one() {
    let scenario = diurnal_peak(7);
    missed(&scenario.run(|_| Some(500)).unwrap(), &[]);
    let small = scenario.run(|_| Some(250)).unwrap();
    missed(&small, &["no request dropped", "at least 99.0 % within the objective"]);
    let mut large = scenario;
    large.run.fleet.max = 600;
    missed(&large.run(|_| Some(600)).unwrap(), &["never above 500 units"]);
}
