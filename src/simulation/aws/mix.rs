//! How a mixed-instances group divides its capacity between on-demand and spot. Rule (AWS, InstancesDistribution): the base
//! is on demand and is filled first; of what lies above, the on-demand share is rounded up.

/// The division, in the unit of the group's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mix {
    pub(super) base: u32,
    /// 0 to 100.
    pub(super) percent_above: u32,
}

impl Mix {
    /// All on demand, which is also AWS's default.
    pub(super) const ON_DEMAND: Self = Self { base: 0, percent_above: 100 };

    /// How much of a capacity is on demand.
    pub(super) fn on_demand(self, capacity: u32) -> u32 {
        let above = u64::from(capacity.saturating_sub(self.base));
        let share = (above * u64::from(self.percent_above.min(100))).div_ceil(100);
        capacity.min(self.base) + u32::try_from(share).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_base_is_filled_first_and_the_share_above_it_is_rounded_up() {
        // Base, percentage above, capacity → on demand; worked by hand.
        let table = [
            (2, 20, 0, 0),
            (2, 20, 1, 1),
            (2, 20, 2, 2),
            (2, 20, 3, 3),
            (2, 20, 6, 3),
            (2, 20, 7, 3),
            (2, 20, 8, 4),
            (2, 20, 50, 12),
            (2, 20, 500, 102),
            (0, 0, 10, 0),
            (0, 100, 10, 10),
            (4, 0, 10, 4),
            (4, 0, 3, 3),
            (0, 50, 1, 1),
            (0, 50, 3, 2),
            (10, 50, 20, 15),
            (0, 33, 100, 33),
            (0, 33, 10, 4),
        ];
        for (base, percent_above, capacity, expected) in table {
            let found = Mix { base, percent_above }.on_demand(capacity);
            assert_eq!(found, expected, "base {base}, {percent_above} % above, of {capacity}");
        }
    }

    proptest! {
        #[test]
        fn one_more_is_on_demand_or_spot_but_never_moves_another(
            base in 0u32..50, percent_above in 0u32..=100, capacity in 0u32..2000,
        ) {
            let mix = Mix { base, percent_above };
            let (now, next) = (mix.on_demand(capacity), mix.on_demand(capacity + 1));
            prop_assert!(now <= capacity && (next == now || next == now + 1));
            prop_assert!(now >= capacity.min(base));
        }
    }
}
