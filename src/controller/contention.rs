//! What all services want together, against what the fleet may have. Rule: each first says what it would have if it were
//! alone; where that is too much, all are granted their parts at once, so that two never take the same last unit.

use std::collections::BTreeMap;

use prescale_decide::{allocate, urgent};
use prescale_domain::{Claim, Grant, Limits, Mode, ResourceLimits, Resources, ServiceName, Timestamp};

use crate::Controller;
use crate::settings::ServiceSettings;

/// The rest of the fleet, as the decision for one service sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet {
    /// Units of each service, as its target was last seen, and what one takes.
    taken: BTreeMap<ServiceName, (u32, Resources)>,
    grants: BTreeMap<ServiceName, Grant>,
    /// As if there were no other services, and no limits of the fleet.
    alone: bool,
}

impl Fleet {
    /// Units of all services but this one, and what those take.
    pub(crate) fn others(&self, service: &ServiceName) -> (u32, Resources) {
        let others = self.taken.iter().filter(|(name, _)| *name != service).map(|(_, (units, unit))| (*units, unit));
        let units = others.clone().fold(0, |sum: u32, (units, _)| sum.saturating_add(units));
        (units, together(others))
    }

    pub(crate) fn granted(&self, service: &ServiceName) -> Option<Grant> {
        self.grants.get(service).copied()
    }

    /// What of the fleet's limits a decision looks at.
    pub(crate) fn seen(&self, limits: Limits) -> Limits {
        if self.alone { Limits { fleet: ResourceLimits::default(), ..limits } } else { limits }
    }
}

/// What so many units of each kind take; what is not known takes nothing.
fn together<'a>(all: impl Iterator<Item = (u32, &'a Resources)>) -> Resources {
    let add = |sum: Option<f64>, units: u32, amount: Option<f64>| {
        amount.map_or(sum, |amount| Some(sum.unwrap_or(0.0) + f64::from(units) * amount))
    };
    all.fold(Resources::default(), |sum, (units, unit)| Resources {
        memory_mb: add(sum.memory_mb, units, unit.memory_mb),
        cpu_cores: add(sum.cpu_cores, units, unit.cpu_cores),
        network_mbps: add(sum.network_mbps, units, unit.network_mbps),
        storage_gb: add(sum.storage_gb, units, unit.storage_gb),
        addresses: Some(sum.addresses.unwrap_or(0).saturating_add(units.saturating_mul(unit.addresses.unwrap_or(1)))),
    })
}

impl Controller {
    /// The fleet at this moment, for the decisions of all `services`.
    pub(crate) fn fleet(&mut self, services: &[ServiceSettings], now: Timestamp) -> Fleet {
        let mut fleet = Fleet::default();
        for service in &self.settings.services {
            let Some(target) = self.state.services.get(&service.name).and_then(|state| state.target) else { continue };
            fleet.taken.insert(service.name.clone(), (target.desired, service.rules.unit));
        }
        let limits = services.first().map(|service| service.rules.fleet).unwrap_or_default();
        if services.len() > 1 && limits != ResourceLimits::default() {
            fleet.grants = self.grants(services, &limits, now);
        }
        fleet
    }

