//! The loop. Rule: all that can wake it is [`Event`]; time moves window by window; what was decided is recorded before it
//! is acted on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prescale_actuate::{ActuateError, Target};
use prescale_decide::{due, turned};
use prescale_domain::{
    CalendarEvent, Clock, FeaturesRecord, LastTurns, QuantileForecast, Series, ServiceName, Span, Timestamp,
};
use prescale_features::{Closed, EventBook, FeatureStore, HistorySettings};
use prescale_forecast::online::{Online, OnlineEvent, TrainingResult};
use prescale_forecast::past::{Covariate, Covariates, Known, Past};
use prescale_forecast::patterns;
use prescale_ingest::kafka::KafkaSink;
use prescale_ingest::{CalendarMessage, PartitionStart, Polled, RawBatch, SourceError};
use prescale_store::{Store, Table, Write, service_time_key};
use prescale_telemetry::controller as happenings;
use tokio::sync::mpsc;

use crate::archive::decision_write;
use crate::choose::signals;
use crate::fallback::Fallbacks;
use crate::intake::ClosedWindow;
use crate::models::{ModelNews, Models};
use crate::publish::Publisher;
use crate::registry::ModelRegistry;
use crate::settings::{ClockMode, ControllerSettings, ServiceSettings};
use crate::show::Show;
use crate::state::Snapshot;
use crate::training::Training;
use crate::view::{Handle, ModelsView};
use crate::{ControllerError, StoredDecisions};

/// A flush that takes longer goes on in the background; meanwhile the loop goes on.
const FLUSH_TIMEOUT: Span = Span::from_secs(2);

/// How often the patterns of a load are looked for.
const PATTERNS_EVERY: Span = Span::from_minutes(60);
/// Services whose patterns are looked for out of turn in one window, since none are known of them.
const FIRST_LOOKS: usize = 4;

/// All that can wake the loop.
#[derive(Debug)]
pub enum Event {
    /// A poll of the `features` topic.
    Features(Polled),
    /// A poll of the `events` topic.
    Calendar(Polled),
    /// The decision interval has passed (wall clock only).
    Tick,
    /// A training has ended (wall clock only; on the event clock the loop waits for it at its time).
    Trained(Result<TrainingResult, String>),
    /// Something of the model registry (wall clock only).
    Models(ModelNews),
    /// Another source of load than the stream has told something (wall clock only).
    Fallback,
    /// The pipelines of this process have written all they will write.
    PipelinesDone,
    /// A source or pipeline can't go on.
    Failed(SourceError),
    Stop,
}

/// What a controller is made of.
pub struct Parts {
    pub settings: ControllerSettings,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    /// `None`: results are kept, not published.
    pub sink: Option<KafkaSink>,
    pub targets: BTreeMap<ServiceName, Target>,
    /// Histories from elsewhere: what they have before all that the store holds is taken in, on the event clock once the
    /// first window is there, and no later than it.
    pub back_fill: BTreeMap<ServiceName, Series>,
    /// Calendar events that are configured; those of the `events` topic come later.
    pub events: Vec<CalendarEvent>,
    /// Where versions of models are kept; heeded on the wall clock only, since a replay must not depend on it.
    pub models: Option<ModelRegistry>,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub windows: u64,
    pub zeros: u64,
    pub gaps: u64,
    pub decisions: u64,
    pub actuations: u64,
    /// Decisions by the model of their forecast; `none` = without one.
    pub models: BTreeMap<String, u64>,
}

