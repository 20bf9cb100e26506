//! Keeps the view that readers see. Rule: the loop pushes, readers take whole snapshots; nothing here waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use prescale_actuate::{Actuator, Target};
use prescale_domain::{
    Actuation, CalendarEvent, Decision, QuantileForecast, Series, ServiceName, Span, TargetState, Timestamp,
};
use prescale_forecast::patterns::Patterns;
use tokio::sync::watch;

use crate::settings::{ClockMode, ControllerSettings};
use crate::view::{
    CapacityPoint, DECISIONS_MAX, DecisionArchive, ExperimentView, Handle, ModelEvent, ModelsView, POINTS_MAX, Pauses,
    ServiceView, View,
};

/// The view under construction.
pub(crate) struct Show {
    services: BTreeMap<ServiceName, ServiceView>,
    degradations: BTreeMap<String, String>,
    experiments: Vec<Arc<ExperimentView>>,
    sender: watch::Sender<Arc<View>>,
    archive: Arc<dyn DecisionArchive>,
}

impl Show {
    pub(crate) fn new(
        settings: &ControllerSettings,
        targets: &BTreeMap<ServiceName, Target>,
        archive: Arc<dyn DecisionArchive>,
    ) -> Self {
        let services = settings.services.iter().map(|service| {
            let view = ServiceView {
                service: service.name.clone(),
                mode: service.mode,
                signal: service.signal.clone(),
                unit_capacity: service.policy.unit_capacity,
                target: targets.get(&service.name).map(Actuator::describe).unwrap_or_default(),
                paused: None,
                load: VecDeque::new(),
                capacity: VecDeque::new(),
                forecast: None,
                forecast_missing: "starting".to_owned(),
                models: None,
                decisions: VecDeque::new(),
                actuations: VecDeque::new(),
                model_events: VecDeque::new(),
            };
            (service.name.clone(), view)
        });
        let view = View {
            clock: if settings.clock == ClockMode::Wall { "wall" } else { "event" },
            now: Timestamp::default(),
            step: settings.step,
            ready: Err("no decision has been made yet".to_owned()),
            degradations: Vec::new(),
            services: BTreeMap::new(),
            events: Vec::new(),
            pauses: Pauses::default(),
            experiments: Vec::new(),
            version: 0,
        };
        let sender = watch::Sender::new(Arc::new(view));
        let show = Self {
            services: services.collect(),
            degradations: BTreeMap::new(),
            experiments: Vec::new(),
            sender,
            archive,
        };
        show.replace(|view| view.services = show.shared());
        show
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle {
            view: self.sender.subscribe(),
            archive: Arc::clone(&self.archive),
            event_log: None,
            pause: None,
            shadow: None,
        }
    }

    /// Fills in the last day of known history, after a start.
    pub(crate) fn restore(&mut self, histories: &BTreeMap<ServiceName, Series>) {
        for (service, series) in histories {
            let skipped = series.values.len().saturating_sub(POINTS_MAX);
            for (index, value) in series.values.iter().enumerate().skip(skipped) {
                let start = series.start + Span::from_millis(series.step.millis() * index as i64);
                self.load(service, start, *value);
            }
        }
        self.replace(|view| view.services = self.shared());
    }

    pub(crate) fn load(&mut self, service: &ServiceName, start: Timestamp, load: Option<f64>) {
        let Some(view) = self.services.get_mut(service) else { return };
        match view.load.binary_search_by_key(&start, |(start, _)| *start) {
            // After a back-fill a topic may tell again what is shown.
            Ok(place) => view.load[place].1 = load,
            Err(place) if place == view.load.len() => keep(&mut view.load, (start, load), POINTS_MAX),
            Err(place) if view.load.len() < POINTS_MAX => view.load.insert(place, (start, load)),
            Err(_) => {}
        }
    }

    pub(crate) fn models(&mut self, service: &ServiceName, models: ModelsView) {
        if let Some(view) = self.services.get_mut(service) {
            view.models = Some(Arc::new(models));
        }
    }

    /// What was found in the load of a service before.
    pub(crate) fn patterns(&self, service: &ServiceName) -> Option<Patterns> {
        self.services.get(service)?.models.as_ref()?.patterns.clone()
    }

    pub(crate) fn decided(
        &mut self,
        service: &ServiceName,
        decision: Arc<Decision>,
        target: Option<TargetState>,
        forecast: Option<&Result<Arc<QuantileForecast>, String>>,
    ) {
        let Some(view) = self.services.get_mut(service) else { return };
        if let Some(target) = target {
            let point = CapacityPoint { at: decision.at, desired: target.desired, ready: target.ready };
            keep(&mut view.capacity, point, POINTS_MAX);
        }
        match forecast {
            Some(Ok(forecast)) => {
                view.forecast = Some(Arc::clone(forecast));
                view.forecast_missing.clear();
            }
            Some(Err(code)) => {
                view.forecast = None;
                view.forecast_missing.clone_from(code);
            }
            None => {}
        }
        view.unit_capacity = decision.inputs.settings.unit_capacity;
        keep(&mut view.decisions, decision, DECISIONS_MAX);
    }

    pub(crate) fn actuated(&mut self, actuation: Actuation) {
        if let Some(view) = self.services.get_mut(&actuation.service) {
            keep(&mut view.actuations, actuation, DECISIONS_MAX);
        }
    }

    /// An event of the models of one service, or of all where `service` is not given.
    pub(crate) fn model_event(&mut self, at: Timestamp, service: Option<&ServiceName>, kind: &str, text: &str) {
        for (name, view) in &mut self.services {
            if service.is_none_or(|service| service == name) {
                let event = ModelEvent { at, kind: kind.to_owned(), text: text.to_owned() };
                keep(&mut view.model_events, event, DECISIONS_MAX);
            }
        }
    }

    /// Notes what works worse than it should under `key`, or that it works again.
    pub(crate) fn degrade(&mut self, key: &str, text: Option<String>) {
        match text {
            Some(text) => drop(self.degradations.insert(key.to_owned(), text)),
            None => drop(self.degradations.remove(key)),
        }
    }

    /// Replaces what readers see.
    pub(crate) fn publish(&self, now: Timestamp, events: Vec<CalendarEvent>) {
        self.replace(|view| {
            view.now = now;
            view.ready = Ok(());
            view.degradations = self.degradations.values().cloned().collect();
            view.events = events;
            view.experiments.clone_from(&self.experiments);
            view.services = self.shared();
        });
    }

    /// Replaces the known events, between two decisions.
    pub(crate) fn events(&self, known: Vec<CalendarEvent>) {
        self.replace(|view| view.events = known);
    }

    /// What experiments have come to, for the next view.
    pub(crate) fn experiments(&mut self, experiments: Vec<Arc<ExperimentView>>) {
        self.experiments = experiments;
    }

    /// Tells readers at once who is paused.
    pub(crate) fn paused(&mut self, pauses: &Pauses) {
        for (name, view) in &mut self.services {
            view.paused = pauses.of(name).cloned();
        }
        self.replace(|view| {
            view.pauses = pauses.clone();
            view.services = self.shared();
        });
    }

    fn shared(&self) -> BTreeMap<ServiceName, Arc<ServiceView>> {
        self.services.iter().map(|(name, view)| (name.clone(), Arc::new(view.clone()))).collect()
    }

    fn replace(&self, change: impl FnOnce(&mut View)) {
        self.sender.send_modify(|view| {
            let mut next = View::clone(view);
            next.version += 1;
            change(&mut next);
            *view = Arc::new(next);
        });
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(item);
}
