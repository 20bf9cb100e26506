//! One round of decisions: all services at one moment. Rule: what was decided is recorded before it is acted on.

use std::sync::Arc;

use prescale_domain::{Mode, QuantileForecast, Series, ServiceName, Timestamp};
use prescale_features::FeatureStore;
use prescale_forecast::past::Past;
use prescale_telemetry::controller as happenings;

use crate::archive::{decision_bytes, decision_write};
use crate::control::covariates_of;
use crate::settings::{ClockMode, ServiceSettings};
use crate::{Controller, ControllerError};

impl Controller {
    /// Decides for every service, records, publishes and, where the mode says so, acts.
    pub(crate) async fn decide_all(&mut self, now: Timestamp) -> Result<(), ControllerError> {
        let services = self.settings.services.clone();
        let known: Vec<ServiceSettings> = match self.settings.clock {
            ClockMode::Wall => services,
            // On the event clock there is nothing to say of a service before its first window.
            ClockMode::Event => {
                let has_window = |name: &ServiceName| self.state.services.contains_key(name);
                let is_known = |s: &ServiceSettings| match &s.nodes {
                    Some(nodes) => nodes.pods_of.iter().all(has_window),
                    None => has_window(&s.name),
                };
                services.into_iter().filter(is_known).collect()
            }
        };
        self.observe_targets(&known, now).await;
        self.keep_books(&known, now);
        let mut decisions = Vec::with_capacity(known.len());
        let fleet = self.fleet(&known, now);
        for service in &known {
            let mut decision = self.decide_one(service, now, &fleet);
            decision.split = self.split(service, &decision).map(Box::new);
            decision.victims = self.victims(service, &decision);
            let recorded = decision_bytes(&decision);
            self.publisher.decision(&decision.service, &recorded);
            self.unwritten.push(decision_write(&decision, recorded));
            self.followers.iter_mut().for_each(|follower| follower.decided(&decision));
            happenings::Decided::of(&decision).emit();
            self.note_fallback(&decision);
            self.summary.decisions += 1;
            let model = decision.inputs.forecast.as_ref().map_or("none", |forecast| forecast.model.as_str()).to_owned();
            *self.summary.models.entry(model).or_default() += 1;
            let state = self.state.services.entry(service.name.clone()).or_default();
            state.memory = decision.memory.clone();
            if let Some(advice) = state.heard.advise(&decision).filter(|_| service.mode != Mode::Observe) {
                self.publisher.advice(&advice);
            }
            if let Some(weights) = self.weigh(service, &decision).filter(|_| service.mode != Mode::Observe) {
                self.publisher.weights(&weights);
            }
            if let Some(target) = decision.inputs.target.filter(|_| service.mode == Mode::Act) {
                let changed = target.desired != decision.desired;
                self.state.services.entry(service.name.clone()).or_default().asked += u64::from(changed);
                self.state.changes.ask(now, &service.name, target.desired, decision.desired);
            }
            decisions.push((service.clone(), decision));
        }
        self.state.told.clear();
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

    /// The forecast from the last window that anything is known of, made once.
    pub(crate) fn forecast(&mut self, service: &ServiceName, now: Timestamp) -> Result<Arc<QuantileForecast>, String> {
        if let Some(made) = self.forecasts.get(service) {
            return made.clone();
        }
        let nodes = self.settings.services.iter().find(|s| s.name == *service).and_then(|s| s.nodes.clone());
        if let Some(setup) = nodes {
            let made = self.forecast_of_pods(service, &setup, now).map(Arc::new);
            if let Ok(forecast) = &made {
                self.publisher.forecast(forecast);
            }
            self.forecasts.insert(service.clone(), made.clone());
            return made;
        }
        let known = self.events.known(now);
        let online = &mut self.online;
        let mut look = |features: &FeatureStore, series: &Series| {
            let covariates = covariates_of(features, service);
            online.forecast(service, Past::all(series).with(&covariates), &known, now)
        };
        let early = self.state.services.get(service).and_then(|state| state.early);
        let ahead = early.and_then(|early| self.features.ahead(service, early.window_start, early.told, &mut look));
        let made = ahead.or_else(|| Some(look(&self.features, self.features.series(service)?)));
        let made = match made {
            None => Err("no-history".to_owned()),
            Some(Err(missing)) => Err(missing.reason),
            Some(Ok(forecast)) => {
                let (forecast, by) = self.lifted(Arc::new(forecast), now);
                self.lifted.insert(service.clone(), by);
                self.publisher.forecast(&forecast);
                Ok(forecast)
            }
        };
        self.forecasts.insert(service.clone(), made.clone());
        made
    }
}
