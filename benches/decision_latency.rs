//! Time from the moment a window can close to the decisions on it, beside a bare round trip through the same broker.
//! Rule: a window counts only if every service got a decision with a forecast for just that window.
//!
//! `cargo bench --workspace --bench decision_latency` compiles as released, which takes half an hour the first time; with
//! `--profile dev` it measures the build that the tests use. `-- --quick` is for a first look.
//!
//! Composed as `prescale demo` is: requests topic → pipeline `requests.sql` → features topic → loop on the event clock
//! → view, in lock step. The requests of a minute are sent and read; then one more in each partition takes the
//! watermark past the window's end. The clock starts when these are sent, and again when the broker has acknowledged
//! them; it stops when the view shows the decisions of all services: forecast, calibrated, decided, acted on
//! (simulated fleets). After each window one record is sent and read back. The LSTM is trained during the warm-up;
//! later trainings are put off, so that no window waits for one.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kit::{Broker, Result, TIMEOUT, quantile};
use prescale_actuate::{FleetSettings, SimulatedSettings, TargetSettings};
use prescale_controller::view::View;
use prescale_controller::{ClockMode, Controller, ControllerSettings, Event, OutTopics, Parts, ServiceSettings};
use prescale_decide::Rules;
use prescale_domain::{
    CadenceSettings, Mode, OpeningHours, PolicySettings, RuleSettings, Series, Span, SystemClock, Timestamp, Zone,
};
use prescale_forecast::online::OnlineSettings;
use prescale_ingest::kafka::{KafkaSink, KafkaSource, KafkaSourceSettings, StartAt};
use prescale_ingest::{Polled, RawBatch, Source as _, SourceError};
use prescale_pipeline::{Delivery, PipelineError, RunnerSettings, Summary, compile, run, source_settings};
use prescale_simulation::workload::{LoadModel, LoadSettings, MINUTE, Workload};
use prescale_store::{MemoryStore, Store};
use tokio::sync::{mpsc, watch};

/// 2026-11-23 is a Monday; the windows are around noon.
const START: Timestamp = Timestamp::from_millis(1_795_392_000_000 + 9 * 3_600_000);
const PARTITIONS: i32 = 2;
const LATENESS: Span = Span::from_secs(5);
/// Windows until the first training has taken effect, and some more.
const WARM_UP: usize = 20;
const PATIENCE: Duration = Duration::from_secs(300);
/// By then the pipeline has read the minute.
const READ: Duration = Duration::from_millis(25);
const NEVER: Span = Span::from_minutes(1000 * 24 * 60);
const DEFAULTS: &str = include_str!("../config/default.toml");
const REQUESTS_SQL: &str = include_str!("../pipelines/requests.sql");

struct Topics {
    requests: String,
    features: String,
    events: String,
    dead_letters: String,
    round_trip: String,
    out: OutTopics,
}

/// In milliseconds, window by window.
#[derive(Default)]
struct Figures {
    from_sent: Vec<f64>,
    from_acknowledged: Vec<f64>,
    round_trip: Vec<f64>,
    models: BTreeMap<String, usize>,
}

fn main() -> Result<()> {
    let quick = kit::quick()?;
    let broker = Broker::start(&[("producer.linger.ms", "0")])?;
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    println!("broker: {}; linger.ms = 0; output {:?}", broker.describe(), delivery(&broker));
    tokio::runtime::Runtime::new()?.block_on(bench(&broker, quick))
}

