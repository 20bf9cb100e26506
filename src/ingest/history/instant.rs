//! The load of this moment from Prometheus, or what speaks its protocol: an instant query. Rule: the answer is as old as the
//! sample behind it, not as the question; asked within a time limit, and told apart by why it failed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use prescale_domain::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::prometheus::{agent, seconds};

/// For each of the two questions.
const TIMEOUT: Duration = Duration::from_secs(4);
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What to ask, and whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstantQuery {
    /// Where `/api/v1/query` begins, such as `http://prometheus:9090`.
    pub url: String,
    /// PromQL.
    pub query: String,
    /// Sent as `Authorization: Bearer`.
    pub bearer_token: Option<String>,
    /// The label that names the service of a series; `None` = there is one series.
    pub service_label: Option<String>,
}

/// A load and the moment that it is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Finite and at least 0, in the unit that the query gives.
    pub load: f64,
    pub at: Timestamp,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InstantError {
    #[error("`{url}` can't be reached: {error}")]
    Unreachable { url: String, error: String },
    #[error("`{url}` refuses the query: {error}")]
    Refused { url: String, error: String },
    #[error("`{url}`: the query has {count} series\nhint: add them up, as in sum(…), or name the label of the service")]
    Several { url: String, count: usize },
    #[error("`{url}`: a series has no label `{label}`\nhint: keep it in the query, as in sum by ({label}) (…)")]
    NoLabel { url: String, label: String },
}

impl InstantError {
    /// As a decision records it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } | Self::Several { .. } | Self::NoLabel { .. } => "refused",
        }
    }
}

/// What the query gives at `now`, by service; under the empty name where there is one series. A value that is no load is left
/// out. Calls block for some seconds at most.
///
/// # Errors
/// The server can't be reached, refuses the query, or answers with several series that no label tells apart.
pub fn query_instant(query: &InstantQuery, now: Timestamp) -> Result<BTreeMap<String, Sample>, InstantError> {
    let loads = values(query, &query.query, now)?;
    // Of a function's result this is the moment of the question; of what can't be asked so, the same is taken.
    let moments = match values(query, &format!("timestamp(\n{}\n)", query.query), now) {
        Ok(moments) => moments,
        Err(InstantError::Refused { .. }) => BTreeMap::new(),
        Err(error) => return Err(error),
    };
    let sample = |(service, load): (String, f64)| {
        let moment = moments.get(&service).map(|seconds| Timestamp::from_millis((seconds * 1000.0).round() as i64));
        let sample = Sample { load, at: moment.unwrap_or(now) };
        (load.is_finite() && load >= 0.0).then_some((service, sample))
    };
    Ok(loads.into_iter().filter_map(sample).collect())
}

#[derive(Deserialize)]
struct Answer<'a> {
    status: &'a str,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Found>),
    Scalar((f64, String)),
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    /// Seconds, and a number as text.
    value: (f64, String),
}

/// The values of an expression, by service.
fn values(query: &InstantQuery, expression: &str, now: Timestamp) -> Result<BTreeMap<String, f64>, InstantError> {
    let url = || query.url.clone();
    let refused = |error: String| InstantError::Refused { url: url(), error };
    let body = ask(query, expression, now)?;
    let answer: Answer<'_> = serde_json::from_str(&body)
        .map_err(|error| refused(format!("no answer of Prometheus to an instant query: {error}")))?;
    let Some(data) = answer.data.filter(|_| answer.status == "success") else {
        return Err(refused(answer.error.map_or("it gives no reason".to_owned(), Cow::into_owned)));
    };
    let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    let found = match data {
        Data::Scalar((_, text)) => return Ok(BTreeMap::from([(String::new(), number(&text))])),
        Data::Vector(found) => found,
    };
    if query.service_label.is_none() && found.len() > 1 {
        return Err(InstantError::Several { url: url(), count: found.len() });
    }
    let named = |mut series: Found| -> Result<(String, f64), InstantError> {
        let service = match &query.service_label {
            None => String::new(),
            Some(label) => {
                let missing = || InstantError::NoLabel { url: url(), label: label.clone() };
                series.metric.remove(label).ok_or_else(missing)?
            }
        };
        Ok((service, number(&series.value.1)))
    };
    found.into_iter().map(named).collect()
}

fn ask(query: &InstantQuery, expression: &str, now: Timestamp) -> Result<String, InstantError> {
    let unreachable = |error: String| InstantError::Unreachable { url: query.url.clone(), error };
    let refused = |error: String| InstantError::Refused { url: query.url.clone(), error };
    let url = format!("{}/api/v1/query", query.url.trim_end_matches('/'));
    let mut request =
        agent(&query.url, TIMEOUT).get(&url).query("query", expression).query("time", seconds(now.millis()));
    if let Some(token) = &query.bearer_token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call().map_err(|error| unreachable(error.to_string()))?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(BYTES_MAX).read_to_string();
    let body = body.map_err(|error| unreachable(error.to_string()))?;
    match status {
        200..=299 | 400 | 422 => Ok(body),
        401 | 403 => Err(refused(format!("it answers with {status}\nhint: give it a bearer_token that may query"))),
        404 => Err(refused("it has no /api/v1/query\nhint: name the URL before /api/v1".to_owned())),
        _ => Err(unreachable(format!("it answers with {status}"))),
    }
}
