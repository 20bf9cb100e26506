//! Sizes, mixes and validations of groups.

use super::*;
use crate::aws::Shortage;

#[test]
fn instances_are_pending_for_their_latency_and_then_in_service() {
    let mut desk = Desk::new();
    desk.create("web", (1, 20, 4), "");
    assert_eq!(desk.states("web"), counts([]));
    desk.wait(1);
    assert_eq!(desk.states("web"), counts([("Pending", 4)]));
    desk.wait(99);
    assert_eq!(desk.states("web"), counts([("Pending", 4)]));
    desk.wait(1);
    assert_eq!(desk.states("web"), counts([("InService", 4)]));
    assert_eq!(counted(all(&desk.describe("web"), "HealthStatus")), counts([("Healthy", 4)]));
    desk.set_desired("web", 1);
    desk.wait(1);
    assert_eq!(desk.states("web"), counts([("InService", 1), ("Terminating", 3)]));
    desk.wait(30);
    assert_eq!(desk.states("web"), counts([("InService", 1)]));
}

#[test]
fn a_mixed_group_buys_what_its_distribution_says_in_even_zones() {
    let mut desk = Desk::new();
    desk.create("web", (0, 600, 6), &mixed(2, 20));
    // 2 + ⌈0.2 × 4⌉ = 3 and 3.
    for (desired, expected) in [(6, (3, 3)), (50, (12, 38)), (200, (42, 158)), (7, (3, 4)), (0, (0, 0)), (3, (3, 0))] {
        desk.set_desired("web", desired);
        desk.wait(200);
        assert_eq!(desk.bought(), expected, "desired {desired}");
        let zones = counted(all(&desk.ec2("DescribeInstances", "").unwrap(), "availabilityZone"));
        let described = desk.describe("web");
        let instances = described.split_once("<Instances>").unwrap().1;
        let even = counted(all(instances, "AvailabilityZone"));
        let (least, most) = (even.values().min().copied().unwrap_or(0), even.values().max().copied().unwrap_or(0));
        assert!(desired < 3 || (even.len() == 3 && most - least <= 1), "{even:?} of {zones:?}");
    }
}

#[test]
fn weights_count_as_capacity() {
    let mut desk = Desk::new();
    let spec = "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName=default\
                &MixedInstancesPolicy.LaunchTemplate.Overrides.member.1.InstanceType=m5.xlarge\
                &MixedInstancesPolicy.LaunchTemplate.Overrides.member.1.WeightedCapacity=4\
                &MixedInstancesPolicy.InstancesDistribution.OnDemandPercentageAboveBaseCapacity=100";
    desk.create("web", (0, 20, 10), spec);
    desk.wait(200);
    // Three of weight 4 are the first that reach 10; one of them goes when 8 are enough.
    assert_eq!(desk.states("web"), counts([("InService", 3)]));
    desk.set_desired("web", 9);
    desk.wait(100);
    assert_eq!(desk.states("web"), counts([("InService", 3)]));
    desk.set_desired("web", 8);
    desk.wait(100);
    assert_eq!(desk.states("web"), counts([("InService", 2)]));
}

#[test]
fn an_update_changes_what_it_names() {
    let mut desk = Desk::new();
    desk.create(
        "web",
        (2, 20, 4),
        &(mixed(2, 20) + "&DefaultInstanceWarmup=45&CapacityRebalance=true&DefaultCooldown=60"),
    );
    let before = desk.describe("web");
    desk.asg("UpdateAutoScalingGroup", "AutoScalingGroupName=web&MinSize=3").unwrap();
    let after = desk.describe("web");
    assert_eq!(
        after,
        before
            .replace("<MinSize>2</MinSize>", "<MinSize>3</MinSize>")
            .replace(&all(&before, "RequestId")[0], &all(&after, "RequestId")[0])
    );
    for (change, sizes) in
        [("MinSize=6", (6, 20, 6)), ("MaxSize=5&MinSize=1", (1, 5, 5)), ("DesiredCapacity=2", (1, 5, 2))]
    {
        desk.asg("UpdateAutoScalingGroup", &format!("AutoScalingGroupName=web&{change}")).unwrap();
        let body = desk.describe("web");
        let size = |name: &str| all(&body, name)[0].parse::<u32>().unwrap();
        assert_eq!((size("MinSize"), size("MaxSize"), size("DesiredCapacity")), sizes, "{change}");
    }
}

