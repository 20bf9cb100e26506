//! Groups whose capacity is split, by our own target through the real SDK: what the plan says becomes the group's policy and its
//! instances, and nothing else of it changes.

mod account;
mod nodes;

use std::time::Duration;

use account::{Account, TICK, decision, split, tick};
use prescale_actuate::{Actuator, Capacity, Connections, QueueMessage, SpotQueue, SpotQueueSettings};
use prescale_domain::Outcome;

use super::*;
use crate::aws::{Fault, FaultKind, Shortage};

/// On demand, spot.
fn kinds(capacity: &Capacity) -> (usize, usize) {
    let of = |kind| capacity.units.iter().filter(|unit| unit.is_spot == Some(kind)).count();
    (of(false), of(true))
}

/// What a describe says of the group, without its instances and without what a plan may write.
fn beside(body: &str) -> String {
    let (before, rest) = body.split_once("<Instances>").unwrap();
    let (_, after) = rest.split_once("</Instances>").unwrap();
    let mut text = format!("{before}{}", after.split_once("<ResponseMetadata>").unwrap().0);
    for name in [
        "OnDemandBaseCapacity",
        "OnDemandPercentageAboveBaseCapacity",
        "SpotAllocationStrategy",
        "CapacityRebalance",
        "DesiredCapacity",
        "SpotInstancePools",
    ] {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        if let Some((head, rest)) = text.split_once(&open) {
            let (_, tail) = rest.split_once(&close).unwrap();
            text = format!("{head}{tail}");
        }
    }
    text
}

#[tokio::test(start_paused = true)]
async fn a_plan_becomes_the_policy_and_then_the_instances_one_by_one() {
    for spare in [0, 1] {
        let account = Account::new((2, 20, 8), &mixed(0, 100)).await;
        let (target, plan) = (account.target(), split(3, spare));
        let known = account.calls();
        let mut ended = Vec::new();
        for number in 0..60 {
            let (seen, outcome) = tick(&account, &target, 8, &plan).await;
            if number > 1 {
                assert_eq!(seen, 8, "what is on top is not wanted");
                assert!(matches!(outcome, Outcome::Applied { units: 8, .. } | Outcome::Unchanged { units: 8 }));
            }
            let desk = account.desk().await;
            assert!(desk.aws.in_service("web") >= 8, "tick {number}: {}", desk.aws.in_service("web"));
            let writes = account.writes(known);
            let ends = writes.iter().filter(|call| call.operation.starts_with("Terminate")).count();
            assert!(ends - ended.last().unwrap_or(&0) <= 1);
            ended.push(ends);
        }
        let mut desk = account.desk().await;
        let total = 8 + spare as usize;
        assert_eq!((desk.serving("web").len(), desk.bought()), (total, (3, total - 3)), "spare {spare}");
        assert_eq!(kinds(&target.capacity().unwrap()), (3, total - 3));
        let policies: Vec<_> =
            account.writes(known).into_iter().filter(|call| call.operation == "UpdateAutoScalingGroup").collect();
        assert_eq!(policies.len(), 1, "the policy is written once");
        let field = |name: &str| policies[0].parameters.get(name).map(String::as_str);
        let distribution = "MixedInstancesPolicy.InstancesDistribution";
        assert_eq!(field(&format!("{distribution}.OnDemandBaseCapacity")), Some("3"));
        assert_eq!(field(&format!("{distribution}.OnDemandPercentageAboveBaseCapacity")), Some("0"));
        assert_eq!((field("CapacityRebalance"), field("MinSize"), field("MaxSize")), (Some("true"), None, None));
        // At rest nothing is sent.
        let known = account.calls();
        for _ in 0..5 {
            assert_eq!(tick(&account, &target, 8, &plan).await, (8, Outcome::Unchanged { units: 8 }));
        }
        assert_eq!(account.writes(known), []);
    }
}