/// The loop and its state.
pub struct Controller {
    pub(crate) settings: ControllerSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) publisher: Publisher,
    pub(crate) targets: BTreeMap<ServiceName, Target>,
    pub(crate) features: FeatureStore,
    events: EventBook,
    online: Online,
    training: Option<Training>,
    models: Option<Models>,
    pub(crate) fallbacks: Fallbacks,
    pub(crate) state: Snapshot,
    forecasts: BTreeMap<ServiceName, Result<Arc<QuantileForecast>, String>>,
    partitions: Vec<i32>,
    at_end: bool,
    pipelines_done: bool,
    pub(crate) show: Show,
    pub(crate) summary: Summary,
    /// Changes that go with the next snapshot.
    pub(crate) unwritten: Vec<Write>,
    windows_since_snapshot: u32,
    /// When it last decided.
    turns: LastTurns,
    /// Histories that wait for the first window.
    pub(crate) back_fill: BTreeMap<ServiceName, Series>,
}

impl Controller {
    /// Builds the loop from `parts` and what the store holds.
    pub fn new(parts: Parts) -> Result<Self, ControllerError> {
        let settings = parts.settings;
        let (step, retention, coarse_retention) = (settings.step, settings.retention, settings.coarse_retention);
        let history = HistorySettings { step, retention, coarse_retention };
        let signals = settings.services.iter().map(|service| (service.name.clone(), service.signal.clone()));
        let covariates = settings.services.iter().map(|service| (service.name.clone(), service.covariates.clone()));
        let mut features = FeatureStore::new(history, signals).with_covariates(covariates);
        let mut events = EventBook::default();
        let names: Vec<ServiceName> = settings.services.iter().map(|service| service.name.clone()).collect();
        features.load(parts.store.as_ref())?;
        events.load(parts.store.as_ref())?;
        let (state, online) = match Snapshot::load(parts.store.as_ref())? {
            Some((state, models)) => {
                let online = Online::restore(&models, settings.online.clone(), names)
                    .map_err(|error| ControllerError::Corrupt { error: error.to_string() })?;
                (state, online)
            }
            None => (Snapshot::default(), Online::new(settings.online.clone(), names)),
        };
        for event in parts.events {
            events.upsert(event);
        }
        for (name, state) in &state.services {
            if let (Some(Target::Simulated(target)), Some(fleet)) = (parts.targets.get(name), &state.fleet) {
                let fail = |error: ActuateError| ControllerError::Target {
                    service: name.to_string(),
                    error: error.to_string(),
                };
                target.restore(fleet).map_err(fail)?;
            }
        }
        let archive = Arc::new(StoredDecisions::new(Arc::clone(&parts.store)));
        let show = Show::new(&settings, &parts.targets, archive);
        let publisher = Publisher::new(parts.sink, settings.topics.clone());
        let models = parts.models.filter(|_| settings.clock == ClockMode::Wall).map(|registry| {
            let known = online.serving().and_then(|serving| serving.lineage?.number);
            Models::start(registry, known, serde_json::to_value(&settings.online).unwrap_or_default())
        });
        let mut controller = Self {
            settings,
            clock: parts.clock,
            store: parts.store,
            publisher,
            targets: parts.targets,
            features,
            events,
            online,
            training: None,
            models,
            fallbacks: Fallbacks::default(),
            state,
            forecasts: BTreeMap::new(),
            partitions: Vec::new(),
            at_end: false,
            pipelines_done: false,
            show,
            summary: Summary::default(),
            unwritten: Vec::new(),
            windows_since_snapshot: 0,
            turns: LastTurns::default(),
            back_fill: parts.back_fill,
        };
        controller.resume_training();
        controller.back_fill_at_start()?;
        controller.show.restore(controller.features.all());
        Ok(controller)
    }

    /// Where to read the features topic from.
    pub fn features_start(&self) -> Vec<PartitionStart> {
        starts(&self.state.features_offsets)
    }

    /// Where to read the events topic from.
    pub fn events_start(&self) -> Vec<PartitionStart> {
        starts(&self.state.events_offsets)
    }

    /// What readers hold of this loop.
    pub fn handle(&self) -> Handle {
        self.show.handle()
    }

