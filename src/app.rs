//! Composition of the service: pipelines, the loop and the API in one process. Rule: sources block on threads of their
//! own; one token stops everything; whoever can't go on ends the service with its reason.

mod answers;
mod calendars;
mod cloudwatch;
mod cloudwatch_metrics;
mod event_log;
mod event_minutes;
mod fallbacks;
pub(crate) mod formats;
pub(crate) mod histories;
mod lease;
mod notices;
pub(crate) mod pipelines;
mod polled;
mod prometheus;
pub(crate) mod readers;
mod shadow;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use prescale_actuate::{Connections, Target};
use prescale_controller::registry::ModelRegistry;
use prescale_controller::view::{EventLog, Handle, ShadowReports};
use prescale_controller::{
    ClockMode, Controller, ControllerError, ControllerSettings, Event, OutTopics, Parts, ServiceSettings,
};
use prescale_decide::{Rules, Timetable};
use prescale_domain::{CadenceSettings, Mode, OpeningHours, ServiceName, Span, SystemClock, Zone};
use prescale_forecast::models::ModelKind;
use prescale_ingest::SourceError;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSourceSettings, SinkError};
use prescale_pipeline::Counters;
use prescale_serve::App;
use prescale_store::{BucketStore, RedbStore, Store, StoreError, Table, Write};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::Failure;
use crate::config::{self, Config, Loaded, NodesConfig, ServiceConfig};
use event_log::EventTopic;
use event_minutes::Expansion;
use lease::Leading;
use pipelines::{PipelineFile, Steps};
pub(crate) use pipelines::{PipelineSpec, PipelineThread};
use shadow::{ShadowFollower, Shadowing};

/// Room between the readers and the loop: polls, not records.
pub(crate) const INBOX: usize = 16;
const TOPIC_TIMEOUT: Span = Span::from_secs(20);

/// How `run` runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunMode {
    pub(crate) event_clock: bool,
    pub(crate) until_end: bool,
}

/// What a run did.
#[derive(Debug, Serialize)]
pub(crate) struct RunSummary {
    /// By pipeline.
    pub(crate) pipelines: BTreeMap<String, PipelineSummary>,
    pub(crate) controller: prescale_controller::Summary,
}

/// What became of the records of one pipeline: read = windowed + filtered + late + future + bad.
#[derive(Debug, Serialize)]
pub(crate) struct PipelineSummary {
    read: u64,
    windowed: u64,
    filtered: u64,
    late: u64,
    future: u64,
    bad: u64,
}

impl PipelineSummary {
    fn of(counters: &Counters) -> Self {
        let Counters { read, windowed, filtered, late, future, .. } = *counters;
        Self { read, windowed, filtered, late, future, bad: counters.bad() }
    }
}