async fn bench(broker: &Broker, quick: bool) -> Result<()> {
    let (windows, history_days) = if quick { (20, 1) } else { (400, 3) };
    let history = Span::from_minutes(history_days * 24 * 60);
    let topics = topics(broker)?;
    let load = LoadSettings::demo(1, START - history, history, Span::from_minutes(24 * 60));
    let workload = Workload::Model(LoadModel::new(load));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let settings = settings(&workload, &topics, history, quick)?;
    let targets = settings.services.iter().map(|service| Ok((service.name.clone(), service.target.build()?)));
    let back_fill = workload.services().iter().enumerate().map(|(index, name)| {
        let values = workload.requests_per_second(index, START - history, START).into_iter().map(Some).collect();
        (name.clone(), Series { start: START - history, step: MINUTE, values })
    });
    let controller = Controller::new(Parts {
        targets: targets.collect::<Result<_>>()?,
        settings,
        clock: Arc::new(SystemClock),
        store: Arc::clone(&store),
        sink: Some(KafkaSink::open(&broker.kafka)?),
        back_fill: back_fill.collect(),
        events: workload.events(),
        models: None,
    })?;
    let view = controller.handle().view;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, inbox) = mpsc::channel(16);
    let pipeline = start_pipeline(broker, &topics, &store, &stop)?;
    let read = |topic: &String, wrap| {
        let settings = KafkaSourceSettings::new(broker.kafka.clone(), topic);
        let (stop, sender) = (Arc::clone(&stop), sender.clone());
        thread::spawn(move || read(settings, &stop, &sender, wrap))
    };
    let readers =
        [read(&topics.features, Event::Features as fn(Polled) -> Event), read(&topics.events, Event::Calendar)];
    let running = tokio::spawn(controller.run(inbox, false));

    let figures = live(broker, &workload, &topics, view, windows).await;
    stop.store(true, Ordering::Relaxed);
    drop(sender.send(Event::Stop).await);
    running.await??;
    pipeline.join().map_err(|_| "the pipeline panicked")??;
    for reader in readers {
        reader.join().map_err(|_| "a reader panicked")??;
    }
    report(&figures?)
}

fn topics(broker: &Broker) -> Result<Topics> {
    let one = |name| broker.topic(name, 1);
    Ok(Topics {
        requests: broker.topic("requests", PARTITIONS)?,
        features: one("features")?,
        events: one("events")?,
        dead_letters: one("dead-letters")?,
        round_trip: one("round-trip")?,
        out: OutTopics {
            forecasts: one("forecasts")?,
            decisions: one("decisions")?,
            actuations: one("actuations")?,
            qos: one("qos")?,
            weights: one("weights")?,
        },
    })
}

/// The defaults, with fleets of about eight units that act.
fn settings(workload: &Workload, topics: &Topics, history: Span, quick: bool) -> Result<ControllerSettings> {
    let mut online = OnlineSettings { update_every: NEVER, refit_every: NEVER, ..OnlineSettings::default() };
    online.drift.cooldown = NEVER;
    if quick {
        online.budget.first_samples = 2000;
    }
    let mut services = Vec::new();
    for (index, name) in workload.services().iter().enumerate() {
        let loads = workload.requests_per_second(index, START - history, START);
        let unit_capacity = loads.iter().sum::<f64>() / loads.len() as f64 / 8.0;
        let fleet = FleetSettings { min: 1, max: 200, initial: 12, seed: index as u64, ..FleetSettings::default() };
        services.push(ServiceSettings {
            name: name.clone(),
            covariates: vec![],
            calls: vec![],
            signal: "requests_per_second".to_owned(),
            signals: Default::default(),
            mode: Mode::Act,
            policy: policy(unit_capacity)?,
            provisioning_latency: fleet.provisioning_latency_p90,
            warm_up: fleet.warm_up,
            provisioning_median: Some(fleet.provisioning_latency),
            latency_objective: None,
            learn_lead_time: false,
            confident_horizon: None,
            opening_hours: OpeningHours::usual(Zone::UTC),
            nodes: None,
            target: TargetSettings::Simulated(SimulatedSettings { fleet, allow_replay: true }),
            rules: Rules {
                criticality: 1.0,
                partitions: None,
                settings: RuleSettings::default(),
                timetable: Arc::default(),
                opening_hours: OpeningHours::usual(Zone::UTC),
                zone: Zone::UTC,
                price_usd_hour: None,
                unit: Default::default(),
                fleet: Default::default(),
            },
        });
    }
    Ok(ControllerSettings {
        clock: ClockMode::Event,
        step: MINUTE,
        early_step: None,
        lateness: LATENESS,
        retention: Span::from_minutes(35 * 24 * 60),
        coarse_retention: Span::ZERO,
        decision_interval: MINUTE,
        cadence: CadenceSettings::default(),
        fleet_change: Default::default(),
        pipelines: vec!["requests".to_owned()],
        services,
        experiments: vec![],
        selector: None,
        online,
        topics: topics.out.clone(),
        snapshot_windows: 60,
    })
}

