//! Requests as `pipelines/requests.sql` reads them. Rule: nothing depends on the clock.

use chrono::{DateTime, SecondsFormat};
use serde_json::json;

/// When minute 0 starts.
pub(crate) const START_MILLIS: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

/// One request, so long after the start of its minute.
pub(crate) fn request(minute: i64, millis: i64, service: &str, route: &str) -> String {
    let time = DateTime::from_timestamp_millis(START_MILLIS + minute * 60_000 + millis).unwrap();
    let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({"ts": time, "service": service, "route": route, "status": 200, "latency_ms": millis % 97, "bytes": millis})
        .to_string()
}

/// `requests.sql` without its probes.
pub(crate) fn without_probes() -> String {
    let shipped = std::fs::read_to_string(super::root().join("pipelines/requests.sql")).unwrap();
    let filtered = shipped.replace("    FROM requests\n", "    FROM requests\n    WHERE route <> '/health'\n");
    assert_ne!(shipped, filtered);
    filtered
}
