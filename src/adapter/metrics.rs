//! The external and custom metrics APIs of Kubernetes: what an HPA asks. Rule: errors are `Status` objects, as its API server
//! speaks them; a sum of which a part is missing is no answer.
//!
//! ```text
//! router     routes, who may ask, counting         quantity  numbers as Kubernetes writes them
//! values     the answers                           selector  which labels are asked for
//! discovery  which metrics there are               status    errors
//! ```

mod discovery;
mod quantity;
mod router;
mod selector;
mod status;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use router::router;

/// Units that the service should have.
pub(crate) const UNITS_METRIC: &str = "prescale_desired_units";
/// Forecast of its load signal.
pub(crate) const LOAD_METRIC: &str = "prescale_forecast_load";

/// Groups and versions that are served.
const EXTERNAL: (&str, &str) = ("external.metrics.k8s.io", "v1beta1");
const CUSTOM: (&str, &str) = ("custom.metrics.k8s.io", "v1beta2");