#[tokio::test(start_paused = true)]
async fn on_demand_units_that_are_short_come_before_spot_units_go() {
    let account = Account::new((2, 20, 8), &(mixed(0, 0) + "&CapacityRebalance=true")).await;
    let (target, plan) = (account.target(), split(5, 1));
    let known = account.calls();
    let mut moved = None;
    for number in 0..20 {
        tick(&account, &target, 8, &plan).await;
        let mut desk = account.desk().await;
        assert!(desk.aws.in_service("web") >= 8);
        if desk.bought() == (5, 4) {
            moved.get_or_insert(number);
        }
    }
    assert!(moved.is_some_and(|number| number <= 8), "{moved:?}");
    let first = &account.writes(known)[0];
    // Policy and capacity in one call: eight, all five that are short, and none of the spare, which the start takes as there.
    assert_eq!(first.operation, "UpdateAutoScalingGroup");
    assert!(first.parameters["DesiredCapacity"].parse::<u32>().unwrap() >= 12, "{first:?}");
    assert_eq!(account.desk().await.bought(), (5, 4));
}

#[tokio::test(start_paused = true)]
async fn what_others_set_of_the_group_stays() {
    let policy = "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName=default\
                  &MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.Version=$Latest\
                  &MixedInstancesPolicy.LaunchTemplate.Overrides.member.1.InstanceType=m5.large\
                  &MixedInstancesPolicy.LaunchTemplate.Overrides.member.1.WeightedCapacity=1\
                  &MixedInstancesPolicy.LaunchTemplate.Overrides.member.2.InstanceType=m6i.xlarge\
                  &MixedInstancesPolicy.LaunchTemplate.Overrides.member.2.WeightedCapacity=2\
                  &MixedInstancesPolicy.InstancesDistribution.OnDemandAllocationStrategy=lowest-price\
                  &MixedInstancesPolicy.InstancesDistribution.SpotAllocationStrategy=lowest-price\
                  &MixedInstancesPolicy.InstancesDistribution.SpotInstancePools=3\
                  &MixedInstancesPolicy.InstancesDistribution.SpotMaxPrice=0.09\
                  &Tags.member.1.Key=team&Tags.member.1.Value=web&Tags.member.1.PropagateAtLaunch=true\
                  &Tags.member.2.Key=prescale.io/spot&Tags.member.2.Value=require\
                  &DefaultInstanceWarmup=45&HealthCheckGracePeriod=120&TerminationPolicies.member.1=NewestInstance";
    let account = Account::new((2, 20, 6), policy).await;
    let before = account.desk().await.describe("web");
    assert!(beside(&before).contains("<SpotMaxPrice>0.09</SpotMaxPrice>"), "{before}");
    let target = account.target();
    for _ in 0..4 {
        tick(&account, &target, 6, &split(2, 1)).await;
    }
    let said: Vec<_> = target.capacity().unwrap().annotations.into_iter().collect();
    assert_eq!(said, [("prescale.io/spot".to_owned(), "require".to_owned())]);
    let after = account.desk().await.describe("web");
    assert_eq!(all(&after, "OnDemandBaseCapacity"), ["2"]);
    assert_eq!(all(&after, "SpotAllocationStrategy"), ["price-capacity-optimized"]);
    assert_eq!(beside(&after), beside(&before));
}

#[tokio::test(start_paused = true)]
async fn a_spare_unit_never_exceeds_a_maximum() {
    let account = Account::new((2, 9, 8), &(mixed(2, 0) + "&CapacityRebalance=true")).await;
    for (max, total) in [(40, 9), (8, 8)] {
        let target = account.target_of(&Account::settings(max));
        for _ in 0..8 {
            tick(&account, &target, 8, &split(2, 5)).await;
        }
        let body = account.desk().await.describe("web");
        assert_eq!(all(&body, "DesiredCapacity"), [total.to_string()]);
    }
    let target = account.target();
    target.observe(account.now()).await.unwrap();
    let outcome = target.apply(&decision(30, &split(2, 5)), account.now()).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 9, clamped: true });
}