#[test]
fn what_aws_refuses_is_refused_in_its_words_and_changes_nothing() {
    let mut desk = Desk::new();
    desk.create("web", (2, 20, 4), "");
    desk.wait(200);
    let before = desk.describe("web");
    let table = [
        (
            "SetDesiredCapacity",
            "AutoScalingGroupName=web&DesiredCapacity=50",
            "400 ValidationError: New SetDesiredCapacity value 50 is above max value 20 for the AutoScalingGroup.",
        ),
        (
            "SetDesiredCapacity",
            "AutoScalingGroupName=web&DesiredCapacity=1",
            "400 ValidationError: New SetDesiredCapacity value 1 is below min value 2 for the AutoScalingGroup.",
        ),
        (
            "SetDesiredCapacity",
            "AutoScalingGroupName=no&DesiredCapacity=1",
            "400 ValidationError: AutoScalingGroup name not found - AutoScalingGroup: no not found",
        ),
        (
            "SetDesiredCapacity",
            "AutoScalingGroupName=web",
            "400 ValidationError: 1 validation error detected: Value null at 'desiredCapacity' failed to satisfy constraint: \
          Member must not be null",
        ),
        (
            "UpdateAutoScalingGroup",
            "AutoScalingGroupName=web&MinSize=30",
            "400 ValidationError: Max bound, 20, must be greater than or equal to min bound, 30",
        ),
        (
            "UpdateAutoScalingGroup",
            "AutoScalingGroupName=web&DesiredCapacity=21",
            "400 ValidationError: Desired capacity:21 must be between the specified min size:2 and max size:20",
        ),
        (
            "CreateAutoScalingGroup",
            "AutoScalingGroupName=web&MinSize=0&MaxSize=1",
            "400 AlreadyExists: AutoScalingGroup by this name already exists - A group with the name web already exists",
        ),
        (
            "CreateAutoScalingGroup",
            "AutoScalingGroupName=new&MinSize=0&MaxSize=1&LaunchTemplate.LaunchTemplateName=none",
            "400 ValidationError: You must use a valid fully-formed launch template. The specified launch template, with \
          template name none, does not exist.",
        ),
        (
            "DeleteAutoScalingGroup",
            "AutoScalingGroupName=web",
            "400 ResourceInUse: You cannot delete an AutoScalingGroup while there are instances or pending Spot instance \
          request(s) still in the group.",
        ),
        ("DescribeAutoScalingGroups", "NextToken=x", "400 InvalidNextToken: The token is not valid."),
        (
            "PutLifecycleHook",
            "AutoScalingGroupName=web&LifecycleHookName=h&LifecycleTransition=x",
            "400 ValidationError: Invalid Lifecycle Transition: x",
        ),
        (
            "CompleteLifecycleAction",
            "AutoScalingGroupName=web&LifecycleHookName=h&LifecycleActionResult=CONTINUE&InstanceId=i-1",
            "400 ValidationError: No active Lifecycle Action found with instance ID i-1",
        ),
        ("DoSomething", "", "400 InvalidAction: Could not find operation DoSomething for version 2011-01-01"),
    ];
    for (operation, parameters, expected) in table {
        assert_eq!(desk.refusal(operation, parameters), expected, "{operation} {parameters}");
    }
    let after = desk.describe("web");
    assert_eq!(after, before.replace(&all(&before, "RequestId")[0], &all(&after, "RequestId")[0]));
}

#[test]
fn a_cooldown_is_honoured_where_the_call_asks_for_it() {
    let mut desk = Desk::new();
    desk.create("web", (1, 20, 2), "DefaultCooldown=300");
    desk.wait(200);
    let honoured = "AutoScalingGroupName=web&DesiredCapacity=3&HonorCooldown=true";
    assert_eq!(desk.asg("SetDesiredCapacity", honoured), Err((400, "ScalingActivityInProgress".to_owned())));
    // The launches ended 101 s after the start.
    desk.wait(201);
    assert!(desk.asg("SetDesiredCapacity", honoured).is_ok());
    desk.wait(10);
    let next = "AutoScalingGroupName=web&DesiredCapacity=4&HonorCooldown=true";
    assert_eq!(desk.asg("SetDesiredCapacity", next), Err((400, "ScalingActivityInProgress".to_owned())));
    desk.set_desired("web", 4);
}

