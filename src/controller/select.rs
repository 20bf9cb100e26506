//! The selector in the loop: which ready-made policy decides for a service. Rule: what is configured decides until the selector's gate
//! is open; an experiment comes first; a change of policy is an event, and in the inputs of each decision that it makes.

use std::collections::BTreeMap;

use prescale_decide::selector::{Choice, Selector, context};
use prescale_domain::{PolicySettings, ServiceName, Span, Timestamp};
use prescale_forecast::online::OnlineEvent;

use crate::Controller;
use crate::settings::ServiceSettings;
use crate::units::unit_capacity;

/// How often it is asked: what kind of load a service has is a matter of hours.
const EVERY: Span = Span::from_minutes(60);

/// A trained selector, and the settings of each of its arms by service; the first is what is configured.
#[derive(Clone, Debug)]
pub struct SelectorSetup {
    pub selector: Selector,
    pub policies: BTreeMap<ServiceName, Vec<PolicySettings>>,
}

impl SelectorSetup {
    /// The settings of what was chosen; `None` where it is what is configured, or was chosen among other arms than these.
    fn policy(&self, service: &ServiceName, choice: &Choice) -> Option<&PolicySettings> {
        let is_known = self.selector.settings().arms.get(choice.arm) == Some(&choice.name);
        self.policies.get(service)?.get(choice.arm).filter(|_| choice.arm > 0 && is_known)
    }
}

impl Controller {
    /// Asks the selector about each service, once an hour of the windows' time.
    pub(crate) fn select_policies(&mut self, start: Timestamp, now: Timestamp) {
        let Some(setup) = &self.settings.selector else { return };
        let end = start + self.settings.step;
        if end.floor_to(EVERY) == start.floor_to(EVERY) {
            return;
        }
        let mut events = Vec::new();
        for service in &self.settings.services {
            let Some(choice) = self.choice(&setup.selector, service) else { continue };
            let before = self.state.selected.insert(service.name.clone(), choice.clone());
            let was = before.as_ref().map(|before| (before.name.as_str(), before.code.as_str()));
            if was == Some((choice.name.as_str(), choice.code.as_str())) {
                continue;
            }
            let text = match was {
                Some((name, _)) if name != choice.name => {
                    format!("`{}` decides in place of `{name}` ({})", choice.name, choice.code)
                }
                _ => format!("`{}` decides ({})", choice.name, choice.code),
            };
            events.push(OnlineEvent {
                at: now,
                service: Some(service.name.clone()),
                kind: "policy-selected".into(),
                text,
            });
        }
        self.record_model_events(now, events);
    }

    /// `None` as long as too little is known of the load.
    fn choice(&self, selector: &Selector, service: &ServiceSettings) -> Option<Choice> {
        let series = self.features.series(&service.name)?;
        let hour = EVERY.steps_up(self.settings.step).max(1);
        let known = series.values.iter().rev().flatten().take(24 * hour);
        let mut history: Vec<f64> = known.copied().collect();
        history.reverse();
        let lead = service.provisioning_latency + service.warm_up;
        selector.choose(&context(&history, hour, unit_capacity(&self.state.units, service), lead)?)
    }

    /// The settings that were chosen for a service in place of what is configured.
    pub(crate) fn selected(&self, service: &ServiceName) -> Option<&PolicySettings> {
        let setup = self.settings.selector.as_ref()?;
        setup.policy(service, self.state.selected.get(service)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prescale_decide::selector::{FEATURES, SelectorSettings};
    use prescale_store::MemoryStore;

    use super::*;
    use crate::fixture::{controller_with, history, minute, settings, web};
    use crate::intake::ClosedWindow;
    use crate::settings::ClockMode;

    /// A selector for which the second arm is better in every context; `exams` = episodes of its examination.
    fn trained(exams: u64) -> Selector {
        let settings = SelectorSettings::new(&["configured", "aggressive"], 0, &FEATURES);
        let mut selector = Selector::new(settings).switched(true);
        for turn in 0..200 {
            let context: Vec<f64> =
                (0..FEATURES.len()).map(|at| 1.0 + ((turn * 7 + at * 3) % 5) as f64 / 5.0).collect();
            selector.learn(turn % 2, &context, (turn % 2) as f64);
        }
        (0..exams).for_each(|exam| selector.examine(1.0 + (exam % 3) as f64 / 10.0, 0.0));
        selector
    }

    /// The quantile that decisions are made with an hour and a half after a day of history, and what was told.
    fn decided(selector: Selector) -> (f64, Vec<String>) {
        let mut settings = settings(ClockMode::Event);
        let configured = settings.services[0].policy.clone();
        let other = PolicySettings { quantile: 0.55, ..configured.clone() };
        settings.selector = Some(SelectorSetup { selector, policies: [(web(), vec![configured, other])].into() });
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(prescale_domain::SystemClock);
        let mut controller = controller_with(settings.clone(), &store, clock, Some(history(-1440, 0)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(controller.observe_targets(&settings.services, minute(0)));
        controller.back_fill_before(minute(0)).unwrap();
        for n in 0..90 {
            let window = ClosedWindow { start: minute(n), rows: BTreeMap::new(), is_gap: false };
            runtime.block_on(controller.close(&window, minute(n + 1))).unwrap();
        }
        let fleet = controller.fleet(&settings.services, minute(90));
        let decision = controller.decide_one(&settings.services[0], minute(90), &fleet);
        let told = controller.unwritten.iter().filter_map(|write| write.value.as_ref());
        let told = told.filter_map(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok());
        let told = told.filter(|event| event["kind"] == "policy-selected").map(|event| event["text"].to_string());
        (decision.inputs.settings.quantile, told.collect())
    }

    #[test]
    fn a_proven_selector_decides_which_policy_decides_and_says_so_once() {
        let (quantile, told) = decided(trained(60));
        assert_eq!((quantile, told), (0.55, vec!["\"`aggressive` decides (selected)\"".to_owned()]));
    }

    #[test]
    fn what_was_chosen_among_other_policies_decides_nothing() {
        let policies = vec![settings(ClockMode::Event).services[0].policy.clone(); 2];
        let setup = SelectorSetup { selector: trained(0), policies: [(web(), policies)].into() };
        let choice = |arm, name: &str| Choice { arm, name: name.to_owned(), code: "selected".to_owned() };
        assert!(setup.policy(&web(), &choice(1, "aggressive")).is_some());
        for other in [choice(1, "conservative"), choice(0, "configured"), choice(2, "aggressive")] {
            assert_eq!(setup.policy(&web(), &other), None);
        }
    }

    #[test]
    fn an_unproven_one_leaves_what_is_configured() {
        let (quantile, told) = decided(trained(0));
        assert_eq!((quantile, told), (0.9, vec!["\"`configured` decides (selector-unproven)\"".to_owned()]));
    }
}
