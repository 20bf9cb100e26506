//! Who gets what when all want more than there is. Rule: weighted max–min fairness over whole units: nobody can be given more
//! without taking from somebody who has less for his weight.
//!
//! With several scarce resources a service's share is that of the resource it takes most of (dominant resource fairness,
//! Ghodsi et al., NSDI 2011), divided by its criticality. Floors come first; where even those do not fit, the more critical
//! service's does.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use prescale_domain::{Claim, Resource, ResourceLimits, Resources, ServiceName};

/// Units granted to each service, never more than it wishes. What is not known limits nothing; of each limit the share
/// `reserve` is left.
pub fn allocate(claims: &[Claim], limits: &ResourceLimits, reserve: f64) -> BTreeMap<ServiceName, u32> {
    let supply = Supply::of(limits, reserve);
    let mut left = supply.0;
    let takes: Vec<[f64; KINDS]> = claims.iter().map(|claim| takes(&claim.unit)).collect();
    let mut granted = vec![0_u32; claims.len()];

    let mut by_weight: Vec<usize> = (0..claims.len()).collect();
    by_weight.sort_by(|a, b| {
        weight(&claims[*b]).total_cmp(&weight(&claims[*a])).then_with(|| claims[*a].service.cmp(&claims[*b].service))
    });
    for at in by_weight {
        let floor = claims[at].floor.min(claims[at].wish);
        let fits = room(&takes[at], &left).min(floor);
        take(&takes[at], fits, &mut left);
        granted[at] = fits;
    }

    let mut waiting: BinaryHeap<Reverse<Waiting>> = BinaryHeap::new();
    let wants = |at: usize, granted: &[u32]| granted[at] < claims[at].wish;
    let next = |at: usize, granted: &[u32]| {
        let share = supply.dominant_share(&takes[at], f64::from(granted[at]) + 1.0);
        Reverse(Waiting { share: share / weight(&claims[at]), at })
    };
    waiting.extend((0..claims.len()).filter(|at| wants(*at, &granted)).map(|at| next(at, &granted)));
    while let Some(Reverse(Waiting { at, .. })) = waiting.pop() {
        // Who has no room for one more has none later either: nothing is given back.
        if room(&takes[at], &left) == 0 {
            continue;
        }
        take(&takes[at], 1, &mut left);
        granted[at] += 1;
        if wants(at, &granted) {
            waiting.push(next(at, &granted));
        }
    }
    claims.iter().map(|claim| claim.service.clone()).zip(granted).collect()
}

/// A service that wants one more, and the share that it would have then.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Waiting {
    share: f64,
    at: usize,
}

impl Eq for Waiting {}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.share.total_cmp(&other.share).then(self.at.cmp(&other.at))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

const KINDS: usize = 7;

/// In the order of [`takes`].
struct Supply([f64; KINDS]);

impl Supply {
    fn of(limits: &ResourceLimits, reserve: f64) -> Self {
        let reserve = reserve.clamp(0.0, 1.0);
        let count = |count: Option<u32>| count.map(|count| (f64::from(count) * (1.0 - reserve)).ceil());
        let amount = |amount: Option<f64>| {
            amount.filter(|amount| amount.is_finite() && *amount >= 0.0).map(|amount| amount * (1.0 - reserve))
        };
        let known = [
            count(limits.units),
            count(limits.quota_units),
            count(limits.addresses),
            amount(limits.memory_mb),
            amount(limits.cpu_cores),
            amount(limits.network_mbps),
            amount(limits.storage_gb),
        ];
        Self(known.map(|known| known.unwrap_or(f64::INFINITY)))
    }

    /// Of the resource that so many units take most of. Where nothing is scarce, the units themselves.
    fn dominant_share(&self, takes: &[f64; KINDS], units: f64) -> f64 {
        let scarce = self.0.iter().zip(takes).filter(|(supply, _)| supply.is_finite());
        let share = |(supply, takes): (&f64, &f64)| takes * units / supply.max(f64::MIN_POSITIVE);
        scarce.map(share).reduce(f64::max).unwrap_or(units)
    }
}

