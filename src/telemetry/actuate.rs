//! What happens between Prescale and the clouds. Metrics: `prescale_actuate_*`. What became of a decision is told by the
//! controller, which records it.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::catalogue::{Labels, register};

fn calls() -> &'static Family<Labels, Counter> {
    static CALLS: OnceLock<Family<Labels, Counter>> = OnceLock::new();
    CALLS.get_or_init(|| register("actuate_calls", "Calls of cloud APIs, by operation and result.", Family::default()))
}

/// A call of a cloud API has ended, with all its attempts.
pub struct CloudCall {
    /// The API's own name of the operation.
    pub operation: &'static str,
    /// The class of the failure; `None` = it worked.
    pub failure: Option<&'static str>,
}

impl CloudCall {
    pub fn emit(&self) {
        let result = self.failure.unwrap_or("ok");
        let labels = vec![("operation", self.operation.to_owned()), ("result", result.to_owned())];
        calls().get_or_create(&labels).inc();
        tracing::debug!(operation = self.operation, result, "cloud call");
    }
}

/// A cloud does not launch what a group wants.
pub struct LaunchRefused<'a> {
    pub text: &'a str,
}

impl LaunchRefused<'_> {
    pub fn emit(&self) {
        static REFUSED: OnceLock<Counter> = OnceLock::new();
        let refused = REFUSED
            .get_or_init(|| register("actuate_launches_refused", "Launches that a cloud refused.", Counter::default()));
        refused.inc();
        tracing::warn!("{}", self.text);
    }
}

/// Measures that a metrics service did not take.
pub struct MeasuresGivenUp<'a> {
    pub count: usize,
    pub error: &'a str,
}

impl MeasuresGivenUp<'_> {
    pub fn emit(&self) {
        static GIVEN_UP: OnceLock<Counter> = OnceLock::new();
        let given_up = GIVEN_UP.get_or_init(|| {
            register("actuate_measures_given_up", "Measures that a metrics service did not take.", Counter::default())
        });
        given_up.inc_by(u64::try_from(self.count).unwrap_or(u64::MAX));
        tracing::warn!(count = self.count, error = self.error, "measures were not sent");
    }
}

/// This replica may act from now on, or no longer.
pub struct LeaseChange {
    pub held: bool,
    /// The fencing token.
    pub term: Option<u64>,
}

impl LeaseChange {
    pub fn emit(&self) {
        static HELD: OnceLock<Gauge> = OnceLock::new();
        let held =
            HELD.get_or_init(|| register("actuate_lease_held", "Whether this replica may act.", Gauge::default()));
        held.set(i64::from(self.held));
        if self.held {
            tracing::info!(term = self.term, "this replica has the lease: it acts from now on");
        } else {
            tracing::warn!("this replica has the lease no longer: it does not act");
        }
    }
}
