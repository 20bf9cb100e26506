//! One decision of the loop: what it knows of the service at that moment, put together. Rule: nothing is changed by it; what
//! was decided is recorded by whoever asked.

use std::collections::BTreeMap;

use prescale_decide::{Around, Moment, decided, urgent};
use prescale_domain::{Circumstances, Decision, FeatureRow, Timestamp};

use crate::Controller;
use crate::contention::Fleet;
use crate::settings::ServiceSettings;
use crate::state::ServiceState;
use crate::units::learnt;

impl Controller {
    /// `fleet` is [what all have](Self::fleet), looked at once for all that are decided for.
    pub(crate) fn decide_one(&mut self, service: &ServiceSettings, now: Timestamp, fleet: &Fleet) -> Decision {
        let forecast = self.forecast(&service.name, now);
        let unknown = ServiceState::default();
        let state = self.state.services.get(&service.name).unwrap_or(&unknown);
        let present = state.target.map_or(0, |target| target.desired);
        // What is known of the open window is newer than the last closed one.
        let load = state.early.map(|early| early.load).or(state.load);
        let load_window_end = state.early.map(|early| early.end).or(state.load_window_end);
        let (load, load_window_end) = match &service.nodes {
            Some(_) => (self.load_of_pods(service, now), self.state.window_end),
            None => (load, load_window_end),
        };
        let (mut policy, experiment) = self.policy(service, now);
        if let Some(capacity) = learnt(&self.state.units, service) {
            policy.to_mut().unit_capacity = capacity;
        }
        if service.nodes.is_some() {
            // What is free on nodes is free in the plan of their pods.
            policy.to_mut().reactive_utilization = 1.0;
        }
        let is_heeded = service.rules.settings.events.cost_usd_hour.is_some();
        let price = service.rules.price_usd_hour.filter(|_| is_heeded);
        let cost_usd_hour = state.target.zip(price).map(|(target, price)| f64::from(target.desired) * price);
        let (others_units, others) = fleet.others(&service.name);
        let around = Around {
            load,
            forecast: forecast.as_deref().ok(),
            carried: f64::from(present.max(1)) * policy.unit_capacity,
            quantile: policy.quantile,
            signals: state.heard.signals(cost_usd_hour),
            actuation: state.actuation.clone(),
            paused: self.state.pauses.of(&service.name).cloned(),
            fleet_change: self.state.changes.at(now, self.settings.fleet_change),
            spent_month_usd: state.spending.spent_month_usd(),
            experiment,
            others_units,
            others,
            granted: fleet.granted(&service.name),
        };
        let fallback = self.fallbacks.of(&service.name);
        let mut circumstances = Circumstances { fallback, ..service.rules.circumstances(&service.name, now, around) };
        if service.nodes.is_some() {
            // Full nodes are no emergency; one of the pods asks for more pods, and those for nodes.
            circumstances.emergency = None;
        }
        if forecast.is_ok() {
            circumstances.lifted = self.lifted.get(&service.name).cloned().unwrap_or_default();
        }
        circumstances.limits = circumstances.limits.map(|limits| fleet.seen(limits));
        // A target that knows how long its units take is not watched.
        let lead = if service.learn_lead_time { state.lead.learnt() } else { None };
        let moment = Moment {
            service: &service.name,
            at: now,
            mode: service.mode,
            settings: &policy,
            load,
            load_window_end,
            window_end: self.state.window_end.max(state.early.map(|early| early.end)),
            signals: state.signals.clone(),
            forecast: forecast.as_deref().map_err(String::as_str),
            decision_interval: self.settings.decision_interval,
            provisioning_latency: lead.map_or(service.provisioning_latency, |lead| lead.p90),
            provisioning_median: lead.map(|lead| lead.median).or(service.provisioning_median),
            warm_up: service.warm_up,
            confident_horizon: service.confident_horizon,
            target: state.target,
            memory: state.memory.clone(),
            circumstances,
        };
        decided(moment.inputs())
    }

    /// Whether a service would be scaled up just now by what was last seen, which does not wait.
    pub(crate) fn has_emergency(&mut self, now: Timestamp) -> bool {
        let services = self.settings.services.clone();
        let fleet = self.fleet(&services, now);
        services.iter().any(|service| urgent(&self.decide_one(service, now, &fleet)))
    }
}

/// The features of a window that the rules of a service look at.
pub(crate) fn signals(service: &ServiceSettings, row: Option<&FeatureRow>) -> BTreeMap<String, f64> {
    let wanted = service.policy.planning.triggers.iter();
    let measured = |name: &String| row?.measures.get(name).copied().flatten();
    wanted.filter_map(|trigger| Some((trigger.signal.clone(), measured(&trigger.signal)?))).collect()
}
