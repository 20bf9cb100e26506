//! How many units fit into what there is. Rule: what is not known limits nothing; the reserve is for emergencies and never
//! takes the last unit.

use prescale_domain::{LimitScope, Limited, Limits, Optimization, Resource, ResourceLimits, Resources};

/// A resource that units share: its limit, what others have of it, and what one unit takes.
struct Share {
    scope: LimitScope,
    resource: Resource,
    limit: f64,
    others: f64,
    per_unit: f64,
}

/// The limit that leaves room for the fewest units, and for how many; `None` = there is none. An emergency may use the
/// reserve.
pub fn binding_limit(limits: &Limits, emergency: bool) -> Option<Limited> {
    let reserve = if emergency { 0.0 } else { limits.reserve.clamp(0.0, 1.0) };
    let all = shares(limits).into_iter().map(|share| share.limited(reserve));
    all.reduce(|tightest, next| if next.units < tightest.units { next } else { tightest })
}

/// What to change in the units so that more of them fit, or fewer do the same. `limited` binds at `present` units where
/// `wish` are wanted.
pub fn optimization(limits: &Limits, limited: &Limited, present: u32, wish: u32) -> Optimization {
    let is_count = matches!(limited.resource, Resource::Units | Resource::Quota | Resource::Addresses);
    if is_count { larger_units(limits, present, wish) } else { smaller_units(limits, limited, present, wish) }
}

/// So much smaller that all that are wanted fit.
fn smaller_units(limits: &Limits, limited: &Limited, present: u32, wish: u32) -> Optimization {
    let from = amount(&limits.unit, limited.resource);
    let to = Some(limited.usable / f64::from(wish.max(1))).filter(|to| *to > 0.0);
    let gain = if to.is_some() { f64::from(wish.saturating_sub(present)) } else { 0.0 };
    Optimization { resource: limited.resource, from_per_unit: from, to_per_unit: to, gain_units: gain }
}

/// So much larger as the load wants and the other limits allow.
fn larger_units(limits: &Limits, present: u32, wish: u32) -> Optimization {
    let wanted = if present > 0 { f64::from(wish) / f64::from(present) } else { 1.0 };
    let room =
        |share: &Share| share.usable(limits.reserve.clamp(0.0, 1.0)) / (share.per_unit * f64::from(present.max(1)));
    let amounts = shares(limits)
        .into_iter()
        .filter(|share| !matches!(share.resource, Resource::Units | Resource::Quota | Resource::Addresses));
    let factor = amounts.map(|share| room(&share)).fold(wanted, f64::min).max(1.0);
    let resource = if limits.unit.cpu_cores.is_some() || limits.unit.memory_mb.is_none() {
        Resource::Cpu
    } else {
        Resource::Memory
    };
    let from = amount(&limits.unit, resource);
    Optimization {
        resource,
        from_per_unit: from,
        to_per_unit: from.map(|from| from * factor),
        gain_units: f64::from(present) * (factor - 1.0),
    }
}

impl Share {
    /// What this service may have of it. Of whole units the reserve is whole, and it never takes the last.
    fn usable(&self, reserve: f64) -> f64 {
        let is_count = matches!(self.resource, Resource::Units | Resource::Quota | Resource::Addresses);
        let reserved = self.limit * reserve;
        let reserved = if is_count { reserved.floor() } else { reserved };
        let free = self.limit - self.others;
        let usable = free - reserved;
        let keeps_none = usable < self.per_unit && free >= self.per_unit;
        (if keeps_none { self.per_unit } else { usable }).max(0.0)
    }

    fn limited(&self, reserve: f64) -> Limited {
        // The rounding error of the division costs no unit; the cast saturates.
        const ROUNDING: f64 = 1e-12;
        let usable = self.usable(reserve);
        let units = (usable / self.per_unit * (1.0 + ROUNDING)).floor() as u32;
        Limited { scope: self.scope, resource: self.resource, limit: self.limit, usable, units }
    }
}

fn shares(limits: &Limits) -> Vec<Share> {
    let mut found = of_scope(LimitScope::Target, &limits.target, None, &limits.unit);
    let others = Some((limits.others_units, &limits.others));
    found.extend(of_scope(LimitScope::Fleet, &limits.fleet, others, &limits.unit));
    found
}

fn of_scope(
    scope: LimitScope,
    limits: &ResourceLimits,
    others: Option<(u32, &Resources)>,
    unit: &Resources,
) -> Vec<Share> {
    let other_units = others.map_or(0.0, |(units, _)| f64::from(units));
    let other = |resource: Resource| others.and_then(|(_, others)| amount(others, resource)).unwrap_or(0.0);
    let addresses_each = f64::from(unit.addresses.unwrap_or(1));
    let other_addresses = others.map_or(0.0, |(units, others)| f64::from(others.addresses.unwrap_or(units)));
    let count = |count: Option<u32>| count.map(f64::from);
    let known = [
        (Resource::Units, count(limits.units), other_units, Some(1.0)),
        (Resource::Quota, count(limits.quota_units), other_units, Some(1.0)),
        (Resource::Addresses, count(limits.addresses), other_addresses, Some(addresses_each)),
        (Resource::Memory, limits.memory_mb, other(Resource::Memory), unit.memory_mb),
        (Resource::Cpu, limits.cpu_cores, other(Resource::Cpu), unit.cpu_cores),
        (Resource::Network, limits.network_mbps, other(Resource::Network), unit.network_mbps),
        (Resource::Storage, limits.storage_gb, other(Resource::Storage), unit.storage_gb),
    ];
    let shares = known.into_iter().filter_map(|(resource, limit, others, per_unit)| {
        let limit = limit.filter(|limit| limit.is_finite() && *limit >= 0.0)?;
        let per_unit = per_unit.filter(|per_unit| per_unit.is_finite() && *per_unit > 0.0)?;
        let others = if others.is_finite() && others > 0.0 { others } else { 0.0 };
        Some(Share { scope, resource, limit, others, per_unit })
    });
    shares.collect()
}

