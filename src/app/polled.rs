//! What polled sources tell, as rows of the metrics topic. Rule: told as done, the brokers have it.

use prescale_domain::{Span, Timestamp};
use prescale_ingest::kafka::KafkaSink;
use serde::Serialize;

const TIMEOUT: Span = Span::from_secs(10);

/// A row of `schemas/metrics.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row<'a> {
    pub(super) ts: Timestamp,
    pub(super) service: &'a str,
    /// The kind of source.
    pub(super) instance: &'static str,
    pub(super) name: &'a str,
    pub(super) value: f64,
}

/// Sends rows and waits for the brokers' word.
pub(super) fn tell(sink: &KafkaSink, topic: &str, rows: &[Row]) -> Result<(), String> {
    for row in rows {
        let value = serde_json::to_vec(row).map_err(|error| error.to_string())?;
        sink.send(topic, None, Some(row.service.as_bytes()), &value, &[]).map_err(|error| error.to_string())?;
    }
    sink.flush(TIMEOUT).map_err(|error| error.to_string())
}
