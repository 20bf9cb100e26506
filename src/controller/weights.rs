//! What part of the traffic each pool of a service is to have. Rule: told when it changes; a unit under notice has no part of it.

use std::collections::BTreeMap;

use prescale_decide::{PoolUnits, WeightSettings, weights};
use prescale_domain::{Decision, LoadWeights, PoolId, SplitUnit, Timestamp};

use crate::Controller;
use crate::settings::ServiceSettings;

impl Controller {
    /// The weights of a service's pools, where they have changed; `None` also where its target has no pools.
    pub(crate) fn weigh(&mut self, service: &ServiceSettings, decision: &Decision) -> Option<LoadWeights> {
        let split = decision.split.as_ref()?;
        let capacity = self.targets.get(&service.name)?.capacity()?;
        let state = self.state.services.entry(service.name.clone()).or_default();
        follow(&mut state.ready_since, &capacity.units, decision.at);
        let mut pools: BTreeMap<&PoolId, PoolUnits> = BTreeMap::new();
        for unit in capacity.units.iter().filter(|unit| unit.in_service) {
            let pool = pools.entry(&unit.pool).or_insert_with(|| PoolUnits {
                pool: unit.pool.to_string(),
                capacity_per_unit: f64::from(unit.weight.max(1)),
                ready_since: Vec::new(),
                leaving: 0,
                // The group chooses who goes: all that stays serves until then.
                desired: u32::MAX,
            });
            match state.ready_since.get(&unit.id).filter(|_| !split.leaving.contains(&unit.id)) {
                Some(since) => pool.ready_since.push(*since),
                None => pool.leaving += 1,
            }
        }
        let pools: Vec<PoolUnits> = pools.into_values().collect();
        let settings = WeightSettings { warm_up: service.warm_up, ..WeightSettings::default() };
        let weights = weights(&pools, decision.at, &state.weights, &settings);
        if weights == state.weights {
            return None;
        }
        state.weights.clone_from(&weights);
        Some(LoadWeights { service: service.name.clone(), at: decision.at, decision: decision.id.clone(), weights })
    }
}

/// Since when units serve, as far as it was seen; of those that are gone nothing is kept.
fn follow(ready_since: &mut BTreeMap<String, Timestamp>, units: &[SplitUnit], now: Timestamp) {
    ready_since.retain(|id, _| units.iter().any(|unit| unit.in_service && unit.id == *id));
    for unit in units.iter().filter(|unit| unit.in_service) {
        ready_since.entry(unit.id.clone()).or_insert(now);
    }
}
