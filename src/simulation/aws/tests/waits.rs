//! Lifecycle hooks, the warm pool and refreshes.

use super::*;

const HOOK: &str = "AutoScalingGroupName=web&LifecycleHookName=in&LifecycleTransition=autoscaling:EC2_INSTANCE_LAUNCHING\
                    &HeartbeatTimeout=300";

#[test]
fn a_launch_waits_for_its_hook() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 0), "");
    desk.asg("PutLifecycleHook", HOOK).unwrap();
    let body = desk.asg("DescribeLifecycleHooks", "AutoScalingGroupName=web").unwrap();
    assert_eq!(
        (all(&body, "DefaultResult"), all(&body, "GlobalTimeout")),
        (vec!["ABANDON".into()], vec!["30000".into()])
    );
    desk.set_desired("web", 2);
    desk.wait(101);
    assert_eq!(desk.states("web"), counts([("Pending:Wait", 2)]));
    let body = desk.asg("DescribeScalingActivities", "AutoScalingGroupName=web").unwrap();
    assert_eq!(all(&body, "StatusCode"), ["MidLifecycleAction", "MidLifecycleAction"]);
    let waiting = desk.events("EC2 Instance-launch Lifecycle Action");
    assert_eq!(waiting.len(), 2);
    let complete = |id: &str, result: &str| {
        format!("AutoScalingGroupName=web&LifecycleHookName=in&InstanceId={id}&LifecycleActionResult={result}")
    };
    desk.asg("CompleteLifecycleAction", &complete(&waiting[0], "CONTINUE")).unwrap();
    assert_eq!(desk.states("web"), counts([("Pending:Proceed", 1), ("Pending:Wait", 1)]));
    desk.wait(2);
    assert_eq!(desk.serving("web"), [waiting[0].clone()]);
    // An abandoned launch ends, and another one takes its place.
    desk.asg("CompleteLifecycleAction", &complete(&waiting[1], "ABANDON")).unwrap();
    desk.wait(102);
    let states = desk.states("web");
    assert_eq!(states, counts([("InService", 1), ("Pending:Wait", 1)]));
    let third = desk.events("EC2 Instance-launch Lifecycle Action");
    assert!(third.len() == 1 && third[0] != waiting[1]);
}

#[test]
fn heartbeats_put_a_timeout_off_and_then_the_default_holds() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 0), "");
    desk.asg("PutLifecycleHook", &format!("{HOOK}&DefaultResult=CONTINUE")).unwrap();
    desk.set_desired("web", 1);
    desk.wait(101 + 250);
    let id = desk.events("EC2 Instance-launch Lifecycle Action").remove(0);
    let beat = format!("AutoScalingGroupName=web&LifecycleHookName=in&InstanceId={id}");
    desk.asg("RecordLifecycleActionHeartbeat", &beat).unwrap();
    desk.wait(299);
    assert_eq!(desk.states("web"), counts([("Pending:Wait", 1)]));
    desk.wait(3);
    assert_eq!(desk.states("web"), counts([("InService", 1)]));
}

#[test]
fn a_termination_waits_for_its_hook() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 1), "");
    let hook = HOOK.replace("LAUNCHING", "TERMINATING").replace("=in&", "=out&");
    desk.asg("PutLifecycleHook", &hook).unwrap();
    desk.wait(200);
    desk.set_desired("web", 0);
    desk.wait(60);
    assert_eq!(desk.states("web"), counts([("Terminating:Wait", 1)]));
    desk.wait(242);
    assert_eq!(desk.states("web"), counts([("Terminating:Proceed", 1)]));
    desk.wait(30);
    assert_eq!(desk.states("web"), counts([]));
}

