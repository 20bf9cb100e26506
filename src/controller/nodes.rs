//! Nodes under pods. Rule: one plan for both: what the pods of other services are going to be, packed onto nodes, is the load of
//! the service that is the nodes, and everything after that is as for any other service.

use std::sync::Arc;

use prescale_decide::{NodeSettings, NodeShape, PodDemand, nodes};
use prescale_domain::{QuantileForecast, ServiceName, Span, Timestamp};

use crate::Controller;
use crate::settings::ServiceSettings;

/// A service that is the nodes under others.
#[derive(Clone, Debug, PartialEq)]
pub struct NodesSetup {
    /// Services whose units are pods on these nodes.
    pub pods_of: Vec<ServiceName>,
    pub shape: NodeShape,
    /// From a pod's being bound to a node until it serves: nodes are there so much earlier.
    pub pod_start: Span,
}

impl Controller {
    /// The settings of services whose units are pods.
    pub(crate) fn pods_of(&self, setup: &NodesSetup) -> Vec<ServiceSettings> {
        let named = |service: &&ServiceSettings| setup.pods_of.contains(&service.name);
        self.settings.services.iter().filter(named).cloned().collect()
    }

    /// Nodes that the pods of this moment need; `None` = the service is no nodes, or some of the pods can't be seen.
    pub(crate) fn load_of_pods(&self, service: &ServiceSettings, now: Timestamp) -> Option<f64> {
        let setup = service.nodes.as_ref()?;
        let services = self.pods_of(setup);
        let counts = self.pods_running(&services)?;
        Some(f64::from(packed(&services, &counts, setup, self.settings.step, now)))
    }

    /// Pods of each service, where all can be seen.
    pub(crate) fn pods_running(&self, services: &[ServiceSettings]) -> Option<Vec<u32>> {
        let of = |pods: &ServiceSettings| {
            let target = self.state.services.get(&pods.name)?.target?;
            // A pod that runs needs its node, and one that is asked for will.
            Some(target.desired.max(target.ready.unwrap_or(0)))
        };
        services.iter().map(of).collect()
    }

    /// What the forecasts of the pods' services mean in nodes, quantile by quantile: the services' quantiles are taken to come
    /// together, which errs on the side of more nodes.
    pub(crate) fn forecast_of_pods(
        &mut self,
        service: &ServiceName,
        setup: &NodesSetup,
        now: Timestamp,
    ) -> Result<QuantileForecast, String> {
        let (services, step) = (self.pods_of(setup), self.settings.step);
        let mut made: Vec<Arc<QuantileForecast>> = Vec::with_capacity(services.len());
        for pods in &services {
            made.push(self.forecast(&pods.name, now)?);
        }
        let Some(first) = made.first() else { return Err("no-history".to_owned()) };
        let (origin, levels) = (first.origin, first.levels.clone());
        if made.iter().any(|forecast| forecast.levels != levels || forecast.step != step) {
            return Err("pods-differ".to_owned());
        }
        let windows = made.iter().map(|forecast| forecast.values.len()).min().unwrap_or(0);
        let pods = |number: usize, window: usize, level: usize| -> u32 {
            // One whose last window is another is asked for the same moment.
            let at = origin + Span::from_millis(step.millis().saturating_mul(window as i64 + 1));
            let load = made[number].at(at, levels[level]).unwrap_or(0.0);
            let policy = &services[number].policy;
            // Saturates; what is no number becomes 0.
            let units = (load / policy.unit_capacity).ceil() as u32;
            units.max(policy.min_units).min(policy.max_units)
        };
        let mut values: Vec<Vec<f64>> = (0..windows)
            .map(|window| {
                let mut most = 0;
                let of = |level: usize| {
                    let counts: Vec<u32> = (0..services.len()).map(|number| pods(number, window, level)).collect();
                    // First fit may take a node less for a pod more.
                    most = packed(&services, &counts, setup, step, now).max(most);
                    f64::from(most)
                };
                (0..levels.len()).map(of).collect()
            })
            .collect();
        // Pods that serve in a window are on their nodes before it.
        let ahead = setup.pod_start.steps_up(step);
        for window in 0..values.len() {
            for later in window + 1..(window + 1 + ahead).min(windows) {
                let (before, after) = values.split_at_mut(later);
                for (value, next) in before[window].iter_mut().zip(&after[0]) {
                    *value = value.max(*next);
                }
            }
        }
        let names: Vec<&str> = services.iter().map(|pods| pods.name.as_str()).collect();
        let reason = format!("pods of {}", names.join(", "));
        Ok(QuantileForecast {
            service: service.clone(),
            origin,
            step,
            model: "pods".to_owned(),
            reason,
            levels,
            values,
        })
    }
}

