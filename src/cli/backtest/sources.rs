//! Where the history of a back-test comes from: files, a Prometheus, the topics, or what the configuration names. Rule: the
//! same loads give the same back-test, wherever they come from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use prescale_domain::{Clock as _, Series, ServiceName, SystemClock, Timestamp};
use prescale_ingest::history::{Columns, Histories, PrometheusQuery, query_prometheus, read_history};
use prescale_ingest::kafka::ReadFrom;

use super::{records, topics};
use crate::app::histories::configured;
use crate::cli::history::{failure, is_url};
use crate::cli::{Failure, say};
use crate::config::Loaded;

#[derive(Args)]
pub(super) struct SourceArguments {
    /// A file of windows (CSV, NDJSON, Parquet), as for `prescale forecast`, or of raw records (.log, .txt), which the
    /// configuration's pipeline reads, without one as access log; or the URL of a Prometheus. Several may be given. Default:
    /// what `history` of the services in the configuration names.
    #[arg(long, visible_alias = "prometheus", value_name = "FILE|URL")]
    history: Vec<PathBuf>,
    /// The files hold raw records, whatever their names.
    #[arg(long, requires = "history")]
    records: bool,
    /// Name of the column of services, or of the label in Prometheus.
    #[arg(long, value_name = "NAME", requires = "history")]
    service_column: Option<String>,
    /// What to ask a Prometheus: one series, or one for each service. A sample is of the window that ends at its time.
    #[arg(long, value_name = "PROMQL", requires = "history", allow_hyphen_values = true)]
    query: Option<String>,
    /// First window to ask a Prometheus for. Default: features.retention before --end.
    #[arg(long, value_name = "TIME", requires = "query")]
    start: Option<Timestamp>,
    /// End of the last window to ask for. Default: now.
    #[arg(long, value_name = "TIME", requires = "query")]
    end: Option<Timestamp>,
    /// A file of windows with the load of the first part of each (features.early_step), of the same services. Default: the
    /// load of a window is that of its first part.
    #[arg(long, value_name = "FILE", requires = "history")]
    parts: Option<PathBuf>,
    /// Read the topics of the configuration's pipelines to the end that they have now. Nothing is written to Kafka and no
    /// offset is committed.
    #[arg(long, conflicts_with = "history")]
    from_kafka: bool,
    /// First record to read of each partition by its timestamp. Default: the earliest.
    #[arg(long, value_name = "TIME", requires = "from_kafka", conflicts_with = "from_offset")]
    from_timestamp: Option<Timestamp>,
    /// First record to read of each partition by its offset; the earliest where that is later.
    #[arg(long, value_name = "OFFSET", requires = "from_kafka", value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
}

impl SourceArguments {
    /// The history of each service of the configuration that has one.
    ///
    /// # Errors
    /// A source that can't be read, or one in which none of the services is found.
    pub(super) fn histories(
        &self,
        loaded: &Loaded,
        bar: &ProgressBar,
    ) -> Result<BTreeMap<ServiceName, Series>, Failure> {
        let histories = if self.from_kafka {
            let from = match (self.from_offset, self.from_timestamp) {
                (Some(offset), _) => ReadFrom::Offset(offset),
                (None, Some(time)) => ReadFrom::Time(time),
                (None, None) => ReadFrom::Earliest,
            };
            topics::histories(loaded, from, bar)?
        } else if self.history.is_empty() {
            bar.set_message("reading histories");
            of_configuration(loaded)?
        } else {
            bar.set_message("reading histories");
            self.named(loaded)?
        };
        for service in &loaded.config.services {
            if !histories.contains_key(&ServiceName::new(&service.name)) {
                say(&format!("note: {}: it has no history and is left out", service.name));
            }
        }
        Ok(histories)
    }

    /// The load of the first part of each window, where it is given.
    ///
    /// # Errors
    /// A file that can't be read, or a configuration that looks at no parts.
    pub(super) fn parts(&self, loaded: &Loaded) -> Result<BTreeMap<ServiceName, Series>, Failure> {
        let Some(path) = &self.parts else { return Ok(BTreeMap::new()) };
        if loaded.config.features.early_step.is_none() {
            let text = "--parts tells the load of parts of windows, and the configuration looks at none";
            return Err(Failure::Invalid(format!("{text}\nhint: set features.early_step to the length of a part")));
        }
        read_files(std::slice::from_ref(path), loaded, false, self.service_column.as_ref())
    }

