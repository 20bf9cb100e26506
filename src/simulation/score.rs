//! The score card: Prescale and its baselines on the same load. Rule: what could not be computed is absent.

use std::collections::BTreeMap;

use prescale_domain::{ForecastScore, ScoreCard, Spread, SystemScore, Timestamp, Violations};

use crate::arena::{Bout, Pilot, fly_all};
use crate::baselines::static_peak;
use crate::frontier::pareto;
use crate::sweep::{SweepPoint, best, hpa_sweep};

/// Everything that the card is computed from.
#[derive(Clone, Debug)]
pub struct ScoreInputs<'a> {
    /// One bout per service.
    pub bouts: &'a [Bout],
    /// Prescale's desired capacity by time, for each bout.
    pub timelines: &'a [Vec<(Timestamp, u32)>],
    /// Load of the history before the scored part, for each bout: all that a static fleet is sized on.
    pub histories: &'a [Vec<f64>],
    pub forecast: BTreeMap<String, ForecastScore>,
    /// Percent of time that may be short, which decides HPA's best target.
    pub budget_pct: f64,
    pub seed: u64,
}

/// The card, and HPA at every target for display.
pub fn score_card(inputs: ScoreInputs) -> (ScoreCard, Vec<SweepPoint>) {
    let bouts = inputs.bouts;
    let prescale = fly_all(bouts, inputs.timelines.iter().map(|timeline| Pilot::Timeline(timeline)));
    let sizes: Vec<u32> = bouts
        .iter()
        .zip(inputs.histories)
        .map(|(bout, history)| static_peak(history.iter().copied(), bout.unit_capacity).min(bout.fleet.max))
        .collect();
    let fixed = fly_all(bouts, sizes.iter().map(|units| Pilot::Fixed(*units)));
    let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
    let sweep = hpa_sweep(bouts);
    let hpa = best(&sweep, inputs.budget_pct).map(|point| point.score.clone());
    let systems = [
        ("prescale", prescale.score(None)),
        ("hpa", hpa),
        ("static-peak", fixed.score(Some(format!("units={}", sizes.join("/"))))),
    ];
    let systems = systems.into_iter().filter_map(|(name, score)| Some((name.to_owned(), score?))).collect();
    let points: Vec<_> = sweep.iter().map(|point| [point.score.cost_usd, point.score.violations.time_pct]).collect();
    let longest = bouts.iter().map(|bout| bout.demand.end().since(bout.demand.start)).max().unwrap_or_default();
    let simulated_hours = longest.seconds() / 3600.0;
    let card = ScoreCard {
        systems,
        forecast: inputs.forecast,
        frontier: BTreeMap::from([("hpa".to_owned(), pareto(&points))]),
        brackets: BTreeMap::new(),
        seeds: None,
        seed: inputs.seed,
        simulated_hours,
    };
    (card, sweep)
}

/// The card as a table for a terminal, Prescale first.
pub fn render(card: &ScoreCard, sweep: &[SweepPoint]) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(format!("Score card over {:.1} simulated hours, seed {}", card.simulated_hours, card.seed));
    line(String::new());
    let width = card.systems.keys().map(String::len).max().unwrap_or(0).max(12);
    line(format!(
        "{:<width$} {:>8} {:>11} {:>10} {:>11} {:>8}  {}",
        "system", "time %", "requests %", "cost USD", "unit hours", "actions", "chosen"
    ));
    let first = card.systems.iter().filter(|(name, _)| *name == "prescale");
    let others = card.systems.iter().filter(|(name, _)| *name != "prescale");
    for (name, score) in first.chain(others) {
        line(row(name, score, width));
    }
    line(String::new());
    line("time %: time with less capacity in service than the load; requests %: requests beyond it".to_owned());
    if !sweep.is_empty() {
        line(String::new());
        line("HPA at every target of the sweep".to_owned());
        for point in sweep {
            line(row(&format!("{:.2}", point.target), &SystemScore { chosen: None, ..point.score.clone() }, width));
        }
    }
    if !card.forecast.is_empty() {
        line(String::new());
        line(format!("{:<12} {:>8} {:>11} {:>10}  {}", "forecast", "MASE", "coverage %", "forecasts", "models"));
        for (service, score) in &card.forecast {
            let models: Vec<String> = score.models.iter().map(|(model, count)| format!("{model} {count}")).collect();
            let (mase, coverage) = (or_dash(score.mase, 3), or_dash(score.coverage_pct, 1));
            line(format!("{service:<12} {mase:>8} {coverage:>11} {:>10}  {}", score.forecasts, models.join(", ")));
        }
    }
    out
}

