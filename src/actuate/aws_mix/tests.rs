//! Steps worked by hand, and what holds for all of them.

use aws_sdk_autoscaling::types::{LaunchTemplate, LaunchTemplateOverrides};
use prescale_domain::{PoolId, Span, SpotInputs, SpotPlan, Timestamp};
use proptest::prelude::*;

use super::*;

/// A plan with so many units on demand, all above them spot.
fn split(base: u32, spare: u32, rebalances: bool) -> SpotSplit {
    let aws = AwsMix {
        on_demand_base_capacity: base,
        spot_allocation_strategy: "price-capacity-optimized".to_owned(),
        capacity_rebalance: rebalances,
        ..AwsMix::default()
    };
    let plan = SpotPlan { on_demand: base, spare, aws, ..SpotPlan::default() };
    let inputs = SpotInputs::new(Timestamp::from_millis(0), 0, Vec::new(), Span::from_secs(100));
    SpotSplit { inputs, plan, leaving: Vec::new(), drain: Vec::new() }
}

/// A policy as AWS describes it.
fn described(base: i32, percent: i32, strategy: &str) -> MixedInstancesPolicy {
    let template = LaunchTemplateSpecification::builder()
        .launch_template_id("lt-1")
        .launch_template_name("web")
        .version("7")
        .build();
    let own = LaunchTemplateSpecification::builder().launch_template_id("lt-2").launch_template_name("arm").build();
    let line =
        |kind: &str, weight: &str| LaunchTemplateOverrides::builder().instance_type(kind).weighted_capacity(weight);
    let launches = LaunchTemplate::builder()
        .launch_template_specification(template)
        .overrides(line("m5.large", "1").build())
        .overrides(line("m7g.xlarge", "2").launch_template_specification(own).build())
        .build();
    let distribution = InstancesDistribution::builder()
        .on_demand_allocation_strategy("prioritized")
        .on_demand_base_capacity(base)
        .on_demand_percentage_above_base_capacity(percent)
        .spot_allocation_strategy(strategy)
        .spot_instance_pools(2)
        .spot_max_price("0.05")
        .build();
    MixedInstancesPolicy::builder().launch_template(launches).instances_distribution(distribution).build()
}

/// Units on demand and spot that serve, one of each weight, and the policy and capacity that they want.
fn group(on_demand: usize, spot: usize, desired: u32) -> (Group, BTreeMap<String, bool>) {
    let member = |id: String| Member {
        pool: PoolId { instance_type: "m5.large".to_owned(), zone: "a".to_owned() },
        id,
        serves: true,
        leaves: false,
        protected: false,
        weight: 1,
    };
    let ids = |kind: &str, count: usize| (0..count).map(|n| format!("{kind}-{n}")).collect::<Vec<_>>();
    let (on_demand, spot) = (ids("od", on_demand), ids("spot", spot));
    let kinds =
        on_demand.iter().map(|id| (id.clone(), false)).chain(spot.iter().map(|id| (id.clone(), true))).collect();
    let members = on_demand.into_iter().chain(spot).map(member).collect();
    (Group { desired, min: 0, max: 20, members, rebalances: true, ..Group::default() }, kinds)
}

/// Steps where the policy is as planned and nothing is on top.
fn at(state: &(Group, BTreeMap<String, bool>), split: &SpotSplit, wanted: u32, on_top: u32) -> Steps {
    let policy = described(split.plan.aws.on_demand_base_capacity.cast_signed(), 0, "price-capacity-optimized");
    let known = OnTop { total: state.0.desired, units: on_top, before: on_top };
    steps(&state.0, &policy, &state.1, split, (wanted, 0, 20), Some(known))
}

fn ends(steps: &Steps) -> Vec<(&str, bool)> {
    steps.ends.iter().map(|end| (end.id.as_str(), end.with_place)).collect()
}

#[test]
fn only_what_is_planned_is_written_of_the_policy() {
    let policy = described(1, 100, "lowest-price");
    let written = planned(&policy, &split(3, 0, true).plan.aws).unwrap();
    let mut expected = policy.clone();
    let distribution = expected.instances_distribution.as_mut().unwrap();
    distribution.on_demand_base_capacity = Some(3);
    distribution.on_demand_percentage_above_base_capacity = Some(0);
    distribution.spot_allocation_strategy = Some("price-capacity-optimized".to_owned());
    distribution.spot_instance_pools = None;
    let launches = expected.launch_template.as_mut().unwrap();
    launches.launch_template_specification.as_mut().unwrap().launch_template_name = None;
    launches.overrides.as_mut().unwrap()[1].launch_template_specification.as_mut().unwrap().launch_template_name = None;
    assert_eq!(written, expected);
    assert_eq!(planned(&written, &split(3, 0, true).plan.aws), None);
    // What is not set is AWS's default: all on demand, by the lowest price.
    let bare = MixedInstancesPolicy::builder().build();
    let mut defaults = split(0, 0, true).plan.aws;
    (defaults.on_demand_percentage_above_base, defaults.spot_allocation_strategy) = (100, "lowest-price".to_owned());
    assert_eq!(planned(&bare, &defaults), None);
    assert!(planned(&bare, &split(0, 0, true).plan.aws).is_some());
}

