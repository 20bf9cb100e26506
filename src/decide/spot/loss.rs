//! How many units may be missing at a time. Rule: a probability over the units that a plan would run, in which pools of a
//! zone or a type are struck together.
//!
//! A unit that is lost is missing from its loss until its replacement serves. So what is missing at a moment is what was
//! lost within that time before it, and the probability that it is more than is spare is the share of time that is short.
//! Pools are struck by shocks of their own, and by shocks that they share with the zone, with the type or with all
//! (Marshall and Olkin 1967); of the shared ones, which are rare, at most one at a time is reckoned with.

use prescale_domain::{Kinship, PoolBelief, PoolId};

/// Beyond this many units lost one by one in one pool nothing is told apart.
const ALONE_MAX: usize = 8;

/// Instances of one pool, what each carries, and what is believed of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub pool: &'a PoolId,
    pub instances: u32,
    pub weight: u32,
    pub belief: &'a PoolBelief,
}

/// Which pools a shared shock strikes.
#[derive(Clone, Copy, Debug)]
enum Shock<'a> {
    Nothing,
    All,
    Zone(&'a str),
    InstanceType(&'a str),
}

/// Share of time in which more than `spare` units are missing, where each lost unit is missing for `missing_hours`.
pub(super) fn share_short(held: &[Held], kinship: &Kinship, missing_hours: f64, spare: u32) -> f64 {
    let held: Vec<Held> = held.iter().copied().filter(|held| held.instances > 0 && held.weight > 0).collect();
    let total: u64 = held.iter().map(|held| u64::from(held.instances) * u64::from(held.weight)).sum();
    if total <= u64::from(spare) || missing_hours <= 0.0 {
        return 0.0;
    }
    let struck: Vec<f64> =
        held.iter().map(|held| 1.0 - (-held.belief.burst_per_hour_now() * missing_hours).exp()).collect();
    let shocks = shared(&held, &struck, kinship);
    // What a pool's own shocks are left with.
    let own: Vec<f64> = held
        .iter()
        .zip(&struck)
        .map(|(held, struck)| {
            let with_others: f64 = shocks.iter().filter(|(shock, _)| shock.strikes(held.pool)).map(|(_, p)| p).sum();
            (struck - with_others).max(0.0)
        })
        .collect();
    let none = (1.0 - shocks.iter().map(|(_, p)| p).sum::<f64>()).max(0.0);
    let all = shocks.iter().copied().chain([(Shock::Nothing, none)]);
    let short = all.map(|(shock, weight)| weight * beyond(&held, &own, shock, missing_hours, spare));
    short.sum::<f64>().clamp(0.0, 1.0)
}

/// Shocks that more than one of the pools would feel, with their probabilities: kinship is the probability that one pool is
/// struck when another one is.
fn shared<'a>(held: &[Held<'a>], struck: &[f64], kinship: &Kinship) -> Vec<(Shock<'a>, f64)> {
    let mut shocks = Vec::new();
    let mut add = |shock: Shock<'a>, kin: f64| {
        let of: Vec<f64> =
            held.iter().zip(struck).filter(|(held, _)| shock.strikes(held.pool)).map(|(_, struck)| *struck).collect();
        if of.len() > 1 {
            let mean = of.iter().sum::<f64>() / of.len() as f64;
            shocks.push((shock, kin.clamp(0.0, 1.0) * mean));
        }
    };
    add(Shock::All, kinship.other);
    let first = |index: usize, same: &dyn Fn(&PoolId) -> bool| held[..index].iter().all(|before| !same(before.pool));
    for (index, each) in held.iter().enumerate() {
        let (zone, kind) = (each.pool.zone.as_str(), each.pool.instance_type.as_str());
        if first(index, &|pool| pool.zone == zone) {
            add(Shock::Zone(zone), (kinship.zone - kinship.other).max(0.0));
        }
        if first(index, &|pool| pool.instance_type == kind) {
            add(Shock::InstanceType(kind), (kinship.instance_type - kinship.other).max(0.0));
        }
    }
    shocks
}

impl Shock<'_> {
    fn strikes(&self, pool: &PoolId) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Zone(zone) => pool.zone == *zone,
            Self::InstanceType(kind) => pool.instance_type == *kind,
        }
    }
}

/// Probability that more than `spare` units are lost, given a shared shock.
fn beyond(held: &[Held], own: &[f64], shock: Shock, missing_hours: f64, spare: u32) -> f64 {
    let spare = spare as usize;
    // Losses up to `spare` are told apart; all others are beyond.
    let mut within = vec![0.0; spare + 1];
    within[0] = 1.0;
    for (held, own) in held.iter().zip(own) {
        let struck = if shock.strikes(held.pool) { 1.0 } else { *own };
        let mut next = vec![0.0; spare + 1];
        for (lost, probability) in of_pool(held, struck, missing_hours) {
            for from in 0..(spare + 1).saturating_sub(lost) {
                next[from + lost] += within[from] * probability;
            }
        }
        within = next;
    }
    (1.0 - within.iter().sum::<f64>()).max(0.0)
}