/// Runs the service until it is told to stop or, with `until_end`, until the input has ended.
pub(crate) async fn run(loaded: Loaded, mode: RunMode) -> Result<RunSummary, Failure> {
    let config = &loaded.config;
    if let Some(refusal) = config::refusal(config) {
        crate::cli::print(&refusal);
        return Err(Failure::No("the set-up is refused".to_owned()));
    }
    if config.forecast.models.contains(&ModelKind::Lstm) {
        config.forecast.device.open().map_err(Failure::outside)?;
    }
    let mut settings = controller_settings(config, mode)?;
    settings.selector = config.selector.setup(config, &loaded.directory).map_err(Failure::Invalid)?;
    let files = pipelines::files(&loaded)?;
    settings.pipelines = files.iter().filter(|file| file.is_for_features).map(|file| file.name.clone()).collect();
    let listener = prescale_serve::bind(&config.serve.listen).await.map_err(Failure::outside)?;
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::open(&loaded.directory.join(&config.state.dir)).map_err(Failure::outside)?);
    let kafka = kafka_settings(config);
    let sink = KafkaSink::open(&kafka).map_err(Failure::invalid)?;
    ensure_topics(&sink, config, mode)?;
    let targets = build_targets(&settings, &Connections::default())?;
    let topics = config.topics.clone();
    let parts = Parts {
        settings,
        clock: Arc::new(SystemClock),
        store: Arc::clone(&store),
        sink: Some(sink),
        targets,
        back_fill: tokio::task::block_in_place(|| histories::to_back_fill(&loaded, store.as_ref(), &SystemClock))?,
        events: Vec::new(),
        models: Some(models(&loaded)?),
    };
    // A replay is nobody's rival: it acts on nothing that others act on.
    let leading = if mode.event_clock { None } else { Some(Leading::start(&config.lease)?) };
    let mut controller = Controller::new(parts).map_err(controller_failure)?;
    if let Some(leading) = &leading {
        controller = controller.under(leading.watch.clone());
    }
    let shadow = Shadowing::of(&loaded, store.as_ref()).map_err(Failure::outside)?;
    if let Some(shadow) = &shadow {
        controller = controller.followed_by(Box::new(ShadowFollower(Arc::clone(shadow))));
    }
    // A replay's decisions are of other times than CloudWatch takes.
    let mut told = None;
    if let Some(settings) = config.cloudwatch.clone().filter(|_| !mode.event_clock) {
        let (follower, sending) = cloudwatch::start(settings);
        controller = controller.followed_by(Box::new(follower));
        told = Some(sending);
    }

    let (inbox_sender, inbox) = mpsc::channel(INBOX);
    let stop = Arc::new(AtomicBool::new(false));
    let (controller, asking) = with_fallbacks(controller, config, mode, &stop)?;
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone(), inbox_sender.clone());
    let handle = Handle {
        shadow: shadow.clone().map(|shadow| shadow as Arc<dyn ShadowReports>),
        ..handle(&controller, config, mode)
    };
    let adapter = answers::start(&config.adapter, handle.view.clone(), shutdown.clone()).await?;
    let app = App::new(handle, shutdown.clone()).with_writers(config.serve.writers);
    let server = tokio::spawn(prescale_serve::serve(listener, app));
    let calendars = start_calendars(config, &loaded.directory, mode, &stop)?;
    let polls =
        if mode.event_clock { Vec::new() } else { prometheus::start(config, &stop).map_err(Failure::outside)? };
    let mut asked = Vec::new();
    if !mode.event_clock {
        asked.extend(notices::start(config, &shutdown));
        asked.extend(cloudwatch_metrics::start(config, &shutdown));
    }
    let calendar = start_event_minutes(config, &files, mode, &stop)?;
    let checkpoints = checkpoints(config, &store).map_err(Failure::outside)?;
    let pipelines = start_pipelines(config, &loaded.directory, files, mode, &checkpoints, &stop, &inbox_sender)?;
    let reader = readers::Readers {
        features: source_settings(&kafka, &topics.features, controller.features_start()),
        events: source_settings(&kafka, &topics.events, controller.events_start()),
        capacity: has_spot(config).then(|| source_settings(&kafka, &topics.capacity, controller.capacity_start())),
        events_first: mode.event_clock,
        stop: Arc::clone(&stop),
        inbox: inbox_sender,
    };
    let readers = reader.start();

    let ended = controller.run(inbox, mode.until_end).await;
    if let Some(leading) = leading {
        leading.end().await;
    }
    stop.store(true, Ordering::Relaxed);
    shutdown.cancel();
    let pipelines = join_pipelines(pipelines);
    readers.join();
    if let Some(asking) = asking {
        asking.join();
    }
    // A thread that panicked has said so.
    drop(calendars.map(JoinHandle::join));
    polls.into_iter().for_each(|poll| drop(poll.join()));
    drop(calendar.map(JoinHandle::join));
    for task in asked {
        drop(task.await);
    }
    drop(adapter.await);
    if let Some(told) = told {
        drop(told.await);
    }
    // The server ends with the token; its own failures were logged.
    drop(server.await);
    let controller = ended.map_err(controller_failure)?;
    if let Some(shadow) = shadow {
        shadow.write_files();
    }
    Ok(RunSummary { pipelines: pipelines?, controller })
}

/// The loop with the other sources of load that are configured; a replay asks none.
fn with_fallbacks(
    controller: Controller,
    config: &Config,
    mode: RunMode,
    stop: &Arc<AtomicBool>,
) -> Result<(Controller, Option<fallbacks::Asking>), Failure> {
    if mode.event_clock {
        return Ok((controller, None));
    }
    let (fallbacks, asking) = fallbacks::start(config, stop).map_err(Failure::outside)?;
    Ok((controller.with_fallbacks(fallbacks), Some(asking)))
}

