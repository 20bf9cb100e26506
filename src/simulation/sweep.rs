//! Kubernetes' HPA over its targets. Rule: it is judged at the target that serves it best, chosen with full hindsight.
//!
//! The best target is the cheapest of those that keep the objective (percent of time short within the budget); if none
//! does, the one that is short least. All targets are kept, so that the whole frontier can be shown.

use prescale_domain::{Span, SystemScore};

use crate::arena::{Bout, Pilot, Tally, fly_all};
use crate::baselines::HpaSettings;

/// Age of the metric that HPA sees: scrape interval and aggregation of a usual metrics pipeline.
pub const METRIC_AGE: Span = Span::from_secs(30);

/// HPA at one target.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepPoint {
    /// Load per unit to aim at, as a share of the unit's capacity.
    pub target: f64,
    pub score: SystemScore,
}

/// Targets from 0.30 to 0.90 by 0.05.
pub fn targets() -> impl Iterator<Item = f64> {
    (6..=18).map(|twentieths| f64::from(twentieths) / 20.0)
}

/// Flies HPA at every target, the same for all services; empty where there is nothing to fly.
pub fn hpa_sweep(bouts: &[Bout]) -> Vec<SweepPoint> {
    targets()
        .filter_map(|target| {
            let score = hpa_at(bouts, target).score(Some(format!("target={target:.2}")))?;
            Some(SweepPoint { target, score })
        })
        .collect()
}

/// The point that counts, for an objective of at most `budget_pct` percent of time short.
pub fn best(points: &[SweepPoint], budget_pct: f64) -> Option<&SweepPoint> {
    let cost = |a: &&SweepPoint, b: &&SweepPoint| a.score.cost_usd.total_cmp(&b.score.cost_usd);
    let kept = |point: &&SweepPoint| point.score.violations.time_pct <= budget_pct;
    points.iter().filter(kept).min_by(cost).or_else(|| {
        points.iter().min_by(|a, b| {
            let time = |point: &SweepPoint| point.score.violations.time_pct;
            time(a).total_cmp(&time(b)).then_with(|| cost(a, b))
        })
    })
}

fn hpa_at(bouts: &[Bout], target: f64) -> Tally {
    let pilot = |bout: &Bout| Pilot::Hpa {
        settings: HpaSettings::kubernetes(target * bout.unit_capacity, bout.fleet.min.max(1), bout.fleet.max),
        metric_age: METRIC_AGE,
    };
    fly_all(bouts, bouts.iter().map(pilot))
}

#[cfg(test)]
mod tests {
    use prescale_domain::Violations;

    use super::*;

    fn point(target: f64, time_pct: f64, cost_usd: f64) -> SweepPoint {
        let violations = Violations { time_pct, requests_pct: 0.0 };
        SweepPoint { target, score: SystemScore { violations, cost_usd, unit_hours: 1.0, actions: 1, chosen: None } }
    }

    #[test]
    fn the_best_target_is_the_cheapest_that_keeps_the_objective_else_the_least_short() {
        let points = [point(0.5, 0.2, 9.0), point(0.6, 0.8, 7.0), point(0.7, 1.4, 6.0)];
        assert_eq!(best(&points, 1.0).unwrap().target, 0.6);
        assert_eq!(best(&points, 0.1).unwrap().target, 0.5);
        assert_eq!(best(&[], 1.0), None);
    }

    #[test]
    fn the_targets_are_those_of_the_protocol() {
        let all: Vec<f64> = targets().collect();
        assert_eq!((all.len(), all[0], all[12]), (13, 0.3, 0.9));
    }
}
