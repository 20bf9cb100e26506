//! Kubernetes' HPA over its targets. Rule: it is judged at the target that serves it best, chosen with full hindsight.
//!
//! The best target is the cheapest of those that keep the objective (percent of time short within the budget); if none
//! does, the one that is short least. All targets are kept, so that the whole frontier can be shown.

use prescale_domain::SystemScore;

use crate::arena::{Bout, Pilot, Tally, fly_all};
use crate::baselines::HpaSettings;
use crate::frontier::Point;

pub use crate::baselines::METRIC_AGE;

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
    let of = |point: &SweepPoint| [point.score.cost_usd, point.score.violations.time_pct];
    points.get(choose(&points.iter().map(of).collect::<Vec<_>>(), budget_pct)?)
}

/// The same by cost and percent of time short: which of the points it is.
pub fn choose(points: &[Point], budget_pct: f64) -> Option<usize> {
    let by_cost = |a: &(usize, &Point), b: &(usize, &Point)| a.1[0].total_cmp(&b.1[0]);
    let kept = |(_, point): &(usize, &Point)| point[1] <= budget_pct;
    let all = || points.iter().enumerate();
    let least_short = || all().min_by(|a, b| a.1[1].total_cmp(&b.1[1]).then_with(|| by_cost(a, b)));
    all().filter(kept).min_by(by_cost).or_else(least_short).map(|(index, _)| index)
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
        SweepPoint { target, score: SystemScore { violations, cost_usd, ..SystemScore::default() } }
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