#[test]
fn spare_is_on_top_and_gives_way_to_the_maximum() {
    let state = group(3, 7, 10);
    assert_eq!((at(&state, &split(3, 2, true), 10, 0).units, at(&state, &split(3, 2, true), 10, 0).total), (10, 12));
    let most = steps(
        &state.0,
        &described(3, 0, "price-capacity-optimized"),
        &state.1,
        &split(3, 30, true),
        (12, 0, 14),
        Some(OnTop::default()),
    );
    assert_eq!((most.units, most.total), (12, 14));
}

#[test]
fn a_start_asks_for_no_second_spare() {
    let policy = described(3, 0, "price-capacity-optimized");
    let of = |wanted, desired, least| {
        let state = group(3, 0, desired);
        let steps = steps(&state.0, &policy, &state.1, &split(3, 2, true), (wanted, least, 20), None);
        (steps.units, steps.total)
    };
    // What was seen is held: the spare is within it.
    assert_eq!(of(12, 12, 0), (10, 12));
    assert_eq!(of(11, 12, 0), (10, 12));
    assert_eq!(of(12, 12, 11), (11, 12));
    // Less or more than was seen is what was decided.
    assert_eq!(of(9, 12, 0), (9, 11));
    assert_eq!(of(13, 12, 0), (13, 15));
}

#[test]
fn units_under_notice_have_a_place_until_they_are_drained() {
    let mut state = group(3, 7, 10);
    state.0.rebalances = false;
    let mut noticed = split(3, 1, false);
    noticed.leaving = vec!["spot-2".to_owned(), "gone".to_owned()];
    assert_eq!(at(&state, &noticed, 9, 1).total, 11);
    noticed.drain = vec!["spot-2".to_owned(), "gone".to_owned()];
    assert_eq!(ends(&at(&state, &noticed, 9, 1)), [("spot-2", true)]);
    // Where there is no room for its place the group replaces it.
    let full = steps(
        &state.0,
        &described(3, 0, "price-capacity-optimized"),
        &state.1,
        &noticed,
        (10, 0, 10),
        Some(OnTop::default()),
    );
    assert_eq!((full.total, ends(&full)), (10, vec![("spot-2", false)]));
    // A group that rebalances replaces it by itself.
    state.0.rebalances = true;
    noticed.plan.aws.capacity_rebalance = true;
    let steps = at(&state, &noticed, 9, 1);
    assert_eq!((steps.total, ends(&steps)), (10, vec![("spot-2", false)]));
    // One that is on its way out is nobody's any more.
    state.0.members[5].leaves = true;
    let steps = at(&state, &noticed, 9, 1);
    assert_eq!((steps.total, ends(&steps)), (10, vec![]));
}

#[test]
fn on_demand_units_go_one_by_one_where_spot_is_to_be_more() {
    // Five on demand where three are planned, and a spare one: it is what may be missing.
    let state = group(5, 6, 11);
    let next = at(&state, &split(3, 1, true), 10, 1);
    assert_eq!((next.total, ends(&next)), (11, vec![("od-0", false)]));
    // Without a spare one there has to be room first.
    let state = group(5, 5, 10);
    let next = at(&state, &split(3, 0, true), 10, 0);
    assert_eq!((next.units, next.total, ends(&next)), (10, 11, vec![]));
    let state = group(5, 6, 11);
    let next = at(&state, &split(3, 0, true), 10, 1);
    assert_eq!((next.total, ends(&next)), (11, vec![("od-0", false)]));
    // While its successor starts none goes, and the room stays.
    let mut state = group(4, 7, 11);
    state.0.members[10].serves = false;
    let next = at(&state, &split(3, 0, true), 10, 1);
    assert_eq!((next.total, ends(&next)), (11, vec![]));
    // What is left goes as the room does.
    let next = at(&group(4, 7, 11), &split(3, 0, true), 10, 1);
    assert_eq!((next.total, ends(&next)), (10, vec![]));
}

