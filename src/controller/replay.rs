//! The forecasts of a history, as the loop makes them on the event clock: the loop's own history, models and trainings, fed
//! window by window. Rule: what it forecasts depends on the past and on nothing that is decided, so that one stream serves
//! all fleets, lead times and policies that a back-test tries.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_domain::{CalendarEvent, FeatureRow, QuantileForecast, ServiceName, SystemClock, Timestamp};
use prescale_store::MemoryStore;

use crate::control::Parts;
use crate::early::Early;
use crate::intake::ClosedWindow;
use crate::settings::{ClockMode, ControllerSettings};
use crate::view::ModelEvent;
use crate::{Controller, ControllerError};

/// What is forecast for a service after one window; `Err` = why nothing is, as a reason code.
pub type Made = Result<Arc<QuantileForecast>, String>;

/// A loop that forecasts and decides nothing.
pub struct Replay {
    controller: Controller,
    runtime: tokio::runtime::Runtime,
}

impl Replay {
    /// A loop that knows nothing yet but `events`, each from the moment at which it was known.
    ///
    /// # Errors
    /// Settings that the loop refuses, or a machine that gives no thread.
    pub fn new(settings: ControllerSettings, events: Vec<CalendarEvent>) -> Result<Self, ControllerError> {
        let parts = Parts {
            settings: ControllerSettings { clock: ClockMode::Event, ..settings },
            clock: Arc::new(SystemClock),
            store: Arc::new(MemoryStore::default()),
            sink: None,
            targets: BTreeMap::new(),
            back_fill: BTreeMap::new(),
            events,
            models: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| ControllerError::Corrupt { error: format!("start a runtime: {error}") })?;
        Ok(Self { controller: Controller::new(parts)?, runtime })
    }

    /// Closes the window that starts at `start` with these loads (`None` = a gap, absent = nothing is known of the service)
    /// and forecasts for each service that has had a window, at the moment at which the loop would. Where the loop looks at
    /// parts of windows, that is before it is closed, after its first part, which has the load that `parts` has of it, or that of
    /// the whole for a service that is not in there.
    ///
    /// # Errors
    /// A store or a history that fails.
    pub fn window(
        &mut self,
        start: Timestamp,
        loads: &BTreeMap<ServiceName, Option<f64>>,
        parts: &BTreeMap<ServiceName, Option<f64>>,
    ) -> Result<BTreeMap<ServiceName, Made>, ControllerError> {
        let Self { controller, runtime } = self;
        let end = start + controller.settings.step;
        let now = end + controller.settings.lateness;
        let mut rows = BTreeMap::new();
        for service in &controller.settings.services {
            let Some(load) = loads.get(&service.name) else { continue };
            let row = FeatureRow {
                service: service.name.clone(),
                window_start: start,
                window_end: end,
                labels: BTreeMap::new(),
                measures: BTreeMap::from([(service.signal.clone(), *load)]),
            };
            rows.insert(service.name.clone(), row);
        }
        let names: Vec<ServiceName> = loads.keys().cloned().collect();
        let forecasts = |controller: &mut Controller, now| {
            names.iter().map(|name| (name.clone(), controller.forecast(name, now))).collect()
        };
        let early = controller.settings.early_step.map(|early| {
            for (service, load) in loads {
                let Some(load) = *parts.get(service).unwrap_or(load) else { continue };
                let known = Early { window_start: start, end: start + early, load, told: load };
                controller.forecasts.remove(service);
                controller.state.services.entry(service.clone()).or_default().early = Some(known);
            }
            forecasts(controller, start + early + controller.settings.lateness)
        });
        runtime.block_on(controller.close(&ClosedWindow { start, rows, is_gap: false }, now))?;
        // What a snapshot would write is nobody's business here.
        controller.unwritten.clear();
        drop(controller.features.take_writes());
        Ok(early.unwrap_or_else(|| forecasts(controller, now)))
    }

    /// What happened to the models of `service` so far: drift, trainings, promotions.
    pub fn model_events(&self, service: &ServiceName) -> Vec<ModelEvent> {
        let view = self.controller.handle().view.borrow().clone();
        view.services.get(service).map(|service| service.model_events.iter().cloned().collect()).unwrap_or_default()
    }
}