#[test]
fn suspended_processes_and_protected_instances_stay_as_they_are() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 4), "");
    desk.wait(200);
    desk.asg("SuspendProcesses", "AutoScalingGroupName=web&ScalingProcesses.member.1=Launch").unwrap();
    desk.set_desired("web", 8);
    desk.wait(300);
    assert_eq!(desk.states("web"), counts([("InService", 4)]));
    desk.asg("ResumeProcesses", "AutoScalingGroupName=web").unwrap();
    desk.wait(200);
    assert_eq!(desk.states("web"), counts([("InService", 8)]));
    desk.asg("SuspendProcesses", "AutoScalingGroupName=web&ScalingProcesses.member.1=Terminate").unwrap();
    desk.set_desired("web", 2);
    desk.wait(300);
    assert_eq!(desk.states("web"), counts([("InService", 8)]));
    let ids = desk.serving("web");
    let protect = format!(
        "AutoScalingGroupName=web&ProtectedFromScaleIn=true&InstanceIds.member.1={}&InstanceIds.member.2={}&InstanceIds.member.3={}",
        ids[0], ids[3], ids[7]
    );
    desk.asg("SetInstanceProtection", &protect).unwrap();
    desk.asg("ResumeProcesses", "AutoScalingGroupName=web&ScalingProcesses.member.1=Terminate").unwrap();
    desk.wait(300);
    // Three are protected, so that 2 cannot be reached.
    assert_eq!(desk.serving("web"), [ids[0].clone(), ids[3].clone(), ids[7].clone()]);
}

#[test]
fn a_named_instance_goes_with_or_without_a_replacement() {
    let mut desk = Desk::new();
    desk.create("web", (3, 20, 4), "");
    desk.wait(200);
    let ids = desk.serving("web");
    let terminate = |id: &str, decrement: bool| format!("InstanceId={id}&ShouldDecrementDesiredCapacity={decrement}");
    let answer = desk.asg("TerminateInstanceInAutoScalingGroup", &terminate(&ids[1], true)).unwrap();
    assert_eq!(all(&answer, "StatusCode"), ["InProgress"]);
    assert!(all(&answer, "Cause")[0].contains("changing the desired capacity from 4 to 3"), "{answer}");
    desk.wait(200);
    assert_eq!(desk.serving("web"), [ids[0].clone(), ids[2].clone(), ids[3].clone()]);
    assert_eq!(
        desk.refusal("TerminateInstanceInAutoScalingGroup", &terminate(&ids[0], true)),
        "400 ValidationError: Currently, desiredSize equals minSize (3). Terminating instance without replacement will \
         violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower \
         group's min size."
    );
    desk.asg("TerminateInstanceInAutoScalingGroup", &terminate(&ids[0], false)).unwrap();
    desk.wait(200);
    assert_eq!(desk.serving("web").len(), 3);
    assert!(!desk.serving("web").contains(&ids[0]));
    // EC2 may be asked past the group, which finds out and replaces.
    desk.ec2("TerminateInstances", &format!("InstanceId.1={}", ids[2])).unwrap();
    desk.wait(10);
    assert!(desk.serving("web").contains(&ids[2]));
    desk.wait(200);
    assert_eq!(desk.serving("web").len(), 3);
    assert!(!desk.serving("web").contains(&ids[2]));
}

#[test]
fn capacity_that_cannot_be_had_is_a_failed_activity_and_comes_when_it_can() {
    let mut desk = Desk::new();
    let until = desk.now + Span::from_secs(600);
    desk.aws.lack(Shortage { instance_type: None, zone: None, spot: None, from: desk.now, until, units: 0 });
    desk.create("web", (0, 20, 2), "");
    desk.wait(30);
    let body = desk.asg("DescribeScalingActivities", "AutoScalingGroupName=web").unwrap();
    assert_eq!(all(&body, "StatusCode"), ["Failed"]);
    assert_eq!(
        all(&body, "StatusMessage"),
        [
            "We currently do not have sufficient m5.large capacity in the Availability Zone you requested (eu-west-1a). Our \
          system will be working on provisioning additional capacity. Launching EC2 instance failed."
        ]
    );
    assert!(
        all(&body, "Cause")[0]
            .contains("a user request created an AutoScalingGroup changing the desired capacity from 0 to 2")
    );
    assert_eq!(desk.states("web"), counts([]));
    desk.wait(570 + 60 + 101);
    assert_eq!(desk.states("web"), counts([("InService", 2)]));
    let body = desk.asg("DescribeScalingActivities", "AutoScalingGroupName=web&MaxRecords=2").unwrap();
    assert_eq!(all(&body, "StatusCode"), ["Successful", "Successful"]);
    assert_eq!(all(&body, "NextToken").len(), 1);
}

