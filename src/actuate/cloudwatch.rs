//! CloudWatch, for those who look there: what was forecast and decided goes out, and metrics of others come in. Rule: nothing
//! depends on it; it is used only where it is configured, and what it can't take is counted, not lost in silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDatum, MetricStat, ScanBy, StandardUnit};
use prescale_domain::{Decision, Span, Timestamp};
use prescale_telemetry::actuate::CloudCall;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::aws_error::from_sdk;
use crate::{ActuateError, Failure};

/// CloudWatch's limit of a call.
const DATA_MAX: usize = 1000;
/// And of one that asks.
const QUERIES_MAX: usize = 500;

/// Where metrics go, as configured; without these settings none do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudWatchSettings {
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Dimensions of each metric, beside `Service`; CloudWatch takes 30 in all.
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    #[serde(default)]
    pub endpoint_url: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
    /// Limit of one call with all its attempts.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_namespace() -> String {
    "Prescale".to_owned()
}

fn default_timeout() -> Span {
    Span::from_secs(10)
}

impl Default for CloudWatchSettings {
    fn default() -> Self {
        Self {
            namespace: default_namespace(),
            dimensions: BTreeMap::new(),
            endpoint_url: None,
            region: None,
            timeout: default_timeout(),
        }
    }
}

impl CloudWatchSettings {
    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.namespace.trim().is_empty() || self.namespace.starts_with("AWS/") {
            faults.push(format!("namespace `{}` is empty, or AWS's own", self.namespace));
        }
        if self.dimensions.len() > 29 {
            faults.push(format!("{} dimensions exceed 29", self.dimensions.len()));
        }
        if self.timeout.millis() <= 0 {
            faults.push(format!("timeout {} is not above 0s", self.timeout));
        }
        faults
    }
}

/// One number of one service at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    pub name: &'static str,
    pub service: String,
    /// CloudWatch takes what is up to two weeks old and up to two hours ahead.
    pub at: Timestamp,
    pub value: f64,
}

/// What became of measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub sent: usize,
    /// Of no use to CloudWatch: not a number, or too large.
    pub left_out: usize,
}

/// A series to be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricQuery {
    pub namespace: String,
    pub metric: String,
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    /// `Average`, `Sum`, `Maximum`, `p99`, …
    pub statistic: String,
    /// A whole number of minutes.
    pub period: Span,
}

/// What a decision and the forecast in it say, as measures. A forecast's are at the end of the window that it is for, so that
/// they lie over the load of that window.
pub fn measures(decision: &Decision) -> Vec<Measure> {
    let inputs = &decision.inputs;
    let measure = |name, at, value| Measure { name, service: decision.service.to_string(), at, value };
    let mut found = vec![measure("DesiredUnits", decision.at, f64::from(decision.desired))];
    found.extend(decision.need.map(|need| measure("NeededUnits", decision.at, f64::from(need))));
    let ready = inputs.target.and_then(|target| target.ready);
    found.extend(ready.map(|ready| measure("ReadyUnits", decision.at, f64::from(ready))));
    let load = inputs.load_window_end.zip(inputs.load);
    found.extend(load.map(|(at, load)| measure("Load", at, load)));
    if let Some(forecast) = &inputs.forecast {
        let windows = i64::try_from(forecast.effective_index).unwrap_or_default() + 1;
        let at = forecast.from + Span::from_millis(forecast.step.millis().saturating_mul(windows));
        let named = [("ForecastMedian", &forecast.median), ("ForecastUpper", &forecast.upper)];
        for (name, values) in named {
            found.extend(values.get(forecast.effective_index).map(|value| measure(name, at, *value)));
        }
    }
    found
}

/// CloudWatch in one region. It connects at its first use; clones share the connection.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    settings: Arc<CloudWatchSettings>,
    client: Arc<OnceCell<Client>>,
}

impl CloudWatch {
    pub fn new(settings: CloudWatchSettings) -> Self {
        Self { settings: Arc::new(settings), client: Arc::default() }
    }

    /// Sends measures, in as few calls as CloudWatch allows. A failure ends it: what was sent before stays sent, and sending
    /// it again does no harm beyond the count of samples.
    pub async fn put(&self, measures: &[Measure]) -> Result<Sent, ActuateError> {
        let client = self.client().await;
        let data: Vec<_> = measures.iter().filter(|measure| takes(measure.value)).map(|m| self.datum(m)).collect();
        for some in data.chunks(DATA_MAX) {
            let call =
                client.put_metric_data().namespace(&self.settings.namespace).set_metric_data(Some(some.to_vec()));
            let answer =
                call.send().await.map_err(|error| from_sdk(&error, self.failure("put metrics", String::new())));
            CloudCall { operation: "PutMetricData", failure: answer.as_ref().err().map(ActuateError::code) }.emit();
            answer?;
        }
        Ok(Sent { sent: data.len(), left_out: measures.len() - data.len() })
    }

