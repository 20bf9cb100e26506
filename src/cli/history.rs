//! The history that a command is about: a file, or a query of Prometheus.

use std::path::{Path, PathBuf};

use clap::Args;
use prescale_domain::{Series, ServiceName, Span, Timestamp};
use prescale_ingest::history::{Columns, HistoryError, PrometheusQuery, query_prometheus, read_history};

use super::Failure;

#[derive(Args)]
pub(crate) struct HistoryArguments {
    /// A file of windows (CSV, NDJSON or Parquet, by its ending; `.gz` is unpacked), or the URL of a Prometheus.
    ///
    /// A file has one row for each window: its start (RFC 3339; column timestamp, time, ts or window_start), its load
    /// (value, or the only other column), and perhaps its service (service). Windows without a row are gaps.
    #[arg(long, value_name = "FILE|URL")]
    history: PathBuf,
    /// The service to look at, where the history has several.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Name of the column of times.
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,
    /// Name of the column of loads.
    #[arg(long, value_name = "NAME")]
    value_column: Option<String>,
    /// Name of the column of services, or of the label in Prometheus.
    #[arg(long, value_name = "NAME")]
    service_column: Option<String>,
    /// What to ask a Prometheus: one series, or one for each service. A sample is of the window that ends at its time.
    #[arg(long, value_name = "PROMQL", requires_all = ["from", "to"], allow_hyphen_values = true)]
    query: Option<String>,
    /// First window to ask a Prometheus for.
    #[arg(long, value_name = "TIME", requires = "query")]
    from: Option<Timestamp>,
    /// End of the last window to ask for.
    #[arg(long, value_name = "TIME", requires = "query")]
    to: Option<Timestamp>,
}

impl HistoryArguments {
    /// The history in windows of `step`.
    pub(crate) fn series(&self, step: Span) -> Result<Series, Failure> {
        let place = self.history.to_string_lossy();
        let is_url = is_url(&place);
        let histories = match (&self.query, self.from, self.to) {
            (Some(query), Some(from), Some(to)) if is_url => query_prometheus(&PrometheusQuery {
                url: place.into_owned(),
                query: query.clone(),
                bearer_token: None,
                service_label: self.service_column.clone(),
                from,
                to,
                step,
            }),
            (None, ..) if is_url => {
                return Err(Failure::Invalid(format!(
                    "history `{place}`: what to ask for is not said\nhint: add --query PROMQL --from TIME --to TIME"
                )));
            }
            (Some(_), ..) => {
                return Err(Failure::Invalid(format!(
                    "history `{place}` is a file, and --query asks a Prometheus\nhint: name the URL of one, such as http://localhost:9090"
                )));
            }
            (None, ..) => read_history(&self.history, &self.named(self.value_column.as_ref()), &[]),
        };
        let service = self.service.as_deref().map(ServiceName::new);
        histories.and_then(|read| read.series(service.as_ref(), step)).map_err(failure)
    }

    /// Other columns of the file in windows of `step`, by name.
    pub(crate) fn columns(&self, names: &[String], step: Span) -> Result<Vec<(String, Series)>, Failure> {
        if self.query.is_some() && !names.is_empty() {
            let reason = "covariates are columns of a file, and --query asks a Prometheus";
            return Err(Failure::Invalid(format!("{reason}\nhint: write the answers into one file")));
        }
        let service = self.service.as_deref().map(ServiceName::new);
        let column = |name: &String| {
            let read = read_history(&self.history, &self.named(Some(name)), &[]);
            let series = read.and_then(|read| read.series(service.as_ref(), step)).map_err(failure)?;
            Ok((name.clone(), series))
        };
        names.iter().map(column).collect()
    }

    fn named(&self, value: Option<&String>) -> Columns {
        Columns { time: self.time_column.clone(), value: value.cloned(), service: self.service_column.clone() }
    }
}

/// Whether a history is a server's, and not a file.
pub(crate) fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

/// The only history of a file with the usual columns.
pub(crate) fn of_file(path: &Path, step: Span) -> Result<Series, Failure> {
    read_history(path, &Columns::default(), &[]).and_then(|read| read.series(None, step)).map_err(failure)
}

/// By whether it may pass.
pub(crate) fn failure(error: HistoryError) -> Failure {
    if error.is_passing() { Failure::outside(error) } else { Failure::invalid(error) }
}
