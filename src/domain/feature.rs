//! What the `features` topic carries: feature rows and progress records. Rule: reading never guesses; a record that is
//! neither is an error that says why.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{ServiceName, Timestamp};

/// One service's measures over one closed window `[window_start, window_end)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureRow {
    pub service: ServiceName,
    pub window_start: Timestamp,
    pub window_end: Timestamp,
    /// Text columns beside the service, such as `metric` in `metrics.sql`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Numeric columns by name; `None` is SQL NULL. Where a row has a `metric` label, names are `<metric>_<column>`.
    pub measures: BTreeMap<String, Option<f64>>,
}

/// How far a pipeline has come in event time: written to every partition of the `features` topic after the rows that it
/// covers, so that a reader that has seen it has seen all rows of windows that end at or before `watermark`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    pub pipeline: String,
    /// The partition of the `features` topic that this copy was written to.
    pub partition: i32,
    /// No window that ends at or before this moment will be written again with other content.
    pub watermark: Timestamp,
    /// `[from, to)`: event time that the watermark passed without rows because the source was idle or out of reach.
    /// Windows that start inside it and have no row are gaps, not zeros. Of a share it is the time in which that share alone
    /// heard nothing, which is a gap only if no other share heard anything either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<(Timestamp, Timestamp)>,
    /// The input has ended; nothing follows.
    pub end: bool,
    /// Where several processes share a pipeline: whose progress it is. Event time is then the least of all shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// One partition of a pipeline's sources, which one process at a time works off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// Its number.
    pub partition: i32,
    /// How many partitions the sources have; it may grow.
    pub of: i32,
    /// It hears nothing and does not hold event time back.
    pub idle: bool,
}

/// A record of the `features` topic.
#[derive(Clone, Debug, PartialEq)]
pub enum FeaturesRecord {
    Row(FeatureRow),
    Progress(Progress),
}

/// A record of the `features` topic that could not be understood.
#[derive(Debug, Error)]
pub enum FeatureRowError {
    #[error("features record is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("features record has no text field `{0}`")]
    Missing(&'static str),
    #[error("features record field `{field}`: {error}")]
    Time { field: &'static str, error: crate::TimeError },
    #[error("features record field `{0}` is an object or a list, expected a number, a text or null")]
    Nested(String),
}

impl FeaturesRecord {
    /// Reads the JSON value of one record: `{"progress": {...}}`, or a flat row as in the specification, §4.9.
    pub fn from_json(bytes: &[u8]) -> Result<Self, FeatureRowError> {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_slice(bytes)?;
        if let Some(progress) = fields.remove("progress") {
            return Ok(Self::Progress(serde_json::from_value(progress)?));
        }
        FeatureRow::from_fields(fields).map(Self::Row)
    }
}

impl Progress {
    /// The JSON value of the record: `{"progress": {...}}`.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::json!({ "progress": self }).to_string().into_bytes()
    }
}

impl FeatureRow {
    fn from_fields(fields: serde_json::Map<String, Value>) -> Result<Self, FeatureRowError> {
        let text = |name: &'static str| fields.get(name).and_then(Value::as_str).ok_or(FeatureRowError::Missing(name));
        let time =
            |name: &'static str| text(name)?.parse().map_err(|error| FeatureRowError::Time { field: name, error });
        let service = ServiceName::new(text("service")?);
        let (window_start, window_end) = (time("window_start")?, time("window_end")?);
        let (mut labels, mut measures) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in fields {
            if matches!(name.as_str(), "service" | "window_start" | "window_end") {
                continue;
            }
            match value {
                Value::Null => drop(measures.insert(name, None)),
                Value::Bool(flag) => drop(measures.insert(name, Some(f64::from(u8::from(flag))))),
                Value::Number(number) => drop(measures.insert(name, number.as_f64())),
                Value::String(text) => drop(labels.insert(name, text)),
                Value::Array(_) | Value::Object(_) => return Err(FeatureRowError::Nested(name)),
            }
        }
        if let Some(metric) = labels.get("metric") {
            measures = measures.into_iter().map(|(name, value)| (format!("{metric}_{name}"), value)).collect();
        }
        Ok(Self { service, window_start, window_end, labels, measures })
    }
}