#[tokio::test(start_paused = true)]
async fn a_drained_unit_goes_with_its_place() {
    let account = Account::new((2, 20, 6), &mixed(2, 0)).await;
    let target = account.target();
    let mut plan = split(2, 0);
    plan.plan.aws.capacity_rebalance = false;
    for _ in 0..2 {
        tick(&account, &target, 6, &plan).await;
    }
    let units = target.capacity().unwrap().units;
    let noticed = units.iter().find(|unit| unit.is_spot == Some(true)).unwrap().id.clone();
    plan.leaving = vec![noticed.clone()];
    assert_eq!(tick(&account, &target, 6, &plan).await.1, Outcome::Applied { units: 6, clamped: false });
    assert_eq!(all(&account.desk().await.describe("web"), "DesiredCapacity"), ["7"]);
    for _ in 0..5 {
        assert_eq!(tick(&account, &target, 6, &plan).await, (6, Outcome::Unchanged { units: 6 }));
    }
    plan.drain = vec![noticed.clone()];
    let known = account.calls();
    assert_eq!(tick(&account, &target, 6, &plan).await.1, Outcome::Applied { units: 6, clamped: false });
    // Told again at once, and at the next ticks, while the loop does not know yet that it is gone.
    let again = target.apply(&decision(6, &plan), account.now()).await.unwrap();
    assert_eq!(again, Outcome::Unchanged { units: 6 });
    for _ in 0..3 {
        assert_eq!(tick(&account, &target, 6, &plan).await, (6, Outcome::Unchanged { units: 6 }));
    }
    let writes = account.writes(known);
    assert_eq!(writes.len(), 1, "{writes:?}");
    assert_eq!(writes[0].parameters["InstanceId"], noticed);
    let mut desk = account.desk().await;
    assert_eq!(all(&desk.describe("web"), "DesiredCapacity"), ["6"]);
    assert!(desk.serving("web").len() == 6 && !desk.serving("web").contains(&noticed));
}

#[tokio::test(start_paused = true)]
async fn a_start_changes_nothing_where_nothing_has_to_change() {
    let account = Account::new((2, 20, 8), &(mixed(3, 0) + "&CapacityRebalance=true")).await;
    let plan = split(3, 2);
    let target = account.target();
    for _ in 0..10 {
        tick(&account, &target, 6, &plan).await;
    }
    assert_eq!(all(&account.desk().await.describe("web"), "DesiredCapacity"), ["8"]);
    // It starts again and again, and decides to hold what it sees.
    let known = account.calls();
    for _ in 0..4 {
        let target = account.target();
        assert_eq!(tick(&account, &target, 8, &plan).await, (8, Outcome::Unchanged { units: 6 }));
        assert_eq!(tick(&account, &target, 6, &plan).await, (6, Outcome::Unchanged { units: 6 }));
    }
    assert_eq!(account.writes(known), []);
}