/// Nodes that so many pods of each service need.
pub(crate) fn packed(
    services: &[ServiceSettings],
    counts: &[u32],
    setup: &NodesSetup,
    step: Span,
    now: Timestamp,
) -> u32 {
    let demand = |(service, count): (&ServiceSettings, &u32)| PodDemand {
        service: service.name.clone(),
        pod: service.rules.unit,
        running: *count,
        wanted: Vec::new(),
    };
    let demands: Vec<PodDemand> = services.iter().zip(counts).map(demand).collect();
    let at_once = NodeSettings { step, node_lead: Span::ZERO, pod_start: Span::ZERO, every: Span::ZERO, spare: 0 };
    nodes(&demands, &setup.shape, now, &at_once).nodes
}

#[cfg(test)]
mod tests {
    use prescale_domain::{Resources, TargetState};
    use prescale_store::MemoryStore;

    use super::*;
    use crate::ClockMode;
    use crate::fixture::{DAY, Fixed, controller_with, history, minute, settings, web};

    fn cores(cores: f64) -> Resources {
        Resources { cpu_cores: Some(cores), ..Resources::default() }
    }

    /// `web` and `batch` as pods of one and two cores on nodes of four.
    fn with_nodes(pods_of: &[&str], pod_start: Span, history_days: i64) -> (Controller, ServiceSettings) {
        let mut settings = settings(ClockMode::Wall);
        let [mut batch, mut nodes] = [settings.services[0].clone(), settings.services[0].clone()];
        settings.services[0].rules.unit = cores(1.0);
        (batch.name, batch.rules.unit) = (ServiceName::new("batch"), cores(2.0));
        nodes.name = ServiceName::new("nodes");
        nodes.policy.unit_capacity = 1.0;
        nodes.nodes = Some(NodesSetup {
            pods_of: pods_of.iter().map(|name| ServiceName::new(name)).collect(),
            shape: NodeShape { allocatable: cores(4.5), pods_max: Some(110), daemons: cores(0.5), daemon_pods: 3 },
            pod_start,
        });
        settings.services.extend([batch, nodes.clone()]);
        let store = Arc::new(MemoryStore::default());
        let back_fill = (history_days > 0).then(|| history(0, history_days * DAY));
        let clock = Arc::new(Fixed(minute(history_days * DAY + 1)));
        (controller_with(settings, &store, clock, back_fill), nodes)
    }

    fn runs(controller: &mut Controller, service: &str, desired: u32, ready: u32) {
        let seen = TargetState { desired, ready: Some(ready), min: Some(1), max: Some(400), observed_at: minute(0) };
        controller.state.services.entry(ServiceName::new(service)).or_default().target = Some(seen);
    }

    #[test]
    fn the_pods_of_all_services_share_the_nodes() {
        let (mut controller, nodes) = with_nodes(&["web", "batch"], Span::ZERO, 0);
        runs(&mut controller, "web", 9, 7);
        assert_eq!(controller.load_of_pods(&nodes, minute(1)), None, "what one of them has is not known");
        // 9 + 2 * 3 = 15 cores on nodes with 4: what runs and is to go counts until it is gone.
        runs(&mut controller, "batch", 2, 3);
        assert_eq!(controller.load_of_pods(&nodes, minute(1)), Some(4.0));
        controller.state.window_end = Some(minute(1));
        runs(&mut controller, "nodes", 2, 2);
        let decision = controller.decide_one(&nodes, minute(1), &crate::contention::Fleet::default());
        assert_eq!((decision.inputs.load, decision.desired), (Some(4.0), 4), "{decision:?}");
    }

    #[test]
    fn nodes_are_forecast_from_the_pods_forecasts_and_are_there_before_them() {
        let quantiles = |pod_start| {
            let (mut controller, nodes) = with_nodes(&["web"], pod_start, 2);
            let now = minute(2 * DAY + 1);
            let of_pods = controller.forecast(&web(), now).unwrap();
            (of_pods, controller.forecast(&nodes.name, now).unwrap())
        };
        let (pods, nodes) = quantiles(Span::ZERO);
        assert_eq!((nodes.model.as_str(), nodes.reason.as_str()), ("pods", "pods of web"));
        assert_eq!((nodes.origin, &nodes.levels), (pods.origin, &pods.levels));
        nodes.validate().unwrap();
        let expected = |load: f64| ((load / 10.0).ceil().max(1.0) / 4.0).ceil();
        for (pods, nodes) in pods.values.iter().zip(&nodes.values) {
            assert_eq!(*nodes, pods.iter().map(|load| expected(*load)).collect::<Vec<_>>());
        }
        let (_, earlier) = quantiles(Span::from_minutes(3));
        let top = nodes.levels.len() - 1;
        for window in 0..nodes.values.len() {
            let until = (window + 4).min(nodes.values.len());
            let most = nodes.values[window..until].iter().map(|values| values[top]).fold(0.0, f64::max);
            assert_eq!(earlier.values[window][top].to_bits(), most.to_bits(), "window {window}");
        }
    }
}
