//! Histories from Prometheus, or what speaks its protocol: a range query in pages. Rule: a sample at time t is about the
//! window that ends at t, and what the query has no finite value for is a gap.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use prescale_domain::{Span, Timestamp};
use serde::Deserialize;
use ureq::Agent;

use super::{Fault, Histories, HistoryError, Result, VALUE_HINT};
use crate::registry::tls;

/// Prometheus answers at most 11,000 points of a series at once.
const POINTS: i64 = 10_000;
/// For one page.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest page that is read: some hundred series.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What to ask, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusQuery {
    /// Where `/api/v1/query_range` begins, such as `http://prometheus:9090`.
    pub url: String,
    /// PromQL.
    pub query: String,
    /// Sent as `Authorization: Bearer`.
    pub bearer_token: Option<String>,
    /// The label that names the service of a series; `None` = there is one series.
    pub service_label: Option<String>,
    /// Windows that start in `[from, to)`.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Their width.
    pub step: Span,
}

#[derive(Deserialize)]
struct Answer<'a> {
    status: &'a str,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, rename = "resultType")]
    kind: &'a str,
    #[serde(borrow)]
    result: Vec<Found<'a>>,
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow, default)]
    metric: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Seconds, and a number as text.
    #[serde(borrow, default)]
    values: Vec<(f64, &'a str)>,
}

/// Asks for the loads of all windows in the query's time, page by page. Calls block.
///
/// # Errors
/// The server can't be reached (which may pass), refuses the query, or answers with several series that no label tells
/// apart.
pub fn query_prometheus(query: &PrometheusQuery) -> std::result::Result<Histories, HistoryError> {
    pages(query).map_err(|fault| fault.of(&query.url))
}

fn pages(query: &PrometheusQuery) -> Result<Histories> {
    let step = query.step.millis().max(1);
    let (from, to) = (query.from.floor_to(query.step), query.to.floor_to(query.step));
    let mut histories = Histories::new(&query.url, false);
    histories.names_services = query.service_label.is_some();
    histories.is_asked = true;
    let agent = agent(&query.url, TIMEOUT);
    let mut first = from;
    while first < to {
        let last = first.millis().saturating_add((POINTS - 1) * step).min(to.millis() - step);
        let last = Timestamp::from_millis(last);
        let body = ask(&agent, query, first + query.step, last + query.step)?;
        take(query, &body, &mut histories)?;
        first = last + query.step;
    }
    Ok(histories)
}

/// To ask a server with, within a limit.
pub(super) fn agent(url: &str, limit: Duration) -> Agent {
    let mut config = Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false);
    if url.starts_with("https://") {
        config = config.tls_config(tls());
    }
    config.build().into()
}

/// Milliseconds as Prometheus takes them.
pub(super) fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
}

fn ask(agent: &Agent, query: &PrometheusQuery, start: Timestamp, end: Timestamp) -> Result<String> {
    let url = format!("{}/api/v1/query_range", query.url.trim_end_matches('/'));
    let mut request = agent
        .get(&url)
        .query("query", &query.query)
        .query("start", seconds(start.millis()))
        .query("end", seconds(end.millis()))
        .query("step", seconds(query.step.millis()));
    if let Some(token) = &query.bearer_token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let passing =
        |reason: String| Fault { is_passing: true, ..Fault::whole(reason, "see that Prometheus can be reached") };
    let mut answer = request.call().map_err(|error| passing(error.to_string()))?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(BYTES_MAX).read_to_string();
    let body = body.map_err(|error| passing(error.to_string()))?;
    match status {
        200..=299 | 400 | 422 => Ok(body),
        401 | 403 => {
            Err(Fault::whole(format!("the server answers with {status}"), "give it a bearer_token that may query"))
        }
        404 => Err(Fault::whole("the server has no /api/v1/query_range", "name the URL before /api/v1")),
        _ => Err(passing(format!("the server answers with {status}"))),
    }
}

fn take(query: &PrometheusQuery, body: &str, histories: &mut Histories) -> Result<()> {
    let strange = |reason: String| Fault::whole(reason, "name the URL of a Prometheus, before /api/v1");
    let answer: Answer<'_> =
        serde_json::from_str(body).map_err(|error| strange(format!("no answer of Prometheus: {error}")))?;
    let Some(data) = answer.data.filter(|_| answer.status == "success") else {
        let error = answer.error.unwrap_or(Cow::Borrowed("it gives no reason"));
        return Err(Fault::whole(format!("the query is refused: {error}"), "try it in Prometheus first"));
    };
    if data.kind != "matrix" {
        return Err(strange(format!("a `{}` is no history", data.kind)));
    }
    if query.service_label.is_none() && data.result.len() > 1 {
        let reason = format!("the query has {} series", data.result.len());
        return Err(Fault::whole(reason, "add them up, as in sum(…), or name the label of the service"));
    }
    for series in &data.result {
        let service = match &query.service_label {
            None => "",
            Some(label) => series.metric.get(label.as_str()).map(AsRef::as_ref).ok_or_else(|| {
                let reason = format!("a series has no label `{label}`");
                Fault::whole(reason, format!("keep it in the query, as in sum by ({label}) (…)"))
            })?,
        };
        for (seconds, text) in &series.values {
            let at = Timestamp::from_millis((seconds * 1000.0).round() as i64) - query.step;
            let wrong = || Fault::whole(format!("at {at}: value `{text}` is not a number of at least 0"), VALUE_HINT);
            let value: f64 = text.parse().map_err(|_| wrong())?;
            if value < 0.0 {
                return Err(wrong());
            }
            histories.push(service, (at, value.is_finite().then_some(value)), 0);
        }
    }
    Ok(())
}