#[tokio::test(start_paused = true)]
async fn prices_and_kinds_are_told_and_seldom_asked() {
    let account = Account::new((2, 300, 250), &mixed(100, 0)).await;
    let target = account.target_of(&Account::settings(300));
    assert_eq!(target.capacity(), None, "nothing was seen yet");
    let known = account.calls();
    for _ in 0..9 {
        tokio::time::sleep(TICK).await;
        target.observe(account.now()).await.unwrap();
    }
    let capacity = target.capacity().unwrap();
    assert_eq!((kinds(&capacity), capacity.units.len(), capacity.refused), ((100, 150), 250, false));
    assert_eq!(capacity.prices.len(), 12, "four types in three zones");
    let mut desk = account.desk().await;
    for (pool, price) in &capacity.prices {
        let asked = format!("InstanceType.1={}&AvailabilityZone={}", pool.instance_type, pool.zone);
        let body = desk.ec2("DescribeSpotPriceHistory", &asked).unwrap();
        assert_eq!(all(&body, "spotPrice")[0].parse::<f64>().unwrap(), *price);
    }
    let calls: Vec<String> =
        account.aws.lock().unwrap().log()[known..].iter().map(|call| call.operation.clone()).collect();
    let counted = counted(calls);
    // Two hundred at a time, and once; prices once in five minutes.
    assert_eq!((counted["DescribeInstances"], counted["DescribeSpotPriceHistory"]), (2, 1), "{counted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_is_seen_where_ec2_does_not_answer() {
    for kind in [FaultKind::Denied, FaultKind::Hang, FaultKind::Html, FaultKind::Throttle] {
        let account = Account::new((2, 20, 6), &mixed(2, 0)).await;
        for operation in ["DescribeInstances", "DescribeSpotPriceHistory"] {
            account.aws.lock().unwrap().script(Fault::new(operation, kind.clone()));
        }
        let target = account.target();
        for _ in 0..4 {
            let (seen, _) = tick(&account, &target, 6, &split(2, 0)).await;
            assert_eq!(seen, 6);
        }
        let capacity = target.capacity().unwrap();
        assert_eq!((capacity.units.len(), kinds(&capacity), capacity.prices.len()), (6, (0, 0), 0), "{kind:?}");
        account.aws.lock().unwrap().calm();
        for _ in 0..4 {
            tick(&account, &target, 6, &split(2, 0)).await;
        }
        let capacity = target.capacity().unwrap();
        assert_eq!((kinds(&capacity), capacity.prices.len()), ((2, 4), 12), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_spot_is_told() {
    let account = Account::new((2, 20, 4), &mixed(2, 0)).await;
    let target = account.target();
    tick(&account, &target, 4, &split(2, 0)).await;
    let (from, until) = (account.now(), account.now() + Span::from_minutes(600));
    let shortage = Shortage { instance_type: None, zone: None, spot: Some(true), from, until, units: 0 };
    account.aws.lock().unwrap().lack(shortage);
    for _ in 0..5 {
        tick(&account, &target, 8, &split(2, 0)).await;
    }
    assert!(target.capacity().unwrap().refused);
    assert!(target.trouble().unwrap().contains("no Spot capacity"), "{:?}", target.trouble());
    // What spot does not give is planned on demand, and there.
    for _ in 0..8 {
        tick(&account, &target, 8, &split(6, 0)).await;
    }
    assert!(!target.capacity().unwrap().refused);
    assert_eq!(account.desk().await.bought(), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_changed_is_held() {
    let account = Account::new((2, 20, 6), "").await;
    let target = account.target();
    let (seen, outcome) = tick(&account, &target, 9, &split(2, 0)).await;
    let Outcome::Held { units: 6, reason } = outcome else { panic!("{outcome:?}") };
    assert!(seen == 6 && reason.contains("mixed instances policy") && reason.contains("`m5a.large`"), "{reason}");
    let account = Account::new((2, 20, 6), &mixed(0, 100)).await;
    let suspend = "AutoScalingGroupName=web&ScalingProcesses.member.1=Launch";
    account.wire.handler()(query("2011-01-01", "SuspendProcesses", suspend)).await;
    let target = account.target();
    let known = account.calls();
    let (_, outcome) = tick(&account, &target, 9, &split(2, 0)).await;
    assert!(
        matches!(&outcome, Outcome::Held { units: 6, reason } if reason.contains("Launch is suspended")),
        "{outcome:?}"
    );
    assert_eq!(account.writes(known), []);
}

#[tokio::test(start_paused = true)]
async fn a_notice_is_told_until_it_is_deleted() {
    let account = Account::new((2, 20, 4), &mixed(0, 0)).await;
    let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/events";
    let settings = |url: &str| SpotQueueSettings { queue_url: url.to_owned(), region: None, endpoint_url: None };
    let queue = SpotQueue::new(settings(url), &Connections::over(&account.wire));
    let id = account.desk().await.serving("web")[0].clone();
    // Launches are told there as well.
    loop {
        let messages = queue.receive(Span::ZERO).await.unwrap();
        if messages.is_empty() {
            break;
        }
        for message in messages {
            queue.delete(&message.receipt).await.unwrap();
        }
    }
    let noticed = account.now() + Span::from_secs(60);
    assert!(account.aws.lock().unwrap().interrupt(&id, None, noticed));
    assert_eq!(queue.receive(Span::from_secs(5)).await.unwrap(), []);
    tokio::time::sleep(Duration::from_secs(65)).await;
    let told = |messages: &[QueueMessage]| {
        let event: Value = serde_json::from_str(&messages[0].body).unwrap();
        assert_eq!(event["detail-type"], "EC2 Spot Instance Interruption Warning");
        assert_eq!(event["detail"]["instance-id"], id.as_str());
        messages[0].receipt.clone()
    };
    let messages = queue.receive(Span::from_secs(20)).await.unwrap();
    let first = told(&messages);
    assert_eq!((messages.len(), queue.receive(Span::ZERO).await.unwrap()), (1, vec![]));
    tokio::time::sleep(Duration::from_secs(31)).await;
    let second = told(&queue.receive(Span::ZERO).await.unwrap());
    assert_ne!(first, second);
    queue.delete(&second).await.unwrap();
    queue.delete(&second).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(queue.receive(Span::ZERO).await.unwrap(), []);
    let none = SpotQueue::new(settings(&url.replace("events", "none")), &Connections::over(&account.wire));
    assert_eq!(none.receive(Span::ZERO).await.unwrap_err().code(), "not-found");
}
