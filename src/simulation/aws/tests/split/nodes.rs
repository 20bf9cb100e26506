//! Two node groups whose split is planned.

use prescale_actuate::{Actuator, Connections, EksNodegroups, EksSettings, Target};
use prescale_domain::Outcome;
use serde_json::json;

use super::super::*;
use super::account::{Account, split, tick};
use super::kinds;
use crate::aws::Shortage;

fn target_of(account: &Account, max: u32) -> Target {
    let settings = EksSettings {
        region: Some("eu-west-1".to_owned()),
        spot_nodegroup: Some("spot".to_owned()),
        spot: Some(Account::spot(false)),
        ..EksSettings::new("prod", "base", 0, max)
    };
    Target::EksNodegroup(EksNodegroups::new(settings, &Connections::over(&account.wire)))
}

/// Nodes of a group that are wanted, and that serve.
fn group(desk: &mut Desk, name: &str) -> (u64, usize) {
    let path = format!("/clusters/prod/node-groups/{name}");
    let found = desk.rest("GET", &path, &json!({})).unwrap()["nodegroup"].clone();
    let behind = found["resources"]["autoScalingGroups"][0]["name"].as_str().unwrap().to_owned();
    (found["scalingConfig"]["desiredSize"].as_u64().unwrap(), desk.aws.in_service(&behind) as usize)
}

#[tokio::test(start_paused = true)]
async fn on_demand_nodes_become_spot_nodes_and_never_fewer_serve() {
    for spare in [0, 2] {
        let account = Account::with_nodes(8, 0).await;
        let (target, plan) = (target_of(&account, 40), split(3, spare));
        let known = account.calls();
        for number in 0..40 {
            let (seen, _) = tick(&account, &target, 8, &plan).await;
            assert!(number < 2 || seen == 8, "tick {number}: what is on top is not wanted, and {seen} are");
            let mut desk = account.desk().await;
            let serving = group(&mut desk, "base").1 + group(&mut desk, "spot").1;
            assert!(serving >= 8, "tick {number}: {serving}");
        }
        let mut desk = account.desk().await;
        let spot = 5 + u64::from(spare);
        assert_eq!((group(&mut desk, "base").0, group(&mut desk, "spot")), (3, (spot, spot as usize)), "spare {spare}");
        let capacity = target.capacity().unwrap();
        assert_eq!(kinds(&capacity), (3, spot as usize));
        assert_eq!(capacity.zones.len(), 3);
        assert_eq!(
            capacity.annotations.into_iter().collect::<Vec<_>>(),
            [("prescale.io/spot-max-share".to_owned(), "80%".to_owned())]
        );
        assert!(capacity.prices.len() == 12, "four types in three zones: {:?}", capacity.prices);
        let writes = account.writes(known);
        assert!(writes.iter().all(|call| call.operation == "UpdateNodegroupConfig"), "{writes:?}");
        // EKS knows which nodes are spot; EC2 is asked for prices alone.
        let log = account.aws.lock().unwrap().log()[known..].to_vec();
        assert!(log.iter().all(|call| call.operation != "DescribeInstances"));
        let known = account.calls();
        for _ in 0..5 {
            assert_eq!(tick(&account, &target, 8, &plan).await, (8, Outcome::Unchanged { units: 8 }));
        }
        assert_eq!(account.writes(known), []);
    }
}

#[tokio::test(start_paused = true)]
async fn what_spot_refuses_is_said_and_comes_on_demand_within_the_maximum() {
    let account = Account::with_nodes(2, 6).await;
    let target = target_of(&account, 12);
    tick(&account, &target, 8, &split(2, 0)).await;
    let (from, until) = (account.now(), account.now() + Span::from_minutes(600));
    let shortage = Shortage { instance_type: None, zone: None, spot: Some(true), from, until, units: 0 };
    account.aws.lock().unwrap().lack(shortage);
    let mut refused = None;
    for number in 0..10 {
        tick(&account, &target, 12, &split(2, 0)).await;
        if target.capacity().unwrap().refused {
            refused.get_or_insert(number);
        }
    }
    assert!(refused.is_some(), "{:?}", target.trouble());
    assert!(target.trouble().is_some_and(|text| text.contains("Spot")), "{:?}", target.trouble());
    let there = group(&mut account.desk().await, "spot").1 as u32;
    assert!(there < 10, "{there}");
    // What is planned then: all that does not come.
    for _ in 0..12 {
        tick(&account, &target, 12, &split(12 - there, 0)).await;
        let mut desk = account.desk().await;
        let wanted = group(&mut desk, "base").0 + group(&mut desk, "spot").0;
        assert!(wanted <= 12, "{wanted}");
    }
    let mut desk = account.desk().await;
    assert_eq!(group(&mut desk, "base").1 + group(&mut desk, "spot").1, 12);
    assert!(!target.capacity().unwrap().refused, "it has what it wants");
}

#[tokio::test(start_paused = true)]
async fn a_start_adds_no_spare_to_the_spare() {
    let account = Account::with_nodes(3, 5).await;
    let plan = split(3, 2);
    let target = target_of(&account, 40);
    for _ in 0..10 {
        tick(&account, &target, 6, &plan).await;
    }
    let mut desk = account.desk().await;
    assert_eq!((group(&mut desk, "base").0, group(&mut desk, "spot").0), (3, 5));
    let known = account.calls();
    for _ in 0..3 {
        let target = target_of(&account, 40);
        assert_eq!(tick(&account, &target, 8, &plan).await, (8, Outcome::Unchanged { units: 6 }));
        assert_eq!(tick(&account, &target, 6, &plan).await, (6, Outcome::Unchanged { units: 6 }));
    }
    assert_eq!(account.writes(known), []);
}

#[tokio::test(start_paused = true)]
async fn a_node_under_notice_does_not_count_for_those_that_may_go() {
    let account = Account::with_nodes(6, 4).await;
    let target = target_of(&account, 40);
    let mut plan = split(6, 0);
    tick(&account, &target, 10, &plan).await;
    let units = target.capacity().unwrap().units;
    plan.leaving = units.iter().filter(|unit| unit.is_spot == Some(true)).map(|unit| unit.id.clone()).collect();
    // Two fewer are wanted, but four of the ten are on their way out.
    plan.plan.aws.on_demand_base_capacity = 4;
    tick(&account, &target, 8, &plan).await;
    let mut desk = account.desk().await;
    assert_eq!((group(&mut desk, "base").0, group(&mut desk, "spot").0), (6, 4));
    plan.leaving.clear();
    tick(&account, &target, 8, &plan).await;
    let mut desk = account.desk().await;
    assert_eq!((group(&mut desk, "base").0, group(&mut desk, "spot").0), (4, 4));
    assert!(target.observe(account.now()).await.unwrap().desired == 8);
}
