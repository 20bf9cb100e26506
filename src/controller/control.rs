//! The loop. Rule: all that can wake it is [`Event`]; time moves window by window; what was decided is recorded before it
//! is acted on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prescale_actuate::{ActuateError, Target, TenureWatch};
use prescale_decide::{due, turned};
use prescale_domain::{
    Actuation, CalendarEvent, Clock, LastTurns, Lifted, QuantileForecast, Series, ServiceName, Span, Timestamp,
};
use prescale_features::{Closed, EventBook, FeatureStore, HistorySettings};
use prescale_forecast::online::{Online, TrainingResult};
use prescale_forecast::past::{Covariate, Covariates};
use prescale_ingest::kafka::KafkaSink;
use prescale_ingest::{PartitionStart, Polled, SourceError};
use prescale_store::{Store, Write};
use prescale_telemetry::controller as happenings;
use tokio::sync::mpsc;

use crate::choose::signals;
use crate::fallback::Fallbacks;
use crate::follow::Follower;
use crate::intake::ClosedWindow;
use crate::models::{ModelNews, Models};
use crate::pause::{Ordered, PauseSwitch};
use crate::publish::Publisher;
use crate::registry::ModelRegistry;
use crate::settings::{ClockMode, ControllerSettings};
use crate::show::Show;
use crate::state::Snapshot;
use crate::training::{Training, finished};
use crate::view::Handle;
use crate::{ControllerError, StoredDecisions};

/// A flush that takes longer goes on in the background; meanwhile the loop goes on.
const FLUSH_TIMEOUT: Span = Span::from_secs(2);

