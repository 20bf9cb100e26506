//! What can be asked of a run. Rule: what cannot be computed is not met.

use std::fmt;

use prescale_domain::Span;

use super::{Check, Scenario};
use crate::queueing::QueueOutcome;

/// One thing that is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    NoRequestDropped,
    /// Share of the requests answered within the objective, at least.
    Good(f64),
    /// Units paid for at a time, at most.
    Units(u32),
    /// 95th percentile of the latency, below.
    P95(Span),
    /// Mean queue of the windows with a unit in service, below this in 95 % of them.
    Queue(f64),
    /// Share of the places taken while there are any, between.
    Utilization(f64, f64),
    /// Cost below that of the fleet that is never scaled by at least this share of it.
    Saving(f64),
    /// More units are asked for before this time of the run.
    RaisedBefore(Span),
    /// After the first rise fewer units are asked for, and not before this time.
    LoweredAfter(Span),
    /// Fewer units are asked for, and never sooner than this after the last change.
    LoweredApart(Span),
}

impl Goal {
    pub(super) fn check(&self, scenario: &Scenario, outcome: &QueueOutcome) -> Check {
        let found = self.found(scenario, outcome);
        let met = found.is_some_and(|found| match self {
            Self::NoRequestDropped => found == 0.0,
            Self::Good(least) | Self::Saving(least) => found >= *least,
            Self::Units(most) => found <= f64::from(*most),
            Self::P95(limit) => found < limit.millis() as f64,
            Self::Queue(limit) => found < *limit,
            Self::Utilization(least, most) => (*least..=*most).contains(&found),
            Self::RaisedBefore(limit) => found < limit.seconds(),
            Self::LoweredAfter(limit) | Self::LoweredApart(limit) => found >= limit.seconds(),
        });
        Check { goal: self.to_string(), found, met }
    }

    fn found(&self, scenario: &Scenario, outcome: &QueueOutcome) -> Option<f64> {
        let totals = &outcome.totals;
        match self {
            Self::NoRequestDropped => Some(totals.dropped() as f64),
            Self::Good(_) => totals.share_good,
            Self::Units(_) => Some(f64::from(totals.units_max)),
            Self::P95(_) => totals.p95_ms,
            Self::Queue(_) => {
                let on = outcome.windows.iter().filter(|window| window.ready_mean > 0.0);
                let mut queues: Vec<f64> = on.map(|window| window.queue_mean).collect();
                queues.sort_by(f64::total_cmp);
                queues.get((queues.len() * 95).div_ceil(100).checked_sub(1)?).copied()
            }
            Self::Utilization(..) => totals.utilization,
            Self::Saving(_) => {
                let always_on = scenario.always_on_usd();
                (always_on > 0.0).then(|| 1.0 - totals.cost_usd / always_on)
            }
            Self::RaisedBefore(_) => changes(scenario, outcome).find(|(_, up)| *up).map(|(seconds, _)| seconds),
            Self::LoweredAfter(_) => {
                let after_rise: Vec<_> = changes(scenario, outcome).skip_while(|(_, up)| !up).collect();
                after_rise.into_iter().find(|(_, up)| !up).map(|(seconds, _)| seconds)
            }
            Self::LoweredApart(_) => {
                let changes: Vec<_> = changes(scenario, outcome).collect();
                let lowered = changes.windows(2).filter(|pair| !pair[1].1);
                lowered.map(|pair| pair[1].0 - pair[0].0).min_by(f64::total_cmp)
            }
        }
    }
}

/// Seconds of the run at which other numbers of units were asked for, and whether they were larger.
fn changes<'a>(scenario: &'a Scenario, outcome: &'a QueueOutcome) -> impl Iterator<Item = (f64, bool)> + 'a {
    let fleet = &scenario.run.fleet;
    let mut before = fleet.initial.clamp(fleet.min, fleet.max);
    outcome.actions.iter().map(move |(moment, units)| {
        let up = *units > before;
        before = *units;
        (moment.since(scenario.run.start).seconds(), up)
    })
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRequestDropped => f.write_str("no request dropped"),
            Self::Good(share) => write!(f, "at least {:.1} % within the objective", 100.0 * share),
            Self::Units(units) => write!(f, "never above {units} units"),
            Self::P95(limit) => write!(f, "95th percentile below {limit}"),
            Self::Queue(limit) => write!(f, "queue below {limit}"),
            Self::Utilization(least, most) => {
                write!(f, "utilization while on {:.0} to {:.0} %", 100.0 * least, 100.0 * most)
            }
            Self::Saving(share) => write!(f, "{:.0} % cheaper than always on", 100.0 * share),
            Self::RaisedBefore(limit) => write!(f, "scaled up before {limit}"),
            Self::LoweredAfter(limit) => write!(f, "scaled down after {limit}"),
            Self::LoweredApart(limit) => write!(f, "never scaled down within {limit} of a change"),
        }
    }
}