#[test]
fn a_zone_without_capacity_is_made_up_for_in_the_others() {
    let mut desk = Desk::new();
    let until = desk.now + Span::from_minutes(600);
    let zone = Some("eu-west-1a".to_owned());
    desk.aws.lack(Shortage { instance_type: None, zone, spot: Some(true), from: desk.now, until, units: 1 });
    desk.create("web", (0, 20, 9), &mixed(0, 0));
    desk.wait(200);
    let body = desk.ec2("DescribeInstances", "").unwrap();
    let zones = counted(all(&body, "availabilityZone"));
    // One of each of the four types may run there.
    assert_eq!(zones.values().sum::<usize>(), 9);
    assert!(zones["eu-west-1a"] <= 4, "{zones:?}");
}

#[test]
fn groups_come_in_pages() {
    let mut desk = Desk::new();
    for number in 0..7 {
        desk.create(&format!("web-{number}"), (0, 1, 0), "");
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let body = desk.asg("DescribeAutoScalingGroups", &format!("MaxRecords=3{token}")).unwrap();
        names.push(all(&body, "AutoScalingGroupName").len());
        match all(&body, "NextToken").first() {
            Some(next) => token = format!("&NextToken={next}"),
            None => break,
        }
    }
    assert_eq!(names, [3, 3, 1]);
    let body =
        desk.asg("DescribeAutoScalingGroups", "AutoScalingGroupNames.member.1=web-3&AutoScalingGroupNames.member.2=no");
    assert_eq!(all(&body.unwrap(), "AutoScalingGroupName"), ["web-3"]);
}

#[test]
fn a_deleted_group_takes_its_instances_with_it() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 3), "");
    desk.wait(200);
    desk.asg("DeleteAutoScalingGroup", "AutoScalingGroupName=web&ForceDelete=true").unwrap();
    assert_eq!(all(&desk.describe("web"), "Status"), ["Delete in progress"]);
    desk.wait(100);
    assert_eq!(all(&desk.describe("web"), "AutoScalingGroupName"), Vec::<String>::new());
    assert_eq!(desk.bought(), (0, 0));
    let tally = desk.aws.tally();
    assert_eq!((tally.launched, tally.ended), (3, 3));
}

#[test]
fn launch_instances_answers_at_once_and_once() {
    let mut desk = Desk::new();
    desk.create("web", (0, 6, 1), "");
    desk.wait(200);
    let call = "AutoScalingGroupName=web&RequestedCapacity=3&ClientToken=t1&AvailabilityZones.member.1=eu-west-1b";
    let first = desk.asg("LaunchInstances", call).unwrap();
    assert_eq!(all(&first, "MarketType"), ["on-demand"]);
    assert_eq!(all(&all(&first, "InstanceIds")[0], "member").len(), 3);
    let again = desk.asg("LaunchInstances", call).unwrap();
    assert_eq!(all(&again, "InstanceIds"), all(&first, "InstanceIds"));
    desk.wait(200);
    assert_eq!(desk.states("web"), counts([("InService", 4)]));
    assert_eq!(all(&desk.describe("web"), "DesiredCapacity"), ["4"]);
    let until = desk.now + Span::from_secs(600);
    desk.aws.lack(Shortage { instance_type: None, zone: None, spot: None, from: desk.now, until, units: 5 });
    let call = "AutoScalingGroupName=web&RequestedCapacity=2&ClientToken=t2&AvailabilityZones.member.1=eu-west-1b";
    let body = desk.asg("LaunchInstances", call).unwrap();
    assert_eq!(all(&body, "ErrorCode"), Vec::<String>::new());
    let other = call.replace("=2&", "=1&");
    assert_eq!(desk.asg("LaunchInstances", &other), Err((400, "IdempotentParameterMismatch".to_owned())));
    desk.asg("UpdateAutoScalingGroup", "AutoScalingGroupName=web&MaxSize=9").unwrap();
    let call = "AutoScalingGroupName=web&RequestedCapacity=2&ClientToken=t3&AvailabilityZones.member.1=eu-west-1b";
    let body = desk.asg("LaunchInstances", call).unwrap();
    assert_eq!(all(&body, "ErrorCode"), ["InsufficientInstanceCapacity"]);
    assert_eq!(all(&desk.describe("web"), "DesiredCapacity"), ["6"]);
}
