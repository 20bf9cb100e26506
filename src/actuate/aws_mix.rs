//! What is done to a group whose capacity is split, given what it is and what is planned. Rule: pure; who is wanted stays in
//! service, and of the group's policy what is not planned goes back as it came.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::{InstancesDistribution, LaunchTemplateSpecification, MixedInstancesPolicy};
use prescale_domain::{AwsMix, SpotSplit};

use crate::aws_group::{Group, Member};

/// How much of a group's desired capacity is above what is wanted: spare, units under notice, room for a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnTop {
    /// What was asked for, and how much of it is on top.
    pub(crate) total: u32,
    pub(crate) units: u32,
    /// How much was on top before that, for a group that was not told or was changed since.
    pub(crate) before: u32,
}

impl OnTop {
    pub(crate) fn of(self, desired: u32) -> u32 {
        let units = if desired == self.total { self.units } else { self.before };
        units.min(desired)
    }
}

/// What a group is to become.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Steps {
    /// Units that are wanted, and with what is on top of them.
    pub(crate) units: u32,
    pub(crate) total: u32,
    /// What is written of its policy; `None` = it is as planned.
    pub(crate) policy: Option<MixedInstancesPolicy>,
    pub(crate) rebalances: Option<bool>,
    pub(crate) ends: Vec<End>,
}

/// An instance that is taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) id: String,
    pub(crate) weight: u32,
    /// Desired capacity goes down with it; otherwise the group replaces it.
    pub(crate) with_place: bool,
}

/// The steps for `split` where `wanted` units are wanted, at least `least` and at most `most` may be asked for, and `on_top` is what
/// is remembered; `spot` says of instances that are known whether they are spot.
pub(crate) fn steps(
    group: &Group,
    described: &MixedInstancesPolicy,
    spot: &BTreeMap<String, bool>,
    split: &SpotSplit,
    (wanted, least, most): (u32, u32, u32),
    on_top: Option<OnTop>,
) -> Steps {
    let mix = &split.plan.aws;
    let policy = planned(described, mix);
    let rebalances = (group.rebalances != mix.capacity_rebalance).then_some(mix.capacity_rebalance);
    // What the group replaces by itself needs no place beside the plan.
    let leaving: Vec<&Member> = group.live().filter(|member| split.leaving.contains(&member.id)).collect();
    let leaving = if mix.capacity_rebalance { 0 } else { weight(leaving.into_iter()) };
    let above = split.plan.spare.saturating_add(leaving);
    let steady = wanted.saturating_add(above).min(most);
    // After a start nobody knows what is on top: that the spare is there already is what asks for nothing. Were it not, the next
    // decision would add it; were it taken for wanted, each start would add another.
    let (units, steady) = if on_top.is_none() && wanted <= group.desired && group.desired < steady {
        (group.desired.saturating_sub(above).max(least), group.desired)
    } else {
        (wanted, steady)
    };
    let kept = steady.saturating_sub(leaving).max(units);
    let shift = Shift::of(group, spot, split, on_demand(mix, kept), kept);
    let total = steady.saturating_add(shift.room(kept - units)).min(most).max(steady);
    let mut place = leaving.min(total - units);
    let mut ends: Vec<End> = Vec::new();
    for member in group.live().filter(|member| split.drain.contains(&member.id)) {
        let with_place = member.weight <= place;
        place -= if with_place { member.weight } else { 0 };
        ends.push(End { id: member.id.clone(), weight: member.weight, with_place });
    }
    let at_rest = policy.is_none() && rebalances.is_none() && ends.is_empty();
    if at_rest && group.desired == total && group.ready() >= total {
        ends = shift.ends(units);
    }
    Steps { units, total, policy, rebalances, ends }
}

/// Units on demand of `capacity`, as AWS reckons: the base first, and of the rest the share rounded up.
fn on_demand(mix: &AwsMix, capacity: u32) -> u32 {
    let base = mix.on_demand_base_capacity.min(capacity);
    let share = u64::from(capacity - base) * u64::from(mix.on_demand_percentage_above_base.min(100));
    base + u32::try_from(share.div_ceil(100)).unwrap_or(u32::MAX)
}

fn weight<'a>(members: impl Iterator<Item = &'a Member>) -> u32 {
    members.map(|member| member.weight).fold(0, u32::saturating_add)
}

/// Units that are of the wrong kind. A group launches by its policy and leaves alone what runs, so that they have to be replaced.
#[derive(Debug, Default)]
struct Shift<'a> {
    /// On-demand units are short: that is urgent, the other way saves money.
    urgent: bool,
    /// Units that are to be of the other kind, and those that may go for them, in this order.
    due: u32,
    victims: Vec<&'a Member>,
    /// Units in service that are not under notice.
    serving: u32,
}

