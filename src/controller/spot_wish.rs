//! What those who run on a service's units want of spot. Rule: annotations come before what is configured; what can't be
//! followed is told, and what is configured holds.

use std::collections::BTreeMap;

use prescale_actuate::{Capacity, Target};
use prescale_domain::{Decision, ServiceName, SplitUnit, SpotPreference, SpotSettings, SpotWish};

use crate::Controller;
use crate::nodes::packed;
use crate::settings::ServiceSettings;

impl Controller {
    /// How the wish of a service is split: as configured, as the tags of its target say, and where its units are nodes as the
    /// workloads on them say. Where some of these can't be seen, or refuse spot and can't be counted, what is on-demand stays so.
    pub(crate) fn split_settings(
        &mut self,
        service: &ServiceSettings,
        capacity: &Capacity,
        decision: &Decision,
    ) -> SpotSettings {
        let configured = capacity.settings.plan;
        let wish = self.annotated(&service.name, configured.wish, &capacity.annotations);
        let criticality = configured.criticality * service.rules.criticality;
        let mut settings = SpotSettings { wish, criticality, ..configured };
        let Some(setup) = &service.nodes else { return settings };
        let (pods, mut seen) = (self.pods_of(setup), true);
        let mut wishes = Vec::with_capacity(pods.len());
        for pods in &pods {
            let said = self.targets.get(&pods.name).and_then(Target::spot_annotations);
            seen &= said.is_some();
            wishes.push(self.annotated(&pods.name, SpotWish::default(), &said.unwrap_or_default()));
        }
        settings.wish = of_all(wish, &wishes);
        if !seen || wishes.iter().any(|wish| on_demand_of(wish, u32::MAX) > 0) {
            let nodes = |counts: &[u32]| packed(&pods, counts, setup, self.settings.step, decision.at);
            let of = |counts: Vec<u32>| {
                let refusing = wishes.iter().zip(&counts).map(|(wish, pods)| on_demand_of(wish, *pods));
                floor(decision.desired, nodes(&refusing.collect::<Vec<_>>()), nodes(&counts))
            };
            let counts = self.pods_running(&pods).filter(|_| seen);
            let floor = counts.map_or_else(|| on_demand_now(&capacity.units), of);
            settings.on_demand_floor = settings.on_demand_floor.max(floor);
        }
        settings
    }

    /// A wish with what annotations say in its place.
    fn annotated(&mut self, service: &ServiceName, wish: SpotWish, annotations: &BTreeMap<String, String>) -> SpotWish {
        let read = wish.annotated(annotations);
        let faults = read.as_ref().err().map(|faults| {
            let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
            format!("`{service}`: what its target says of spot is not followed: {}", said.join("; "))
        });
        self.show.degrade(&format!("spot-annotations-{service}"), faults);
        read.unwrap_or(wish)
    }
}

/// What is not known to be spot.
fn on_demand_now(units: &[SplitUnit]) -> u32 {
    units.iter().filter(|unit| unit.is_spot != Some(true)).map(|unit| unit.weight).fold(0, u32::saturating_add)
}

/// Of so many pods, those that want to run on demand.
fn on_demand_of(wish: &SpotWish, pods: u32) -> u32 {
    let share = match wish.preference {
        SpotPreference::Never => 0.0,
        SpotPreference::Prefer | SpotPreference::Require => wish.max_share.unwrap_or(1.0),
    };
    pods - (f64::from(pods) * share.clamp(0.0, 1.0)).floor() as u32
}

/// Of `wanted` nodes, those for pods that refuse spot: as many as these need now, and as large a part as they have now of all
/// that is needed, since what is wanted is for more pods than run.
fn floor(wanted: u32, refusing: u32, all: u32) -> u32 {
    let part = (u64::from(wanted) * u64::from(refusing)).div_ceil(u64::from(all.max(1)));
    u32::try_from(part).unwrap_or(u32::MAX).max(refusing).min(wanted)
}

