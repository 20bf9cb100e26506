//! The demo's cast and its clock: broker, pipeline, loop, load, dashboard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prescale_actuate::{Connections, FleetSettings, SimulatedSettings, TargetSettings};
use prescale_controller::view::{Handle, View};
use prescale_controller::{Controller, ControllerSettings, Event, Parts};
use prescale_domain::{ScoreCard, Series, ServiceName, Span, SystemClock, Timestamp};
use prescale_ingest::embedded::EmbeddedBroker;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSourceSettings};
use prescale_pipeline::{Delivery, compile};
use prescale_serve::App;
use prescale_simulation::sweep::SweepPoint;
use prescale_simulation::workload::{LoadModel, LoadSettings, TraceLoad, Workload};
use prescale_store::{MemoryStore, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::account::{self, Account};
use super::score;
use crate::app::formats::Formats;
use crate::app::pipelines::Steps;
use crate::app::readers::Readers;
use crate::app::{self, PipelineSpec, PipelineThread, RunMode};
use crate::cli::{Failure, forecast::progress_bar, pipeline_failure, say};
use crate::config;

const MINUTE: Span = Span::from_minutes(1);
const PARTITIONS: i32 = 2;
/// Share of time that may be short.
const VIOLATION_BUDGET: f64 = 0.005;
/// The loop has this long to decide before the demo gives up; a training may be under way.
const PATIENCE: Duration = Duration::from_secs(180);
const REQUESTS_SQL: &str = include_str!("../../../pipelines/requests.sql");

/// What to play.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) scored_from: Timestamp,
    pub(super) history: Span,
    pub(super) scored: Span,
    pub(super) wall_time: Span,
    pub(super) trace: Option<Series>,
    /// Where the dashboard listens; `None` = there is none.
    pub(super) listen: Option<String>,
    /// Fleets are groups of a simulated account.
    pub(super) aws: bool,
    /// Where that account listens to others.
    pub(super) aws_listen: Option<String>,
}

/// One service of the demo.
pub(super) struct Role {
    pub(super) name: ServiceName,
    /// Requests per second that one unit carries.
    pub(super) unit_capacity: f64,
    pub(super) fleet: FleetSettings,
    /// Requests per second, minute by minute.
    pub(super) history: Series,
    pub(super) load: Vec<f64>,
}

/// Plays the demo to its end; with `linger` the dashboard stays until Ctrl-C.
pub(super) async fn play(plan: Plan, linger: bool) -> Result<(ScoreCard, Vec<SweepPoint>), Failure> {
    let workload = workload(&plan)?;
    let roles = cast(&plan, &workload);
    let broker = EmbeddedBroker::start().map_err(Failure::outside)?;
    // Latency, not throughput: each minute waits for the decisions of the one before.
    let kafka = broker.settings().with("producer.linger.ms", "0");
    let account = plan.aws.then(|| Account::new(&plan, &roles)).transpose()?;
    let settings = settings(&roles, account.is_some())?;
    for (topic, partitions) in [
        ("requests", PARTITIONS),
        ("features", 1),
        ("events", 1),
        ("forecasts", 1),
        ("decisions", 1),
        ("actuations", 1),
        ("qos", 1),
        ("capacity", 1),
        ("weights", 1),
        ("dead-letters", 1),
    ] {
        broker.create_topic(topic, partitions).map_err(Failure::outside)?;
    }
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let connections = account.as_ref().map_or_else(Connections::default, Account::connections);
    let targets = app::build_targets(&settings, &connections)?;
    let sink = KafkaSink::open(&kafka).map_err(Failure::outside)?;
    let parts = Parts {
        settings,
        clock: Arc::new(SystemClock),
        store: Arc::clone(&store),
        sink: Some(sink),
        targets,
        back_fill: roles.iter().map(|role| (role.name.clone(), role.history.clone())).collect(),
        events: workload.events(),
        models: None,
    };
    let controller = Controller::new(parts).map_err(app::controller_failure)?;
    let handle = controller.handle();
    let shutdown = CancellationToken::new();
    let server = open_dashboard(&plan, &handle, &shutdown).await?;
    let serving = match plan.aws_listen.as_deref().zip(account.as_ref()) {
        Some((address, account)) => Some(account.listen(address).await?),
        None => None,
    };

    let stop = Arc::new(AtomicBool::new(false));
    let (inbox_sender, inbox) = mpsc::channel(app::INBOX);
    let pipeline = start_pipeline(&kafka, &store, &stop)?;
    let source = |topic: &str| KafkaSourceSettings::new(kafka.clone(), topic);
    let readers = Readers {
        features: source("features"),
        events: source("events"),
        capacity: None,
        events_first: false,
        stop: Arc::clone(&stop),
        inbox: inbox_sender.clone(),
    };
    let readers = readers.start();
    let running = tokio::spawn(controller.run(inbox, false));

    let lived = live(&plan, &workload, roles.len(), &kafka, &handle, account.as_ref()).await;
    stop.store(true, Ordering::Relaxed);
    drop(inbox_sender.send(Event::Stop).await);
    let controller = running.await.map_err(|error| Failure::Bug(error.to_string()))?;
    let pipeline = pipeline.join();
    readers.join();
    pipeline?;
    controller.map_err(app::controller_failure)?;
    lived?;
    let card = score::score(&plan, &roles, &handle)?;
    if let Some(account) = &account {
        say(&account.told());
    }
    if linger {
        say(&prescale_simulation::score::render(&card.0, &card.1));
        say("the demo has been scored; the dashboard stays until Ctrl-C");
        drop(tokio::signal::ctrl_c().await);
    }
    shutdown.cancel();
    if let Some(serving) = serving {
        serving.abort();
    }
    if let Some(server) = server {
        drop(server.await);
    }
    Ok(card)
}