    fn named(&self, loaded: &Loaded) -> Result<BTreeMap<ServiceName, Series>, Failure> {
        let (urls, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
            self.history.iter().partition(|place| is_url(&place.to_string_lossy()));
        if let (Some(file), true, Some(_)) = (files.first(), urls.is_empty(), &self.query) {
            return Err(Failure::Invalid(format!(
                "history `{}` is a file, and --query asks a Prometheus\nhint: name the URL of one, such as http://localhost:9090",
                file.display()
            )));
        }
        let files: Vec<PathBuf> = files.into_iter().cloned().collect();
        let mut histories = read_files(&files, loaded, self.records, self.service_column.as_ref())?;
        for url in urls {
            let place = url.to_string_lossy();
            let Some(query) = &self.query else {
                let text = format!("history `{place}`: what to ask for is not said");
                return Err(Failure::Invalid(format!("{text}\nhint: add --query PROMQL")));
            };
            let step = loaded.config.features.step;
            let to = self.end.unwrap_or_else(|| SystemClock.now());
            let read = query_prometheus(&PrometheusQuery {
                url: place.to_string(),
                query: query.clone(),
                bearer_token: None,
                service_label: self.service_column.clone(),
                from: self.start.unwrap_or(to - loaded.config.features.retention),
                to,
                step,
            });
            let label = "name its label with --service-column, as in sum by (service) (…) --service-column service";
            histories.extend(of_services(&read.map_err(failure)?, &place, loaded, label)?);
        }
        Ok(histories)
    }
}

/// What `history` of the services names.
fn of_configuration(loaded: &Loaded) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    if loaded.config.services.iter().all(|service| service.history.is_none()) {
        let hint = "hint: name a file or the URL of a Prometheus with --history, read the topics with --from-kafka, or give \
                    services a history in the configuration";
        return Err(Failure::Invalid(format!("no history is named\n{hint}")));
    }
    let found = configured(loaded, &SystemClock)?;
    if found.is_empty() {
        let hint = "hint: see in Prometheus that the queries have values, and that service_label names the services";
        return Err(Failure::Invalid(format!(
            "the histories of the configuration have nothing of its services\n{hint}"
        )));
    }
    Ok(found.into_iter().map(|(name, series)| (name.clone(), on_the_grid(&name, series))).collect())
}

/// The history of each service in files: by the names in them, or that of the only service.
///
/// # Errors
/// A file that can't be read, or one in which none of the services is found.
pub(in crate::cli) fn of_files(
    paths: &[PathBuf],
    loaded: &Loaded,
    are_records: bool,
) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    read_files(paths, loaded, are_records, None)
}

fn read_files(
    paths: &[PathBuf],
    loaded: &Loaded,
    are_records: bool,
    service_column: Option<&String>,
) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let signals: Vec<&str> = loaded.config.services.iter().map(|service| service.signal.as_str()).collect();
    let columns = Columns { service: service_column.cloned(), ..Columns::default() };
    let mut histories = BTreeMap::new();
    for path in paths {
        if are_records || records::is_log(path) {
            histories.extend(records::histories(path, loaded)?);
            continue;
        }
        let read = read_history(path, &columns, &signals).map_err(Failure::invalid)?;
        histories.extend(of_services(&read, &path.display().to_string(), loaded, "add a column `service`")?);
    }
    Ok(histories)
}

/// What `read` has of the services; `label` is what to do where it names none.
fn of_services(
    read: &Histories,
    place: &str,
    loaded: &Loaded,
    label: &str,
) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let config = &loaded.config;
    let names: Vec<ServiceName> = config.services.iter().map(|service| ServiceName::new(&service.name)).collect();
    let mut histories = BTreeMap::new();
    if !read.names_services() {
        let [name] = &names[..] else {
            return Err(Failure::Invalid(format!(
                "history `{place}` names no services, and the configuration has {}\nhint: {label}",
                names.len(),
            )));
        };
        let series = read.series(None, config.features.step).map_err(failure)?;
        histories.insert(name.clone(), on_the_grid(name, series));
        return Ok(histories);
    }
    for name in names.iter().filter(|name| read.has(name)) {
        let series = read.series(Some(name), config.features.step).map_err(failure)?;
        histories.insert(name.clone(), on_the_grid(name, series));
    }
    if histories.is_empty() {
        let told: Vec<&str> = read.services().collect();
        let told = if told.is_empty() { "no services".to_owned() } else { told.join(", ") };
        return Err(Failure::Invalid(format!("history `{place}` has {told}, none of the configuration")));
    }
    Ok(histories)
}

/// Windows begin at multiples of their width, in the loop and so here: a history that begins between two of them is taken
/// to begin at the one before.
fn on_the_grid(name: &ServiceName, series: Series) -> Series {
    let start = series.start.floor_to(series.step);
    if start != series.start {
        say(&format!(
            "note: {name}: windows of {} that begin at {} are taken to begin at {start}",
            series.step, series.start
        ));
    }
    Series { start, ..series }
}
