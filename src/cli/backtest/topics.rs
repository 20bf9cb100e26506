//! Histories from the topics that the service would read: what they hold goes through its own feature SQL. Rule: Kafka is
//! only read: no offset is committed, nothing is written, and what comes after the start is not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use prescale_domain::{Series, ServiceName, Span};
use prescale_ingest::kafka::{KafkaSource, KafkaSourceSettings, ReadFrom, StartAt, extent};
use prescale_ingest::{Polled, Source, SourceError};
use prescale_pipeline::{PipelineError, SourceTable, source_settings};

use super::records::{self, Rows};
use crate::app::formats::Formats;
use crate::app::kafka_settings;
use crate::app::pipelines::{self, PipelineFile, Steps, redirect, unfit};
use crate::cli::{Failure, pipeline_failure, say};
use crate::config::Loaded;

/// Brokers that are out of reach for longer than this in the middle of it end the reading.
const PATIENCE: Duration = Duration::from_secs(30);

/// The history of each service of the configuration in the topics of its pipelines, from `from` to the end of now.
///
/// # Errors
/// No pipeline that makes features, a topic that can't be read or holds nothing, or records of no service that is configured.
pub(super) fn histories(
    loaded: &Loaded,
    from: ReadFrom,
    bar: &ProgressBar,
) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let config = &loaded.config;
    let formats = Formats::load(config, &loaded.directory).map_err(Failure::Invalid)?;
    let steps = Steps::of(config);
    let files = pipelines::files(loaded)?.into_iter();
    let files = files.filter(|file| file.is_for_features && !steps.is_early(&file.plan));
    let (mut rows, mut topics) = (Rows::new(), Vec::new());
    for PipelineFile { name, mut plan, topics: read, .. } in files {
        if let Some(fault) = unfit(&plan, steps, &config.topics.features) {
            return Err(Failure::Invalid(format!("pipeline `{name}`: {fault}")));
        }
        formats.apply(&mut plan).map_err(|fault| Failure::Invalid(format!("pipeline `{name}`: {fault}")))?;
        let max_future = Some(config.features.max_future).filter(|limit| *limit > Span::ZERO);
        redirect(&mut plan, &config.features.sources, max_future);
        bar.reset();
        bar.set_message(format!("reading {}", read.join(", ")));
        let progress = Arc::new(Progress { bar: bar.clone(), read: AtomicU64::new(0), whole: AtomicU64::new(0) });
        let open = |table: &SourceTable| -> Result<Box<dyn Source>, SourceError> {
            let settings = source_settings(table, Some(kafka_settings(config)), None, true);
            let there = extent(&settings.kafka, &settings.topic, from)?;
            progress.whole.fetch_add(there.records, Ordering::Relaxed);
            let (start, starts) = (StartAt::Earliest, there.starts);
            let settings = KafkaSourceSettings { start, starts, group: None, ..settings };
            Ok(Box::new(Watched {
                topic: settings.topic.clone(),
                source: KafkaSource::open(settings)?,
                progress: Arc::clone(&progress),
                lost: None,
            }))
        };
        let failed = |error: SourceError| pipeline_failure(PipelineError::from(error));
        let sources = plan.sources.iter().map(open).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let mut output = Vec::new();
        let counters = prescale_pipeline::run_to_end(plan, sources, &mut output).map_err(pipeline_failure)?;
        let (count, late, future, bad) = (counters.read, counters.late, counters.future, counters.bad());
        bar.suspend(|| {
            say(&format!("{}: {count} records, {late} late, {future} of the future, {bad} bad", read.join(", ")));
        });
        records::take(&output, &mut rows);
        topics.extend(read);
    }
    if topics.is_empty() {
        let text =
            "--from-kafka reads records through the feature SQL of the configuration, and none of it makes features";
        let hint = "name it under [features], as in pipelines = [\"requests.sql\"]";
        return Err(Failure::Invalid(format!("{text}\nhint: {hint}")));
    }
    records::series_of(&rows, loaded, &format!("records on {}", topics.join(", ")))
}

/// How far all topics of one pipeline have been read.
struct Progress {
    bar: ProgressBar,
    read: AtomicU64,
    whole: AtomicU64,
}

/// A topic whose reading is shown, and given up when its brokers are gone for good.
struct Watched {
    topic: String,
    source: KafkaSource,
    progress: Arc<Progress>,
    /// Since when nothing can be reached.
    lost: Option<Instant>,
}

impl Source for Watched {
    fn poll(&mut self, wait: Span) -> Result<Polled, SourceError> {
        let polled = self.source.poll(wait)?;
        match &polled.unreachable {
            None => self.lost = None,
            Some(error) if self.lost.get_or_insert_with(Instant::now).elapsed() > PATIENCE => {
                let (topic, hint) = (self.topic.clone(), "see that the brokers run, and begin again".to_owned());
                return Err(SourceError::Kafka { topic, error: error.clone(), hint });
            }
            Some(_) => {}
        }
        let records: usize = polled.batches.iter().map(prescale_ingest::RawBatch::len).sum();
        let read = self.progress.read.fetch_add(records as u64, Ordering::Relaxed) + records as u64;
        let whole = self.progress.whole.load(Ordering::Relaxed).max(1);
        self.progress.bar.set_position((read.saturating_mul(1000) / whole).min(1000));
        Ok(polled)
    }

    /// Nothing is committed.
    fn commit(&mut self, _oldest_needed: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }
}
