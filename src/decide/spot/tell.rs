//! A plan as it is told: its cost, what was binding, and the same as settings of AWS.

use prescale_domain::{
    AwsMix, Binding, PoolShare, Rejected, RejectedBecause, SpotCost, SpotInputs, SpotMemory, SpotPlan,
};

use super::plan::{Bench, Split};
use super::spread::{Usable, hours, losses_usd_hour};

/// Alternatives that are told.
const REJECTED_MAX: usize = 6;

impl Bench<'_> {
    pub(super) fn explain(&self, chosen: &Split, rejected: &[Rejected], binding: &mut Vec<Binding>) {
        let cheaper =
            rejected.iter().find(|each| each.because == RejectedBecause::Risk && each.usd_hour < chosen.usd_hour);
        binding.extend(cheaper.map(|each| Binding::Risk { short: each.short, allowed: self.allowed }));
        if chosen.spread.concentrated {
            binding.push(Binding::Concentrated);
        }
        let wanted = self.inputs.settings.types_wanted;
        let types = types(self.inputs).len() as u32;
        if !self.pools.is_empty() && types < wanted {
            binding.push(Binding::FewTypes { types, wanted });
        }
    }

    pub(super) fn told(
        &self,
        chosen: Split,
        memory: SpotMemory,
        binding: Vec<Binding>,
        mut rejected: Vec<Rejected>,
    ) -> SpotPlan {
        rejected.truncate(REJECTED_MAX);
        let mut spot = Vec::new();
        for (pool, instances) in self.pools.iter().zip(&chosen.spread.instances).filter(|(_, n)| **n > 0) {
            let units = instances.saturating_mul(pool.offer.weight);
            spot.push(PoolShare { pool: pool.offer.pool.clone(), instances: *instances, units });
        }
        let total = chosen.on_demand.saturating_add(chosen.spread.units);
        SpotPlan {
            on_demand: chosen.on_demand,
            committed: self.committed,
            spare: total.saturating_sub(self.wanted),
            short: chosen.short,
            allowed: self.allowed,
            cost: self.cost(&chosen),
            all_on_demand_usd_hour: self.committed_usd_hour()
                + f64::from(self.wanted - self.committed) * self.unit_usd_hour,
            aws: self.aws(&chosen, total),
            spot,
            binding,
            rejected,
            memory,
        }
    }

    fn committed_usd_hour(&self) -> f64 {
        self.inputs
            .commitments
            .iter()
            .map(|each| each.usd_hour)
            .filter(|usd| usd.is_finite())
            .fold(0.0, |sum, usd| sum + usd)
    }

    fn cost(&self, chosen: &Split) -> SpotCost {
        let (inputs, settings) = (self.inputs, &self.inputs.settings);
        let paid = chosen.on_demand.saturating_sub(self.committed);
        let started = chosen.on_demand.saturating_sub(inputs.on_demand_running.max(self.committed));
        let (start, least) = (hours(inputs.replacement), hours(settings.minimum_billing));
        let overhead = settings.overhead_usd_hour.max(0.0);
        let mut cost = SpotCost {
            committed_usd_hour: self.committed_usd_hour(),
            // The price of a unit holds its share of the overhead.
            on_demand_usd_hour: f64::from(paid) * self.unit_usd_hour,
            start_up_usd: f64::from(started) * self.unit_usd_hour * start,
            minimum_billing_usd: f64::from(started) * self.unit_usd_hour * least,
            ..SpotCost::default()
        };
        for (pool, instances) in self.pools.iter().zip(&chosen.spread.instances) {
            let count = f64::from(*instances);
            let launched = f64::from(instances.saturating_sub(pool.offer.running));
            cost.spot_usd_hour += count * pool.spot_usd_hour;
            cost.overhead_usd_hour += count * overhead;
            cost.interruptions_usd_hour +=
                count * losses_usd_hour(&pool.offer.belief, pool.offer.on_demand_usd_hour, inputs);
            cost.start_up_usd += launched * pool.spot_usd_hour * start;
            cost.minimum_billing_usd += launched * pool.spot_usd_hour * least;
        }
        cost
    }

    /// Types of the pools that are used and usable first, then all others: the more a group may choose from, the better.
    fn aws(&self, chosen: &Split, total: u32) -> AwsMix {
        let mut order: Vec<(usize, &Usable)> = self.pools.iter().enumerate().collect();
        order.sort_by(|(a, one), (b, other)| {
            let by_use = chosen.spread.instances[*b].cmp(&chosen.spread.instances[*a]);
            by_use.then(one.unit_usd_hour.total_cmp(&other.unit_usd_hour)).then(a.cmp(b))
        });
        let mut instance_types: Vec<(String, u32)> = Vec::new();
        let used = order.iter().map(|(_, pool)| pool.offer);
        for offer in used.chain(self.inputs.pools.iter()) {
            if instance_types.iter().all(|(known, _)| *known != offer.pool.instance_type) {
                instance_types.push((offer.pool.instance_type.clone(), offer.weight));
            }
        }
        let mut zones: Vec<String> = self.inputs.pools.iter().map(|offer| offer.pool.zone.clone()).collect();
        zones.sort();
        zones.dedup();
        let spot = chosen.spread.units > 0;
        AwsMix {
            desired_capacity: total,
            on_demand_base_capacity: chosen.on_demand,
            on_demand_percentage_above_base: if spot { 0 } else { 100 },
            instance_types,
            zones,
            spot_allocation_strategy: "price-capacity-optimized".to_owned(),
            capacity_rebalance: spot,
        }
    }
}

fn types(inputs: &SpotInputs) -> std::collections::BTreeSet<&str> {
    inputs.pools.iter().map(|offer| offer.pool.instance_type.as_str()).collect()
}
