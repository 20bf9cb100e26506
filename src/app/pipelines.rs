//! Pipelines of this process, each on a thread of its own. Rule: what the SQL names, the configuration can override.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use prescale_domain::Span;
use prescale_ingest::Source;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSource, KafkaSourceSettings};
use prescale_pipeline::udf::{UdfError, Udfs};
use prescale_pipeline::window::Windows;
use prescale_pipeline::{
    Checkpoint, Delivery, PipelineError, Plan, RunnerSettings, SourceTable, SteadyClock, Summary, compile_with, run,
    run_shared, source_settings,
};
use prescale_store::Store;
use prescale_telemetry::pipeline::SqlWarned;

use super::formats::Formats;
use super::pipeline_name;
use crate::cli::{Failure, pipeline_failure};
use crate::config::{Config, Loaded};

/// One pipeline and where it runs.
pub(crate) struct PipelineSpec {
    pub(crate) name: String,
    pub(crate) plan: Plan,
    pub(crate) kafka: KafkaSettings,
    /// Table in the SQL → topic to read instead of the one that the SQL names.
    pub(crate) sources: BTreeMap<String, String>,
    pub(crate) formats: Formats,
    pub(crate) features_topic: String,
    pub(crate) dead_letter_topic: String,
    pub(crate) epochs_topic: String,
    pub(crate) delivery: Delivery,
    /// How many share its partitions.
    pub(crate) processes: u32,
    /// Table in the SQL → the column whose text is the key of its records.
    pub(crate) record_keys: BTreeMap<String, String>,
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
    /// Widths of the windows that are read from the features topic.
    pub(crate) steps: Steps,
    /// Bytes that open windows may take; `None` = any.
    pub(crate) state_limit: Option<u64>,
}

/// Widths of the windows that the loop takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    pub(crate) step: Span,
    /// Of the parts of a window that tell its load before it is closed.
    pub(crate) early: Option<Span>,
}

impl Steps {
    pub(crate) fn of(config: &Config) -> Self {
        Self { step: config.features.step, early: config.features.early_step }
    }

    /// Whether a plan makes parts of windows.
    pub(crate) fn is_early(&self, plan: &Plan) -> bool {
        self.early.is_some_and(|early| makes(plan, early))
    }
}

/// Whether a plan's windows follow one another and are so wide.
fn makes(plan: &Plan, width: Span) -> bool {
    plan.session_gap.is_none() && plan.windows == Windows::tumble(width.millis().saturating_mul(1_000_000))
}

/// A pipeline as the configuration names it.
pub(crate) struct PipelineFile {
    /// As its file is called.
    pub(crate) name: String,
    pub(crate) plan: Plan,
    /// The controller reads what it writes.
    pub(crate) is_for_features: bool,
    /// What it reads.
    pub(crate) topics: Vec<String>,
}

/// All pipelines of the configuration.
pub(crate) fn files(loaded: &Loaded) -> Result<Vec<PipelineFile>, Failure> {
    let config = &loaded.config;
    let file = |path: &String| {
        let sql = std::fs::read_to_string(loaded.directory.join(path))
            .map_err(|error| Failure::Invalid(format!("read `{path}`: {error}")))?;
        let udfs = udfs(loaded, path).map_err(|error| pipeline_failure(error.into()))?;
        let plan = compile_with(&sql, &udfs).map_err(|error| pipeline_failure(error.into()))?;
        let topic = |source: &SourceTable| topic_of(&config.features.sources, source).to_owned();
        Ok(PipelineFile {
            name: pipeline_name(path),
            is_for_features: is_for_features(&plan, &config.topics.features),
            topics: plan.sources.iter().map(topic).collect(),
            plan,
        })
    };
    config.features.pipelines.iter().map(file).collect()
}

/// The topic that a source is read from: the one that the configuration gives its table, else the one of the SQL.
fn topic_of<'a>(sources: &'a BTreeMap<String, String>, source: &'a SourceTable) -> &'a str {
    let given = sources.iter().find(|(table, _)| table.eq_ignore_ascii_case(&source.name));
    given.map_or(&source.options.topic, |(_, topic)| topic)
}

/// Puts what the configuration says of a plan's sources in place of what its SQL says.
pub(crate) fn redirect(plan: &mut Plan, sources: &BTreeMap<String, String>, max_future: Option<Span>) {
    for source in &mut plan.sources {
        source.options.topic = topic_of(sources, source).to_owned();
        source.options.max_future_millis = max_future.map(Span::millis);
    }
}

/// A pipeline at work.
pub(crate) struct PipelineThread {
    pub(crate) name: String,
    thread: JoinHandle<Result<Summary, PipelineError>>,
}

