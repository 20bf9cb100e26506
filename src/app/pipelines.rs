//! Pipelines of this process, each on a thread of its own. Rule: what the SQL names, the configuration can override.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use prescale_domain::Span;
use prescale_ingest::Source;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSource};
use prescale_pipeline::window::Windows;
use prescale_pipeline::{
    Checkpoint, Delivery, PipelineError, Plan, RunnerSettings, SteadyClock, Summary, compile, run, source_settings,
};
use prescale_store::Store;
use prescale_telemetry::pipeline::SqlWarned;

use crate::cli::{Failure, pipeline_failure};

/// One pipeline and where it runs.
pub(crate) struct PipelineSpec {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) kafka: KafkaSettings,
    /// Table in the SQL → topic to read instead of the one that the SQL names.
    pub(crate) sources: BTreeMap<String, String>,
    pub(crate) features_topic: String,
    pub(crate) dead_letter_topic: String,
    pub(crate) epochs_topic: String,
    pub(crate) delivery: Delivery,
    pub(crate) topic_partitions: i32,
    pub(crate) until_end: bool,
    /// `None` = as the SQL says.
    pub(crate) idle: Option<Span>,
    /// `None` = a partition that has been read up to the broker's high watermark falls idle no sooner than others.
    pub(crate) caught_up_idle: Option<Span>,
    /// How often the source topic is asked for new partitions.
    pub(crate) refresh: Span,
    /// How far a row may be ahead of its record's timestamp; `None` = any way.
    pub(crate) max_future: Option<Span>,
    /// Width of the windows that are read from the features topic.
    pub(crate) step: Span,
}

/// A pipeline at work.
pub(crate) struct PipelineThread {
    pub(crate) name: String,
    thread: JoinHandle<Result<Summary, PipelineError>>,
}

impl PipelineSpec {
    /// Compiles the SQL and starts the thread; `ended` is called on it with whether it ended well.
    pub(crate) fn start(
        self,
        store: Arc<dyn Store>,
        stop: Arc<AtomicBool>,
        ended: impl FnOnce(bool) + Send + 'static,
    ) -> Result<PipelineThread, Failure> {
        let mut plan = compile(&self.sql).map_err(|error| pipeline_failure(error.into()))?;
        if let Some(fault) = unfit(&plan, self.step) {
            return Err(Failure::Invalid(format!("pipeline `{}`: {fault}", self.name)));
        }
        for warning in plan.sources.iter().flat_map(|source| &source.options.warnings) {
            SqlWarned { pipeline: &self.name, warning }.emit();
        }
        let checkpoint = Checkpoint::load(store.as_ref(), &self.name).map_err(pipeline_failure)?;
        let mut sources: Vec<Box<dyn Source>> = Vec::with_capacity(plan.sources.len());
        for source in &mut plan.sources {
            if let Some((_, topic)) = self.sources.iter().find(|(table, _)| table.eq_ignore_ascii_case(&source.name)) {
                source.options.topic.clone_from(topic);
            }
            source.options.max_future_millis = self.max_future.map(Span::millis);
            let mut reading = source_settings(source, Some(self.kafka.clone()), checkpoint.as_ref(), self.until_end);
            reading.refresh = self.refresh;
            sources.push(Box::new(KafkaSource::open(reading).map_err(Failure::outside)?));
        }
        let sink = KafkaSink::open(&self.kafka).map_err(Failure::outside)?;
        let settings = RunnerSettings {
            features_topic: self.features_topic,
            dead_letter_topic: self.dead_letter_topic,
            epochs_topic: self.epochs_topic,
            delivery: self.delivery,
            until_end: self.until_end,
            new_topic_partitions: self.topic_partitions,
            caught_up_idle: self.caught_up_idle,
            ..RunnerSettings::new(&self.name, Arc::new(plan))
        };
        let idle = settings.idle.iter().map(|idle| self.idle.or(*idle)).collect();
        let settings = RunnerSettings { idle, ..settings };
        let work = move || {
            let summary = run(settings, sources, &sink, store.as_ref(), &SteadyClock::start(), &stop);
            ended(summary.is_ok() && !stop.load(Ordering::Relaxed));
            summary
        };
        let thread =
            thread::Builder::new().name(format!("pipeline {}", self.name)).spawn(work).map_err(Failure::outside)?;
        Ok(PipelineThread { name: self.name, thread })
    }
}

/// Why the windows of a plan can't be those of the service, if they can't.
pub(crate) fn unfit(plan: &Plan, step: Span) -> Option<String> {
    let window = plan.summary().window;
    let fits = plan.session_gap.is_none() && plan.windows == Windows::tumble(step.millis().saturating_mul(1_000_000));
    (!fits).then(|| {
        format!(
            "makes windows `{window}`, and features.step is {step}\nhint: write tumble(…) of that width, or run this file with `prescale sql run`"
        )
    })
}

impl PipelineThread {
    /// Waits for the pipeline to end.
    pub(crate) fn join(self) -> Result<Summary, Failure> {
        let ended = self.thread.join().map_err(|_| Failure::Bug(format!("pipeline `{}` panicked", self.name)))?;
        ended.map_err(pipeline_failure)
    }
}