/// What one unit takes; what is not known takes nothing.
fn takes(unit: &Resources) -> [f64; KINDS] {
    let amount = |amount: Option<f64>| amount.filter(|amount| amount.is_finite() && *amount > 0.0).unwrap_or(0.0);
    [
        1.0,
        1.0,
        f64::from(unit.addresses.unwrap_or(1)),
        amount(unit.memory_mb),
        amount(unit.cpu_cores),
        amount(unit.network_mbps),
        amount(unit.storage_gb),
    ]
}

/// Units that fit into what is left.
fn room(takes: &[f64; KINDS], left: &[f64; KINDS]) -> u32 {
    // The rounding error of sums costs no unit; the cast saturates.
    const ROUNDING: f64 = 1e-9;
    let units = takes.iter().zip(left).filter(|(takes, _)| **takes > 0.0).map(|(takes, left)| left / takes);
    (units.fold(f64::INFINITY, f64::min).max(0.0) + ROUNDING).floor() as u32
}

fn take(takes: &[f64; KINDS], units: u32, left: &mut [f64; KINDS]) {
    for (left, takes) in left.iter_mut().zip(takes) {
        *left -= takes * f64::from(units);
    }
}

/// A weight that is not positive counts as next to nothing.
fn weight(claim: &Claim) -> f64 {
    if claim.criticality.is_finite() { claim.criticality.max(1e-6) } else { 1.0 }
}