impl PipelineSpec {
    /// Opens what it reads and starts the thread; `ended` is called on it with whether it ended well.
    pub(crate) fn start(
        mut self,
        store: Arc<dyn Store>,
        stop: Arc<AtomicBool>,
        ended: impl FnOnce(bool) + Send + 'static,
    ) -> Result<PipelineThread, Failure> {
        let plan = &mut self.plan;
        if let Some(fault) = unfit(plan, self.steps, &self.features_topic) {
            return Err(Failure::Invalid(format!("pipeline `{}`: {fault}", self.name)));
        }
        self.formats.apply(plan).map_err(|fault| Failure::Invalid(format!("pipeline `{}`: {fault}", self.name)))?;
        for warning in plan.sources.iter().flat_map(|source| &source.options.warnings) {
            SqlWarned { pipeline: &self.name, warning }.emit();
        }
        if let Some(fault) = unshareable(plan, self.processes, &self.record_keys) {
            return Err(Failure::Invalid(format!("pipeline `{}`: {fault}", self.name)));
        }
        if self.processes > 1 {
            plan.watch_keys(&self.record_keys);
        }
        redirect(plan, &self.sources, self.max_future);
        let (tables, kafka) = (plan.sources.clone(), self.kafka.clone());
        let (until_end, refresh) = (self.until_end, self.refresh);
        // All partitions of each source, or one.
        let open = move |only: Option<i32>, checkpoint: Option<&Checkpoint>| {
            let source = |table: &SourceTable| -> Result<Box<dyn Source>, PipelineError> {
                let reading = source_settings(table, Some(kafka.clone()), checkpoint, until_end);
                Ok(Box::new(KafkaSource::open(KafkaSourceSettings { only, refresh, ..reading })?))
            };
            tables.iter().map(source).collect::<Result<Vec<_>, _>>()
        };
        let sink = KafkaSink::open(&self.kafka).map_err(Failure::outside)?;
        let progress = is_for_features(plan, &self.features_topic);
        let settings = RunnerSettings {
            features_topic: if progress { self.features_topic } else { plan.sink.options.topic.clone() },
            progress,
            dead_letter_topic: self.dead_letter_topic,
            epochs_topic: self.epochs_topic,
            delivery: self.delivery,
            until_end: self.until_end,
            new_topic_partitions: self.topic_partitions,
            caught_up_idle: self.caught_up_idle,
            state_limit: self.state_limit,
            ..RunnerSettings::new(&self.name, Arc::new(self.plan))
        };
        let idle = settings.idle.iter().map(|idle| self.idle.or(*idle)).collect();
        let settings = RunnerSettings { idle, ..settings };
        let (processes, clock) = (self.processes, SteadyClock::start());
        let whole = if processes > 1 {
            None
        } else {
            let checkpoint = Checkpoint::load(store.as_ref(), &self.name).map_err(pipeline_failure)?;
            Some(open(None, checkpoint.as_ref()).map_err(Failure::outside)?)
        };
        let work = move || {
            let summary = match whole {
                Some(sources) => run(settings, sources, &sink, store.as_ref(), &clock, &stop),
                None => {
                    let open = |partition, checkpoint: Option<&Checkpoint>| open(Some(partition), checkpoint);
                    run_shared(&settings, refresh, &open, &sink, &clock, &stop)
                }
            };
            ended(summary.is_ok() && !stop.load(Ordering::Relaxed));
            summary
        };
        let thread =
            thread::Builder::new().name(format!("pipeline {}", self.name)).spawn(work).map_err(Failure::outside)?;
        Ok(PipelineThread { name: self.name, thread })
    }
}

/// Whether a pipeline's rows are for the controller: the SQL writes to `features`, which the configuration may name
/// otherwise. Other topics are as the SQL names them.
pub(crate) fn is_for_features(plan: &Plan, features_topic: &str) -> bool {
    let topic = &plan.sink.options.topic;
    topic == "features" || topic == features_topic
}

/// The functions beside the pipeline at `path`, as the configuration names their folder.
pub(crate) fn udfs(loaded: &Loaded, path: &str) -> Result<Udfs, UdfError> {
    let pipeline = loaded.directory.join(path);
    Udfs::open(&pipeline.parent().unwrap_or(&loaded.directory).join(&loaded.config.features.udfs))
}

/// Why a plan can't run as part of the service, if it can't.
pub(crate) fn unfit(plan: &Plan, steps: Steps, features_topic: &str) -> Option<String> {
    if let Some(source) = plan.sources.iter().find(|source| source.options.file.is_some()) {
        return Some(format!(
            "source `{}` is a file\nhint: write connector = 'kafka', or run this pipeline with `prescale sql run`",
            source.name
        ));
    }
    let (window, step) = (plan.summary().window, steps.step);
    let fits = makes(plan, steps.step) || steps.is_early(plan);
    (is_for_features(plan, features_topic) && !fits).then(|| {
        let early = steps.early.map_or(String::new(), |early| format!(", features.early_step {early}"));
        format!(
            "makes windows `{window}` for topic `{features_topic}`, and features.step is {step}{early}\nhint: write tumble(…) of that width, write to a topic of its own, or run this file with `prescale sql run`"
        )
    })
}

/// Why several processes can't share a plan, if they are to and can't.
pub(crate) fn unshareable(plan: &Plan, processes: u32, record_keys: &BTreeMap<String, String>) -> Option<String> {
    let fault = if processes > 1 { plan.unshareable(record_keys) } else { None };
    fault.map(|fault| format!("{processes} processes can't share it: {fault}"))
}

impl PipelineThread {
    /// Waits for the pipeline to end.
    pub(crate) fn join(self) -> Result<Summary, Failure> {
        let ended = self.thread.join().map_err(|_| Failure::Bug(format!("pipeline `{}` panicked", self.name)))?;
        ended.map_err(pipeline_failure)
    }
}
