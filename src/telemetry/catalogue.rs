//! The registry of all metrics of the process. Rule: each metric has a help text and is registered exactly once.

use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::registry::{Metric, Registry};

/// Label names and values of one series.
pub type Labels = Vec<(&'static str, String)>;

fn registry() -> &'static Mutex<Registry> {
    static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();
    REGISTRY.get_or_init(|| Mutex::new(Registry::with_prefix("prescale")))
}

/// Adds a metric under `prescale_<name>`; call once for each, from the `OnceLock` of its module. Counters get their
/// `_total` from the encoder.
pub(crate) fn register<M: Metric + Clone>(name: &str, help: &str, metric: M) -> M {
    registry().lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
    metric
}

/// All metrics in the Prometheus text format (OpenMetrics).
pub fn render() -> String {
    let mut out = String::new();
    // Writing into a String can't fail; an encoder that does leaves an empty page, which scrapers report.
    if text::encode(&mut out, &registry().lock().unwrap_or_else(PoisonError::into_inner)).is_err() {
        out.clear();
    }
    out
}