fn workload(plan: &Plan) -> Result<Workload, Failure> {
    let start = plan.scored_from - plan.history;
    Ok(match &plan.trace {
        Some(series) => {
            let names = ["checkout", "search", "catalog"].map(ServiceName::from).to_vec();
            Workload::Trace(TraceLoad::new(series, names, start, plan.seed).map_err(Failure::invalid)?)
        }
        None => Workload::Model(LoadModel::new(LoadSettings::demo(plan.seed, start, plan.history, plan.scored))),
    })
}

/// Sizes each service so that its history's mean needs about eight units.
fn cast(plan: &Plan, workload: &Workload) -> Vec<Role> {
    let start = plan.scored_from - plan.history;
    let roles = workload.services().iter().enumerate().map(|(index, name)| {
        let history = workload.requests_per_second(index, start, plan.scored_from);
        let mean = history.iter().sum::<f64>() / history.len().max(1) as f64;
        let unit_capacity = (mean / 8.0).max(1e-6);
        let last = history.last().copied().unwrap_or(mean);
        let fleet = FleetSettings {
            min: 1,
            max: 200,
            initial: (last * 1.3 / unit_capacity).ceil() as u32,
            seed: plan.seed.wrapping_add(index as u64),
            ..FleetSettings::default()
        };
        let values = history.into_iter().map(Some).collect();
        Role {
            name: name.clone(),
            unit_capacity,
            fleet,
            history: Series { start, step: MINUTE, values },
            load: workload.requests_per_second(index, plan.scored_from, plan.scored_from + plan.scored),
        }
    });
    roles.collect()
}

/// The embedded defaults with the demo's services, as a user's file would have them.
fn settings(roles: &[Role], in_account: bool) -> Result<ControllerSettings, Failure> {
    let bug = |error: String| Failure::Bug(format!("demo configuration: {error}"));
    let mut config = config::parse("mode = \"act\"", "demo", std::path::PathBuf::new())
        .map_err(|error| bug(error.to_string()))?
        .config;
    config.features.pipelines = vec!["requests".to_owned()];
    let mode = RunMode { event_clock: true, until_end: false };
    let mut settings = app::controller_settings(&config, mode)?;
    for role in roles {
        let target = if in_account {
            account::target(role)
        } else {
            TargetSettings::Simulated(SimulatedSettings { fleet: role.fleet, allow_replay: true })
        };
        let mut service: config::ServiceConfig = config::service(role.name.as_str(), role.unit_capacity, target);
        service.signal = "requests_per_second".to_owned();
        service.objective.violation_budget = Some(VIOLATION_BUDGET);
        config.services.push(service);
    }
    settings.services = app::controller_settings(&config, mode)?.services;
    for (service, role) in settings.services.iter_mut().zip(roles) {
        service.provisioning_latency = role.fleet.provisioning_latency_p90;
        service.warm_up = role.fleet.warm_up;
    }
    Ok(settings)
}

