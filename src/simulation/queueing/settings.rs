//! What a run consists of. Rule: checked once, by [`RunSettings::check`], before a run begins.

use prescale_domain::{Span, Timestamp};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::billing::Pricing;
use super::moment::Nanos;
use super::service::{ServiceTime, WarmUp};
use crate::market::MarketSettings;
use crate::seeded::{Purpose, rng};

/// One service, its fleet and its objective over some time.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSettings {
    pub start: Timestamp,
    pub end: Timestamp,
    /// The controller is asked this often.
    pub tick: Span,
    /// Latencies and the rest are told for windows of this length.
    pub window: Span,
    /// A request is good if it is answered within this time of its arrival.
    pub objective: Span,
    pub fleet: FleetModel,
    pub service: ServiceModel,
    pub queue: Queueing,
    pub prices: Pricing,
    /// Where spot units come from; without one they are never lost and cost what [`Pricing`] says.
    pub market: Option<MarketSettings>,
    pub seed: u64,
}

/// What a unit does with requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceModel {
    pub time: ServiceTime,
    /// Requests in service at a time in one unit.
    pub concurrency: u32,
}

/// Units and how they come and go.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetModel {
    /// Every wish is clamped to these.
    pub min: u32,
    pub max: u32,
    /// Units that are in service and warm at the start.
    pub initial: u32,
    /// Request for a unit → unit in service.
    pub provisioning: Latency,
    pub warm_up: WarmUp,
    /// Share of launches that come to nothing; that is seen when the unit should have come, and it was paid until then.
    pub launch_failure: f64,
    /// From a failed launch to the next try.
    pub retry_after: Span,
    /// A unit that is to go takes no new requests and ends with its last one, or after this time: what it still holds
    /// then is lost. `None` waits for as long as it takes.
    pub drain_limit: Option<Span>,
}

/// How long a launch takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Latency {
    Fixed(Span),
    LogNormal {
        median: Span,
        p90: Span,
    },
    /// Latencies that were observed, each as likely as the others.
    Observed(Vec<Span>),
}

/// Where requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queueing {
    /// One queue for all units, first come first served; it is also where requests wait while there is no unit.
    Shared { limit: Option<u32>, timeout: Option<Span> },
    /// Each request goes to the unit with the fewest at once and waits there; `limit` is by unit. With no unit in service
    /// it is dropped.
    LeastConnections { limit: Option<u32>, timeout: Option<Span> },
}

/// What the fleet does, by itself, about a spot unit that is going to be lost. A unit that is lost is always replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpotReaction {
    /// Replaces it when it is gone.
    #[default]
    Wait,
    /// Launches its successor at the notice, and drains it when that has come or when time is up.
    AtNotice,
    /// The same at the recommendation to rebalance, which is earlier and may be a false alarm.
    AtRecommendation,
}

impl ServiceModel {
    /// Requests per second that a warm unit can serve at most.
    pub fn unit_rate(&self) -> f64 {
        f64::from(self.concurrency) / self.time.mean_seconds()
    }
}

impl Queueing {
    pub(super) fn limit(&self) -> u64 {
        let (Self::Shared { limit, .. } | Self::LeastConnections { limit, .. }) = self;
        limit.map_or(u64::MAX, u64::from)
    }

    pub(super) fn timeout(&self) -> Option<Nanos> {
        let (Self::Shared { timeout, .. } | Self::LeastConnections { timeout, .. }) = self;
        timeout.map(Nanos::from)
    }
}

impl Latency {
    /// The latency of the unit launched as number `number`, and whether the launch fails.
    pub(super) fn draw(&self, seed: u64, number: u32, failure: f64) -> (Nanos, bool) {
        /// 90th percentile of the standard normal distribution.
        const Z_P90: f64 = 1.281_551_565_545;
        let mut rng = rng(seed, Purpose::Launches, number as usize, Timestamp::default());
        let fails = rng.random::<f64>() < failure;
        let latency = match self {
            Self::Fixed(span) => Nanos::from(*span),
            Self::LogNormal { median, p90 } => {
                let (median, p90) = (median.seconds(), p90.seconds());
                let sigma = if median > 0.0 && p90 > median { (p90 / median).ln() / Z_P90 } else { 0.0 };
                let normal: f64 = StandardNormal.sample(&mut rng);
                Nanos::from_seconds(median * (sigma * normal).exp())
            }
            Self::Observed(spans) => {
                let index = rng.random_range(0..spans.len().max(1));
                spans.get(index).map_or(Nanos::ZERO, |span| Nanos::from(*span))
            }
        };
        (latency, fails)
    }
}
