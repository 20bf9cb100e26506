//! What happens around a service besides its load, and from which size on it counts. Rule: a signal that nobody sent is
//! absent, never zero.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Relative rise of the load over its recent level that counts as a spike.
pub const SPIKE_MAGNITUDE: f64 = 0.7;
/// An error rate has risen when it is this many times the usual one, and at least so high.
pub const ERROR_RATE_RISE: f64 = 2.0;
pub const ERROR_RATE_MIN: f64 = 0.05;
/// Share of an API's rate limit from which on callers are throttled, and units are reduced.
pub const API_THROTTLE: f64 = 0.7;
pub const API_REDUCE: f64 = 0.9;

/// From which size on a signal is an event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    pub spike_magnitude: f64,
    pub error_rate_rise: f64,
    pub error_rate_min: f64,
    pub api_throttle: f64,
    pub api_reduce: f64,
    /// Above this the service does not grow; `None` = cost is no event.
    pub cost_usd_hour: Option<f64>,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            spike_magnitude: SPIKE_MAGNITUDE,
            error_rate_rise: ERROR_RATE_RISE,
            error_rate_min: ERROR_RATE_MIN,
            api_throttle: API_THROTTLE,
            api_reduce: API_REDUCE,
            cost_usd_hour: None,
        }
    }
}

/// Which columns of the features tell what happens around a service; a signal without one is not heard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SignalColumns {
    /// Share of requests that fail; `error_rate` is made of `errors` and `requests` where the row does not say it.
    pub error_rate: Option<String>,
    /// Share of the rate limit of an API that the service calls.
    pub api_usage: Option<String>,
    /// Waiting jobs or requests.
    pub queue: Option<String>,
    /// Jobs or requests being served.
    pub in_flight: Option<String>,
    /// How many of those one unit can serve at once.
    pub unit_concurrency: Option<f64>,
}

/// What was last heard around a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Signals {
    /// The usual load of the last while, before the last window, as somebody else has measured it: what a spike rises above.
    /// Without it, it is that of the loads that decisions have seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recent_load: Option<f64>,
    /// Share of requests that fail: in the last window, and usually.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual_error_rate: Option<f64>,
    /// Share of the rate limit of an API that the service calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_usage: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd_hour: Option<f64>,
    /// Waiting jobs or requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<f64>,
    /// Jobs or requests being served, and how many one unit can serve at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_concurrency: Option<f64>,
    /// Events from outside that concern the service now and that its forecast does not know of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<ExternalSignal>,
}

/// An external event as a decision sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalSignal {
    pub id: String,
    pub kind: String,
    /// Expected load as a multiple of the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplift: Option<f64>,
}

/// Advice to those who send requests: the `qos` topic, the API, the rate-limit service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Throttle {
    pub level: ThrottleLevel,
    /// Share of the present rate that may go on.
    pub admit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ThrottleLevel {
    Throttle,
    Reduce,
}

impl Signals {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