    /// Runs until [`Event::Stop`], until all senders are gone, or, with `until_end`, until the input has ended.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Event>, until_end: bool) -> Result<Summary, ControllerError> {
        let wall = self.settings.clock == ClockMode::Wall;
        let fast = self.settings.cadence.fast.min(self.settings.decision_interval);
        let mut ticks = tokio::time::interval(fast.to_std().max(Duration::from_millis(100)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let event = tokio::select! {
                event = inbox.recv() => event.unwrap_or(Event::Stop),
                result = finished(&mut self.training), if wall && self.training.is_some() => Event::Trained(result),
                news = heard(&mut self.models), if self.models.is_some() => Event::Models(news),
                () = self.fallbacks.changed(), if wall => Event::Fallback,
                _ = ticks.tick(), if wall => Event::Tick,
            };
            match event {
                Event::Features(polled) => self.take_features(polled).await?,
                Event::Calendar(polled) => self.take_calendar(polled),
                Event::Tick => self.tick().await?,
                Event::Trained(result) => self.take_training(self.clock.now(), result),
                Event::Models(news) => self.take_models(self.clock.now(), news),
                Event::Fallback => self.take_fallback().await?,
                Event::PipelinesDone => self.pipelines_done = true,
                Event::Failed(error) => return Err(error.into()),
                Event::Stop => break,
            }
            let ended = self.state.intake.ended(&self.settings.pipelines, &self.partitions);
            if until_end && self.pipelines_done && self.at_end && ended {
                break;
            }
        }
        self.snapshot()?;
        Ok(self.summary)
    }

    async fn take_features(&mut self, polled: Polled) -> Result<(), ControllerError> {
        self.show.degrade("features-topic", polled.unreachable.as_ref().map(|text| format!("features topic: {text}")));
        if !polled.partitions.is_empty() {
            self.partitions = polled.partitions;
        }
        self.at_end = !self.partitions.is_empty() && self.partitions.iter().all(|p| polled.at_end.contains(p));
        for batch in &polled.batches {
            for index in 0..batch.len() {
                match FeaturesRecord::from_json(batch.bytes(index)) {
                    Ok(record) => self.state.intake.accept(record),
                    Err(error) => bad_record(batch, index, &error.to_string()),
                }
            }
            if let Some(last) = batch.offsets.last() {
                self.state.features_offsets.insert(batch.partition, last + 1);
            }
        }
        self.advance().await
    }

    fn take_calendar(&mut self, polled: Polled) {
        self.show.degrade("events-topic", polled.unreachable.as_ref().map(|text| format!("events topic: {text}")));
        for batch in &polled.batches {
            for index in 0..batch.len() {
                match CalendarMessage::read(batch, index) {
                    Ok(CalendarMessage::Event(event)) => self.events.upsert(event),
                    Ok(CalendarMessage::Delete(id)) => self.events.remove(&id, told_at(batch, index, self.clock.now())),
                    Err(error) => bad_record(batch, index, &error),
                }
            }
            if let Some(last) = batch.offsets.last() {
                self.state.events_offsets.insert(batch.partition, last + 1);
            }
        }
        self.unwritten.extend(self.events.take_writes());
        if !polled.batches.is_empty() && self.settings.clock == ClockMode::Wall {
            // Who has told an event sees it at once, not only with the next decision.
            self.show.events(self.events.known(self.clock.now()));
        }
    }

    /// Closes all windows that the watermark has passed, and decides.
    async fn advance(&mut self) -> Result<(), ControllerError> {
        let step = self.settings.step;
        let watermark = self.state.intake.watermark(&self.settings.pipelines, &self.partitions, step);
        let Some(watermark) = watermark else { return Ok(()) };
        let mut closed = false;
        while let Some(window) = self.state.intake.next_window(watermark, step) {
            closed = true;
            self.back_fill_before(window.start)?;
            let end = window.start + step;
            let now = self.now_at(end);
            self.close(&window, now).await?;
            if self.settings.clock == ClockMode::Event {
                self.decide_all(now).await?;
                self.windows_since_snapshot += 1;
                if self.windows_since_snapshot >= self.settings.snapshot_windows {
                    self.snapshot()?;
                }
            }
        }
        if closed && self.settings.clock == ClockMode::Wall {
            self.decide_all(self.clock.now()).await?;
            self.snapshot()?;
        }
        Ok(())
    }

