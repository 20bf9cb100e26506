//! Where loads and metrics come from besides the stream, as configured.

use prescale_actuate::MetricQuery;
use prescale_domain::{Span, Timestamp};
use prescale_ingest::history::Columns;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Another source of a service's load: while the stream is silent the reactive rule takes it from there, and only adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum FallbackSource {
    /// An instant query of Prometheus, asked once in each policy.fast_interval.
    Prometheus {
        /// Where `/api/v1/query` begins.
        url: String,
        /// PromQL, in the unit of the signal; one series, unless a label names the service.
        query: String,
        /// The label that names the service of a series.
        #[serde(default)]
        service_label: Option<String>,
        #[serde(default)]
        bearer_token: Option<String>,
        /// The stream is silent once the end of its last known window is longer ago than this; default: two windows and
        /// features.lateness.
        #[serde(default)]
        after: Option<Span>,
        /// A load that is older is not trusted; default: 2m.
        #[serde(default)]
        fresh_for: Option<Span>,
    },
}

/// An instant query of Prometheus, asked at an interval: each sample becomes a row of the metrics topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrometheusSource {
    /// Where `/api/v1/query` begins.
    pub(crate) url: String,
    /// PromQL; values below 0 are left out. One series, unless a label names the service.
    pub(crate) query: String,
    /// What the rows are called.
    pub(crate) name: String,
    /// The service of the rows, or ...
    #[serde(default)]
    pub(crate) service: Option<String>,
    /// ... the label that names the service of a series.
    #[serde(default)]
    pub(crate) service_label: Option<String>,
    #[serde(default)]
    pub(crate) bearer_token: Option<String>,
    #[serde(default = "default_interval")]
    pub(crate) interval: Span,
    #[serde(default = "default_metrics_topic")]
    pub(crate) topic: String,
}

/// A metric of CloudWatch, asked for at an interval: each datapoint becomes a row of the metrics topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloudWatchSource {
    /// What is asked for: `namespace`, `metric`, `dimensions`, `statistic`, `period`.
    pub(crate) query: MetricQuery,
    /// What the rows are called.
    pub(crate) name: String,
    /// The service of the rows.
    pub(crate) service: String,
    #[serde(default)]
    pub(crate) region: Option<String>,
    #[serde(default)]
    pub(crate) endpoint_url: Option<String>,
    #[serde(default = "default_cloudwatch_interval")]
    pub(crate) interval: Span,
    /// A datapoint counts as complete so long after its period: CloudWatch goes on to add to the last ones.
    #[serde(default = "default_settle")]
    pub(crate) settle: Span,
    #[serde(default = "default_metrics_topic")]
    pub(crate) topic: String,
}

/// CloudWatch is asked, and paid, by the call.
fn default_cloudwatch_interval() -> Span {
    Span::from_secs(60)
}

fn default_settle() -> Span {
    Span::from_secs(60)
}

fn default_interval() -> Span {
    Span::from_secs(15)
}

fn default_metrics_topic() -> String {
    "metrics".to_owned()
}

/// Where the load of a service from before Prescale heard it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum HistorySource {
    /// A file of windows, relative to the configuration file: CSV, NDJSON (`.ndjson`, `.jsonl`, `.json`), both also
    /// packed (`.gz`), or Parquet (`.parquet`).
    File {
        path: String,
        /// Names of its columns, where they are not the usual ones.
        #[serde(default)]
        columns: Columns,
    },
    /// A range query of Prometheus; a sample is of the window that ends at its time.
    Prometheus {
        /// Where `/api/v1/query_range` begins.
        url: String,
        /// PromQL; one series, unless a label names the service.
        query: String,
        /// The label that names the service of a series.
        #[serde(default)]
        service_label: Option<String>,
        #[serde(default)]
        bearer_token: Option<String>,
        /// Windows that start from here on; default: features.retention before `to`.
        #[serde(default)]
        from: Option<Timestamp>,
        /// ... and before this; default: now.
        #[serde(default)]
        to: Option<Timestamp>,
    },
}