    /// The part of each service, where there is not enough for all.
    fn grants(
        &mut self,
        services: &[ServiceSettings],
        limits: &ResourceLimits,
        now: Timestamp,
    ) -> BTreeMap<ServiceName, Grant> {
        let alone = Fleet { alone: true, ..Fleet::default() };
        let (mut claims, mut is_urgent) = (Vec::with_capacity(services.len()), false);
        for service in services {
            let decision = self.decide_one(service, now, &alone);
            is_urgent |= urgent(&decision);
            let present = decision.inputs.target.map(|target| target.desired);
            // Who is only looked at keeps what he has.
            let kept = present.filter(|_| service.mode == Mode::Observe);
            let settings = &decision.inputs.settings;
            let floor = decision.inputs.target.and_then(|target| target.min).unwrap_or(0).max(settings.min_units);
            claims.push(Claim {
                service: service.name.clone(),
                wish: kept.unwrap_or(decision.desired),
                floor: kept.unwrap_or(floor),
                criticality: service.rules.criticality,
                unit: service.rules.unit,
            });
        }
        let reserve = if is_urgent { 0.0 } else { Limits::default().reserve };
        let granted = allocate(&claims, limits, reserve);
        let part = |claim: &Claim| Grant {
            units: granted.get(&claim.service).copied().unwrap_or(claim.wish),
            wish: claim.wish,
            criticality: claim.criticality,
        };
        let parts: Vec<Grant> = claims.iter().map(part).collect();
        if parts.iter().all(|part| part.units >= part.wish) {
            return BTreeMap::new();
        }
        claims.into_iter().map(|claim| claim.service).zip(parts).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prescale_domain::{ResourceLimits, TargetState};
    use prescale_store::MemoryStore;

    use super::*;
    use crate::ClockMode;
    use crate::fixture::{Fixed, controller_with, minute, settings};

    fn batch() -> ServiceName {
        ServiceName::new("batch")
    }

    /// Two services of the same load, one of three times the weight; what each is to have after `rounds` in which every
    /// wish comes true.
    fn shared(limits: ResourceLimits, present: [u32; 2], rounds: usize) -> Vec<[(u32, Option<Grant>); 2]> {
        let mut settings = settings(ClockMode::Wall);
        let mut other = settings.services[0].clone();
        other.name = batch();
        settings.services[0].rules.criticality = 3.0;
        settings.services.push(other);
        for service in &mut settings.services {
            service.rules.fleet = limits;
            service.rules.unit = Resources { memory_mb: Some(1000.0), ..Resources::default() };
        }
        let services = settings.services.clone();
        let store = Arc::new(MemoryStore::default());
        let mut controller = controller_with(settings, &store, Arc::new(Fixed(minute(10))), None);
        for (service, desired) in services.iter().zip(present) {
            let state = controller.state.services.entry(service.name.clone()).or_default();
            // 56 at 7 a unit (reactive utilization): 8 units.
            (state.load, state.load_window_end) = (Some(56.0), Some(minute(10)));
            let seen =
                TargetState { desired, ready: Some(desired), min: Some(1), max: Some(40), observed_at: minute(10) };
            state.target = Some(seen);
        }
        let mut told = Vec::new();
        for _ in 0..rounds {
            let fleet = controller.fleet(&services, minute(10));
            let round = [0, 1].map(|at| {
                let decision = controller.decide_one(&services[at], minute(10), &fleet);
                (decision.desired, decision.inputs.circumstances.limits.unwrap().granted)
            });
            for (service, (desired, _)) in services.iter().zip(round) {
                let state = controller.state.services.get_mut(&service.name).unwrap();
                state.target = state.target.map(|target| TargetState { desired, ready: Some(desired), ..target });
            }
            told.push(round);
        }
        told
    }

    fn units(told: &[[(u32, Option<Grant>); 2]]) -> Vec<[u32; 2]> {
        told.iter().map(|round| round.map(|(units, _)| units)).collect()
    }

    #[test]
    fn what_is_not_enough_goes_to_the_more_critical_as_soon_as_the_other_gives_it_up() {
        let limits = ResourceLimits { units: Some(10), ..ResourceLimits::default() };
        let told = shared(limits, [2, 8], 3);
        let parts: Vec<u32> = told[0].iter().map(|(_, grant)| grant.unwrap().units).collect();
        // Both are short of what they carry, so that the reserve counts: three to one of ten, in whole units.
        assert_eq!(parts, [8, 2]);
        assert_eq!(units(&told), [[2, 2], [8, 2], [8, 2]]);
        assert!(told[0].iter().all(|(_, grant)| grant.unwrap().wish == 8));
    }

    #[test]
    fn where_there_is_enough_nobody_is_granted_anything() {
        let limits = ResourceLimits { units: Some(40), ..ResourceLimits::default() };
        let told = shared(limits, [8, 8], 1);
        assert_eq!(told, [[(8, None), (8, None)]]);
    }

    #[test]
    fn the_last_unit_is_taken_once_and_memory_counts_as_well() {
        // Room for eleven, and both would have eight.
        let limits = ResourceLimits { memory_mb: Some(11_000.0), ..ResourceLimits::default() };
        // With seven it is no emergency any more, and the last unit stays for one.
        for (present, ends) in [([4, 4], [7, 3]), ([5, 5], [8, 3]), ([1, 1], [8, 3]), ([8, 1], [8, 3])] {
            let told = shared(limits, present, 4);
            for round in units(&told) {
                assert!(round.iter().sum::<u32>() <= 11, "{present:?}: {:?}", units(&told));
            }
            assert_eq!(units(&told)[3], ends, "{present:?}: {:?}", units(&told));
        }
    }
}
