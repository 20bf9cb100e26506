//! How one wish becomes the sizes of an on-demand and a spot group. Rule: pure; the on-demand share is a floor that is
//! planned, and what one group has no room for the other takes.

/// A group's size and its own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) min: u32,
    pub(crate) desired: u32,
    pub(crate) max: u32,
}

/// The sizes of the groups for `wish` units: of one group all of it; of two the first is on-demand with `base` units before
/// any is spot, and `percent` of those above, rounded up as AWS does.
pub(crate) fn split(wish: u32, base: u32, percent: u32, groups: &[Sizes]) -> Vec<u32> {
    let [on_demand, spot] = groups else {
        return groups.iter().map(|group| wish.max(group.min).min(group.max)).collect();
    };
    let base = base.min(wish);
    let above = u64::from(wish - base) * u64::from(percent.min(100));
    let planned = base + u32::try_from(above.div_ceil(100)).unwrap_or(u32::MAX);
    // Never less on-demand than planned, as far as it goes; more where the spot group has no room.
    let first = planned.max(wish.saturating_sub(spot.max)).max(on_demand.min).min(on_demand.max);
    let second = wish.saturating_sub(first).max(spot.min).min(spot.max);
    // A spot group that may not be as small takes from what is on-demand beyond the plan.
    let over = (u64::from(first) + u64::from(second)).saturating_sub(u64::from(wish));
    let spare = first.saturating_sub(planned.max(on_demand.min));
    vec![first - spare.min(u32::try_from(over).unwrap_or(u32::MAX)), second]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Sizes = Sizes { min: 0, desired: 0, max: 100 };

    #[test]
    fn the_base_comes_first_and_a_share_of_the_rest() {
        // Desired 6, base 2, 20 %: one of the four above is on-demand.
        assert_eq!(split(6, 2, 20, &[WIDE, WIDE]), [3, 3]);
        assert_eq!(split(50, 2, 20, &[WIDE, WIDE]), [12, 38]);
        assert_eq!(split(1, 2, 20, &[WIDE, WIDE]), [1, 0]);
        assert_eq!(split(9, 0, 0, &[WIDE, WIDE]), [0, 9]);
        assert_eq!(split(9, 0, 100, &[WIDE, WIDE]), [9, 0]);
        assert_eq!(split(9, 3, 0, &[WIDE]), [9]);
    }

    #[test]
    fn what_has_no_room_goes_to_the_other_group() {
        let small = Sizes { max: 4, ..WIDE };
        assert_eq!(split(9, 2, 0, &[WIDE, small]), [5, 4]);
        assert_eq!(split(9, 6, 0, &[small, WIDE]), [4, 5]);
        assert_eq!(split(9, 2, 0, &[small, small]), [4, 4]);
        // Bounds of a group hold even where they exceed the wish.
        assert_eq!(split(3, 0, 0, &[Sizes { min: 2, ..WIDE }, Sizes { min: 2, ..WIDE }]), [2, 2]);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_a_wish_with_room_is_met(
            wish in 0u32..300, base in 0u32..50, percent in 0u32..130, bounds in prop::array::uniform2((0u32..40, 0u32..160)),
        ) {
            let groups = bounds.map(|(min, room)| Sizes { min, desired: 0, max: min + room });
            let sizes = split(wish, base, percent, &groups);
            for (size, group) in sizes.iter().zip(&groups) {
                prop_assert!((group.min..=group.max).contains(size));
            }
            let (least, most) = (groups[0].min + groups[1].min, groups[0].max + groups[1].max);
            prop_assert!(sizes[0] + sizes[1] >= wish.min(most));
            // Both minimum and plan may force more than the wish, and nothing else may.
            let planned = base.min(wish).max(groups[0].min).min(groups[0].max);
            if wish >= least && planned + groups[1].min <= wish && percent == 0 {
                prop_assert_eq!(sizes[0] + sizes[1], wish.min(most));
            }
            // More is never less.
            let more = split(wish + 1, base, percent, &groups);
            prop_assert!(more[0] + more[1] >= sizes[0] + sizes[1]);
        }
    }
}