#[test]
fn a_warm_pool_holds_what_is_missing_to_its_size_and_serves_first() {
    let mut desk = Desk::new();
    desk.create("web", (0, 10, 4), "");
    desk.wait(200);
    desk.asg("PutWarmPool", "AutoScalingGroupName=web&MaxGroupPreparedCapacity=7&MinSize=1").unwrap();
    desk.wait(2);
    let pool = |desk: &mut Desk| {
        let body = desk.asg("DescribeWarmPool", "AutoScalingGroupName=web").unwrap();
        counted(all(&body, "LifecycleState"))
    };
    assert_eq!(pool(&mut desk), counts([("Warmed:Pending", 3)]));
    desk.wait(101);
    assert_eq!(pool(&mut desk), counts([("Warmed:Stopped", 3)]));
    assert_eq!(all(&desk.describe("web"), "WarmPoolSize"), ["3"]);
    assert_eq!(desk.states("web"), counts([("InService", 4)]));
    // Two come from the pool within 40 s instead of 100; the pool then holds what is missing to 7.
    desk.set_desired("web", 6);
    desk.wait(42);
    assert_eq!(desk.states("web"), counts([("InService", 6)]));
    desk.wait(200);
    assert_eq!(pool(&mut desk), counts([("Warmed:Stopped", 1)]));
    // Beyond the prepared capacity the pool keeps its minimum.
    desk.set_desired("web", 9);
    desk.wait(300);
    assert_eq!(desk.states("web"), counts([("InService", 9)]));
    assert_eq!(pool(&mut desk), counts([("Warmed:Stopped", 1)]));
    assert_eq!(desk.asg("DeleteWarmPool", "AutoScalingGroupName=web"), Err((400, "ResourceInUse".to_owned())));
    desk.asg("DeleteWarmPool", "AutoScalingGroupName=web&ForceDelete=true").unwrap();
    desk.wait(100);
    let body = desk.asg("DescribeWarmPool", "AutoScalingGroupName=web").unwrap();
    assert_eq!((all(&body, "WarmPoolConfiguration").len(), all(&body, "InstanceId").len()), (0, 0));
}

#[test]
fn without_a_prepared_capacity_a_warm_pool_reaches_to_the_maximum_and_takes_back() {
    let mut desk = Desk::new();
    desk.create("web", (0, 6, 2), "");
    desk.asg("PutWarmPool", "AutoScalingGroupName=web&PoolState=Running&InstanceReusePolicy.ReuseOnScaleIn=true")
        .unwrap();
    desk.wait(200);
    assert_eq!(all(&desk.describe("web"), "WarmPoolSize"), ["4"]);
    desk.set_desired("web", 5);
    desk.wait(6);
    assert_eq!(desk.states("web"), counts([("InService", 5)]));
    let launched = desk.aws.tally().launched;
    desk.set_desired("web", 1);
    desk.wait(100);
    assert_eq!(all(&desk.describe("web"), "WarmPoolSize"), ["5"]);
    assert_eq!(desk.aws.tally().launched, launched);
    assert_eq!(desk.bought(), (6, 0));
}

#[test]
fn a_refresh_replaces_all_and_keeps_the_share_healthy() {
    let mut desk = Desk::new();
    desk.create("web", (0, 20, 10), "");
    desk.wait(200);
    let before = desk.serving("web");
    let start = "AutoScalingGroupName=web&Preferences.MinHealthyPercentage=80";
    desk.asg("StartInstanceRefresh", start).unwrap();
    assert_eq!(desk.asg("StartInstanceRefresh", start), Err((400, "InstanceRefreshInProgress".to_owned())));
    let (mut least, mut seen) = (10, Vec::new());
    for _ in 0..120 {
        desk.wait(10);
        least = least.min(desk.serving("web").len());
        let body = desk.asg("DescribeInstanceRefreshes", "AutoScalingGroupName=web").unwrap();
        seen.push(all(&body, "Status").remove(0));
    }
    seen.dedup();
    assert_eq!(seen, ["InProgress", "Successful"]);
    assert_eq!(least, 8);
    let after = desk.serving("web");
    assert_eq!(after.len(), 10);
    assert!(before.iter().all(|id| !after.contains(id)));
}