fn policy(unit_capacity: f64) -> Result<PolicySettings> {
    let mut defaults: toml::Table = DEFAULTS.parse()?;
    let Some(toml::Value::Table(mut policy)) = defaults.remove("policy") else {
        return Err("the default configuration has no policy".into());
    };
    policy.insert("unit_capacity".to_owned(), unit_capacity.into());
    policy.insert("min_units".to_owned(), 1.into());
    policy.insert("max_units".to_owned(), 200.into());
    policy.insert("quantile".to_owned(), 0.987.into());
    Ok(policy.try_into()?)
}

/// Exactly once, where the broker can.
fn delivery(broker: &Broker) -> Delivery {
    if broker.has_transactions() { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce }
}

fn start_pipeline(
    broker: &Broker,
    topics: &Topics,
    store: &Arc<dyn Store>,
    stop: &Arc<AtomicBool>,
) -> Result<JoinHandle<std::result::Result<Summary, PipelineError>>> {
    let mut plan = compile(REQUESTS_SQL)?;
    plan.sources[0].options.topic.clone_from(&topics.requests);
    let source = KafkaSource::open(source_settings(&plan.sources[0], Some(broker.kafka.clone()), None, false))?;
    let sink = KafkaSink::open(&broker.kafka)?;
    let settings = RunnerSettings {
        features_topic: topics.features.clone(),
        dead_letter_topic: topics.dead_letters.clone(),
        delivery: delivery(broker),
        // Between two minutes the source is silent because it waits for the decisions.
        idle: vec![Some(NEVER)],
        ..RunnerSettings::new("requests", Arc::new(plan))
    };
    let (store, stop) = (Arc::clone(store), Arc::clone(stop));
    Ok(thread::spawn(move || run(settings, vec![Box::new(source)], &sink, store.as_ref(), &SystemClock, &stop)))
}

/// Hands on what is new, as `src/app/readers.rs` does.
fn read(
    settings: KafkaSourceSettings,
    stop: &AtomicBool,
    inbox: &mpsc::Sender<Event>,
    wrap: fn(Polled) -> Event,
) -> std::result::Result<(), SourceError> {
    let mut source = KafkaSource::open(settings)?;
    let mut last = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let polled = source.poll(Span::from_millis(100))?;
        let state = (polled.partitions.clone(), polled.at_end.clone());
        if (!polled.batches.is_empty() || state != last) && inbox.blocking_send(wrap(polled)).is_err() {
            break;
        }
        last = state;
    }
    Ok(())
}

async fn live(
    broker: &Broker,
    workload: &Workload,
    topics: &Topics,
    mut view: watch::Receiver<Arc<View>>,
    windows: usize,
) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut echo = KafkaSource::open(KafkaSourceSettings {
        start: StartAt::Latest,
        ..KafkaSourceSettings::new(broker.kafka.clone(), &topics.round_trip)
    })?;
    // Finds the end of the topic, which is still empty.
    while echo.poll(Span::from_millis(100))?.at_end.is_empty() {}
    let begun = Instant::now();
    for window in 0..WARM_UP + windows {
        let start = START + Span::from_minutes(window as i64);
        send_minute(broker, workload, topics, start)?;
        tokio::time::sleep(READ).await;
        let end = start + MINUTE;
        let closing = closing(workload, end)?;

        let sent = Instant::now();
        for partition in 0..PARTITIONS {
            broker.sink.send(&topics.requests, Some(partition), None, &closing, &[])?;
        }
        broker.sink.flush(TIMEOUT)?;
        let acknowledged = Instant::now();
        let seen = decided(&mut view, end).await?;
        let visible = Instant::now();

        let models = models(&seen, end)?;
        let round_trip = round_trip(broker, &mut echo, &topics.round_trip, &closing)?;
        if window >= WARM_UP {
            figures.from_sent.push(millis(visible - sent));
            figures.from_acknowledged.push(millis(visible.saturating_duration_since(acknowledged)));
            figures.round_trip.push(round_trip);
            models.into_iter().for_each(|model| *figures.models.entry(model).or_default() += 1);
        } else if window + 1 == WARM_UP {
            warmed_up(&seen, begun.elapsed());
        }
    }
    Ok(figures)
}

