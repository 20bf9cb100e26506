//! What a controller sees at a tick, and what came of a run. Rule: what could not be computed is absent.

use std::collections::BTreeMap;

use prescale_domain::{Span, Timestamp};
use serde::Serialize;

use super::billing::{ClassCost, PriceClass};

/// What a controller sees; counts and shares are those of the time since the tick before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Observation {
    pub now: Timestamp,
    /// Units asked for.
    pub desired: u32,
    /// Units that take requests, that are to come, and that only finish what they hold.
    pub ready: u32,
    pub pending: u32,
    pub draining: u32,
    /// Requests in service and waiting now.
    pub in_service: u64,
    pub queue: u64,
    pub arrived: u64,
    pub served: u64,
    pub dropped: u64,
    /// Arrivals per second; `None` at the first tick.
    pub rate_per_second: Option<f64>,
    /// 95th percentile of the requests that were answered.
    pub latency_p95_ms: Option<f64>,
    /// Share of the places for requests that was taken; `None` without a unit.
    pub utilization: Option<f64>,
    /// Spot units that were recommended to be replaced, and that were given notice.
    pub recommendations: u64,
    pub notices: u64,
}

/// One window of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WindowOutcome {
    pub start: Timestamp,
    pub arrived: u64,
    pub served: u64,
    pub dropped: u64,
    /// Answered within the objective.
    pub good: u64,
    /// Mean time in the queue of the requests whose service began.
    pub wait_mean_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub queue_mean: f64,
    pub queue_max: u64,
    pub utilization: Option<f64>,
    /// Units that take requests, on average.
    pub ready_mean: f64,
}

/// A whole run. `arrived` is the sum of served, the three kinds of dropped, queued and in service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Totals {
    pub arrived: u64,
    pub served: u64,
    /// The queue was full, or there was neither unit nor queue.
    pub dropped_full: u64,
    /// Waited too long.
    pub dropped_timeout: u64,
    /// Held by a unit that was taken away or that did not finish draining in time.
    pub dropped_lost: u64,
    /// Waiting, and in service, at the end.
    pub queued: u64,
    pub in_service: u64,
    pub good: u64,
    /// Share of the served and dropped requests that were answered within the objective.
    pub share_good: Option<f64>,
    pub wait_mean_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub queue_mean: f64,
    pub queue_max: u64,
    /// Seconds spent waiting by all requests that left the queue: those whose service began, and those that were dropped.
    pub waited_seconds: f64,
    pub abandoned_seconds: f64,
    pub utilization: Option<f64>,
    /// Most units asked for, and most paid for at a time.
    pub desired_max: u32,
    pub units_max: u32,
    pub unit_hours: f64,
    pub cost_usd: f64,
    pub failed_launches: u64,
    pub recommendations: u64,
    pub notices: u64,
    /// Happenings that were simulated.
    pub events: u64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueOutcome {
    pub totals: Totals,
    pub classes: BTreeMap<PriceClass, ClassCost>,
    pub window: Span,
    pub windows: Vec<WindowOutcome>,
    /// Requests for another number of units, by time.
    pub actions: Vec<(Timestamp, u32)>,
}

impl Totals {
    pub fn dropped(&self) -> u64 {
        self.dropped_full + self.dropped_timeout + self.dropped_lost
    }

    /// Whether every request is accounted for.
    pub fn is_conserved(&self) -> bool {
        self.arrived == self.served + self.dropped() + self.queued + self.in_service
    }
}
