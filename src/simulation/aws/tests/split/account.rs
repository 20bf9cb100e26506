//! An account in tokio's time with a split group, and what is decided of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prescale_actuate::wire::Wire;
use prescale_actuate::{Actuator, AsgSettings, AwsAsg, Connections, InstanceTypeSettings, SplitSettings, Target};
use prescale_domain::{AwsMix, Decision, Mode, Outcome, SpotInputs, SpotPlan, SpotSplit};

use serde_json::json;

use super::super::*;
use crate::aws::CallRecord;

pub(super) const TICK: Duration = Duration::from_secs(30);

/// An account in tokio's time with the group `web` in service.
pub(super) struct Account {
    pub(super) aws: Arc<Mutex<Aws>>,
    pub(super) wire: Wire,
    start: Timestamp,
    begun: tokio::time::Instant,
}

impl Account {
    pub(super) async fn new(sizes: (u32, u32, u32), launches: &str) -> Self {
        let mut desk = Desk::new();
        let mut settings = (*desk.aws.world.settings).clone();
        settings.market.rebalance.false_per_day = 0.0;
        desk.aws = Aws::new(settings).unwrap();
        desk.create("web", sizes, launches);
        Self::of(desk).await
    }

    /// The node groups `base` and `spot` of so many nodes, in service.
    pub(super) async fn with_nodes(base: u32, spot: u32) -> Self {
        let mut desk = Desk::new();
        let mut settings = (*desk.aws.world.settings).clone();
        settings.market.rebalance.false_per_day = 0.0;
        desk.aws = Aws::new(settings).unwrap();
        let subnets = json!({"subnetIds": ["subnet-a", "subnet-b", "subnet-c"]});
        desk.rest("POST", "/clusters", &json!({"name": "prod", "roleArn": "r", "resourcesVpcConfig": subnets}))
            .unwrap();
        desk.wait(600);
        for (name, kind, desired) in [("base", "ON_DEMAND", base), ("spot", "SPOT", spot)] {
            let body = json!({
                "nodegroupName": name, "capacityType": kind, "nodeRole": "r", "subnets": subnets["subnetIds"],
                "instanceTypes": ["m5.large", "m5a.large", "m6i.large", "c5.large"],
                "scalingConfig": {"minSize": 0, "maxSize": 20, "desiredSize": desired},
                "tags": {"team": "web", "prescale.io/spot-max-share": "80%"},
            });
            desk.rest("POST", "/clusters/prod/node-groups", &body).unwrap();
        }
        Self::of(desk).await
    }

    async fn of(desk: Desk) -> Self {
        let (start, aws) = (desk.now, Arc::new(Mutex::new(desk.aws)));
        let (shared, begun) = (Arc::clone(&aws), tokio::time::Instant::now());
        let wire = Wire::new(move |request: WireRequest| {
            let passed = i64::try_from(begun.elapsed().as_millis()).unwrap();
            std::future::ready(shared.lock().unwrap().call(start + Span::from_millis(passed), &request))
        });
        let account = Self { aws, wire, start, begun };
        tokio::time::sleep(Duration::from_secs(300)).await;
        account
    }

    /// All of the group's types.
    pub(super) fn spot(capacity_rebalance: bool) -> SplitSettings {
        let one = |name: &str, usd_hour: f64| InstanceTypeSettings { name: name.to_owned(), usd_hour, weight: 1 };
        let types =
            vec![one("m5.large", 0.107), one("m5a.large", 0.096), one("m6i.large", 0.107), one("c5.large", 0.096)];
        let plan = prescale_domain::SpotSettings::default();
        SplitSettings { types, commitments: Vec::new(), plan, capacity_rebalance }
    }

    pub(super) fn settings(max: u32) -> AsgSettings {
        let spot = Self::spot(true);
        AsgSettings { region: Some("eu-west-1".to_owned()), spot: Some(spot), ..AsgSettings::new("web", 0, max) }
    }

    pub(super) fn target(&self) -> Target {
        self.target_of(&Self::settings(40))
    }

    pub(super) fn target_of(&self, settings: &AsgSettings) -> Target {
        Target::AwsAsg(AwsAsg::new(settings.clone(), &Connections::over(&self.wire)))
    }

    /// The account, brought to the present by a call.
    pub(super) async fn desk(&self) -> Desk {
        self.wire.handler()(query("2011-01-01", "DescribeAutoScalingGroups", "")).await;
        let aws = self.aws.lock().unwrap().clone();
        let now = aws.now();
        Desk { aws, now }
    }

    /// Calls that change something, since a number of calls.
    pub(super) fn writes(&self, known: usize) -> Vec<CallRecord> {
        let log = self.aws.lock().unwrap().log()[known..].to_vec();
        log.into_iter().filter(|call| !call.operation.starts_with("Describe")).collect()
    }

    pub(super) fn calls(&self) -> usize {
        self.aws.lock().unwrap().log().len()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.start + Span::from_millis(i64::try_from(self.begun.elapsed().as_millis()).unwrap())
    }
}

pub(super) fn split(base: u32, spare: u32) -> SpotSplit {
    let aws = AwsMix {
        on_demand_base_capacity: base,
        spot_allocation_strategy: "price-capacity-optimized".to_owned(),
        capacity_rebalance: true,
        ..AwsMix::default()
    };
    let plan = SpotPlan { on_demand: base, spare, aws, ..SpotPlan::default() };
    let inputs = SpotInputs::new(Timestamp::from_millis(0), 0, Vec::new(), Span::from_secs(100));
    SpotSplit { inputs, plan, leaving: Vec::new(), drain: Vec::new() }
}

pub(super) fn decision(desired: u32, split: &SpotSplit) -> Decision {
    let samples: Vec<Decision> =
        serde_json::from_str(include_str!("../../../../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision.split = Some(Box::new(split.clone()));
    decision
}

/// One tick: the group is looked at and told.
pub(super) async fn tick(account: &Account, target: &Target, desired: u32, split: &SpotSplit) -> (u32, Outcome) {
    tokio::time::sleep(TICK).await;
    let now = account.now();
    let seen = target.observe(now).await.unwrap();
    let outcome = target.apply(&decision(desired, split), now).await.unwrap();
    (seen.desired, outcome)
}