#[test]
fn on_demand_units_that_are_short_are_launched_at_once() {
    let state = group(0, 10, 10);
    let next = at(&state, &split(4, 0, true), 10, 0);
    assert_eq!((next.total, ends(&next)), (14, vec![]));
    // Until they serve nobody goes for them.
    let mut state = group(4, 10, 14);
    for member in &mut state.0.members[..4] {
        member.serves = false;
    }
    let next = at(&state, &split(4, 0, true), 10, 4);
    assert_eq!((next.total, ends(&next)), (14, vec![]));
    let next = at(&group(4, 10, 14), &split(4, 0, true), 10, 4);
    assert_eq!((next.total, ends(&next)), (10, vec![]));
    // At the maximum as many spot units make room as are not needed.
    let state = group(0, 20, 20);
    let next = at(&state, &split(4, 3, true), 17, 3);
    assert_eq!((next.total, ends(&next)), (20, vec![("spot-0", false), ("spot-1", false), ("spot-2", false)]));
    let next = at(&state, &split(4, 0, true), 20, 0);
    assert_eq!((next.total, ends(&next)), (20, vec![]));
}

#[test]
fn what_is_not_known_is_not_moved() {
    let (group, mut kinds) = group(5, 6, 11);
    kinds.remove("spot-3");
    let next = at(&(group, kinds), &split(3, 1, true), 10, 1);
    assert_eq!((next.total, ends(&next)), (11, vec![]));
}

#[test]
fn what_is_on_top_is_known_of_what_was_asked_for() {
    let known = OnTop { total: 12, units: 4, before: 1 };
    assert_eq!([known.of(12), known.of(9), known.of(0)], [4, 1, 0]);
}

proptest! {
    /// The group does what it is told, ends what is to end and launches what is missing by its policy, again and again.
    #[test]
    fn any_group_comes_to_what_is_planned_and_never_lacks_what_is_wanted(
        on_demand in 0usize..12, spot in 0usize..12, base in 0u32..12, spare in 0u32..4, room in 0u32..4, most in 0u32..6,
    ) {
        prop_assume!(on_demand + spot > 0);
        let running = (on_demand + spot) as u32;
        let (mut group, mut kinds) = group(on_demand, spot, running);
        let wanted = running.saturating_sub(room);
        let most = wanted + most;
        let plan = split(base, spare, true);
        let mut policy = described(0, 100, "lowest-price");
        let mut on_top = Some(OnTop { total: running, units: running - wanted, before: running - wanted });
        let mut quiet = 0;
        for round in 0..200 {
            let next = steps(&group, &policy, &kinds, &plan, (wanted, 0, most), on_top);
            prop_assert!(next.units == wanted && (wanted..=most.max(wanted)).contains(&next.total));
            quiet = if next.policy.is_none() && next.ends.is_empty() && next.total == group.desired { quiet + 1 } else { 0 };
            let on = next.total - next.units;
            on_top = Some(OnTop { total: next.total, units: on, before: on });
            group.desired = next.total;
            policy = next.policy.unwrap_or(policy);
            group.members.retain(|member| next.ends.iter().all(|end| end.id != member.id));
            prop_assert!(next.ends.len() <= 1 || next.ends.iter().all(|end| end.id.starts_with("spot") || end.id.starts_with("new-s")));
            // The group: the surplus goes by its policy, and what lacks starts and serves a round later.
            for member in &mut group.members {
                member.serves = true;
            }
            let planned = on_demand_of(&policy, group.desired);
            while group.members.len() as u32 > group.desired {
                let held = group.members.iter().filter(|member| !kinds[&member.id]).count() as u32;
                let goes = group.members.iter().position(|member| kinds[&member.id] == (held <= planned));
                group.members.remove(goes.unwrap_or(0));
            }
            while (group.members.len() as u32) < group.desired {
                let held = group.members.iter().filter(|member| !kinds[&member.id]).count() as u32;
                let is_spot = held >= planned;
                let id = format!("new-{}-{round}-{}", if is_spot { "s" } else { "o" }, group.members.len());
                kinds.insert(id.clone(), is_spot);
                let pool = PoolId { instance_type: "m5.large".to_owned(), zone: "a".to_owned() };
                group.members.push(Member { id, pool, serves: false, leaves: false, protected: false, weight: 1 });
            }
            prop_assert!(group.ready() >= wanted.min(running), "{} of {wanted}", group.ready());
            if quiet > 3 {
                break;
            }
        }
        prop_assert!(quiet > 3, "it never comes to rest: {group:?}");
        let held = group.members.iter().filter(|member| !kinds[&member.id]).count() as u32;
        let planned = on_demand_of(&policy, group.desired);
        // At the maximum and without a spare unit nothing can be moved.
        prop_assert!(held == planned || (group.desired == most && most == wanted), "{held} of {planned}");
    }
}

fn on_demand_of(policy: &MixedInstancesPolicy, capacity: u32) -> u32 {
    let distribution = policy.instances_distribution().unwrap();
    let base = distribution.on_demand_base_capacity().unwrap().cast_unsigned();
    if distribution.on_demand_percentage_above_base_capacity() == Some(100) { capacity } else { base.min(capacity) }
}
