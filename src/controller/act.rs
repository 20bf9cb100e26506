//! Observing and acting. Rule: recorded before and after; every target has its own time limits, so that one that hangs
//! delays the others by no more than those; on the event clock only what was asked for is known.

use futures::future::join_all;
use prescale_actuate::{Actuator, Target};
use prescale_domain::{Actuation, ActuationReport, Decision, Mode, Outcome, TargetState, Timestamp};
use prescale_telemetry::controller as happenings;

use crate::archive::actuation_write;
use crate::settings::{ClockMode, ServiceSettings};
use crate::{Controller, ControllerError};

impl Controller {
    /// Brings `state.target` of each service up to date; `None` where a target can't be observed.
    pub(crate) async fn observe_targets(&mut self, services: &[ServiceSettings], now: Timestamp) {
        let mut wanted = Vec::new();
        for service in services {
            let Some(target) = self.targets.get(&service.name) else { continue };
            let known = self.state.services.get(&service.name).is_some_and(|state| state.target.is_some());
            // The present state of an outside target says nothing about event time: there it is observed once, and from
            // then on what was asked for counts. A simulated fleet lives in event time.
            let live = self.settings.clock == ClockMode::Wall || matches!(target, Target::Simulated(_));
            if live || !known {
                wanted.push((service.name.clone(), target.observe(now)));
            }
        }
        let (names, observations): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        for (name, observed) in names.into_iter().zip(join_all(observations).await) {
            let key = format!("target-{name}");
            let failure = observed.as_ref().err().map(|error| format!("target of `{name}`: {error}"));
            if let Some(text) = &failure {
                happenings::TargetUnobservable { service: name.clone(), error: text.clone() }.emit();
            }
            self.show.degrade(&key, failure);
            let state = self.state.services.entry(name).or_default();
            state.target = observed.ok();
            if let Some(target) = &state.target {
                state.lead.observe(target);
            }
        }
    }

    /// Carries out the decisions of services in mode `act` that ask for a change.
    pub(crate) async fn act(
        &mut self,
        decisions: &[(ServiceSettings, Decision)],
        now: Timestamp,
    ) -> Result<(), ControllerError> {
        let due: Vec<&Decision> = decisions
            .iter()
            .filter(|(service, decision)| service.mode == Mode::Act && asks_for_change(decision))
            .map(|(_, decision)| decision)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut writes = std::mem::take(&mut self.unwritten);
        for decision in &due {
            writes.push(actuation_write(&self.actuation(decision, now, Outcome::Started)));
        }
        self.store.write(&writes)?;
        let attempts = due.iter().filter_map(|decision| {
            let target = self.targets.get(&decision.service)?;
            Some(async move { (*decision, target.apply(decision, now).await) })
        });
        let attempts: Vec<_> = attempts.collect();
        // On the event clock calls go out one after another, in the order of services: that order is part of the replay.
        let outcomes = match self.settings.clock {
            ClockMode::Wall => join_all(attempts).await,
            ClockMode::Event => {
                let mut outcomes = Vec::with_capacity(attempts.len());
                for attempt in attempts {
                    outcomes.push(attempt.await);
                }
                outcomes
            }
        };
        for (decision, result) in outcomes {
            let outcome = result
                .unwrap_or_else(|error| Outcome::Failed { code: error.code().to_owned(), error: error.to_string() });
            let failure = match &outcome {
                Outcome::Failed { error, .. } => Some(format!("`{}` was not scaled: {error}", decision.service)),
                _ => None,
            };
            self.show.degrade(&format!("act-{}", decision.service), failure);
            let failed = match &outcome {
                Outcome::Failed { code, .. } => Some(code.clone()),
                _ => None,
            };
            if failed.is_some() {
                self.state.changes.fail(now, &decision.service);
            }
            let state = self.state.services.entry(decision.service.clone()).or_default();
            state.actuation = Some(ActuationReport { at: now, failed });
            if let Outcome::Applied { units, .. } | Outcome::Unchanged { units } = &outcome {
                let state = self.state.services.entry(decision.service.clone()).or_default();
                state.target = state.target.map(|known| TargetState { desired: *units, ..known });
                state.lead.asked(now, *units);
            }
            let actuation = self.actuation(decision, now, outcome);
            self.unwritten.push(actuation_write(&actuation));
            self.publisher.actuation(&actuation);
            happenings::Actuated::of(&actuation).emit();
            self.summary.actuations += 1;
            self.show.actuated(actuation);
        }
        Ok(())
    }

    fn actuation(&self, decision: &Decision, now: Timestamp, outcome: Outcome) -> Actuation {
        let target = self.targets.get(&decision.service).map(Actuator::describe).unwrap_or_default();
        Actuation { decision: decision.id.clone(), service: decision.service.clone(), at: now, target, outcome }
    }
}

fn asks_for_change(decision: &Decision) -> bool {
    decision.inputs.target.is_some_and(|target| target.desired != decision.desired)
}