    /// Decides when it is time to, and between that for an emergency.
    async fn tick(&mut self) -> Result<(), ControllerError> {
        let now = self.clock.now();
        // A timer is exact to some milliseconds: a tick that comes a little early must not wait for the next one.
        let early = Span::from_millis(self.settings.cadence.fast.min(self.settings.decision_interval).millis() / 10);
        let due = due(now + early, &self.turns, &self.settings.cadence);
        self.turns = turned(&self.turns, due, now);
        if !(due.normal || due.fast && self.has_emergency(now)) {
            return Ok(());
        }
        self.decide_all(now).await?;
        self.snapshot()
    }

    /// Decides at once where what another source has told makes a difference.
    async fn take_fallback(&mut self) -> Result<(), ControllerError> {
        let now = self.clock.now();
        if !self.fallback_asks(now) {
            return Ok(());
        }
        self.decide_all(now).await?;
        self.snapshot()
    }

    /// Now, when the window that ended at `end` has just been closed.
    fn now_at(&self, end: Timestamp) -> Timestamp {
        match self.settings.clock {
            ClockMode::Wall => self.clock.now(),
            ClockMode::Event => end + self.settings.lateness,
        }
    }

    /// Enters one closed window into history and models.
    pub(crate) async fn close(&mut self, window: &ClosedWindow, now: Timestamp) -> Result<(), ControllerError> {
        if self.settings.clock == ClockMode::Event {
            self.wait_for_training(now).await;
        }
        self.summary.windows += 1;
        let end = window.start + self.settings.step;
        self.state.window_end = Some(end);
        for service in self.settings.services.clone() {
            let closed =
                self.features.close(&service.name, window.start, window.rows.get(&service.name), window.is_gap)?;
            match closed {
                Closed::Unknown => continue,
                Closed::Zero(_) => self.summary.zeros += 1,
                Closed::Gap => self.summary.gaps += 1,
                Closed::Row(_) => {}
            }
            let state = self.state.services.entry(service.name.clone()).or_default();
            state.load = closed.load();
            state.signals = signals(&service, window.rows.get(&service.name));
            if state.load.is_some() {
                state.load_window_end = Some(end);
            }
            self.show.load(&service.name, window.start, closed.load());
            let events = self.online.observe(&service.name, window.start, closed.load());
            self.record_model_events(now, events);
        }
        self.forecasts.clear();
        self.start_training(now);
        self.show_models(end, now);
        Ok(())
    }

    /// Tells readers what serves and what is known of the load.
    fn show_models(&mut self, end: Timestamp, now: Timestamp) {
        let services = &self.settings.services;
        // Patterns take milliseconds: those of few services in each window, so that all are looked for once an hour.
        let windows = PATTERNS_EVERY.steps_up(self.settings.step).max(1);
        let mut first_looks = FIRST_LOOKS;
        let turn = end.millis().div_euclid(self.settings.step.millis().max(1)).rem_euclid(windows as i64) as usize;
        for (index, service) in services.iter().enumerate() {
            let series = self.features.series(&service.name);
            let known = self.show.patterns(&service.name);
            let is_first = known.is_none() && series.is_some() && first_looks > 0;
            first_looks -= usize::from(is_first);
            let due = is_first || index % windows == turn;
            let patterns =
                if due { series.map(|series| patterns::find(series, &service.opening_hours)) } else { known };
            let readiness = self.online.readiness(&service.name, series, now);
            let scores = self.online.scores(&service.name).unwrap_or_default();
            self.show.models(&service.name, ModelsView { readiness, scores, patterns });
        }
    }

