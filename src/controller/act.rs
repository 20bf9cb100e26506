//! Observing and acting. Rule: under the lease, recorded before and after; every target has its own time limits, so that one
//! that hangs delays the others by no more than those; on the event clock only what was asked for is known.

use futures::future::join_all;
use prescale_actuate::{Actuator, Order, Target, carry_out, settle};
use prescale_domain::{
    Actuation, ActuationReport, Blocks, BreakerState, Decision, Mode, Outcome, TargetState, Timestamp,
};
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
            // then on what was asked for counts. A simulated one lives in event time.
            let live = self.settings.clock == ClockMode::Wall || target.follows_event_time();
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
            let trouble = self.targets.get(&name).and_then(Target::trouble);
            self.show.degrade(&format!("trouble-{name}"), trouble);
            let state = self.state.services.entry(name).or_default();
            state.target = observed.ok();
            if let Some(target) = &state.target {
                state.lead.observe(target);
            }
        }
        self.settle_interrupted();
    }

    /// Carries out the decisions of services in mode `act` that ask for a change.
    pub(crate) async fn act(
        &mut self,
        decisions: &[(ServiceSettings, Decision)],
        now: Timestamp,
    ) -> Result<(), ControllerError> {
        let due: Vec<(&Decision, &Target)> = decisions
            .iter()
            .filter(|(service, _)| service.mode == Mode::Act)
            .filter_map(|(_, decision)| Some((decision, self.targets.get(&decision.service)?)))
            .filter(|(decision, target)| asks_for_change(decision) || (target.tends() && may_tend(decision)))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        // On the event clock calls go out one after another, in the order of services: that order is part of the replay.
        let order = match self.settings.clock {
            ClockMode::Wall => Order::Together,
            ClockMode::Event => Order::InTurn,
        };
        let (store, unwritten) = (&self.store, &mut self.unwritten);
        let ended = carry_out(&due, now, &self.lease, order, |actuations| {
            unwritten.extend(actuations.iter().map(actuation_write));
            store.write(&std::mem::take(unwritten))
        })
        .await?;
        for actuation in ended {
            let service = actuation.service.clone();
            let (failed, failure) = match &actuation.outcome {
                Outcome::Failed { code, error } => {
                    (Some(code.clone()), Some(format!("`{service}` was not scaled: {error}")))
                }
                Outcome::Held { reason, .. } => (None, Some(format!("`{service}` is left as it is: {reason}"))),
                _ => (None, None),
            };
            self.show.degrade(&format!("act-{service}"), failure);
            if failed.is_some() || matches!(actuation.outcome, Outcome::Held { .. }) {
                self.state.changes.fail(now, &service);
            }
            let state = self.state.services.entry(service).or_default();
            if !matches!(actuation.outcome, Outcome::Held { .. }) {
                state.actuation = Some(ActuationReport { at: now, failed });
            }
            if let Outcome::Applied { units, .. } | Outcome::Unchanged { units } = &actuation.outcome {
                state.target = state.target.map(|known| TargetState { desired: *units, ..known });
                state.lead.asked(now, *units);
            }
            self.tell(actuation);
        }
        Ok(())
    }

    /// Finds out what became of attempts that a crash has interrupted, now that targets have been looked at.
    pub(crate) fn settle_interrupted(&mut self) {
        for (begun, desired) in std::mem::take(&mut self.interrupted) {
            let found = self.state.services.get(&begun.service).and_then(|state| state.target);
            let Some(found) = found else {
                // It can't be seen yet.
                self.interrupted.push((begun, desired));
                continue;
            };
            let settled = settle(&begun, desired, &found);
            self.unwritten.push(actuation_write(&settled));
            self.tell(settled);
        }
    }

    fn tell(&mut self, actuation: Actuation) {
        self.publisher.actuation(&actuation);
        happenings::Actuated::of(&actuation).emit();
        self.summary.actuations += 1;
        self.show.actuated(actuation);
    }
}

/// Whether a target that is told every decision is told this one: who has stopped changes, or an open breaker, has stopped
/// those as well that leave the number of units as it is. A change freeze lets what is about to be lost be replaced.
fn may_tend(decision: &Decision) -> bool {
    let circumstances = &decision.inputs.circumstances;
    let is_open = decision.memory.rules.breaker.state == BreakerState::Open;
    let is_frozen = circumstances.freeze.as_ref().is_some_and(|freeze| freeze.blocks == Blocks::Changes);
    let loses = decision.split.as_ref().is_some_and(|split| !split.leaving.is_empty());
    decision.inputs.target.is_some() && circumstances.paused.is_none() && !is_open && (!is_frozen || loses)
}

fn asks_for_change(decision: &Decision) -> bool {
    decision.inputs.target.is_some_and(|target| target.desired != decision.desired)
}

#[cfg(test)]
mod tests {
    use prescale_domain::{Freeze, Pause, PauseScope, Span, SpotInputs, SpotPlan, SpotSplit};
    use prescale_store::MemoryStore;

    use super::*;
    use crate::contention::Fleet;
    use crate::fixture::{Fixed, controller_with, minute, settings};

    #[test]
    fn a_service_that_is_paused_or_frozen_or_has_an_open_breaker_is_not_tended() {
        let settings = settings(ClockMode::Wall);
        let service = settings.services[0].clone();
        let store = std::sync::Arc::new(MemoryStore::default());
        let mut controller = controller_with(settings, &store, std::sync::Arc::new(Fixed(minute(10))), None);
        let seen = TargetState { desired: 8, ready: Some(8), min: None, max: None, observed_at: minute(10) };
        controller.state.services.entry(service.name.clone()).or_default().target = Some(seen);
        let decide = |controller: &mut Controller| controller.decide_one(&service, minute(10), &Fleet::default());
        let decision = decide(&mut controller);
        assert!(may_tend(&decision));
        let mut tripped = decision.clone();
        tripped.memory.rules.breaker.state = BreakerState::Open;
        assert!(!may_tend(&tripped));
        let mut frozen = decision.clone();
        let freeze = |blocks| Some(Freeze { name: "sale".to_owned(), until: minute(90), blocks });
        frozen.inputs.circumstances.freeze = freeze(Blocks::ScaleIn);
        assert!(may_tend(&frozen));
        frozen.inputs.circumstances.freeze = freeze(Blocks::Changes);
        assert!(!may_tend(&frozen));
        let inputs = SpotInputs::new(minute(10), 8, Vec::new(), Span::from_secs(100));
        let leaving = vec!["i-1".to_owned()];
        let split = SpotSplit { inputs, plan: SpotPlan::default(), leaving, drain: Vec::new() };
        frozen.split = Some(Box::new(split));
        assert!(may_tend(&frozen), "what is about to be lost is replaced");
        let pause = Pause { scope: PauseScope::All, by: "an operator".to_owned(), since: minute(9) };
        controller.state.pauses.all = Some(pause);
        let paused = decide(&mut controller);
        assert!(!may_tend(&paused) && !asks_for_change(&paused), "{paused:?}");
    }
}