fn amount(of: &Resources, resource: Resource) -> Option<f64> {
    match resource {
        Resource::Memory => of.memory_mb,
        Resource::Cpu => of.cpu_cores,
        Resource::Network => of.network_mbps,
        Resource::Storage => of.storage_gb,
        Resource::Units | Resource::Addresses | Resource::Quota => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(units: u32, memory_mb: f64, unit_mb: f64) -> Limits {
        Limits {
            target: ResourceLimits { units: Some(units), memory_mb: Some(memory_mb), ..ResourceLimits::default() },
            unit: Resources { memory_mb: Some(unit_mb), ..Resources::default() },
            ..Limits::default()
        }
    }

    #[track_caller]
    fn fits(limits: &Limits, emergency: bool, resource: Resource, units: u32) {
        let limited = binding_limit(limits, emergency).unwrap();
        assert_eq!((limited.resource, limited.units), (resource, units), "{limited:?}");
    }

    #[test]
    fn the_tightest_limit_binds_and_the_reserve_is_for_emergencies() {
        fits(&limits(5, 1000.0, 100.0), false, Resource::Units, 5);
        fits(&limits(20, 1000.0, 100.0), false, Resource::Memory, 9);
        fits(&limits(20, 1000.0, 100.0), true, Resource::Memory, 10);
        fits(&limits(100, 1e6, 100.0), false, Resource::Units, 90);
        fits(&limits(100, 1e6, 100.0), true, Resource::Units, 100);
        assert_eq!(binding_limit(&Limits::default(), false), None);
        // What a unit takes of memory is not known.
        let unknown = Limits { unit: Resources::default(), ..limits(50, 1.0, 1.0) };
        fits(&unknown, false, Resource::Units, 45);
    }

    #[test]
    fn the_reserve_never_takes_the_last_unit() {
        fits(&limits(1, 1000.0, 1.0), false, Resource::Units, 1);
        fits(&limits(9, 1000.0, 950.0), false, Resource::Memory, 1);
        fits(&limits(9, 900.0, 950.0), false, Resource::Memory, 0);
    }

    #[test]
    fn of_the_fleets_limits_others_have_their_part() {
        let fleet = Limits {
            fleet: ResourceLimits {
                cpu_cores: Some(32.0),
                addresses: Some(64),
                quota_units: Some(40),
                ..ResourceLimits::default()
            },
            others: Resources { cpu_cores: Some(20.0), ..Resources::default() },
            others_units: 30,
            unit: Resources { cpu_cores: Some(0.5), addresses: Some(4), ..Resources::default() },
            ..Limits::default()
        };
        fits(&fleet, true, Resource::Addresses, 8);
        fits(&fleet, false, Resource::Quota, 6);
        let many = Limits { others_units: 1000, ..fleet };
        fits(&many, false, Resource::Quota, 0);
    }

    #[test]
    fn where_nothing_is_configured_there_are_limits_all_the_same() {
        let default = ResourceLimits::default().or_default();
        assert_eq!((default.units, default.memory_mb, default.cpu_cores), (Some(100), Some(16_000.0), Some(32.0)));
        let own = ResourceLimits { units: Some(500), ..ResourceLimits::default() };
        assert_eq!(own.or_default(), own);
    }

    #[test]
    fn units_become_smaller_or_larger_as_what_is_short_demands() {
        let small = limits(20, 1000.0, 450.0);
        let advice = optimization(&small, &binding_limit(&small, false).unwrap(), 2, 6);
        assert_eq!((advice.resource, advice.to_per_unit, advice.gain_units), (Resource::Memory, Some(150.0), 4.0));
        // Five units of 100 MB may be up to 180 MB large.
        let few = limits(5, 1000.0, 100.0);
        let advice = optimization(&few, &binding_limit(&few, false).unwrap(), 5, 15);
        assert_eq!((advice.resource, advice.to_per_unit), (Resource::Memory, Some(180.0)));
        assert!((advice.gain_units - 4.0).abs() < 1e-9);
        let nothing = limits(0, 1000.0, 100.0);
        assert_eq!(optimization(&nothing, &binding_limit(&nothing, false).unwrap(), 0, 3).gain_units, 0.0);
    }

    proptest! {
        #[test]
        fn what_fits_fits_and_one_more_does_not(
            units in prop::option::of(0u32..200), memory in 0.0..10_000.0, per_unit in 1.0..2000.0,
            others in 0.0..5000.0, reserve in 0.0..1.0, emergency in any::<bool>(),
        ) {
            let fleet = ResourceLimits { units, memory_mb: Some(memory), ..ResourceLimits::default() };
            let limits = Limits {
                fleet,
                others: Resources { memory_mb: Some(others), ..Resources::default() },
                unit: Resources { memory_mb: Some(per_unit), ..Resources::default() },
                reserve,
                ..Limits::default()
            };
            let limited = binding_limit(&limits, emergency).unwrap();
            let taken = f64::from(limited.units) * per_unit;
            prop_assert!(limited.units == 0 || taken <= (memory - others) * (1.0 + 1e-9));
            prop_assert!(units.is_none_or(|most| limited.units <= most));
            prop_assert!(binding_limit(&limits, true).unwrap().units >= limited.units);
            let room = memory - others - memory * reserve;
            let one_more = f64::from(limited.units + 1);
            let too_much = one_more * per_unit > room * (1.0 - 1e-9) || units.is_some_and(|most| one_more > f64::from(most) * (1.0 - reserve));
            prop_assert!(emergency || too_much);
        }
    }
}