/// Units that one pool loses, and how likely that is.
fn of_pool(held: &Held, struck: f64, missing_hours: f64) -> Vec<(usize, f64)> {
    let (belief, weight) = (held.belief, held.weight as usize);
    let instances = held.instances as usize;
    let (whole, share) = (belief.burst_whole.clamp(0.0, 1.0), belief.burst_share.clamp(0.0, 1.0));
    // What a burst takes on average is made of whole pools and of parts.
    let part = if whole < 1.0 { ((share - whole) / (1.0 - whole)).clamp(0.25, 1.0) } else { 1.0 };
    let part = (part * f64::from(held.instances)).ceil() as usize;
    let mut atoms = vec![(instances * weight, struck * whole), (part * weight, struck * (1.0 - whole))];
    // What is lost outside of bursts.
    let alone = (belief.loss_per_hour - belief.burst_per_hour * share).max(0.0);
    let mean = alone * missing_hours * f64::from(held.instances);
    let (mut term, mut left) = ((-mean).exp(), 1.0 - struck);
    for lost in 0..instances.min(ALONE_MAX) {
        atoms.push((lost * weight, (1.0 - struck) * term));
        left -= (1.0 - struck) * term;
        term *= mean / (lost as f64 + 1.0);
    }
    atoms.push((instances * weight, left.max(0.0)));
    atoms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn belief(burst_per_hour: f64) -> PoolBelief {
        PoolBelief {
            loss_per_hour: burst_per_hour,
            burst_per_hour,
            age_factor: 1.0,
            burst_whole: 1.0,
            burst_share: 1.0,
            refusal: 0.0,
            limit: None,
            price_level_usd_hour: None,
        }
    }

    const APART: Kinship = Kinship { zone: 0.0, instance_type: 0.0, other: 0.0 };

    fn short(pools: &[(&str, &str, u32)], kinship: &Kinship, spare: u32) -> f64 {
        let belief = belief(0.1);
        let ids: Vec<PoolId> = pools.iter().map(|(kind, zone, _)| PoolId::new(kind, zone)).collect();
        let held: Vec<Held> = ids
            .iter()
            .zip(pools)
            .map(|(pool, (_, _, instances))| Held { pool, instances: *instances, weight: 1, belief: &belief })
            .collect();
        share_short(&held, kinship, 0.1, spare)
    }

    #[test]
    fn one_pool_is_missing_for_as_long_as_its_bursts_last() {
        let expected = 1.0 - (-0.01_f64).exp();
        assert!((short(&[("m", "a", 8)], &APART, 0) - expected).abs() < 1e-12);
        assert!((short(&[("m", "a", 8)], &APART, 7) - expected).abs() < 1e-12, "spare in the same pool is no spare");
        assert_eq!(short(&[("m", "a", 8)], &APART, 8), 0.0);
    }

    #[test]
    fn pools_that_fail_apart_need_spare_for_one_of_them() {
        let pools = [("m", "a", 4), ("m", "b", 4), ("m", "c", 4)];
        let one = 1.0 - (-0.01_f64).exp();
        let two = 3.0 * one * one * (1.0 - one) + one * one * one;
        assert!((short(&pools, &APART, 4) - two).abs() < 1e-12);
    }

    #[test]
    fn kin_pools_are_struck_together() {
        let near = [("m", "a", 4), ("c", "a", 4)];
        let far = [("m", "a", 4), ("c", "b", 4)];
        let kinship = Kinship { zone: 0.5, instance_type: 0.0, other: 0.0 };
        assert!(short(&near, &kinship, 4) > 20.0 * short(&far, &kinship, 4));
        let type_kin = Kinship { zone: 0.0, instance_type: 0.5, other: 0.0 };
        assert!(short(&[("m", "a", 4), ("m", "b", 4)], &type_kin, 4) > 20.0 * short(&far, &type_kin, 4));
    }

    proptest! {
        #[test]
        fn more_spare_never_means_more_risk(
            instances in prop::collection::vec(0u32..9, 1..6),
            rates in prop::collection::vec(0.0f64..3.0, 6),
            zone in 0.0f64..1.0,
            hours in 0.0f64..0.5,
        ) {
            let beliefs: Vec<PoolBelief> = rates
                .iter()
                .map(|rate| PoolBelief { loss_per_hour: *rate * 1.5, burst_whole: 0.4, burst_share: 0.7, ..belief(*rate) })
                .collect();
            let ids: Vec<PoolId> = (0..instances.len()).map(|i| PoolId::new(["m", "c"][i % 2], ["a", "b"][i / 3])).collect();
            let held: Vec<Held> = ids
                .iter()
                .zip(&instances)
                .zip(&beliefs)
                .map(|((pool, instances), belief)| Held { pool, instances: *instances, weight: 2, belief })
                .collect();
            let kinship = Kinship { zone, instance_type: zone / 2.0, other: zone / 4.0 };
            let shares: Vec<f64> = (0..40).map(|spare| share_short(&held, &kinship, hours, spare)).collect();
            prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
            prop_assert!(shares.windows(2).all(|pair| pair[1] <= pair[0] + 1e-9), "{:?}", shares);
        }
    }
}
