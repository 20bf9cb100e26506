//! Two node groups whose split is planned. Rule: outside, units are those that are wanted; a group grows at once, and gives nodes
//! up only when enough others serve.

use prescale_domain::{Decision, SplitUnit, SpotSplit, Timestamp};

use crate::aws::SplitGroup;
use crate::aws_group::{Group as ScalingGroup, Member};
use crate::aws_mix::OnTop;
use crate::aws_spot::{Capacity, SplitSettings};
use crate::eks::{EksNodegroups, Group};
use crate::split::{Sizes, split};

/// What is kept from one call to the next.
#[derive(Debug, Default)]
pub(crate) struct EksSplitState {
    /// As last seen.
    pub(crate) capacity: Option<Capacity>,
    /// As last applied; `None` = nothing was, since the start.
    pub(crate) on_top: Option<OnTop>,
    /// The group of spot nodes has said that there are none.
    pub(crate) refused: bool,
}

impl EksSplitState {
    /// How much of so many nodes is on top of what is wanted, as far as that is known.
    pub(crate) fn above(&self, nodes: u32) -> u32 {
        self.on_top.map_or(0, |known| known.of(nodes))
    }
}

/// A group as it is: what it may have, and what is there.
#[derive(Clone, Copy, Debug)]
struct Part {
    sizes: Sizes,
    /// Nodes that start or serve, and those that serve and are under no notice.
    there: u32,
    serving: u32,
}

/// What is planned, in nodes.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// On-demand before any is spot, and percent of those above.
    base: u32,
    percent: u32,
    /// On top of what is wanted.
    spare: u32,
}

/// What the groups are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    /// Nodes that are wanted.
    pub(crate) units: u32,
    /// Sizes of the groups, with what is on top.
    pub(crate) shares: Vec<u32>,
}

impl EksNodegroups {
    /// Takes note of what the groups are made of; the units that are wanted of them. `beneath` has the Auto Scaling groups of each
    /// group, where they can be seen.
    pub(crate) async fn observe_split(
        &self,
        groups: &[Group],
        beneath: Option<&[Vec<ScalingGroup>]>,
        spot: &SplitSettings,
        now: Timestamp,
    ) -> u32 {
        let capacity = match beneath {
            Some(beneath) => Some(self.made_of(groups, beneath, spot, now).await),
            None => None,
        };
        let mut held = self.split_state();
        held.capacity = capacity;
        let nodes = groups.iter().map(|group| group.sizes.desired).fold(0, u32::saturating_add);
        nodes - held.above(nodes)
    }

    async fn made_of(
        &self,
        groups: &[Group],
        beneath: &[Vec<ScalingGroup>],
        spot: &SplitSettings,
        now: Timestamp,
    ) -> Capacity {
        for name in groups.iter().flat_map(|group| &group.scaling_groups) {
            let types = spot.types.iter().map(|one| one.name.clone()).collect();
            self.account.register_split(name, SplitGroup { types, is_mixed: false });
        }
        self.account.survey(&self.settings.describe(), now).await;
        let unit = |member: &Member, is_spot: bool| SplitUnit {
            id: member.id.clone(),
            pool: member.pool.clone(),
            is_spot: Some(is_spot),
            weight: member.weight,
            in_service: member.serves,
        };
        let mut units = Vec::new();
        for (number, beneath) in beneath.iter().enumerate() {
            units.extend(beneath.iter().flat_map(ScalingGroup::live).map(|member| unit(member, number > 0)));
        }
        let mut zones: Vec<String> = beneath.iter().skip(1).flatten().flat_map(|group| group.zones.clone()).collect();
        zones.sort();
        zones.dedup();
        let prices = self.account.pools.lock().await.prices_in(&zones, spot);
        let is_short = |group: &Group, beneath: &[ScalingGroup]| {
            beneath.iter().map(ScalingGroup::ready).fold(0, u32::saturating_add) < group.sizes.desired
        };
        let of_spot = groups.iter().zip(beneath).skip(1);
        let refused =
            self.split_state().refused && of_spot.into_iter().any(|(group, beneath)| is_short(group, beneath));
        let annotations = groups.last().map(|group| group.annotations.clone()).unwrap_or_default();
        Capacity { settings: spot.clone(), zones, units, prices, refused, annotations }
    }