impl<'a> Shift<'a> {
    /// From `planned` units on demand of `kept`. A unit counts where there is too much of its kind as soon as it is there, and
    /// where there is too little only when it serves: until then none goes for it.
    fn of(group: &'a Group, spot: &BTreeMap<String, bool>, split: &SpotSplit, planned: u32, kept: u32) -> Self {
        let live: Vec<&Member> = group.live().filter(|member| !split.leaving.contains(&member.id)).collect();
        let kinds: Option<Vec<bool>> = live.iter().map(|member| spot.get(&member.id).copied()).collect();
        let Some(kinds) = kinds else { return Self::default() };
        let of = |is_spot: bool| {
            live.iter().zip(&kinds).filter(move |(_, kind)| **kind == is_spot).map(|(member, _)| *member)
        };
        let serving = |is_spot: bool| weight(of(is_spot).filter(|member| member.serves));
        let planned_spot = kept.saturating_sub(planned);
        let short = planned.saturating_sub(serving(false)).min(weight(of(true)).saturating_sub(planned_spot));
        let over = weight(of(false)).saturating_sub(planned).min(planned_spot.saturating_sub(serving(true)));
        let (urgent, due) = (short > 0, short.max(over));
        let crowd = |zone: &str| live.iter().filter(|member| member.pool.zone == zone).count();
        let mut victims: Vec<(usize, &Member)> = of(urgent).filter(|member| !member.protected).enumerate().collect();
        victims.sort_by_key(|(at, member)| (Reverse(crowd(&member.pool.zone)), *at));
        let victims = victims.into_iter().map(|(_, member)| member).filter(|member| member.weight <= due).collect();
        Self { urgent, due, victims, serving: serving(true).saturating_add(serving(false)) }
    }

    /// Capacity to be added to what is on top anyway: all that is short at once, or as much as one unit needs to go.
    fn room(&self, on_top: u32) -> u32 {
        if self.urgent {
            return self.due;
        }
        let needed = self.victims.iter().map(|member| member.weight).min().unwrap_or_default();
        needed.saturating_sub(on_top)
    }

    /// Who goes now: one, or where on-demand units are short as many as are due, and none that `wanted` units in service need.
    fn ends(&self, wanted: u32) -> Vec<End> {
        let (mut left, mut serving, mut ends) = (self.due, self.serving, Vec::new());
        for member in &self.victims {
            let needed = member.weight > left || serving.saturating_sub(member.weight) < wanted;
            if needed || (!self.urgent && !ends.is_empty()) {
                continue;
            }
            left -= member.weight;
            serving -= member.weight;
            ends.push(End { id: member.id.clone(), weight: member.weight, with_place: false });
        }
        ends
    }
}

/// The policy as it was described, with what is planned; `None` = that is what it is.
fn planned(described: &MixedInstancesPolicy, mix: &AwsMix) -> Option<MixedInstancesPolicy> {
    let (base, percent) = (count(mix.on_demand_base_capacity), count(mix.on_demand_percentage_above_base.min(100)));
    let known = described.instances_distribution();
    // AWS's defaults for what is not set.
    let is_planned = known.and_then(InstancesDistribution::on_demand_base_capacity).unwrap_or(0) == base
        && known.and_then(InstancesDistribution::on_demand_percentage_above_base_capacity).unwrap_or(100) == percent
        && known.and_then(InstancesDistribution::spot_allocation_strategy).unwrap_or(LOWEST_PRICE)
            == mix.spot_allocation_strategy;
    if is_planned {
        return None;
    }
    let mut policy = described.clone();
    let distribution = policy.instances_distribution.get_or_insert_with(|| InstancesDistribution::builder().build());
    distribution.on_demand_base_capacity = Some(base);
    distribution.on_demand_percentage_above_base_capacity = Some(percent);
    distribution.spot_allocation_strategy = Some(mix.spot_allocation_strategy.clone());
    // It belongs to that strategy, and AWS refuses it with others.
    if mix.spot_allocation_strategy != LOWEST_PRICE {
        distribution.spot_instance_pools = None;
    }
    if let Some(launches) = &mut policy.launch_template {
        one_name(launches.launch_template_specification.as_mut());
        for line in launches.overrides.iter_mut().flatten() {
            one_name(line.launch_template_specification.as_mut());
        }
    }
    Some(policy)
}

const LOWEST_PRICE: &str = "lowest-price";

/// AWS describes a template by id and by name, and takes one of both.
fn one_name(template: Option<&mut LaunchTemplateSpecification>) {
    if let Some(template) = template.filter(|template| template.launch_template_id.is_some()) {
        template.launch_template_name = None;
    }
}

fn count(units: u32) -> i32 {
    i32::try_from(units).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
