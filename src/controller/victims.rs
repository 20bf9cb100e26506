//! Which units go. Rule: told where units go at all and the target takes them away by name; since when they are there is what
//! was seen here.

use prescale_decide::victims;
use prescale_domain::{Decision, DecisionKind, UnitView};

use crate::Controller;
use crate::settings::ServiceSettings;

/// Of which the target chooses, beside those that go: its zones are to stay even.
const BESIDE: usize = 20;

impl Controller {
    /// Units by what speaks for taking them away.
    pub(crate) fn victims(&mut self, service: &ServiceSettings, decision: &Decision) -> Vec<String> {
        let Some(target) = self.targets.get(&service.name) else { return Vec::new() };
        let units = target.units();
        let state = self.state.services.entry(service.name.clone()).or_default();
        if units.is_empty() {
            return Vec::new();
        }
        state.units_since.retain(|id, _| units.iter().any(|unit| unit.id == *id));
        let seen: Vec<UnitView> = units
            .into_iter()
            .map(|unit| UnitView {
                started_at: *state.units_since.entry(unit.id.clone()).or_insert(decision.at),
                ..unit
            })
            .collect();
        let Some(present) = decision.inputs.target.filter(|_| decision.kind == DecisionKind::ScaleDown) else {
            return Vec::new();
        };
        let count = present.desired.saturating_sub(decision.desired) as usize + BESIDE;
        let ranked = victims(&seen, count, decision.at, &service.rules.settings.scale_in.weights);
        ranked.into_iter().map(|victim| victim.unit.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::{TargetState, Timestamp};
    use prescale_store::MemoryStore;
    use std::sync::Arc;

    use crate::ClockMode;
    use crate::fixture::{Fixed, controller_with, minute, settings};

    #[test]
    fn a_target_that_does_not_tell_its_units_apart_is_told_none() {
        let settings = settings(ClockMode::Wall);
        let service = settings.services[0].clone();
        let store = Arc::new(MemoryStore::default());
        let mut controller = controller_with(settings, &store, Arc::new(Fixed(minute(10))), None);
        let seen =
            TargetState { desired: 8, ready: Some(8), min: None, max: None, observed_at: Timestamp::from_millis(0) };
        controller.state.services.entry(service.name.clone()).or_default().target = Some(seen);
        let decision = controller.decide_one(&service, minute(10), &crate::contention::Fleet::default());
        assert_eq!(controller.victims(&service, &decision), Vec::<String>::new());
    }
}