/// What the API holds of the loop. A replay takes no events that come later.
fn handle(controller: &Controller, config: &Config, mode: RunMode) -> Handle {
    let topics = &config.topics;
    let live = || EventTopic::new(kafka_settings(config), &topics.events, topics.partitions, Arc::new(SystemClock));
    let event_log = (!mode.event_clock).then(|| Arc::new(live()) as Arc<dyn EventLog>);
    Handle { event_log, ..controller.handle() }
}

/// Where versions of models are.
fn models(loaded: &Loaded) -> Result<ModelRegistry, Failure> {
    let place = config::models_place(loaded).map_err(Failure::Outside)?;
    ModelRegistry::open(&place).map_err(Failure::outside)
}

/// Where pipelines keep their checkpoints: in `state`, or in a place of their own, to which those in `state` move.
fn checkpoints(config: &Config, state: &Arc<dyn Store>) -> Result<Arc<dyn Store>, StoreError> {
    if config.state.checkpoints.is_empty() {
        return Ok(Arc::clone(state));
    }
    let own = BucketStore::open(&config.state.checkpoints)?;
    let all = |store: &dyn Store, table| store.range(table, &[], &[u8::MAX], usize::MAX, false);
    let tables = [Table::Checkpoints, Table::Outbox, Table::Panes];
    let (mut is_empty, mut moved, mut left) = (true, Vec::new(), Vec::new());
    for table in tables {
        is_empty &= all(&own, table)?.is_empty();
        for (key, value) in all(state.as_ref(), table)? {
            moved.push(Write { table, key: key.clone(), value: Some(value) });
            left.push(Write { table, key, value: None });
        }
    }
    if is_empty && !moved.is_empty() {
        own.write(&moved)?;
        // From now on they would be out of date.
        state.write(&left)?;
    }
    Ok(Arc::new(own))
}

pub(crate) fn kafka_settings(config: &Config) -> KafkaSettings {
    KafkaSettings { bootstrap_servers: config.kafka.bootstrap_servers.clone(), client: config.kafka.client.clone() }
}

pub(crate) fn controller_settings(config: &Config, mode: RunMode) -> Result<ControllerSettings, Failure> {
    let mut services = Vec::new();
    // What is wrong with schedules was said when the configuration was read.
    let timetable = Arc::new(config.timetable().unwrap_or_default());
    // Zones and hours that are none were refused when the configuration was read.
    let zone = config.calendars.time_zone.parse().unwrap_or(Zone::UTC);
    for service in &config.services {
        let lead = service.lead_times(config.lead_time);
        let service_mode = service.mode.unwrap_or(config.mode);
        if mode.event_clock && service_mode == Mode::Act && !service.target.allow_replay() {
            return Err(Failure::Invalid(format!(
                "service `{}` is in mode act and would act on the past\nhint: replay it in mode recommend, or set allow_replay = true on its target",
                service.name
            )));
        }
        services.push(ServiceSettings {
            name: ServiceName::new(&service.name),
            signal: service.signal.clone(),
            covariates: service.all_covariates(),
            calls: service.calls.iter().map(|name| ServiceName::new(name)).collect(),
            signals: service.signals.clone(),
            mode: service_mode,
            policy: service.policy_settings(&config.policy),
            provisioning_latency: lead.provisioning_latency,
            warm_up: lead.warm_up,
            provisioning_median: service.provisioning_median(),
            latency_objective: service.objective.latency,
            learn_lead_time: lead.learn && service.target.lead_time().is_none(),
            confident_horizon: service.confident_horizon,
            opening_hours: service.opening_hours(zone).unwrap_or_else(|_| OpeningHours::usual(zone)),
            nodes: service.nodes.as_ref().map(NodesConfig::setup),
            target: service.target.clone(),
            rules: rules(config, service, &timetable),
        });
    }
    Ok(ControllerSettings {
        cadence: CadenceSettings {
            fast: config.policy.fast_interval,
            normal: config.policy.decision_interval,
            slow: config.policy.slow_interval,
        },
        fleet_change: config.fleet_change,
        clock: if mode.event_clock { ClockMode::Event } else { ClockMode::Wall },
        step: config.features.step,
        early_step: config.features.early_step,
        lateness: config.features.lateness,
        retention: config.features.retention,
        coarse_retention: config.features.coarse_retention,
        decision_interval: config.policy.decision_interval,
        pipelines: config.features.pipelines.iter().map(|pipeline| pipeline_name(pipeline)).collect(),
        experiments: config.experiments.iter().map(|experiment| experiment.setup(config)).collect(),
        selector: None,
        services,
        online: config.forecast.clone(),
        topics: OutTopics {
            forecasts: config.topics.forecasts.clone(),
            decisions: config.topics.decisions.clone(),
            actuations: config.topics.actuations.clone(),
            qos: config.topics.qos.clone(),
            weights: config.topics.weights.clone(),
        },
        snapshot_windows: config.state.snapshot_windows,
    })
}