    /// The values of each query in `[from, until)`, oldest first.
    pub async fn get(
        &self,
        queries: &[MetricQuery],
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Vec<(Timestamp, f64)>>, ActuateError> {
        let client = self.client().await;
        let mut found = vec![Vec::new(); queries.len()];
        for (chunk, some) in queries.chunks(QUERIES_MAX).enumerate() {
            let asked: Vec<_> = some.iter().enumerate().map(|(number, query)| asked(number, query)).collect();
            let mut token = None;
            loop {
                let call = client
                    .get_metric_data()
                    .set_metric_data_queries(Some(asked.clone()))
                    .start_time(DateTime::from_millis(from.millis()))
                    .end_time(DateTime::from_millis(until.millis()))
                    .scan_by(ScanBy::TimestampAscending)
                    .set_next_token(token.take());
                let answer =
                    call.send().await.map_err(|error| from_sdk(&error, self.failure("get metrics", String::new())));
                CloudCall { operation: "GetMetricData", failure: answer.as_ref().err().map(ActuateError::code) }.emit();
                let answer = answer?;
                for result in answer.metric_data_results() {
                    let number = result.id().and_then(|id| id.strip_prefix('q')?.parse::<usize>().ok());
                    let Some(series) = number.and_then(|number| found.get_mut(chunk * QUERIES_MAX + number)) else {
                        continue;
                    };
                    let times = result.timestamps().iter().filter_map(|at| at.to_millis().ok());
                    series.extend(times.map(Timestamp::from_millis).zip(result.values().iter().copied()));
                }
                match answer.next_token() {
                    Some(next) if !next.is_empty() => token = Some(next.to_owned()),
                    _ => break,
                }
            }
        }
        for series in &mut found {
            series.sort_by_key(|(at, _)| *at);
        }
        Ok(found)
    }

    async fn client(&self) -> &Client {
        let settings = &self.settings;
        let connect = async || {
            let limits = TimeoutConfig::builder().operation_timeout(settings.timeout.to_std()).build();
            let mut loader = aws_config::defaults(BehaviorVersion::latest())
                .timeout_config(limits)
                .retry_config(RetryConfig::standard());
            if let Some(region) = &settings.region {
                loader = loader.region(Region::new(region.clone()));
            }
            if let Some(url) = &settings.endpoint_url {
                loader = loader.endpoint_url(url);
            }
            Client::new(&loader.load().await)
        };
        self.client.get_or_init(connect).await
    }

    fn datum(&self, measure: &Measure) -> MetricDatum {
        let mut dimensions = vec![dimension("Service", &measure.service)];
        dimensions.extend(self.settings.dimensions.iter().map(|(name, value)| dimension(name, value)));
        MetricDatum::builder()
            .metric_name(measure.name)
            .set_dimensions(Some(dimensions))
            .timestamp(DateTime::from_millis(measure.at.millis()))
            .value(measure.value)
            .unit(if measure.name.ends_with("Units") { StandardUnit::Count } else { StandardUnit::None })
            .build()
    }

    fn failure(&self, operation: &'static str, detail: String) -> Failure {
        Failure { operation, target: format!("cloudwatch `{}`", self.settings.namespace), detail }
    }
}

/// CloudWatch refuses a whole call for one value beyond 2^360.
fn takes(value: f64) -> bool {
    value.is_finite() && value.abs() <= 2_f64.powi(360)
}

fn dimension(name: &str, value: &str) -> Dimension {
    Dimension::builder().name(name).value(value).build()
}

fn asked(number: usize, query: &MetricQuery) -> MetricDataQuery {
    let dimensions: Vec<_> = query.dimensions.iter().map(|(name, value)| dimension(name, value)).collect();
    let metric = Metric::builder()
        .namespace(&query.namespace)
        .metric_name(&query.metric)
        .set_dimensions(Some(dimensions))
        .build();
    let seconds = i32::try_from(query.period.millis() / 1000).unwrap_or(i32::MAX);
    let stat = MetricStat::builder().metric(metric).period(seconds).stat(&query.statistic).build();
    MetricDataQuery::builder().id(format!("q{number}")).metric_stat(stat).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_says_what_it_knows_and_nothing_else() {
        let samples: Vec<Decision> =
            serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
        let mut decision = samples.into_iter().next().unwrap();
        let names = |decision: &Decision| measures(decision).iter().map(|measure| measure.name).collect::<Vec<_>>();
        let found = measures(&decision);
        assert_eq!(found[0].value, f64::from(decision.desired));
        let forecast = decision.inputs.forecast.clone().unwrap();
        let median = found.iter().find(|measure| measure.name == "ForecastMedian").unwrap();
        assert_eq!(median.value, forecast.median[forecast.effective_index]);
        assert!(median.at > forecast.from);
        (decision.need, decision.inputs.load, decision.inputs.target, decision.inputs.forecast) =
            (None, None, None, None);
        assert_eq!(names(&decision), ["DesiredUnits"]);
    }

    #[test]
    fn what_cloudwatch_refuses_is_known() {
        for (value, expected) in [(0.0, true), (-5.5, true), (f64::NAN, false), (f64::INFINITY, false), (1e200, false)]
        {
            assert_eq!(takes(value), expected, "{value}");
        }
        let wrong = CloudWatchSettings { namespace: "AWS/EC2".to_owned(), timeout: Span::ZERO, ..Default::default() };
        assert_eq!(wrong.faults(), ["namespace `AWS/EC2` is empty, or AWS's own", "timeout 0s is not above 0s"]);
        assert_eq!(CloudWatchSettings::default().faults(), Vec::<String>::new());
    }
}