    /// What the groups are to be for `wanted` units, which are within the target's own bounds.
    pub(crate) async fn aim(&self, groups: &[Group], wanted: u32, decision: &Decision, now: Timestamp) -> Aim {
        let beneath = self.beneath(groups, now, true).await;
        let leaving = decision.split.as_ref().map(|split| split.leaving.as_slice()).unwrap_or_default();
        let part = |number: usize, group: &Group| {
            let Some(beneath) = beneath.as_ref().and_then(|beneath| beneath.get(number)) else {
                // What can't be seen does not serve, and nothing of it is given up.
                return Part { sizes: group.sizes, there: group.sizes.desired, serving: 0 };
            };
            let live = || beneath.iter().flat_map(ScalingGroup::live);
            let serving = live().filter(|member| member.serves && !leaving.contains(&member.id));
            Part { sizes: group.sizes, there: live().count() as u32, serving: serving.count() as u32 }
        };
        let parts: Vec<Part> = groups.iter().enumerate().map(|(number, group)| part(number, group)).collect();
        let on_top = self.split_state().on_top;
        let bounds = (self.settings.min.min(wanted), self.settings.max);
        aim(&parts, decision.split.as_deref(), wanted, bounds, on_top)
    }
}

/// The sizes of groups for `wanted` nodes; at least and at most so many are asked for, and `on_top` is what is remembered.
fn aim(
    parts: &[Part],
    split_plan: Option<&SpotSplit>,
    wanted: u32,
    (least, most): (u32, u32),
    on_top: Option<OnTop>,
) -> Aim {
    let sum = |of: fn(&Part) -> u32| parts.iter().map(of).fold(0, u32::saturating_add);
    let nodes = sum(|part| part.sizes.desired);
    let (least, most) = (least.max(sum(|part| part.sizes.min)), most.min(sum(|part| part.sizes.max)));
    let wanted = wanted.max(least).min(most);
    let plan = match split_plan {
        Some(split) => {
            let mix = &split.plan.aws;
            let (base, percent) = (mix.on_demand_base_capacity, mix.on_demand_percentage_above_base);
            Plan { base, percent, spare: split.plan.spare }
        }
        // Without a plan what is on top stays there, what runs on demand does, and what is added is on demand.
        None => {
            let spare = on_top.map_or(0, |known| known.of(nodes));
            let grows = wanted.saturating_add(spare).saturating_sub(nodes);
            let base = parts.first().map_or(0, |part| part.sizes.desired).saturating_add(grows);
            Plan { base, percent: 0, spare }
        }
    };
    let steady = wanted.saturating_add(plan.spare).min(most);
    // After a start nobody knows what is on top: that the spare is there already is what asks for nothing. Were it taken for wanted,
    // each start would add another.
    let (units, steady) = if on_top.is_none() && wanted <= nodes && nodes < steady {
        (nodes.saturating_sub(plan.spare).max(least), nodes)
    } else {
        (wanted, steady)
    };
    let sizes: Vec<Sizes> = parts.iter().map(|part| part.sizes).collect();
    let mut shares = split(steady, plan.base, plan.percent, &sizes);
    // Nodes that may go: those that were never there, and what serves beyond what is wanted (and not what is only taken to be).
    let mut beyond = sum(|part| part.serving).saturating_sub(units.max(wanted));
    for (share, part) in shares.iter_mut().zip(parts) {
        let unfilled = part.sizes.desired.saturating_sub(part.there);
        let go = part.sizes.desired.saturating_sub(*share);
        let goes = go.min(unfilled.saturating_add(beyond));
        beyond -= goes.saturating_sub(unfilled);
        *share += go - goes;
    }
    // What does not go yet leaves less room for what is added.
    let total = shares.iter().copied().fold(0, u32::saturating_add);
    let mut over = total.saturating_sub(most.max(nodes));
    for (share, part) in shares.iter_mut().zip(parts).rev() {
        let cut = share.saturating_sub(part.sizes.desired).min(over);
        *share -= cut;
        over -= cut;
    }
    Aim { units: units.min(shares.iter().copied().fold(0, u32::saturating_add)), shares }
}

#[cfg(test)]
mod tests {
    use prescale_domain::{AwsMix, Span, SpotInputs, SpotPlan};
    use proptest::prelude::*;

    use super::*;

    fn planned(base: u32, spare: u32) -> SpotSplit {
        let aws = AwsMix { on_demand_base_capacity: base, ..AwsMix::default() };
        let plan = SpotPlan { on_demand: base, spare, aws, ..SpotPlan::default() };
        let inputs = SpotInputs::new(Timestamp::from_millis(0), 0, Vec::new(), Span::from_secs(100));
        SpotSplit { inputs, plan, leaving: Vec::new(), drain: Vec::new() }
    }

    /// A group of up to 40: so many are desired, there, and serve.
    fn part(desired: u32, there: u32, serving: u32) -> Part {
        Part { sizes: Sizes { min: 0, desired, max: 40 }, there, serving }
    }

    fn known(total: u32, units: u32) -> Option<OnTop> {
        Some(OnTop { total, units, before: units })
    }