/// All that can wake the loop.
#[derive(Debug)]
pub enum Event {
    /// A poll of the `features` topic.
    Features(Polled),
    /// A poll of the `events` topic.
    Calendar(Polled),
    /// A poll of the `capacity` topic (wall clock only).
    Capacity(Polled),
    /// The decision interval has passed (wall clock only).
    Tick,
    /// A training has ended (wall clock only; on the event clock the loop waits for it at its time).
    Trained(Result<TrainingResult, String>),
    /// Something of the model registry (wall clock only).
    Models(ModelNews),
    /// Another source of load than the stream has told something (wall clock only).
    Fallback,
    /// Somebody stops changes, or lets them go on (wall clock only).
    Order(Ordered),
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
    pub(crate) events: EventBook,
    pub(crate) online: Online,
    pub(crate) training: Option<Training>,
    pub(crate) models: Option<Models>,
    pub(crate) fallbacks: Fallbacks,
    pub(crate) state: Snapshot,
    pub(crate) forecasts: BTreeMap<ServiceName, Result<Arc<QuantileForecast>, String>>,
    /// By whom they were lifted; and those that are just being made.
    pub(crate) lifted: BTreeMap<ServiceName, Vec<Lifted>>,
    pub(crate) lifting: Vec<ServiceName>,
    pub(crate) partitions: Vec<i32>,
    pub(crate) at_end: bool,
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
    pub(crate) followers: Vec<Box<dyn Follower>>,
    /// Whether this replica may act.
    pub(crate) lease: TenureWatch,
    /// Attempts of an earlier life that were begun and not recorded as ended, and the units that they asked for.
    pub(crate) interrupted: Vec<(Actuation, u32)>,
    switch: PauseSwitch,
    orders: mpsc::Receiver<Ordered>,
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
        // A replay goes on from its snapshot and makes the same attempts again.
        let interrupted = match settings.clock {
            ClockMode::Wall => archive.interrupted(parts.targets.keys())?,
            ClockMode::Event => Vec::new(),
        };
        let show = Show::new(&settings, &parts.targets, archive);
        let publisher = Publisher::new(parts.sink, settings.topics.clone());
        let models = parts.models.filter(|_| settings.clock == ClockMode::Wall).map(|registry| {
            let known = online.serving().and_then(|serving| serving.lineage?.number);
            Models::start(registry, known, serde_json::to_value(&settings.online).unwrap_or_default())
        });
        let (switch, orders) = PauseSwitch::new();
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
            lifted: BTreeMap::new(),
            lifting: Vec::new(),
            partitions: Vec::new(),
            at_end: false,
            pipelines_done: false,
            show,
            summary: Summary::default(),
            unwritten: Vec::new(),
            windows_since_snapshot: 0,
            turns: LastTurns::default(),
            back_fill: parts.back_fill,
            followers: Vec::new(),
            lease: TenureWatch::default(),
            interrupted,
            switch,
            orders,
        };
        controller.begin_experiments();
        controller.resume_training();
        controller.back_fill_at_start()?;
        controller.show.restore(controller.features.all());
        controller.recall_pauses();
        Ok(controller)
    }

    /// The same loop, acting only while `lease` allows it. Without this the replica is taken to be the only one.
    #[must_use]
    pub fn under(self, lease: TenureWatch) -> Self {
        Self { lease, ..self }
    }

    /// The same loop, with somebody who follows it.
    pub fn followed_by(mut self, follower: Box<dyn Follower>) -> Self {
        self.followers.push(follower);
        self
    }

    /// Where to read the features topic from.
    pub fn features_start(&self) -> Vec<PartitionStart> {
        starts(&self.state.features_offsets)
    }

    /// Where to read the events topic from.
    pub fn events_start(&self) -> Vec<PartitionStart> {
        starts(&self.state.events_offsets)
    }

    /// Where to read the capacity topic from.
    pub fn capacity_start(&self) -> Vec<PartitionStart> {
        starts(&self.state.capacity_offsets)
    }

    /// What readers hold of this loop.
    pub fn handle(&self) -> Handle {
        let pause = (self.settings.clock == ClockMode::Wall).then(|| self.switch.clone());
        Handle { pause, ..self.show.handle() }
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
                Some(order) = self.orders.recv(), if wall => Event::Order(order),
                _ = ticks.tick(), if wall => Event::Tick,
            };
            match event {
                Event::Features(polled) => self.take_features(polled).await?,
                Event::Calendar(polled) => self.take_calendar(polled),
                Event::Capacity(polled) => self.take_capacity(polled).await?,
                Event::Tick => self.tick().await?,
                Event::Trained(result) => self.take_training(self.clock.now(), result),
                Event::Models(news) => self.take_models(self.clock.now(), news),
                Event::Fallback => self.take_fallback().await?,
                Event::Order(order) => self.take_order(order)?,
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

    /// Closes all windows that the watermark has passed, and decides.
    pub(crate) async fn advance(&mut self) -> Result<(), ControllerError> {
        let step = self.settings.step;
        let watermark = self.state.intake.watermark(&self.settings.pipelines, &self.partitions, step);
        let Some(watermark) = watermark else { return Ok(()) };
        let (wall, early) = (self.settings.clock == ClockMode::Wall, self.settings.early_step);
        let mut closed = false;
        loop {
            // On the wall clock parts of a window that can be closed are late.
            let early = early.filter(|_| !wall || !self.state.intake.closes(watermark, step));
            if let Some(part) = early.and_then(|early| self.state.intake.next_early(watermark, step, early)) {
                self.take_early(part).await?;
                continue;
            }
            let Some(window) = self.state.intake.next_window(watermark, step) else { break };
            closed = true;
            self.back_fill_before(window.start)?;
            let end = window.start + step;
            let now = self.now_at(end);
            self.close(&window, now).await?;
            if !wall {
                // With parts, the first one of the next window comes at once and knows more.
                if self.settings.early_step.is_none() {
                    self.decide_all(now).await?;
                }
                self.windows_since_snapshot += 1;
                if self.windows_since_snapshot >= self.settings.snapshot_windows {
                    self.snapshot()?;
                }
            }
        }
        if closed && wall {
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
            state.early = None;
            state.signals = signals(&service, window.rows.get(&service.name));
            state.heard.hear(&service.signals, window.rows.get(&service.name));
            if state.load.is_some() {
                state.load_window_end = Some(end);
            }
            self.measure(&service, window.start, closed.load());
            self.show.load(&service.name, window.start, closed.load());
            for follower in &mut self.followers {
                follower.closed(&service.name, window.start, end, closed.load());
            }
            let events = self.online.observe(&service.name, window.start, closed.load());
            self.record_model_events(now, events);
        }
        self.learn_dependencies(window.start);
        self.watch_units(window, now);
        self.select_policies(window.start, now);
        self.judge(end);
        self.forecasts.clear();
        self.start_training(now);
        self.show_models(end, now);
        Ok(())
    }

    /// Writes all that changed, whole or not at all.
    pub(crate) fn snapshot(&mut self) -> Result<(), ControllerError> {
        self.publisher.flush(FLUSH_TIMEOUT);
        let mut writes = std::mem::take(&mut self.unwritten);
        for (name, target) in &self.targets {
            if let (Target::Simulated(fleet), Some(state)) = (target, self.state.services.get_mut(name)) {
                state.fleet = fleet.snapshot();
            }
        }
        writes.extend(self.features.take_writes());
        writes.extend(self.events.take_writes());
        writes.extend(self.followers.iter_mut().flat_map(|follower| follower.take_writes()));
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

pub(crate) fn covariates_of<'a>(features: &'a FeatureStore, service: &ServiceName) -> Vec<Covariate<'a>> {
    features.covariates(service).map(|(name, series)| Covariate { name, series }).collect()
}

async fn heard(models: &mut Option<Models>) -> ModelNews {
    match models {
        Some(models) => models.next().await,
        None => std::future::pending().await,
    }
}

fn starts(offsets: &BTreeMap<i32, i64>) -> Vec<PartitionStart> {
    offsets.iter().map(|(partition, offset)| PartitionStart { partition: *partition, offset: Some(*offset) }).collect()
}
