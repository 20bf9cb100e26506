//! The demo's fleets as Auto Scaling groups of a simulated AWS account. Rule: the real SDK talks to it over a wire within the
//! process, and whoever else wants to over a port; its clock is that of the load.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prescale_actuate::wire::{Wire, WireAnswer, WireHandler, WireRequest};
use prescale_actuate::{AsgSettings, Connections, TargetSettings};
use prescale_domain::{Span, Timestamp};
use prescale_serve::serve_wire;
use prescale_simulation::aws::{Aws, AwsSettings};
use tokio::task::JoinHandle;

use super::stage::{Plan, Role};
use crate::cli::{Failure, say};

/// Instance types that a spot unit may be; of each there is a pool in each zone.
const TYPES: [&str; 6] = ["m5.large", "m5a.large", "m6i.large", "m7i.large", "c5.large", "c6i.large"];
/// On demand always, and of what is above it.
const ON_DEMAND_BASE: u32 = 2;
const ON_DEMAND_PERCENT: u32 = 20;
/// Losses by spot unit and hour: about one in a day.
const LOSSES_PER_HOUR: f64 = 0.04;

/// Clones are the same account.
#[derive(Clone)]
pub(super) struct Account {
    state: Arc<Mutex<State>>,
}

struct State {
    aws: Aws,
    now: Timestamp,
    groups: Vec<String>,
}

impl Account {
    /// With a group for each role, warm by the time the demo begins.
    pub(super) fn new(plan: &Plan, roles: &[Role]) -> Result<Self, Failure> {
        let bug = |text: String| Failure::Bug(format!("the demo's account: {text}"));
        let start = plan.scored_from - Span::from_minutes(60);
        let fleet = roles.first().map(|role| role.fleet).unwrap_or_default();
        let settings = AwsSettings {
            start,
            end: plan.scored_from + plan.scored + Span::from_minutes(1440),
            seed: plan.seed,
            launch_latency: fleet.provisioning_latency,
            launch_latency_p90: fleet.provisioning_latency_p90,
            // Nobody waits in wall time for what takes a moment in the load's.
            answer: Span::ZERO,
            ..AwsSettings::default()
        };
        let aws = Aws::new(settings.with_losses(LOSSES_PER_HOUR)).map_err(|error| bug(error.to_string()))?;
        let groups = roles.iter().map(|role| role.name.to_string()).collect();
        let account = Self { state: Arc::new(Mutex::new(State { aws, now: start, groups })) };
        for role in roles {
            let answer = account.call(&create(role));
            let WireAnswer::Reply { status: 200, .. } = answer else {
                return Err(bug(format!("group `{}` was not made: {answer:?}", role.name)));
            };
        }
        account.passes(plan.scored_from);
        Ok(account)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, request: &WireRequest) -> WireAnswer {
        let mut state = self.state();
        let now = state.now;
        state.aws.call(now, request)
    }

    /// It is so late now.
    pub(super) fn passes(&self, now: Timestamp) {
        let mut state = self.state();
        state.now = now;
        state.aws.advance(now);
    }

    /// How targets reach it.
    pub(super) fn connections(&self) -> Connections {
        Connections::over(&self.wire()).in_event_time()
    }

    fn wire(&self) -> Wire {
        let account = self.clone();
        Wire::new(move |request: WireRequest| {
            let account = account.clone();
            async move { account.call(&request) }
        })
    }

    /// Answers everybody on a port of this machine.
    pub(super) async fn listen(&self, address: &str) -> Result<JoinHandle<()>, Failure> {
        let listener = prescale_serve::bind(address).await.map_err(Failure::outside)?;
        let address = listener.local_addr().map_err(Failure::outside)?;
        say(&format!(
            "AWS: http://{address}/ (any credentials; for example: aws --endpoint-url http://{address} --region eu-west-1 \
             autoscaling describe-auto-scaling-groups)"
        ));
        let account = self.clone();
        let handler: WireHandler = Arc::new(move |request: WireRequest| {
            let account = account.clone();
            Box::pin(async move { account.call(&request) })
        });
        Ok(tokio::spawn(async move {
            if let Err(error) = serve_wire(listener, handler).await {
                say(&format!("AWS: {error}"));
            }
        }))
    }

    /// What was called and what came of it, as a few lines.
    pub(super) fn told(&self) -> String {
        let state = self.state();
        let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
        for call in state.aws.log() {
            *calls.entry(call.operation.as_str()).or_default() += 1;
        }
        let calls: Vec<String> = calls.iter().map(|(operation, count)| format!("{count} {operation}")).collect();
        let tally = state.aws.tally();
        let groups: Vec<String> =
            state.groups.iter().map(|group| format!("{group} {}", state.aws.in_service(group))).collect();
        format!(
            "AWS account: {}\ninstances: {} launched, {} ended, {} of those had a notice of the spot market, {} were lost by \
             it, {} launches refused\nin service at the end: {}",
            calls.join(", "),
            tally.launched,
            tally.ended,
            tally.noticed,
            tally.interrupted,
            tally.refused,
            groups.join(", "),
        )
    }
}

/// The group of a role as a target.
pub(super) fn target(role: &Role) -> TargetSettings {
    TargetSettings::AwsAsg(AsgSettings {
        region: Some("eu-west-1".to_owned()),
        price_usd_hour: Some(role.fleet.price_usd_hour),
        allow_replay: true,
        ..AsgSettings::new(role.name.as_str(), role.fleet.min, role.fleet.max)
    })
}

/// A group of many types in all zones, spot first.
fn create(role: &Role) -> WireRequest {
    let mixed = "MixedInstancesPolicy";
    let overrides: String = TYPES
        .iter()
        .enumerate()
        .map(|(at, name)| format!("&{mixed}.LaunchTemplate.Overrides.member.{}.InstanceType={name}", at + 1))
        .collect();
    let zones: String = ["a", "b", "c"]
        .iter()
        .enumerate()
        .map(|(at, zone)| format!("&AvailabilityZones.member.{}=eu-west-1{zone}", at + 1))
        .collect();
    let body = format!(
        "Action=CreateAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName={}&MinSize={}&MaxSize={}&DesiredCapacity={}\
         &CapacityRebalance=true&{mixed}.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName=default\
         &{mixed}.InstancesDistribution.OnDemandBaseCapacity={ON_DEMAND_BASE}\
         &{mixed}.InstancesDistribution.OnDemandPercentageAboveBaseCapacity={ON_DEMAND_PERCENT}\
         &{mixed}.InstancesDistribution.SpotAllocationStrategy=price-capacity-optimized{overrides}{zones}",
        role.name, role.fleet.min, role.fleet.max, role.fleet.initial
    );
    WireRequest { method: "POST".to_owned(), path: "/".to_owned(), body: body.into_bytes(), ..WireRequest::default() }
}
