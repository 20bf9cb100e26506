//! What holds whatever is called, and when.

use proptest::prelude::*;

use super::*;

/// Calls and waits as a client might make them.
#[derive(Clone, Debug)]
enum Act {
    Wait(i64),
    Set(u32),
    Bounds(u32, u32),
    Suspend(&'static str),
    Resume,
    Terminate(usize, bool),
    EndPastGroup(usize),
    Protect(usize),
    Interrupt(usize, bool),
    WarmPool(u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1i64..400).prop_map(Act::Wait),
        4 => (0u32..30).prop_map(Act::Set),
        1 => (0u32..10, 5u32..30).prop_map(|(min, max)| Act::Bounds(min, max)),
        1 => prop_oneof![Just("Launch"), Just("Terminate"), Just("HealthCheck")].prop_map(Act::Suspend),
        1 => Just(Act::Resume),
        1 => (0usize..30, any::<bool>()).prop_map(|(index, decrement)| Act::Terminate(index, decrement)),
        1 => (0usize..30).prop_map(Act::EndPastGroup),
        1 => (0usize..30).prop_map(Act::Protect),
        2 => (0usize..30, any::<bool>()).prop_map(|(index, warned)| Act::Interrupt(index, warned)),
        1 => (0u32..20).prop_map(Act::WarmPool),
    ]
}

fn perform(desk: &mut Desk, act: &Act) {
    let ids: Vec<String> = desk.serving("web");
    let pick = |index: usize| (!ids.is_empty()).then(|| ids[index % ids.len()].clone());
    // A refusal is an answer, too.
    let asked = match act {
        Act::Wait(secs) => {
            desk.wait(*secs);
            Ok(String::new())
        }
        Act::Set(desired) => {
            desk.asg("SetDesiredCapacity", &format!("AutoScalingGroupName=web&DesiredCapacity={desired}"))
        }
        Act::Bounds(min, max) => {
            desk.asg("UpdateAutoScalingGroup", &format!("AutoScalingGroupName=web&MinSize={min}&MaxSize={max}"))
        }
        Act::Suspend(process) => {
            desk.asg("SuspendProcesses", &format!("AutoScalingGroupName=web&ScalingProcesses.member.1={process}"))
        }
        Act::Resume => desk.asg("ResumeProcesses", "AutoScalingGroupName=web"),
        Act::Terminate(index, decrement) => {
            let id = pick(*index).unwrap_or_default();
            let call = format!("InstanceId={id}&ShouldDecrementDesiredCapacity={decrement}");
            desk.asg("TerminateInstanceInAutoScalingGroup", &call)
        }
        Act::EndPastGroup(index) => {
            desk.ec2("TerminateInstances", &format!("InstanceId.1={}", pick(*index).unwrap_or_default()))
        }
        Act::Protect(index) => {
            let id = pick(*index).unwrap_or_default();
            let call = format!("AutoScalingGroupName=web&ProtectedFromScaleIn=true&InstanceIds.member.1={id}");
            desk.asg("SetInstanceProtection", &call)
        }
        Act::Interrupt(index, warned) => {
            let notice = desk.now + Span::from_secs(300);
            let recommended = warned.then_some(desk.now + Span::from_secs(30));
            desk.aws.interrupt(&pick(*index).unwrap_or_default(), recommended, notice);
            Ok(String::new())
        }
        Act::WarmPool(prepared) => {
            desk.asg("PutWarmPool", &format!("AutoScalingGroupName=web&MaxGroupPreparedCapacity={prepared}"))
        }
    };
    if let Err((status, _)) = asked {
        assert_eq!(status, 400);
    }
}

fn account(base: u32, percent: u32, rebalance: bool) -> Desk {
    let mut desk = Desk::new();
    desk.create("web", (2, 20, 5), &format!("{}&CapacityRebalance={rebalance}", mixed(base, percent)));
    desk
}

/// `bounded` is when bounds were changed last.
fn hold(desk: &Desk, rebalance: bool, bounded: Option<Timestamp>) {
    let world = &desk.aws.world;
    let tally = world.tally;
    let running = world.instances.values().filter(|one| one.ended_at.is_none()).count() as u64;
    assert_eq!(tally.launched, running + tally.ended, "launched = running + ended");
    for one in world.instances.values() {
        let member = world.groups["web"].members.contains(&one.number);
        let over = one.lifecycle == super::super::instance::Lifecycle::Terminated;
        assert!(member != over, "an instance is of its group until it has ended: {one:?}");
        assert!(!over || one.ended_at.is_some());
    }
    let group = &world.groups["web"];
    assert!(group.min <= group.desired && group.desired <= group.max, "{} {} {}", group.min, group.desired, group.max);
    let live = world.members(group).filter(|one| one.lifecycle.is_live()).count();
    // A tenth of the largest capacity that any of these scripts asks for.
    let extra = if rebalance { 3 } else { 0 };
    let mut activities = world.activities.get("web").into_iter().flatten();
    let newest = activities.rfind(|one| one.description.starts_with("Launching"));
    // Bounds may have been lowered since, in the same moment as well; what is launched never passes them.
    if newest.is_some_and(|one| one.start == world.now && bounded != Some(one.start)) {
        assert!(live <= group.max as usize + extra, "{live} of at most {}", group.max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn instances_are_conserved_and_bounds_kept(
        acts in prop::collection::vec(act(), 1..40),
        (base, percent, rebalance) in (0u32..6, 0u32..=100, any::<bool>()),
    ) {
        let mut desk = account(base, percent, rebalance);
        let mut bounded = None;
        for act in &acts {
            perform(&mut desk, act);
            if matches!(act, Act::Bounds(..)) {
                bounded = Some(desk.aws.world.now);
            }
            hold(&desk, rebalance, bounded);
        }
        // Left alone and with nothing suspended, the group has what it wants.
        desk.asg("ResumeProcesses", "AutoScalingGroupName=web").unwrap();
        for _ in 0..40 {
            desk.wait(60);
            hold(&desk, rebalance, bounded);
        }
        let group = desk.aws.world.groups["web"].clone();
        let members = desk.aws.world.members(&group).filter(|one| one.lifecycle.is_live());
        let (protected, free): (Vec<_>, Vec<_>) = members.partition(|one| one.protected);
        prop_assert!(protected.len() + free.len() >= group.desired as usize);
        prop_assert!(free.is_empty() || protected.len() + free.len() == group.desired as usize);
    }

    #[test]
    fn the_same_calls_give_the_same_bytes_however_often_time_is_moved(
        acts in prop::collection::vec(act(), 1..25),
    ) {
        let (mut one, mut other) = (account(1, 40, true), account(1, 40, true));
        for act in &acts {
            perform(&mut one, act);
            if let Act::Wait(secs) = act {
                // The same call as the other one makes, and then time second by second.
                other.serving("web");
                for _ in 0..*secs {
                    other.wait(1);
                }
            } else {
                perform(&mut other, act);
            }
            let looks = [one.describe("web"), other.describe("web")];
            let (first, second) = (looks[0].split_once("<ResponseMetadata>"), looks[1].split_once("<ResponseMetadata>"));
            prop_assert_eq!(first.map(|parts| parts.0), second.map(|parts| parts.0));
        }
    }
}