    pub(crate) fn start_training(&mut self, now: Timestamp) {
        if self.training.is_some() {
            return;
        }
        let known = self.events.known(now);
        let covariates = covariates(&self.features);
        let all = Known { histories: self.features.all(), covariates: &covariates };
        if let Some(job) = self.online.due(now, all, &known) {
            self.training = Some(Training::start(job));
            let started = self.online.started_event();
            self.record_model_events(now, started.into_iter().collect());
        }
    }

    /// A training that was under way when the process died starts again from the same inputs.
    fn resume_training(&mut self) {
        let Some(started) = self.online.pending_since() else { return };
        let known = self.events.known(started);
        let covariates = covariates(&self.features);
        let all = Known { histories: self.features.all(), covariates: &covariates };
        if let Some(job) = self.online.resume(all, &known) {
            self.training = Some(Training::start(job));
        }
    }

    async fn wait_for_training(&mut self, now: Timestamp) {
        if self.training.as_ref().is_some_and(|training| training.effective <= now) {
            let result = finished(&mut self.training).await;
            self.take_training(now, result);
        }
    }

    fn take_training(&mut self, now: Timestamp, result: Result<TrainingResult, String>) {
        self.training = None;
        let events = match result {
            Ok(result) => self.online.finish(now, result),
            Err(error) => self.online.failed(now, &error),
        };
        self.record_model_events(now, events);
    }

    fn take_models(&mut self, now: Timestamp, news: ModelNews) {
        match news {
            ModelNews::Registered { generation, number } => self.online.registered(generation, number),
            ModelNews::Trouble(text) => {
                self.show.degrade("models", text.map(|text| format!("model registry: {text}")));
            }
            ModelNews::Champion { lineage, bytes } => match self.online.adopt(now, bytes, lineage) {
                Ok(events) => {
                    self.forecasts.clear();
                    self.record_model_events(now, events);
                }
                Err(error) => self.show.degrade("models", Some(format!("model registry: {error}"))),
            },
        }
    }

    fn record_model_events(&mut self, now: Timestamp, events: Vec<OnlineEvent>) {
        for (index, event) in events.into_iter().enumerate() {
            let mut key = service_time_key(event.service.as_ref().unwrap_or(&ServiceName::new("*")), now);
            key.extend_from_slice(event.kind.as_bytes());
            key.push(u8::try_from(index).unwrap_or(u8::MAX));
            let value =
                serde_json::json!({"at": now, "kind": event.kind, "service": event.service, "text": event.text});
            self.unwritten.push(Write { table: Table::ModelEvents, key, value: Some(value.to_string().into_bytes()) });
            self.show.model_event(now, event.service.as_ref(), &event.kind, &event.text);
        }
        if let Some(models) = &mut self.models {
            models.tell(now, &self.online);
        }
    }

    /// Decides for every service, records, publishes and, where the mode says so, acts.
    pub(crate) async fn decide_all(&mut self, now: Timestamp) -> Result<(), ControllerError> {
        let services = self.settings.services.clone();
        let known: Vec<ServiceSettings> = match self.settings.clock {
            ClockMode::Wall => services,
            // On the event clock there is nothing to say of a service before its first window.
            ClockMode::Event => services.into_iter().filter(|s| self.state.services.contains_key(&s.name)).collect(),
        };
        self.observe_targets(&known, now).await;
        let mut decisions = Vec::with_capacity(known.len());
        for service in &known {
            let decision = self.decide_one(service, now);
            self.unwritten.push(decision_write(&decision));
            self.publisher.decision(&decision);
            happenings::Decided::of(&decision).emit();
            self.note_fallback(&decision);
            self.summary.decisions += 1;
            let model = decision.inputs.forecast.as_ref().map_or("none", |forecast| forecast.model.as_str()).to_owned();
            *self.summary.models.entry(model).or_default() += 1;
            self.state.services.entry(service.name.clone()).or_default().memory = decision.memory.clone();
            decisions.push((service.clone(), decision));
        }
        self.act(&decisions, now).await?;
        for (service, decision) in decisions {
            let target = self.state.services.get(&service.name).and_then(|state| state.target);
            self.show.decided(&service.name, Arc::new(decision), target, self.forecasts.get(&service.name));
        }
        let known = self.events.known(now);
        let failure = self.publisher.failure.clone();
        self.show.degrade("publish", failure.map(|text| format!("results are kept but not published: {text}")));
        self.show.publish(now, known);
        Ok(())
    }