async fn open_dashboard(
    plan: &Plan,
    handle: &Handle,
    shutdown: &CancellationToken,
) -> Result<Option<tokio::task::JoinHandle<()>>, Failure> {
    let Some(listen) = &plan.listen else { return Ok(None) };
    let listener = prescale_serve::bind(listen).await.map_err(Failure::outside)?;
    let address = listener.local_addr().map_err(Failure::outside)?;
    let (handle, shutdown) = (handle.clone(), shutdown.clone());
    let server = tokio::spawn(async move {
        if let Err(error) = prescale_serve::serve(listener, App::new(handle, shutdown)).await {
            say(&format!("dashboard: {error}"));
        }
    });
    say(&format!("dashboard: http://{address}/"));
    Ok(Some(server))
}

fn start_pipeline(
    kafka: &KafkaSettings,
    store: &Arc<dyn Store>,
    stop: &Arc<AtomicBool>,
) -> Result<PipelineThread, Failure> {
    let spec = PipelineSpec {
        name: "requests".to_owned(),
        plan: compile(REQUESTS_SQL).map_err(|error| pipeline_failure(error.into()))?,
        kafka: kafka.clone(),
        sources: BTreeMap::new(),
        formats: Formats::default(),
        features_topic: "features".to_owned(),
        dead_letter_topic: "dead-letters".to_owned(),
        epochs_topic: String::new(),
        // The embedded broker shows readers what a transaction aborted, and nothing of the demo outlives its process.
        delivery: Delivery::AtLeastOnce,
        processes: 1,
        record_keys: BTreeMap::new(),
        topic_partitions: 1,
        until_end: false,
        // Between two minutes the source is silent because it waits for the decisions.
        idle: Some(Span::from_minutes(24 * 60)),
        caught_up_idle: None,
        refresh: Span::from_secs(60),
        max_future: None,
        steps: Steps { step: MINUTE, early: None },
        state_limit: None,
    };
    spec.start(Arc::clone(store), Arc::clone(stop), |_| ())
}

/// Emits the scored minutes, each after the decisions of the one before, at the pace of the wall time.
async fn live(
    plan: &Plan,
    workload: &Workload,
    services: usize,
    kafka: &KafkaSettings,
    handle: &Handle,
    account: Option<&Account>,
) -> Result<(), Failure> {
    let sink = KafkaSink::open(kafka).map_err(Failure::outside)?;
    let minutes = plan.scored.steps_up(MINUTE);
    let bar = progress_bar();
    let begun = Instant::now();
    let mut view = handle.view.clone();
    let mut record = Vec::new();
    // One more minute closes the last window of the scored part.
    for minute in 0..=minutes {
        let start = plan.scored_from + Span::from_minutes(minute as i64);
        if let Some(account) = account {
            account.passes(start);
        }
        let mut requests: Vec<_> = (0..services).flat_map(|service| workload.requests(service, start)).collect();
        requests.sort_by_key(|request| request.ts);
        for (index, request) in requests.iter().enumerate() {
            record.clear();
            serde_json::to_writer(&mut record, request).map_err(|error| Failure::Bug(error.to_string()))?;
            let partition = i32::try_from(index).unwrap_or(0) % PARTITIONS;
            sink.send("requests", Some(partition), None, &record, &[]).map_err(Failure::outside)?;
        }
        sink.flush(Span::from_secs(10)).map_err(Failure::outside)?;
        if minute > 0 {
            decided(&mut view, start).await?;
        }
        bar.set_position((1000 * minute / minutes.max(1)) as u64);
        bar.set_message(format!("{start}"));
        let share = minute as f64 / minutes.max(1) as f64;
        let pace = begun + Duration::from_secs_f64(plan.wall_time.seconds() * share);
        tokio::time::sleep_until(pace.into()).await;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Waits until the window that ended at `end` has been decided on.
async fn decided(view: &mut tokio::sync::watch::Receiver<Arc<View>>, end: Timestamp) -> Result<(), Failure> {
    let reached = view.wait_for(|view| view.now >= end);
    match tokio::time::timeout(PATIENCE, reached).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Failure::Outside("the loop has ended before the demo".to_owned())),
        Err(_) => {
            Err(Failure::Bug(format!("no decision for the window that ended at {end} within {} s", PATIENCE.as_secs())))
        }
    }
}