/// The mean of the scores of several seeds, of which each number is over those that have it; `None` of none.
pub fn mean(scores: &[SystemScore]) -> Option<SystemScore> {
    let first = scores.first()?;
    let over = |number: &dyn Fn(&SystemScore) -> Option<f64>| {
        let numbers: Vec<f64> = scores.iter().filter_map(number).collect();
        (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
    };
    let always = |number: &dyn Fn(&SystemScore) -> f64| over(&|score| Some(number(score))).unwrap_or_default();
    Some(SystemScore {
        violations: Violations {
            time_pct: always(&|score| score.violations.time_pct),
            requests_pct: always(&|score| score.violations.requests_pct),
        },
        cost_usd: always(&|score| score.cost_usd),
        unit_hours: always(&|score| score.unit_hours),
        actions: always(&|score| score.actions as f64).round() as u64,
        cost_per_million_good_usd: over(&|score| score.cost_per_million_good_usd),
        theta_under: over(&|score| score.theta_under),
        theta_over: over(&|score| score.theta_over),
        tau_under: over(&|score| score.tau_under),
        tau_over: over(&|score| score.tau_over),
        instability: over(&|score| score.instability),
        reversals: over(&|score| score.reversals),
        reversals_per_hour: over(&|score| score.reversals_per_hour),
        regret_to_oracle: over(&|score| score.regret_to_oracle),
        violation_regret_pct: over(&|score| score.violation_regret_pct),
        utilization_pct: over(&|score| score.utilization_pct),
        waste_pct: over(&|score| score.waste_pct),
        spike_availability_pct: over(&|score| score.spike_availability_pct),
        spike_short_time_pct: over(&|score| score.spike_short_time_pct),
        elastic_speedup: over(&|score| score.elastic_speedup),
        chosen: first.chosen.clone(),
    })
}

/// How far the numbers of several seeds are apart, by name.
pub fn spreads(scores: &[SystemScore]) -> BTreeMap<String, Spread> {
    let mut numbers: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, number) in scores.iter().flat_map(SystemScore::numbers) {
        numbers.entry(name).or_default().push(number);
    }
    numbers.into_iter().map(|(name, numbers)| (name.to_owned(), spread(&numbers))).collect()
}

fn spread(numbers: &[f64]) -> Spread {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares = numbers.iter().map(|number| (number - mean) * (number - mean)).sum::<f64>();
    Spread {
        mean,
        deviation: (numbers.len() > 1).then(|| (squares / (count - 1.0)).sqrt()),
        least: numbers.iter().copied().fold(f64::INFINITY, f64::min),
        most: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}

fn row(name: &str, score: &SystemScore, width: usize) -> String {
    format!(
        "{name:<width$} {:>8.3} {:>11.3} {:>10.2} {:>11.1} {:>8}  {}",
        score.violations.time_pct,
        score.violations.requests_pct,
        score.cost_usd,
        score.unit_hours,
        score.actions,
        score.chosen.as_deref().unwrap_or_default(),
    )
}

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use prescale_actuate::FleetSettings;
    use prescale_domain::Span;

    use super::*;
    use crate::arena::Demand;

    fn card() -> (ScoreCard, Vec<SweepPoint>) {
        let start = Timestamp::from_millis(0);
        let load: Vec<f64> = (0..120).map(|minute| if minute < 60 { 5.0 } else { 9.0 }).collect();
        let bouts = [Bout {
            demand: Demand { start, step: Span::from_minutes(1), load },
            fleet: FleetSettings { min: 1, max: 40, initial: 10, ..FleetSettings::default() },
            unit_capacity: 1.0,
        }];
        let timelines = [vec![(start, 6), (start + Span::from_minutes(55), 10)]];
        let models = BTreeMap::from([("holt".to_owned(), 20), ("lstm".to_owned(), 100)]);
        let forecast = ForecastScore { mase: Some(0.8123), coverage_pct: None, forecasts: 120, models };
        score_card(ScoreInputs {
            bouts: &bouts,
            timelines: &timelines,
            histories: &[vec![4.0, 11.5]],
            forecast: BTreeMap::from([("checkout".to_owned(), forecast)]),
            budget_pct: 1.0,
            seed: 7,
        })
    }

    #[test]
    fn the_table_reads_well() {
        let (card, sweep) = card();
        insta::assert_snapshot!(render(&card, &sweep));
    }

    #[test]
    fn seeds_are_averaged_and_their_spread_is_kept() {
        let score = |cost_usd: f64, regret_to_oracle: Option<f64>| SystemScore {
            cost_usd,
            regret_to_oracle,
            ..SystemScore::default()
        };
        let scores = [score(1.0, Some(10.0)), score(2.0, None), score(6.0, Some(20.0))];
        let all = mean(&scores).unwrap();
        assert_eq!((all.cost_usd, all.regret_to_oracle, all.theta_over), (3.0, Some(15.0), None));
        let spreads = spreads(&scores);
        let expected = Spread { mean: 3.0, deviation: Some(7.0_f64.sqrt()), least: 1.0, most: 6.0 };
        assert_eq!((spreads["cost_usd"], spreads.contains_key("theta_over")), (expected, false));
        assert_eq!(spread(&[4.0]).deviation, None);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn the_json_has_the_promised_shape() {
        let json = serde_json::to_value(card().0).unwrap();
        for system in ["prescale", "hpa", "static-peak"] {
            let score = &json["systems"][system];
            assert!(score["violations"]["time_pct"].is_number() && score["violations"]["requests_pct"].is_number());
            assert!(score["cost_usd"].is_number() && score["actions"].is_number(), "{score}");
        }
        assert_eq!((&json["seed"], &json["simulated_hours"]), (&7.into(), &2.0.into()));
    }
}
