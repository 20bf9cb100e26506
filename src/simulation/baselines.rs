//! The autoscalers that Prescale is compared with, as published. Rule: none sees more than it would in reality.

mod hpa;
mod static_peak;

pub use hpa::{Hpa, HpaMetric, HpaSettings, Observation, ScalingRules};
pub use static_peak::static_peak;