    #[track_caller]
    fn check(parts: [Part; 2], split: &SpotSplit, wanted: u32, on_top: Option<OnTop>, units: u32, shares: [u32; 2]) {
        let expected = Aim { units, shares: shares.to_vec() };
        assert_eq!(aim(&parts, Some(split), wanted, (0, 40), on_top), expected);
    }

    #[test]
    fn on_demand_nodes_go_when_spot_nodes_serve_in_their_place() {
        let plan = planned(2, 1);
        check([part(10, 10, 10), part(0, 0, 0)], &plan, 10, known(10, 0), 10, [10, 9]);
        check([part(10, 10, 10), part(9, 5, 0)], &plan, 10, known(19, 9), 10, [10, 9]);
        check([part(10, 10, 10), part(9, 9, 4)], &plan, 10, known(19, 9), 10, [6, 9]);
        check([part(6, 6, 6), part(9, 9, 9)], &plan, 10, known(15, 5), 10, [2, 9]);
        check([part(2, 2, 2), part(9, 9, 9)], &plan, 10, known(11, 1), 10, [2, 9]);
    }

    #[test]
    fn spot_nodes_that_never_came_make_room_for_others_at_once() {
        // Three of nine came; all that is left may have is ten.
        let parts = [part(1, 1, 1), part(9, 3, 3)];
        let bounds = (0, 10);
        let found = aim(&parts, Some(&planned(7, 0)), 10, bounds, known(10, 0));
        assert_eq!(found, Aim { units: 10, shares: vec![7, 3] });
    }

    #[test]
    fn after_a_start_what_is_there_has_its_spare_in_it() {
        check([part(2, 2, 2), part(9, 9, 9)], &planned(2, 1), 11, None, 10, [2, 9]);
        check([part(2, 2, 2), part(8, 8, 8)], &planned(2, 1), 12, None, 12, [2, 11]);
    }

    #[test]
    fn without_a_plan_the_split_stays_and_what_is_added_is_on_demand() {
        let parts = [part(2, 2, 2), part(9, 9, 9)];
        let of = |wanted| aim(&parts, None, wanted, (0, 40), known(11, 1)).shares;
        assert_eq!([of(10), of(14), of(7)], [vec![2, 9], vec![6, 9], vec![2, 6]]);
    }

    #[test]
    fn nodes_that_cannot_be_seen_are_not_given_up() {
        let parts = [part(4, 4, 0), part(6, 6, 0)];
        check(parts, &planned(1, 0), 3, known(10, 0), 3, [4, 6]);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_nobody_who_is_needed_goes(
            desired in prop::array::uniform2(0u32..30), missing in prop::array::uniform2(0u32..9),
            starting in prop::array::uniform2(0u32..9), base in 0u32..30, spare in 0u32..6, wanted in 0u32..60,
            most in 1u32..70, remembered in prop::option::of(0u32..6),
        ) {
            let parts: Vec<Part> = (0..2).map(|number| {
                let there = desired[number].saturating_sub(missing[number]);
                part(desired[number], there, there.saturating_sub(starting[number]))
            }).collect();
            let nodes = desired[0] + desired[1];
            let on_top = remembered.and_then(|units| known(nodes, units.min(nodes)));
            let wanted = wanted.min(most);
            let found = aim(&parts, Some(&planned(base, spare)), wanted, (0, most), on_top);
            let total = found.shares[0] + found.shares[1];
            prop_assert!(total <= most.max(nodes), "{found:?}");
            prop_assert!(found.units <= total);
            // Of those that serve so many are left at least, whoever it is that goes.
            let gone: u32 = parts.iter().zip(&found.shares).map(|(part, share)| part.there.saturating_sub(*share)).sum();
            let serving = parts[0].serving + parts[1].serving;
            if gone > 0 {
                prop_assert!(serving.saturating_sub(gone) >= found.units.min(serving), "{parts:?} {found:?}");
            }
        }

        /// Each step is followed by nodes that start: in the end there is what was planned.
        #[test]
        fn what_is_planned_is_reached(
            desired in prop::array::uniform2(0u32..20), base in 0u32..20, spare in 0u32..4, wanted in 0u32..15,
        ) {
            let split = planned(base, spare);
            let mut now = desired;
            let mut on_top = known(desired[0] + desired[1], 0);
            for _ in 0..4 {
                let parts = now.map(|nodes| part(nodes, nodes, nodes));
                let found = aim(&parts, Some(&split), wanted, (0, 60), on_top);
                now = [found.shares[0], found.shares[1]];
                let total = now[0] + now[1];
                on_top = known(total, total - found.units);
            }
            let on_demand = base.min(wanted + spare);
            prop_assert_eq!(now, [on_demand, wanted + spare - on_demand]);
        }
    }
}
