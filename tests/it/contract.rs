//! The contract of targets. Of those in the cloud on the simulated account: the real SDK over a wire without sockets, in
//! virtual time. Rule: the account's own log says what was called, and its state what came of it. `every` has what holds of
//! all kinds, on real engines, clusters and receivers.

mod every;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prescale_actuate::wire::{Wire, WireAnswer, WireRequest};
use prescale_actuate::{
    Actuator, AsgScaleIn, AsgScaleOut, AsgSettings, AsgWrites, Connections, EksSettings, EksWrites, Order, Target,
    TargetSettings, TenureWatch, WarmPoolSettings, carry_out, settle,
};
use prescale_domain::{Actuation, Decision, Mode, Outcome, Span, Timestamp};
use prescale_simulation::aws::{Aws, AwsSettings, CallRecord, Fault, FaultKind, Shortage};
use serde_json::json;
use tokio::time::Instant;

/// An account whose clock is tokio's.
#[derive(Clone)]
pub(crate) struct Account {
    aws: Arc<Mutex<Aws>>,
    start: Timestamp,
    began: Instant,
}

impl Account {
    pub(crate) fn new() -> Self {
        let settings = AwsSettings {
            launch_latency: Span::from_secs(20),
            launch_latency_p90: Span::from_secs(20),
            autoscaling_rate: prescale_simulation::aws::Rate { burst: 500.0, per_second: 50.0 },
            ..AwsSettings::default()
        };
        let start = settings.start;
        Self { aws: Arc::new(Mutex::new(Aws::new(settings).unwrap())), start, began: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.start + Span::from_millis(i64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn call(&self, request: &WireRequest) -> WireAnswer {
        self.aws.lock().unwrap().call(self.now(), request)
    }

    /// One call by hand; it must work.
    #[track_caller]
    pub(crate) fn asg(&self, action: &str, parameters: &str) {
        let body = format!("Action={action}&Version=2011-01-01&{parameters}");
        let answer = self.call(&post("/", body.into_bytes()));
        let WireAnswer::Reply { status, body, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(status, 200, "{action}: {}", String::from_utf8_lossy(&body));
    }

    #[track_caller]
    pub(crate) fn eks(&self, path: &str, body: serde_json::Value) {
        let answer = self.call(&post(path, body.to_string().into_bytes()));
        let WireAnswer::Reply { status, body, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    }

    pub(crate) fn group(&self, name: &str, sizes: (u32, u32, u32)) {
        let (min, desired, max) = sizes;
        self.asg(
            "CreateAutoScalingGroup",
            &format!(
                "AutoScalingGroupName={name}&MinSize={min}&MaxSize={max}&DesiredCapacity={desired}\
                 &LaunchTemplate.LaunchTemplateName=default\
                 &AvailabilityZones.member.1=eu-west-1a&AvailabilityZones.member.2=eu-west-1b"
            ),
        );
    }

    pub(crate) fn connections(&self) -> Connections {
        let account = self.clone();
        Connections::over(&Wire::new(move |request: WireRequest| {
            let account = account.clone();
            async move { account.call(&request) }
        }))
    }

    /// Calls since the `from`-th, with their parameters.
    pub(crate) fn log(&self, from: usize) -> Vec<CallRecord> {
        self.aws.lock().unwrap().log()[from..].to_vec()
    }

    pub(crate) fn calls(&self) -> usize {
        self.aws.lock().unwrap().log().len()
    }

    pub(crate) fn operations(&self, from: usize) -> Vec<String> {
        self.log(from).into_iter().map(|call| call.operation).collect()
    }

    fn fault(&self, fault: Fault) {
        self.aws.lock().unwrap().script(fault);
    }

    pub(crate) fn lack(&self, shortage: Shortage) {
        self.aws.lock().unwrap().lack(shortage);
    }

    /// After so long.
    pub(crate) async fn after(&self, seconds: u64) -> Timestamp {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        self.now()
    }
}

fn post(path: &str, body: Vec<u8>) -> WireRequest {
    WireRequest { method: "POST".to_owned(), path: path.to_owned(), body, ..WireRequest::default() }
}

fn decision(desired: u32, mode: Mode) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, mode);
    decision
}

pub(crate) fn wish(desired: u32) -> Decision {
    decision(desired, Mode::Act)
}

pub(crate) fn asg_settings(name: &str) -> AsgSettings {
    AsgSettings {
        region: Some("eu-west-1".to_owned()),
        timeout: Span::from_secs(6),
        attempt_timeout: Span::from_secs(1),
        ..AsgSettings::new(name, 0, 100)
    }
}

/// A group `web` of 4 between 2 and 20, as an Auto Scaling group and as two node groups; warm already.
async fn targets() -> Vec<(Account, Target)> {
    let with_group = Account::new();
    with_group.group("web", (2, 4, 20));
    let asg = TargetSettings::AwsAsg(asg_settings("web")).build_in(&with_group.connections()).unwrap();
    let with_nodes = Account::new();
    with_nodes
        .eks("/clusters", json!({"name": "prod", "roleArn": "r", "resourcesVpcConfig": {"subnetIds": ["subnet-a"]}}));
    with_nodes.after(600).await;
    for (name, kind, (min, desired, max)) in [("base", "ON_DEMAND", (1, 2, 10)), ("spot", "SPOT", (1, 2, 10))] {
        let sizes = json!({"minSize": min, "desiredSize": desired, "maxSize": max});
        let body = json!({"nodegroupName": name, "capacityType": kind, "scalingConfig": sizes, "nodeRole": "r",
                          "subnets": ["subnet-a"], "instanceTypes": ["m5.large"]});
        with_nodes.eks("/clusters/prod/node-groups", body);
    }
    with_nodes.after(600).await;
    let settings = EksSettings {
        spot_nodegroup: Some("spot".to_owned()),
        on_demand_base: 2,
        on_demand_percent_above_base: 25,
        region: Some("eu-west-1".to_owned()),
        timeout: Span::from_secs(6),
        attempt_timeout: Span::from_secs(1),
        ..EksSettings::new("prod", "base", 0, 100)
    };
    let eks = TargetSettings::EksNodegroup(settings).build_in(&with_nodes.connections()).unwrap();
    vec![(with_group, asg), (with_nodes, eks)]
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_is_observed_and_applying_twice_is_applying_once() {
    for (account, target) in targets().await {
        let name = target.describe();
        let before = target.observe(account.after(60).await).await.unwrap();
        assert_eq!((before.desired, before.ready, before.min, before.max), (4, Some(4), Some(2), Some(20)), "{name}");
        let at = account.now();
        assert_eq!(target.apply(&wish(9), at).await.unwrap(), Outcome::Applied { units: 9, clamped: false }, "{name}");
        // A node group takes its time; what comes meanwhile waits.
        let at = account.after(90).await;
        let calls = account.calls();
        assert_eq!(target.apply(&wish(9), at).await.unwrap(), Outcome::Unchanged { units: 9 }, "{name}");
        let operations = account.operations(calls);
        assert!(operations.iter().all(|operation| operation.starts_with("Describe")), "{name}: {operations:?}");
        let after = target.observe(account.after(60).await).await.unwrap();
        assert_eq!((after.desired, after.ready), (9, Some(9)), "{name}");
        let outcome = target.apply(&wish(500), account.now()).await.unwrap();
        assert_eq!(outcome, Outcome::Applied { units: 20, clamped: true }, "{name}");
        let outcome = target.apply(&wish(0), account.after(90).await).await.unwrap();
        assert_eq!(outcome, Outcome::Applied { units: 2, clamped: true }, "{name}");
        assert_eq!(target.observe(account.after(90).await).await.unwrap().desired, 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_sends_nothing() {
    for (account, target) in targets().await {
        let calls = account.calls();
        for mode in [Mode::Observe, Mode::Recommend] {
            let refused = target.apply(&decision(9, mode), account.now()).await.unwrap_err();
            assert_eq!(refused.code(), "invalid");
        }
        assert_eq!(account.operations(calls), Vec::<String>::new(), "{}", target.describe());
    }
}

#[tokio::test(start_paused = true)]
async fn each_failure_has_its_kind_and_ends_in_time() {
    let error = |status, code: &str, message: &str| FaultKind::Error {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
    };
    let cases = [
        (FaultKind::Throttle, "throttled"),
        (FaultKind::Denied, "denied"),
        (FaultKind::Internal, "other"),
        (FaultKind::Html, "other"),
        (FaultKind::Hang, "timeout"),
        (FaultKind::Drop, "unreachable"),
        (FaultKind::Delay(Span::from_secs(30)), "timeout"),
        (error(403, "ExpiredToken", "The security token included in the request is expired"), "denied"),
        (error(400, "ValidationError", "AutoScalingGroup name not found - null"), "not-found"),
        (error(400, "ValidationError", "New SetDesiredCapacity value 50 is above max value 20"), "invalid"),
        (
            error(400, "ScalingActivityInProgress", "You cannot update while a scaling activity is in progress"),
            "conflict",
        ),
        (error(500, "ResourceContention", "You already have a pending update"), "conflict"),
        (
            error(409, "ResourceInUseException", "Nodegroup cannot be updated as it is currently not in Active State"),
            "conflict",
        ),
        (error(404, "ResourceNotFoundException", "No node group found for name: base."), "not-found"),
        (error(400, "InvalidParameterException", "Minimum capacity 8 can't be greater than desired size 4"), "invalid"),
    ];
    for (kind, code) in cases {
        for (account, target) in targets().await {
            let name = target.describe();
            account.fault(Fault::new("*", kind.clone()));
            let began = Instant::now();
            let failure = target.observe(account.now()).await.unwrap_err();
            assert_eq!(failure.code(), code, "{kind:?} became, for {name}: {failure}");
            assert!(began.elapsed() <= Duration::from_secs(7), "{name} took {:?}", began.elapsed());
            // The same where the change itself fails, and afterwards all goes on.
            account.aws.lock().unwrap().calm();
            let change = if name.starts_with("asg") { "SetDesiredCapacity" } else { "UpdateNodegroupConfig" };
            account.fault(Fault::new(change, kind.clone()));
            let at = account.after(60).await;
            target.observe(at).await.unwrap();
            let failure = target.apply(&wish(9), at).await.unwrap_err();
            assert_eq!(failure.code(), code, "{kind:?} became, for {name}: {failure}");
            account.aws.lock().unwrap().calm();
            let outcome = target.apply(&wish(9), account.after(60).await).await.unwrap();
            let expected = [Outcome::Applied { units: 9, clamped: false }, Outcome::Unchanged { units: 9 }];
            assert!(expected.contains(&outcome), "{name}: {outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_goes_through_in_the_end() {
    for (account, target) in targets().await {
        account.fault(Fault::new("*", FaultKind::Throttle).times(2));
        assert_eq!(target.observe(account.after(30).await).await.unwrap().desired, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_call_and_record_is_settled_by_looking() {
    for (account, target) in targets().await {
        let name = target.describe();
        let at = account.after(30).await;
        let decided = wish(9);
        let mut journal: Vec<Actuation> = Vec::new();
        // The record of the end fails, as when the process dies between call and record.
        let mut records = 0;
        let (due, alone) = ([(&decided, &target)], TenureWatch::default());
        let crashed = carry_out(&due, at, &alone, Order::Together, |batch| {
            records += 1;
            if records == 2 {
                return Err("killed");
            }
            journal.extend(batch.iter().cloned());
            Ok(())
        });
        assert_eq!(crashed.await.unwrap_err(), "killed");
        let [begun] = &journal[..] else { panic!("{journal:?}") };
        assert_eq!(begun.outcome, Outcome::Started);
        // The next life looks, and does nothing twice.
        let at = account.after(90).await;
        let found = target.observe(at).await.unwrap();
        assert_eq!(
            settle(begun, decided.desired, &found).outcome,
            Outcome::Applied { units: 9, clamped: false },
            "{name}"
        );
        let calls = account.calls();
        assert_eq!(target.apply(&decided, account.after(30).await).await.unwrap(), Outcome::Unchanged { units: 9 });
        assert!(account.operations(calls).iter().all(|operation| operation.starts_with("Describe")), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_no_second_change() {
    let (account, target) = targets().await.remove(0);
    let lost = Fault::new("SetDesiredCapacity", FaultKind::LostAnswer);
    account.fault(lost);
    let failure = target.apply(&wish(9), account.now()).await.unwrap_err();
    assert_eq!(failure.code(), "unreachable");
    account.aws.lock().unwrap().calm();
    // Not known is not remembered: the very same tick looks again.
    let at = account.now();
    assert_eq!(target.apply(&wish(9), at).await.unwrap(), Outcome::Unchanged { units: 9 });
}

#[tokio::test(start_paused = true)]
async fn two_hundred_groups_are_looked_at_in_two_calls_and_changed_without_another() {
    let account = Account::new();
    let names: Vec<String> = (0..200).map(|number| format!("web-{number:03}")).collect();
    names.iter().for_each(|name| account.group(name, (1, 2, 20)));
    let connections = account.connections();
    let targets: Vec<Target> =
        names.iter().map(|name| TargetSettings::AwsAsg(asg_settings(name)).build_in(&connections).unwrap()).collect();
    for tick in 0..3_u32 {
        let (at, calls) = (account.after(60).await, account.calls());
        let seen = futures(targets.iter().map(|target| target.observe(at))).await;
        assert!(seen.iter().all(|seen| seen.as_ref().unwrap().desired == 2 + tick));
        let wish = wish(3 + tick);
        let due: Vec<(&Decision, &Target)> = targets.iter().map(|target| (&wish, target)).collect();
        let record = |_: &[Actuation]| Ok::<(), String>(());
        let ended = carry_out(&due, at, &TenureWatch::default(), Order::Together, record).await.unwrap();
        let applied = Outcome::Applied { units: 3 + tick, clamped: false };
        assert!(ended.iter().all(|actuation| actuation.outcome == applied), "{:?}", ended[0]);
        let operations = account.operations(calls);
        let describes = operations.iter().filter(|operation| operation.starts_with("Describe")).count();
        assert_eq!((describes, operations.len()), (2, 202));
    }
}

/// All of them at once, in their order.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in waiting.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_has_suspended_or_refreshes_is_left_alone() {
    let (account, target) = targets().await.remove(0);
    let held = |reason: &str| Outcome::Held { units: 4, reason: reason.to_owned() };
    account.asg("SuspendProcesses", "AutoScalingGroupName=web&ScalingProcesses.member.1=Launch");
    let outcome = target.apply(&wish(9), account.after(30).await).await.unwrap();
    assert_eq!(outcome, held("the group's process Launch is suspended"));
    account.asg("ResumeProcesses", "AutoScalingGroupName=web");
    account.asg("SuspendProcesses", "AutoScalingGroupName=web&ScalingProcesses.member.1=Terminate");
    let outcome = target.apply(&wish(3), account.after(30).await).await.unwrap();
    assert_eq!(outcome, held("the group's process Terminate is suspended"));
    account.asg("ResumeProcesses", "AutoScalingGroupName=web");
    account.asg("StartInstanceRefresh", "AutoScalingGroupName=web");
    let outcome = target.apply(&wish(3), account.after(5).await).await.unwrap();
    assert_eq!(outcome, held("an instance refresh of the group is under way"));
    // More is more also while instances are replaced.
    let outcome = target.apply(&wish(6), account.after(5).await).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 6, clamped: false });
}

#[tokio::test(start_paused = true)]
async fn a_floor_leaves_desired_capacity_to_others_and_bounds_are_set_where_they_are_owned() {
    let account = Account::new();
    account.group("web", (2, 4, 20));
    let settings = AsgSettings { writes: AsgWrites::Floor, ..asg_settings("web") };
    let floor = TargetSettings::AwsAsg(settings).build_in(&account.connections()).unwrap();
    let calls = account.calls();
    let outcome = floor.apply(&wish(7), account.after(30).await).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 7, clamped: false });
    let update: Vec<CallRecord> =
        account.log(calls).into_iter().filter(|call| !call.operation.starts_with("Describe")).collect();
    let parameters: Vec<(&str, &str)> =
        update[0].parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((update.len(), parameters), (1, vec![("AutoScalingGroupName", "web"), ("MinSize", "7")]));
    let seen = floor.observe(account.after(60).await).await.unwrap();
    assert_eq!((seen.desired, seen.ready, seen.max), (7, Some(7), Some(20)));

    let settings = AsgSettings { writes: AsgWrites::DesiredAndBounds, min: 3, max: 12, ..asg_settings("web") };
    let owner = TargetSettings::AwsAsg(settings).build_in(&account.connections()).unwrap();
    let outcome = owner.apply(&wish(50), account.after(30).await).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 12, clamped: true });
    let seen = target_of(&account).observe(account.after(30).await).await.unwrap();
    assert_eq!((seen.desired, seen.min, seen.max), (12, Some(3), Some(12)));
}

/// The group as another reader sees it.
fn target_of(account: &Account) -> Target {
    TargetSettings::AwsAsg(asg_settings("web")).build_in(&account.connections()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_warm_pool_is_as_large_as_the_forecast_asks_for() {
    let account = Account::new();
    account.group("web", (2, 4, 50));
    account.asg("PutWarmPool", "AutoScalingGroupName=web&MinSize=1&MaxGroupPreparedCapacity=5&PoolState=Running");
    let settings = AsgSettings { warm_pool: Some(WarmPoolSettings { reserve: 0.2, max: None }), ..asg_settings("web") };
    let target = TargetSettings::AwsAsg(settings).build_in(&account.connections()).unwrap();
    assert!(target.tends());
    // 461.9 at most of what the decision looks at, at 50 a unit: 9.24, and a fifth more.
    let calls = account.calls();
    assert_eq!(target.apply(&wish(4), account.after(30).await).await.unwrap(), Outcome::Unchanged { units: 4 });
    let put = account.log(calls).into_iter().find(|call| call.operation == "PutWarmPool").unwrap();
    let of = |name: &str| put.parameters.get(name).map(String::as_str);
    let found = (of("MaxGroupPreparedCapacity"), of("MinSize"), of("PoolState"));
    assert_eq!(found, (Some("12"), Some("1"), Some("Running")));
    // What is right already is left alone.
    let calls = account.calls();
    target.apply(&wish(4), account.after(30).await).await.unwrap();
    assert_eq!(account.operations(calls), ["DescribeAutoScalingGroups"]);
}

#[tokio::test(start_paused = true)]
async fn instances_are_taken_by_name_and_launched_at_once_where_that_is_configured() {
    let account = Account::new();
    account.group("web", (0, 6, 20));
    let settings =
        AsgSettings { scale_in: AsgScaleIn::Targeted, scale_out: AsgScaleOut::LaunchInstances, ..asg_settings("web") };
    let target = TargetSettings::AwsAsg(settings).build_in(&account.connections()).unwrap();
    let (at, calls) = (account.after(60).await, account.calls());
    assert_eq!(target.apply(&wish(4), at).await.unwrap(), Outcome::Applied { units: 4, clamped: false });
    let ended = |operation: &String| operation == "TerminateInstanceInAutoScalingGroup";
    assert_eq!(account.operations(calls).iter().filter(|operation| ended(operation)).count(), 2);
    let seen = target.observe(account.after(60).await).await.unwrap();
    assert_eq!((seen.desired, seen.ready), (4, Some(4)));
    let (at, calls) = (account.after(30).await, account.calls());
    assert_eq!(target.apply(&wish(9), at).await.unwrap(), Outcome::Applied { units: 9, clamped: false });
    let launches: Vec<u32> = account
        .log(calls)
        .iter()
        .filter(|call| call.operation == "LaunchInstances")
        .map(|call| call.parameters["RequestedCapacity"].parse().unwrap())
        .collect();
    assert_eq!(launches.iter().sum::<u32>(), 5);
    let seen = target.observe(account.after(90).await).await.unwrap();
    assert_eq!((seen.desired, seen.ready), (9, Some(9)));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_gets_nothing_says_why() {
    let account = Account::new();
    account.group("web", (0, 2, 20));
    let target = target_of(&account);
    let from = account.after(60).await;
    let lack =
        Shortage { instance_type: None, zone: None, spot: None, from, until: from + Span::from_minutes(60), units: 2 };
    account.lack(lack);
    target.apply(&wish(6), account.now()).await.unwrap();
    assert_eq!(target.trouble(), None);
    for _ in 0..12 {
        target.observe(account.after(30).await).await.unwrap();
    }
    let trouble = target.trouble().unwrap();
    assert!(trouble.starts_with("group `web` does not get what it wants: Failed: "), "{trouble}");
}

#[tokio::test(start_paused = true)]
async fn one_update_of_a_node_group_at_a_time_and_the_floor_beside_an_autoscaler() {
    let (account, target) = targets().await.remove(1);
    let at = account.after(30).await;
    assert_eq!(target.apply(&wish(9), at).await.unwrap(), Outcome::Applied { units: 9, clamped: false });
    let outcome = target.apply(&wish(12), account.after(2).await).await.unwrap();
    let Outcome::Held { units: 9, reason } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.starts_with("an update of node group `"), "{reason}");
    let outcome = target.apply(&wish(12), account.after(90).await).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 12, clamped: false });
    // Two on-demand, and a quarter of the ten above: three more of them.
    let sizes: Vec<String> = account
        .log(0)
        .iter()
        .filter(|call| call.operation == "UpdateNodegroupConfig")
        .map(|call| format!("{} {}", call.parameters["path"], call.parameters["scalingConfig.desiredSize"]))
        .collect();
    let path = |name: &str, size: u32| format!("clusters/prod/node-groups/{name}/update-config {size}");
    assert_eq!(sizes, [path("base", 4), path("spot", 5), path("base", 5), path("spot", 7)]);

    account.after(90).await;
    let settings = EksSettings {
        writes: EksWrites::Floor,
        region: Some("eu-west-1".to_owned()),
        ..EksSettings::new("prod", "base", 0, 100)
    };
    let floor = TargetSettings::EksNodegroup(settings).build_in(&account.connections()).unwrap();
    let calls = account.calls();
    let outcome = floor.apply(&wish(3), account.now()).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 3, clamped: false });
    let update = account.log(calls).into_iter().find(|call| call.operation == "UpdateNodegroupConfig").unwrap();
    assert_eq!(update.parameters.get("scalingConfig.minSize").map(String::as_str), Some("3"));
    assert_eq!(update.parameters.get("scalingConfig.desiredSize"), None);
    // A floor above what is desired takes that along: EKS refuses it otherwise.
    let desired = floor.observe(account.after(90).await).await.unwrap().ready.unwrap();
    let (at, calls) = (account.after(30).await, account.calls());
    let outcome = floor.apply(&wish(desired + 2), at).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: desired + 2, clamped: false });
    let update = account.log(calls).into_iter().find(|call| call.operation == "UpdateNodegroupConfig").unwrap();
    let size = (desired + 2).to_string();
    assert_eq!(update.parameters.get("scalingConfig.minSize"), Some(&size));
    assert_eq!(update.parameters.get("scalingConfig.desiredSize"), Some(&size));
}