fn send_minute(broker: &Broker, workload: &Workload, topics: &Topics, start: Timestamp) -> Result<()> {
    let services = 0..workload.services().len();
    let mut requests: Vec<_> = services.flat_map(|service| workload.requests(service, start)).collect();
    requests.sort_by_key(|request| request.ts);
    for (partition, request) in (0..PARTITIONS).cycle().zip(&requests) {
        broker.sink.send(&topics.requests, Some(partition), None, &serde_json::to_vec(request)?, &[])?;
    }
    Ok(broker.sink.flush(TIMEOUT)?)
}

/// A request with which the watermark reaches `end`.
fn closing(workload: &Workload, end: Timestamp) -> Result<Vec<u8>> {
    let mut request = workload.requests(1, end).next().ok_or("a minute without requests")?;
    request.ts = end + LATENESS;
    Ok(serde_json::to_vec(&request)?)
}

/// Waits until the view shows the decisions on the window that ended at `end`.
async fn decided(view: &mut watch::Receiver<Arc<View>>, end: Timestamp) -> Result<Arc<View>> {
    let reached = view.wait_for(|view| view.now >= end);
    match tokio::time::timeout(PATIENCE, reached).await {
        Ok(Ok(view)) => Ok(Arc::clone(&view)),
        Ok(Err(_)) => Err("the loop has ended early".into()),
        Err(_) => Err(format!("no decision on the window that ended at {end} within {PATIENCE:?}").into()),
    }
}

/// The model behind each service's decision, which must be one on the window that ended at `end`.
fn models(view: &View, end: Timestamp) -> Result<Vec<String>> {
    let mut models = Vec::new();
    for service in view.services.values() {
        let newest = service.decisions.back().filter(|decision| decision.at == end + LATENESS);
        let forecast = newest.and_then(|decision| decision.inputs.forecast.as_ref());
        let forecast = forecast.filter(|forecast| forecast.origin + forecast.step >= end);
        let forecast = forecast.ok_or_else(|| format!("{}: no forecast for {end}: {newest:?}", service.service))?;
        models.push(forecast.model.clone());
    }
    Ok(models)
}

/// Milliseconds from sending a record to reading it.
fn round_trip(broker: &Broker, echo: &mut KafkaSource, topic: &str, record: &[u8]) -> Result<f64> {
    let sent = Instant::now();
    broker.sink.send(topic, Some(0), None, record, &[])?;
    broker.sink.flush(TIMEOUT)?;
    loop {
        let polled = echo.poll(Span::from_millis(100))?;
        match polled.batches.iter().map(RawBatch::len).sum::<usize>() {
            0 if sent.elapsed() > PATIENCE => return Err("the record did not come back".into()),
            0 => {}
            1 => return Ok(millis(sent.elapsed())),
            more => return Err(format!("{more} records came back for one").into()),
        }
    }
}

fn warmed_up(view: &View, length: Duration) {
    let services = view.services.len();
    println!("{services} services; {WARM_UP} windows of warm-up took {:.1} s:", length.as_secs_f64());
    // Trainings are for all services together.
    for event in view.services.values().take(1).flat_map(|service| &service.model_events) {
        println!("  {}: {}", event.kind, event.text);
    }
}

fn report(figures: &Figures) -> Result<()> {
    println!("{} windows; decisions by model: {:?}", figures.from_sent.len(), figures.models);
    println!("  {:<40} {:>9} {:>9} {:>9}", "milliseconds", "median", "p95", "max");
    let median = |values: &[f64]| quantile(values, 0.5).ok_or("nothing was measured");
    for (what, values) in [
        ("closing record acknowledged → decisions", &figures.from_acknowledged),
        ("closing record sent → decisions", &figures.from_sent),
        ("round trip: record sent → read back", &figures.round_trip),
    ] {
        let at = |share| quantile(values, share).ok_or("nothing was measured");
        println!("  {what:<40} {:>9.2} {:>9.2} {:>9.2}", median(values)?, at(0.95)?, at(1.0)?);
    }
    let ratio = median(&figures.from_sent)? / median(&figures.round_trip)?;
    println!("  sent → decisions is {ratio:.1} round trips (ratio of the medians)");
    Ok(())
}

fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}
