//! Histories from raw records: request logs go through the feature SQL that the service would read them by. Rule: a window
//! without a record between the first and the last is a zero, as it is for the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prescale_domain::{FeaturesRecord, Series, ServiceName, Timestamp};
use prescale_pipeline::udf::Udfs;

use crate::app::pipelines::Steps;
use crate::cli::{Failure, pipeline_failure, say};
use crate::config::Loaded;

/// For a configuration that names no pipeline: what a web server writes.
const ACCESS_LOG: &str = include_str!("../../../pipelines/access_log.sql");

/// Whether a file holds records rather than windows, by its name.
pub(super) fn is_log(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.ends_with(".log") || name.ends_with(".txt")
}

/// The history of each service of the configuration in the records of `path`.
///
/// # Errors
/// Feature SQL that is wrong or reads several tables, records that can't be read, or none of a service.
pub(super) fn histories(path: &Path, loaded: &Loaded) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    series_of(&rows(path, loaded)?, loaded, &format!("records `{}`", path.display()))
}

/// The history of each service of the configuration in `rows`, which `place` told.
///
/// # Errors
/// Rows of no service that is configured, or rows that make no history.
pub(super) fn series_of(rows: &Rows, loaded: &Loaded, place: &str) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let config = &loaded.config;
    let told: Vec<&ServiceName> = rows.keys().map(|(service, _)| service).collect();
    let only = match (&config.services[..], told.iter().all(|service| Some(service) == told.first())) {
        // A log of one service, whatever the SQL calls it.
        ([_], true) => told.first().copied().cloned(),
        _ => None,
    };
    let mut histories = BTreeMap::new();
    for service in &config.services {
        let name = ServiceName::new(&service.name);
        let key = (only.clone().unwrap_or_else(|| name.clone()), service.signal.clone());
        let Some(found) = rows.get(&key) else { continue };
        let step = config.features.step;
        let mut series = Series::of_rows(found.iter().copied(), step)
            .map_err(|error| Failure::Invalid(format!("{place}: {error}")))?;
        // Nothing was logged: nothing was asked for.
        series.values.iter_mut().for_each(|value| *value = value.or(Some(0.0)));
        histories.insert(name, series);
    }
    if histories.is_empty() {
        let told: BTreeSet<String> = rows.keys().map(|(service, measure)| format!("{measure} of {service}")).collect();
        let shown: Vec<&str> = told.iter().map(String::as_str).take(SHOWN).collect();
        let told = if told.is_empty() { "nothing".to_owned() } else { shown.join(", ") };
        let text = format!("{place} tell nothing of the configuration's services, but {told}");
        let hint = "name a service as the records do, and its signal as the column that the SQL makes";
        return Err(Failure::Invalid(format!("{text}\nhint: {hint}")));
    }
    Ok(histories)
}

/// Measures of services that an error lists.
const SHOWN: usize = 10;

/// By service and measure, in time.
pub(super) type Rows = BTreeMap<(ServiceName, String), Vec<(Timestamp, Option<f64>)>>;

fn rows(path: &Path, loaded: &Loaded) -> Result<Rows, Failure> {
    let pipelines = &loaded.config.features.pipelines;
    let texts: Vec<(String, String, PathBuf)> = if pipelines.is_empty() {
        vec![("access_log.sql".to_owned(), ACCESS_LOG.to_owned(), PathBuf::from("access_log.sql"))]
    } else {
        let read = |pipeline: &String| {
            let place = loaded.directory.join(pipeline);
            let text = std::fs::read_to_string(&place)
                .map_err(|error| Failure::Invalid(format!("read `{}`: {error}", place.display())))?;
            Ok((pipeline.clone(), text, place))
        };
        pipelines.iter().map(read).collect::<Result<_, Failure>>()?
    };
    let mut rows: Rows = BTreeMap::new();
    for (name, text, place) in texts {
        let udfs = Udfs::open(&place.with_file_name(&loaded.config.features.udfs));
        let udfs = udfs.map_err(|error| pipeline_failure(error.into()))?;
        let plan = prescale_pipeline::compile_with(&text, &udfs).map_err(|error| pipeline_failure(error.into()))?;
        if Steps::of(&loaded.config).is_early(&plan) {
            continue;
        }
        let [source] = &plan.sources[..] else {
            let text = format!("pipeline `{name}` reads several tables, and the records are of one");
            return Err(Failure::Invalid(format!(
                "{text}\nhint: run it with `prescale sql run` and take its output as --history"
            )));
        };
        let table = source.name.clone();
        let mut output = Vec::new();
        let counters = prescale_pipeline::run_over_files(plan, &[(table, path.to_owned())], &mut output);
        let counters = counters.map_err(pipeline_failure)?;
        say(&format!("{}: {} records, {} late, {} bad", path.display(), counters.read, counters.late, counters.bad()));
        take(&output, &mut rows);
    }
    Ok(rows)
}

/// Enters what a pipeline has written, one row a line.
pub(super) fn take(output: &[u8], rows: &mut Rows) {
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // Rows of a sink that is not the features topic are nobody's load.
        let Ok(FeaturesRecord::Row(row)) = FeaturesRecord::from_json(line) else { continue };
        for (measure, value) in row.measures {
            rows.entry((row.service.clone(), measure)).or_default().push((row.window_start, value));
        }
    }
    rows.values_mut().for_each(|rows| rows.sort_by_key(|(start, _)| *start));
}
