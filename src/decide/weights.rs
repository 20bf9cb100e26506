//! The weight of each pool of a service at its load balancer, for the sizes that the pools are about to have. Rule: whole
//! numbers with a fixed sum; a pool that serves has at least 1, one that does not or is all leaving has 0, and small changes
//! are not made.
//!
//! The numbers are taken as they are by the weighted target groups of an AWS listener rule (`TargetGroups[].Weight`, 0 to
//! 999), by Envoy's `weighted_clusters.clusters[].weight`, and by the `backendRefs[].weight` of a Gateway API route (0 to
//! 1 000 000; 0 = no new requests).

use prescale_domain::{PoolWeight, Span, Timestamp};

/// What weights are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightSettings {
    /// Sum of all weights. With more pools than that, each that serves has 1.
    pub total: u32,
    /// Changes of no more than so much, in parts of the total, are not made.
    pub hysteresis: u32,
    /// After so long a unit serves what it can; until then its part grows evenly (slow start of AWS target groups, and of
    /// Envoy with `aggression` 1).
    pub warm_up: Span,
    /// What a unit that has just become ready serves, of what it can: Envoy's `min_weight_percent`.
    pub least_warm: f64,
}

impl Default for WeightSettings {
    fn default() -> Self {
        Self { total: 100, hysteresis: 2, warm_up: Span::from_minutes(2), least_warm: 0.1 }
    }
}

/// The units of a pool, as a load balancer sees them.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolUnits {
    pub pool: String,
    /// What a warm unit carries, compared with those of the other pools.
    pub capacity_per_unit: f64,
    /// When each unit that is ready and stays became so.
    pub ready_since: Vec<Timestamp>,
    /// Units that still serve but drain, or have had notice.
    pub leaving: u32,
    /// Units that the pool is to have: what stays beyond that will leave.
    pub desired: u32,
}

impl PoolUnits {
    /// Units that will be served from, and what they carry at `now`: the warmest stay.
    fn serving(&self, now: Timestamp, settings: &WeightSettings) -> (usize, f64) {
        let least = if settings.least_warm.is_finite() { settings.least_warm.clamp(0.01, 1.0) } else { 1.0 };
        let warm = |since: &Timestamp| match settings.warm_up.millis() {
            span if span > 0 => (now.since(*since).millis() as f64 / span as f64).clamp(least, 1.0),
            _ => 1.0,
        };
        let mut warm: Vec<f64> = self.ready_since.iter().map(warm).collect();
        warm.sort_by(|a, b| b.total_cmp(a));
        warm.truncate(self.desired as usize);
        (warm.len(), self.capacity() * warm.iter().sum::<f64>())
    }

    fn capacity(&self) -> f64 {
        if self.capacity_per_unit.is_finite() { self.capacity_per_unit.max(0.0) } else { 0.0 }
    }

    /// All that are still there: where every pool leaves, somebody has to serve until it is gone.
    fn remaining(&self) -> (usize, f64) {
        let units = self.ready_since.len() + self.leaving as usize;
        (units, self.capacity() * units as f64)
    }
}

/// Weights in the order of the pools. All are 0 where no unit is there at all. `before` are those in force: they stay where the
/// same pools serve and none would change by more than the hysteresis.
pub fn weights(
    pools: &[PoolUnits],
    now: Timestamp,
    before: &[PoolWeight],
    settings: &WeightSettings,
) -> Vec<PoolWeight> {
    let mut serving: Vec<(usize, f64)> = pools.iter().map(|pool| pool.serving(now, settings)).collect();
    if serving.iter().all(|(units, _)| *units == 0) {
        serving = pools.iter().map(PoolUnits::remaining).collect();
    }
    // Where no capacity is known, units count.
    if serving.iter().all(|(_, carries)| *carries <= 0.0) {
        serving.iter_mut().for_each(|(units, carries)| *carries = *units as f64);
    }
    let carries: Vec<Option<f64>> = serving.iter().map(|(units, carries)| (*units > 0).then_some(*carries)).collect();
    let weights = apportioned(&carries, settings.total);
    let named = pools.iter().zip(weights).map(|(pool, weight)| PoolWeight { pool: pool.pool.clone(), weight });
    let wanted: Vec<PoolWeight> = named.collect();
    let small = |(new, old): (&PoolWeight, &PoolWeight)| {
        new.pool == old.pool
            && (new.weight == 0) == (old.weight == 0)
            && new.weight.abs_diff(old.weight) <= settings.hysteresis
    };
    let sum = |weights: &[PoolWeight]| weights.iter().map(|pool| u64::from(pool.weight)).sum::<u64>();
    // Weights of another total are not to stay.
    let same = wanted.len() == before.len() && sum(&wanted) == sum(before);
    if same && wanted.iter().zip(before).all(small) { before.to_vec() } else { wanted }
}