/// The nodes' own wish beside those of the workloads on them. Who wants no spot has a floor of his own; what all of them say holds
/// for the nodes, and the smallest discount is the one to reckon with.
fn of_all(own: SpotWish, of_pods: &[SpotWish]) -> SpotWish {
    let all_say = |preference| !of_pods.is_empty() && of_pods.iter().all(|wish| wish.preference == preference);
    let preference = match own.preference {
        SpotPreference::Never => SpotPreference::Never,
        _ if all_say(SpotPreference::Never) => SpotPreference::Never,
        _ if all_say(SpotPreference::Require) => SpotPreference::Require,
        own => own,
    };
    let discount = own.discount.or_else(|| of_pods.iter().filter_map(|wish| wish.discount).min_by(f64::total_cmp));
    SpotWish { preference, discount, ..own }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use prescale_actuate::{KubernetesSettings, SplitSettings, TargetSettings};
    use prescale_decide::NodeShape;
    use prescale_domain::{PoolId, Resources, ServiceName, Span, TargetState};
    use prescale_store::MemoryStore;

    use crate::ClockMode;
    use crate::fixture::{Fixed, controller_with, minute, settings};
    use crate::nodes::NodesSetup;

    /// Three on-demand nodes and one of spot.
    fn capacity(annotations: &[(&str, &str)]) -> Capacity {
        let unit = |number: u32| SplitUnit {
            id: format!("i-{number}"),
            pool: PoolId::new("m5.large", "a"),
            is_spot: Some(number == 0),
            weight: 1,
            in_service: true,
        };
        let plan = SpotSettings { on_demand_floor: 1, criticality: 2.0, ..SpotSettings::default() };
        Capacity {
            settings: SplitSettings { types: Vec::new(), commitments: Vec::new(), plan, capacity_rebalance: false },
            zones: Vec::new(),
            units: (0..4).map(unit).collect(),
            prices: Vec::new(),
            refused: false,
            annotations: annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn what_is_on_demand_stays_so_while_workloads_on_it_cannot_be_seen() {
        let mut settings = settings(ClockMode::Wall);
        let mut nodes = settings.services[0].clone();
        let kubernetes = KubernetesSettings::new("Deployment/web".parse().unwrap(), 1, 100);
        settings.services[0].target = TargetSettings::Kubernetes(kubernetes);
        nodes.name = ServiceName::new("nodes");
        let shape = NodeShape {
            allocatable: Resources::default(),
            pods_max: Some(4),
            daemons: Resources::default(),
            daemon_pods: 0,
        };
        nodes.nodes =
            Some(NodesSetup { pods_of: vec![settings.services[0].name.clone()], shape, pod_start: Span::ZERO });
        settings.services.push(nodes.clone());
        let clock = Arc::new(Fixed(minute(10)));
        let mut controller = controller_with(settings, &Arc::new(MemoryStore::default()), clock, None);
        let seen = TargetState { desired: 4, ready: Some(4), min: None, max: None, observed_at: minute(10) };
        controller.state.services.entry(nodes.name.clone()).or_default().target = Some(seen);
        let decision = controller.decide_one(&nodes, minute(10), &crate::contention::Fleet::default());
        let found = controller.split_settings(&nodes, &capacity(&[("prescale.io/spot-max-share", "50%")]), &decision);
        assert_eq!((found.on_demand_floor, found.wish.max_share), (3, Some(0.5)));
        // One whose units are no nodes asks nobody else.
        nodes.nodes = None;
        let found = controller.split_settings(&nodes, &capacity(&[("prescale.io/spot", "maybe")]), &decision);
        assert_eq!((found.on_demand_floor, found.wish), (1, SpotWish::default()));
    }

    fn wish(preference: SpotPreference, max_share: Option<f64>) -> SpotWish {
        SpotWish { preference, max_share, discount: None }
    }

    #[test]
    fn pods_that_refuse_spot_have_their_nodes_on_demand() {
        assert_eq!(on_demand_of(&wish(SpotPreference::Prefer, None), 10), 0);
        assert_eq!(on_demand_of(&wish(SpotPreference::Never, Some(0.9)), 10), 10);
        assert_eq!(on_demand_of(&wish(SpotPreference::Require, Some(0.75)), 10), 3);
        // 3 of the 8 nodes that are needed, and of 16 that are wanted 6; with fewer wanted than run, no fewer than they need.
        assert_eq!([floor(16, 3, 8), floor(9, 3, 8), floor(4, 3, 8), floor(2, 3, 8)], [6, 4, 3, 2]);
        assert_eq!(floor(5, 0, 0), 0);
    }

    #[test]
    fn what_all_workloads_say_holds_for_their_nodes() {
        use SpotPreference::{Never, Prefer, Require};
        let of = |own, pods: &[SpotPreference]| {
            let pods: Vec<SpotWish> = pods.iter().map(|preference| wish(*preference, None)).collect();
            of_all(wish(own, None), &pods).preference
        };
        assert_eq!(of(Prefer, &[Require, Require]), Require);
        assert_eq!(of(Prefer, &[Require, Prefer]), Prefer);
        assert_eq!(of(Prefer, &[Never, Never]), Never);
        assert_eq!(of(Prefer, &[Never, Prefer]), Prefer);
        assert_eq!(of(Never, &[Require]), Never);
        assert_eq!(of(Require, &[]), Require);
        let discounts = [Some(0.6), None, Some(0.5)].map(|discount| SpotWish { discount, ..SpotWish::default() });
        assert_eq!(of_all(SpotWish::default(), &discounts).discount, Some(0.5));
    }
}