/// The rules around the planner for one service.
pub(crate) fn rules(config: &Config, service: &ServiceConfig, timetable: &Arc<Timetable>) -> Rules {
    let zone = config.calendars.time_zone.parse().unwrap_or(Zone::UTC);
    let opening_hours = service.opening_hours(zone).unwrap_or_else(|_| OpeningHours::usual(zone));
    Rules {
        settings: service.rules.unwrap_or(config.rules),
        timetable: Arc::clone(timetable),
        opening_hours,
        zone,
        price_usd_hour: service.target.price_usd_hour(),
        unit: service.unit,
        fleet: config.fleet_limits,
        criticality: service.criticality,
        partitions: service.partitions,
    }
}

/// A pipeline is called as its file is.
pub(crate) fn pipeline_name(path: &str) -> String {
    std::path::Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(crate) fn build_targets(
    settings: &ControllerSettings,
    connections: &Connections,
) -> Result<BTreeMap<ServiceName, Target>, Failure> {
    settings
        .services
        .iter()
        .map(|service| {
            let target = service
                .target
                .build_in(connections)
                .map_err(|error| Failure::Invalid(format!("service `{}`: {error}", service.name)))?;
            Ok((service.name.clone(), target))
        })
        .collect()
}

/// Whether units of a target can be taken away.
fn has_spot(config: &Config) -> bool {
    config.services.iter().any(|service| service.target.has_spot())
}

/// Creates the topics that Prescale owns. On the wall clock a broker that is down is waited for by whoever needs it; a
/// replay can't do anything without it.
fn ensure_topics(sink: &KafkaSink, config: &Config, mode: RunMode) -> Result<(), Failure> {
    let topics = &config.topics;
    for topic in topics.of_records() {
        let ensured = if topic == topics.events {
            // Who starts afresh learns of an event by what was told of it, however long ago.
            sink.ensure_lasting_topic(topic, topics.partitions, TOPIC_TIMEOUT)
        } else {
            sink.ensure_topic(topic, topics.partitions, TOPIC_TIMEOUT)
        };
        match ensured {
            Ok(_) => {}
            Err(error) if mode.event_clock => return Err(Failure::outside(error)),
            Err(error) => return report_unreachable(&error),
        }
    }
    Ok(())
}

fn report_unreachable(error: &SinkError) -> Result<(), Failure> {
    prescale_telemetry::controller::KafkaUnreachable { error: error.to_string() }.emit();
    Ok(())
}

fn source_settings(
    kafka: &KafkaSettings,
    topic: &str,
    starts: Vec<prescale_ingest::PartitionStart>,
) -> KafkaSourceSettings {
    KafkaSourceSettings { starts, ..KafkaSourceSettings::new(kafka.clone(), topic) }
}

fn start_calendars(
    config: &Config,
    directory: &Path,
    mode: RunMode,
    stop: &Arc<AtomicBool>,
) -> Result<Option<JoinHandle<()>>, Failure> {
    let Some(calendars) = calendars::Calendars::of(config, directory) else { return Ok(None) };
    if mode.event_clock {
        tokio::task::block_in_place(|| calendars.once(&SystemClock)).map_err(Failure::outside)?;
        return Ok(None);
    }
    calendars.follow(Arc::clone(stop)).map(Some).map_err(Failure::outside)
}

/// Begins to write the calendar of events as rows, if a pipeline reads them; a replay waits until all are there.
fn start_event_minutes(
    config: &Config,
    files: &[PipelineFile],
    mode: RunMode,
    stop: &Arc<AtomicBool>,
) -> Result<Option<JoinHandle<()>>, Failure> {
    let topic = &config.topics.event_minutes;
    if !files.iter().any(|file| file.topics.contains(topic)) {
        return Ok(None);
    }
    let expansion = Expansion {
        kafka: kafka_settings(config),
        events: config.topics.events.clone(),
        topic: topic.clone(),
        services: config.services.iter().map(|service| ServiceName::new(&service.name)).collect(),
    };
    if mode.until_end {
        tokio::task::block_in_place(|| expansion.all()).map_err(Failure::outside)?;
        return Ok(None);
    }
    expansion.follow(Arc::clone(stop)).map(Some).map_err(Failure::outside)
}

fn start_pipelines(
    config: &Config,
    directory: &Path,
    files: Vec<PipelineFile>,
    mode: RunMode,
    store: &Arc<dyn Store>,
    stop: &Arc<AtomicBool>,
    inbox: &mpsc::Sender<Event>,
) -> Result<Vec<PipelineThread>, Failure> {
    let formats = formats::Formats::load(config, directory).map_err(Failure::Invalid)?;
    let left = Arc::new(AtomicUsize::new(files.len()));
    let mut threads = Vec::new();
    for PipelineFile { name, plan, .. } in files {
        let spec = PipelineSpec {
            name,
            plan,
            kafka: kafka_settings(config),
            sources: config.features.sources.clone(),
            formats: formats.clone(),
            features_topic: config.topics.features.clone(),
            dead_letter_topic: config.topics.dead_letters.clone(),
            epochs_topic: config.topics.epochs.clone(),
            delivery: config.features.delivery.into(),
            processes: config.features.processes,
            record_keys: config.features.record_keys.clone(),
            topic_partitions: config.topics.partitions,
            until_end: mode.until_end,
            idle: None,
            caught_up_idle: Some(config.features.caught_up_idle).filter(|idle| *idle > Span::ZERO),
            refresh: config.features.refresh,
            max_future: Some(config.features.max_future).filter(|limit| *limit > Span::ZERO),
            steps: Steps::of(config),
            state_limit: Some(config.features.state_limit.0).filter(|limit| *limit > 0),
        };
        let (inbox, left) = (inbox.clone(), Arc::clone(&left));
        let ended = move |well: bool| {
            let last = left.fetch_sub(1, Ordering::AcqRel) == 1;
            if last || !well {
                // The loop may be gone already; then nobody needs to know.
                drop(inbox.blocking_send(if well { Event::PipelinesDone } else { Event::Stop }));
            }
        };
        threads.push(spec.start(Arc::clone(store), Arc::clone(stop), ended)?);
    }
    if threads.is_empty() {
        drop(inbox.try_send(Event::PipelinesDone));
    }
    Ok(threads)
}

fn join_pipelines(threads: Vec<PipelineThread>) -> Result<BTreeMap<String, PipelineSummary>, Failure> {
    let mut summaries = BTreeMap::new();
    for thread in threads {
        let name = thread.name.clone();
        summaries.insert(name, PipelineSummary::of(&thread.join()?.counters));
    }
    Ok(summaries)
}

pub(crate) fn controller_failure(error: ControllerError) -> Failure {
    match error {
        ControllerError::Source(SourceError::File { .. }) | ControllerError::Features(_) => Failure::invalid(error),
        other => Failure::outside(other),
    }
}

/// Ctrl-C and SIGTERM end the service in order.
fn stop_on_signal(shutdown: CancellationToken, inbox: mpsc::Sender<Event>) {
    tokio::spawn(async move {
        let terminated = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
            () = shutdown.cancelled() => return,
        }
        // The loop may be gone already.
        drop(inbox.send(Event::Stop).await);
    });
}