/// Seats by largest remainders (Hamilton's method), at least one for each that is there. A pool that alone carries more never
/// loses a seat by it.
fn apportioned(carries: &[Option<f64>], total: u32) -> Vec<u32> {
    let there: Vec<usize> = (0..carries.len()).filter(|at| carries[*at].is_some()).collect();
    let of = |at: usize| carries[at].unwrap_or(0.0);
    let mut weights = vec![0; carries.len()];
    there.iter().for_each(|at| weights[*at] = 1);
    // Those with less than a seat have one; the others share the rest, of which some may then have less than one.
    let mut sharing = there;
    let mut seats = f64::from(total);
    let shares = loop {
        let all: f64 = sharing.iter().map(|at| of(*at)).sum();
        let share = |at: usize| seats * of(at) / all;
        let (enough, less): (Vec<usize>, Vec<usize>) = sharing.iter().partition(|at| share(**at) >= 1.0);
        if less.is_empty() || enough.is_empty() {
            break sharing.iter().map(|at| (*at, share(*at))).collect::<Vec<_>>();
        }
        seats -= less.len() as f64;
        sharing = enough;
    };
    if shares.iter().any(|(_, share)| share.is_nan() || *share < 1.0) {
        return weights;
    }
    for (at, share) in &shares {
        weights[*at] = share.floor() as u32;
    }
    let missing = total.saturating_sub(weights.iter().sum());
    let mut order = shares;
    order.sort_by(|a, b| b.1.fract().total_cmp(&a.1.fract()).then(a.0.cmp(&b.0)));
    order.iter().take(missing as usize).for_each(|(at, _)| weights[*at] += 1);
    weights
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_774_000_800_000);

    fn pool(name: &str, capacity_per_unit: f64, warm: usize, new: &[i64], desired: u32) -> PoolUnits {
        let long_ago = NOW - Span::from_minutes(600);
        let new = new.iter().map(|seconds| NOW - Span::from_secs(*seconds));
        PoolUnits {
            pool: name.to_owned(),
            capacity_per_unit,
            ready_since: std::iter::repeat_n(long_ago, warm).chain(new).collect(),
            leaving: 0,
            desired,
        }
    }

    #[track_caller]
    fn check(pools: &[PoolUnits], before: &[u32], wanted: &[u32]) {
        let named = |weights: &[u32]| -> Vec<PoolWeight> {
            let pools = pools.iter().zip(weights);
            pools.map(|(pool, weight)| PoolWeight { pool: pool.pool.clone(), weight: *weight }).collect()
        };
        assert_eq!(weights(pools, NOW, &named(before), &WeightSettings::default()), named(wanted));
    }

    #[test]
    fn traffic_goes_where_it_can_be_carried() {
        // By capacity, and with the rest of the division to the largest remainder.
        check(&[pool("a", 100.0, 2, &[], 2), pool("b", 50.0, 2, &[], 2)], &[], &[67, 33]);
        // What is new carries little, half a minute later a quarter, after two minutes all.
        check(&[pool("a", 1.0, 9, &[], 9), pool("b", 1.0, 0, &[0], 1)], &[], &[99, 1]);
        check(&[pool("a", 1.0, 3, &[], 3), pool("b", 1.0, 0, &[30, 60], 2)], &[], &[80, 20]);
        check(&[pool("a", 1.0, 3, &[], 3), pool("b", 1.0, 0, &[120], 1)], &[], &[75, 25]);
        // What is to leave is left out before it goes; what is not there yet has nothing.
        check(&[pool("a", 1.0, 4, &[], 1), pool("b", 1.0, 1, &[], 8)], &[], &[50, 50]);
        check(&[pool("a", 1.0, 4, &[], 0), pool("b", 1.0, 1, &[], 1)], &[], &[0, 100]);
        check(&[pool("a", 1.0, 4, &[], 4), pool("b", 1.0, 0, &[], 5)], &[], &[100, 0]);
        // A pool that serves has some, however small it is beside the others.
        check(&[pool("a", 1.0, 4000, &[], 4000), pool("b", 1.0, 1, &[], 1)], &[], &[99, 1]);
        // All of both leave: until then they serve. With nobody there, nobody does.
        let leaving = |name, leaving| PoolUnits { leaving, ..pool(name, 1.0, 0, &[], 0) };
        check(&[leaving("a", 3), leaving("b", 1)], &[], &[75, 25]);
        check(&[leaving("a", 0), leaving("b", 0)], &[], &[0, 0]);
        check(&[], &[], &[]);
        // Unknown capacities count units.
        check(&[pool("a", f64::NAN, 3, &[], 3), pool("b", 0.0, 1, &[], 1)], &[], &[75, 25]);
    }

    #[test]
    fn small_changes_are_not_made() {
        let pools = [pool("a", 1.0, 51, &[], 51), pool("b", 1.0, 49, &[], 49)];
        check(&pools, &[49, 51], &[49, 51]);
        check(&pools, &[48, 52], &[51, 49]);
        // One that no longer serves loses even little at once; a new total is taken at once.
        check(&[pool("a", 1.0, 99, &[], 99), pool("b", 1.0, 1, &[], 0)], &[99, 1], &[100, 0]);
        check(&pools, &[50, 51], &[51, 49]);
    }

    prop_compose! {
        fn some_pools()(
            pools in prop::collection::vec((0.0f64..10.0, 0usize..20, prop::collection::vec(0i64..200, 0..6), 0u32..5, 0u32..30), 1..8),
        ) -> Vec<PoolUnits> {
            let made = pools.into_iter().enumerate().map(|(number, (capacity, warm, new, leaving, desired))| {
                PoolUnits { leaving, ..pool(&format!("pool-{number}"), capacity, warm, &new, desired) }
            });
            made.collect()
        }
    }

    proptest! {
        #[test]
        fn weights_are_a_whole_and_stay(pools in some_pools(), total in 20u32..1000) {
            let settings = WeightSettings { total, ..WeightSettings::default() };
            let found = weights(&pools, NOW, &[], &settings);
            let there = pools.iter().any(|pool| !pool.ready_since.is_empty() || pool.leaving > 0);
            prop_assert_eq!(found.iter().map(|pool| pool.weight).sum::<u32>(), if there { total } else { 0 });
            let stay = pools.iter().any(|pool| !pool.ready_since.is_empty() && pool.desired > 0);
            for (pool, weight) in pools.iter().zip(&found) {
                let serves = !pool.ready_since.is_empty() && pool.desired > 0;
                prop_assert!(!stay || serves == (weight.weight > 0), "{:?} has {:?}", pool, weight);
            }
            // Said again, nothing changes.
            prop_assert_eq!(weights(&pools, NOW, &found, &settings), found);
        }

        #[test]
        fn a_unit_more_never_means_less(pools in some_pools(), at in any::<prop::sample::Index>()) {
            let settings = WeightSettings::default();
            let at = at.index(pools.len());
            let before = weights(&pools, NOW, &[], &settings);
            let mut more = pools.clone();
            more[at].ready_since.push(NOW - Span::from_minutes(600));
            more[at].desired += 1;
            let after = weights(&more, NOW, &[], &settings);
            let serves = pools.iter().any(|pool| !pool.ready_since.is_empty() && pool.desired > 0);
            let known = pools.iter().all(|pool| pool.capacity_per_unit > 0.0);
            prop_assert!(!serves || !known || after[at].weight >= before[at].weight);
        }

        /// Loads that go to and fro within the hysteresis move no weight more than once.
        #[test]
        fn weights_do_not_flap(sizes in prop::collection::vec(100usize..103, 2..40)) {
            let settings = WeightSettings::default();
            let (mut now, mut changes) = (Vec::new(), 0);
            for size in sizes {
                let pools = [pool("a", 1.0, size, &[], 200), pool("b", 1.0, 100, &[], 200)];
                let next = weights(&pools, NOW, &now, &settings);
                changes += usize::from(!now.is_empty() && next != now);
                now = next;
            }
            prop_assert_eq!(changes, 0);
        }
    }
}
