//! A back-test for people and for machines: JSON, a terminal table, one HTML page. Rule: every number that is shown is in
//! the JSON, under the path that its cell names; what could not be computed is absent and reads "–".
//!
//! The score card is taken as the JSON that it is, so that a number which is added to it appears here by itself;
//! [`columns`](COLUMNS) says how the known ones read.
//!
//! A path is the keys and indices from the top, joined by `.`, such as `systems.hpa.cost_usd`; a `.` or `\` inside a key
//! is written `\.` or `\\`.

mod columns;
mod data;
mod page;
mod paths;
mod table;
#[cfg(test)]
mod tests;
mod thin;
mod words;

use std::collections::BTreeMap;

use prescale_domain::{Decision, DecisionKind, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use columns::{Better, COLUMNS, Column};
pub use page::html;
pub use paths::{at_path, path_of};
pub use table::table;

/// Everything that a back-test has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BacktestReport {
    pub title: String,
    /// The score card's own fields, at the top of the JSON: `systems`, `forecast`, `frontier`, `seeds`, ….
    #[serde(flatten)]
    pub card: Map<String, Value>,
    /// Percent of time that may be short.
    pub budget_pct: Option<f64>,
    pub services: Vec<ServiceReport>,
    /// What it was run with: leads, seeds, policy.
    pub settings: Value,
    /// Seconds by part.
    pub timings: BTreeMap<String, f64>,
    /// What a reader must know to read the numbers right.
    pub notes: Vec<String>,
}

/// One service over the scored time, in one run (the first lead time and seed).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    pub name: ServiceName,
    /// Load that one unit carries; `None` = learnt along the way.
    pub unit_capacity: Option<f64>,
    /// Start of the first window, and the width of each.
    pub start: Timestamp,
    pub step: Span,
    /// By window; `None` = a gap.
    pub load: Vec<Option<f64>>,
    /// The least units that keep the objective, by window.
    pub needed: Vec<Option<f64>>,
    /// Ready units by system, each from its moment on.
    pub capacity: BTreeMap<String, Vec<(Timestamp, f64)>>,
    pub forecasts: Vec<ForecastSample>,
    pub calibration: Vec<CalibrationPoint>,
    pub decisions: Vec<DecisionMark>,
}

/// A forecast as it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastSample {
    /// Start of the last window that it had seen.
    pub origin: Timestamp,
    /// Ascending, each in (0, 1).
    pub levels: Vec<f64>,
    /// `values[k][q]`: level `levels[q]` of the load in the window that starts at `origin + (k + 1) · step`.
    pub values: Vec<Vec<f64>>,
}

/// How often the load was at or below a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPoint {
    /// What was promised, and what was delivered.
    pub level_pct: f64,
    pub observed_pct: f64,
    pub forecasts: u64,
}

/// A decision and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionMark {
    pub at: Timestamp,
    pub kind: DecisionKind,
    pub desired: u32,
    pub reasons: Vec<String>,
}

impl BacktestReport {
    /// A report of a score card alone; whatever else there is goes into the fields.
    pub fn new(title: &str, card: &impl Serialize) -> Result<Self, serde_json::Error> {
        let card = match serde_json::to_value(card)? {
            Value::Object(fields) => fields,
            other => Map::from_iter([("systems".to_owned(), other)]),
        };
        Ok(Self {
            title: title.to_owned(),
            card,
            budget_pct: None,
            services: Vec::new(),
            settings: Value::Null,
            timings: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    /// The whole report: the score card's fields at the top, the rest beside them, and the headline that follows from them.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        value["headline"] = data::headline(self);
        Ok(value)
    }

    /// Scores by system.
    fn systems(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.card.get("systems").and_then(Value::as_object).into_iter().flatten()
    }
}

impl From<&Decision> for DecisionMark {
    fn from(decision: &Decision) -> Self {
        let reasons = decision.reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.text)).collect();
        Self { at: decision.at, kind: decision.kind, desired: decision.desired, reasons }
    }
}

/// How well forecasts were calibrated, counted over all their steps against the load that came.
pub fn calibration(
    forecasts: &[ForecastSample],
    actual: impl Fn(Timestamp) -> Option<f64>,
    step: Span,
) -> Vec<CalibrationPoint> {
    let mut counts: Vec<(f64, u64, u64)> = Vec::new();
    for forecast in forecasts {
        for (ahead, values) in (1..).zip(&forecast.values) {
            let start = forecast.origin + Span::from_millis(step.millis().saturating_mul(ahead));
            let Some(load) = actual(start) else { continue };
            for (level, value) in forecast.levels.iter().zip(values) {
                let place = counts.iter().position(|(known, ..)| known == level).unwrap_or_else(|| {
                    counts.push((*level, 0, 0));
                    counts.len() - 1
                });
                counts[place].1 += u64::from(load <= *value);
                counts[place].2 += 1;
            }
        }
    }
    counts.sort_by(|one, other| one.0.total_cmp(&other.0));
    let point = |(level, below, all): (f64, u64, u64)| CalibrationPoint {
        level_pct: 100.0 * level,
        observed_pct: 100.0 * below as f64 / all as f64,
        forecasts: all,
    };
    counts.into_iter().map(point).collect()
}