    /// The forecast from the last closed window, made once.
    pub(crate) fn forecast(&mut self, service: &ServiceName, now: Timestamp) -> Result<Arc<QuantileForecast>, String> {
        if let Some(made) = self.forecasts.get(service) {
            return made.clone();
        }
        let known = self.events.known(now);
        let covariates = covariates_of(&self.features, service);
        let made = match self.features.series(service) {
            None => Err("no-history".to_owned()),
            Some(series) => match self.online.forecast(service, Past::all(series).with(&covariates), &known, now) {
                Ok(forecast) => {
                    self.publisher.forecast(&forecast);
                    Ok(Arc::new(forecast))
                }
                Err(missing) => Err(missing.reason),
            },
        };
        self.forecasts.insert(service.clone(), made.clone());
        made
    }

    /// Writes all that changed, whole or not at all.
    fn snapshot(&mut self) -> Result<(), ControllerError> {
        self.publisher.flush(FLUSH_TIMEOUT);
        let mut writes = std::mem::take(&mut self.unwritten);
        for (name, target) in &self.targets {
            if let (Target::Simulated(fleet), Some(state)) = (target, self.state.services.get_mut(name)) {
                state.fleet = fleet.snapshot();
            }
        }
        writes.extend(self.features.take_writes());
        writes.extend(self.events.take_writes());
        writes.extend(self.state.writes(self.online.save())?);
        self.store.write(&writes)?;
        self.windows_since_snapshot = 0;
        happenings::SnapshotWritten { changes: writes.len() }.emit();
        Ok(())
    }
}

/// What `features` knows of the covariates of all services; a service without any is left out.
pub fn covariates(features: &FeatureStore) -> Covariates<'_> {
    let own = features.all().keys().map(|service| (service.clone(), covariates_of(features, service)));
    own.filter(|(_, own)| !own.is_empty()).collect()
}

fn covariates_of<'a>(features: &'a FeatureStore, service: &ServiceName) -> Vec<Covariate<'a>> {
    features.covariates(service).map(|(name, series)| Covariate { name, series }).collect()
}

async fn heard(models: &mut Option<Models>) -> ModelNews {
    match models {
        Some(models) => models.next().await,
        None => std::future::pending().await,
    }
}

async fn finished(training: &mut Option<Training>) -> Result<TrainingResult, String> {
    match training {
        Some(training) => training.finished().await,
        None => std::future::pending().await,
    }
}

fn starts(offsets: &BTreeMap<i32, i64>) -> Vec<PartitionStart> {
    offsets.iter().map(|(partition, offset)| PartitionStart { partition: *partition, offset: Some(*offset) }).collect()
}

/// When a record was written: a replay takes an event back at that moment, not before.
fn told_at(batch: &RawBatch, index: usize, now: Timestamp) -> Timestamp {
    let millis = batch.timestamps.get(index).copied().filter(|millis| *millis != i64::MIN);
    millis.map_or(now, Timestamp::from_millis)
}

fn bad_record(batch: &RawBatch, index: usize, error: &str) {
    let (topic, partition, offset) = (batch.topic.to_string(), batch.partition, batch.offsets[index]);
    happenings::BadRecord { topic, partition, offset, error: error.to_owned() }.emit();
}