/// The resource that binds: of which the grants leave no room for another unit of `claim`; `None` = there is room.
pub fn scarce(
    claims: &[Claim],
    granted: &BTreeMap<ServiceName, u32>,
    limits: &ResourceLimits,
    of: &Claim,
    reserve: f64,
) -> Option<Resource> {
    const NAMES: [Resource; KINDS] = [
        Resource::Units,
        Resource::Quota,
        Resource::Addresses,
        Resource::Memory,
        Resource::Cpu,
        Resource::Network,
        Resource::Storage,
    ];
    let mut left = Supply::of(limits, reserve).0;
    for claim in claims {
        take(&takes(&claim.unit), granted.get(&claim.service).copied().unwrap_or(0), &mut left);
    }
    let takes = takes(&of.unit);
    NAMES
        .into_iter()
        .zip(left.iter().zip(&takes))
        .find(|(_, (left, takes))| **takes > **left + 1e-9)
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(service: &str, wish: u32, floor: u32, criticality: f64) -> Claim {
        Claim { service: ServiceName::new(service), wish, floor, criticality, unit: Resources::default() }
    }

    fn units(units: u32) -> ResourceLimits {
        ResourceLimits { units: Some(units), ..ResourceLimits::default() }
    }

    fn granted(claims: &[Claim], limits: &ResourceLimits) -> Vec<u32> {
        let granted = allocate(claims, limits, 0.0);
        claims.iter().map(|claim| granted[&claim.service]).collect()
    }

    #[test]
    fn shares_go_by_weight_and_what_one_does_not_want_goes_to_the_others() {
        let claims = [claim("a", 100, 0, 1.0), claim("b", 100, 0, 3.0), claim("c", 5, 0, 1.0)];
        assert_eq!(granted(&claims, &units(45)), [10, 30, 5]);
        assert_eq!(granted(&claims, &units(1000)), [100, 100, 5]);
        assert_eq!(granted(&claims, &ResourceLimits::default()), [100, 100, 5]);
        assert_eq!(granted(&claims, &units(0)), [0, 0, 0]);
    }

    #[test]
    fn floors_come_first_and_the_more_critical_one_before_the_other() {
        assert_eq!(granted(&[claim("a", 50, 8, 1.0), claim("b", 50, 0, 9.0)], &units(20)), [8, 12]);
        assert_eq!(granted(&[claim("a", 50, 8, 1.0), claim("b", 50, 8, 2.0)], &units(10)), [2, 8]);
    }

    #[test]
    fn the_resource_that_is_taken_most_of_counts() {
        // The example of the paper: 9 cores and 18 GB; (1 core, 4 GB) and (3 cores, 1 GB) get 3 and 2 units.
        let unit = |cpu, memory| Resources { cpu_cores: Some(cpu), memory_mb: Some(memory), ..Resources::default() };
        let claims = [
            Claim { unit: unit(1.0, 4000.0), ..claim("a", 99, 0, 1.0) },
            Claim { unit: unit(3.0, 1000.0), ..claim("b", 99, 0, 1.0) },
        ];
        let limits = ResourceLimits { cpu_cores: Some(9.0), memory_mb: Some(18_000.0), ..ResourceLimits::default() };
        assert_eq!(granted(&claims, &limits), [3, 2]);
        let found = allocate(&claims, &limits, 0.0);
        assert_eq!(scarce(&claims, &found, &limits, &claims[1], 0.0), Some(Resource::Cpu));
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let one = (0u32..60, 0u32..20, 0.1f64..10.0, 0.1f64..8.0);
        prop::collection::vec(one, 1..9).prop_map(|all| {
            let claim = |(at, (wish, floor, weight, cores)): (usize, (u32, u32, f64, f64))| Claim {
                unit: Resources { cpu_cores: Some(cores), ..Resources::default() },
                ..claim(&format!("s{at}"), wish, floor, weight)
            };
            all.into_iter().enumerate().map(claim).collect()
        })
    }

    proptest! {
        #[test]
        fn nothing_is_exceeded_nothing_is_wasted_and_it_is_fair(claims in claims(), limit in 0u32..200, cores in 0.0f64..300.0) {
            let limits = ResourceLimits { units: Some(limit), cpu_cores: Some(cores), ..ResourceLimits::default() };
            let granted = allocate(&claims, &limits, 0.0);
            let of = |claim: &Claim| granted[&claim.service];
            let total: u32 = claims.iter().map(of).sum();
            let used: f64 = claims.iter().map(|claim| f64::from(of(claim)) * claim.unit.cpu_cores.unwrap()).sum();
            prop_assert!(total <= limit && used <= cores + 1e-6);
            let supply = Supply::of(&limits, 0.0);
            let share = |claim: &Claim, units: u32| {
                supply.dominant_share(&takes(&claim.unit), f64::from(units)) / weight(claim)
            };
            for claim in &claims {
                prop_assert!(of(claim) <= claim.wish);
                if of(claim) == claim.wish {
                    prop_assert_eq!(of(claim), claim.wish);
                    continue;
                }
                // Who gets less than he wishes has no room for one more, ...
                let mut left = supply.0;
                for other in &claims {
                    take(&takes(&other.unit), of(other), &mut left);
                }
                prop_assert_eq!(room(&takes(&claim.unit), &left), 0);
                // ... and who has more for his weight has it by his floor, or had it before the room was gone.
                for other in claims.iter().filter(|other| of(other) > other.floor.min(other.wish)) {
                    let fair = share(other, of(other)) <= share(claim, of(claim) + 1) + 1e-9;
                    let bigger = claim.unit.cpu_cores > other.unit.cpu_cores;
                    prop_assert!(fair || bigger, "{claim:?} has {} and {other:?} has {}", of(claim), of(other));
                }
            }
        }

        /// Of one resource, more of it is never less for anybody.
        #[test]
        fn more_supply_never_takes_from_anybody(claims in claims(), limit in 0u32..200) {
            let (fewer, more) = (allocate(&claims, &units(limit), 0.0), allocate(&claims, &units(limit + 1), 0.0));
            for claim in &claims {
                prop_assert!(more[&claim.service] >= fewer[&claim.service]);
            }
        }
    }
}
