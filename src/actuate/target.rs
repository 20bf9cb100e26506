//! The registry of targets. Rule: closed; a new kind is one file, a variant in each enum and a line in [`each`], and the
//! compiler names the rest.

use std::collections::BTreeMap;

use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp, UnitView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ActuateError, Actuator, AsgSettings, AwsAsg, Capacity, Connections, ContainerGroup, ContainerGroupSettings,
    EksNodegroups, EksSettings, Failure, Kubernetes, KubernetesNodes, KubernetesSettings, NodesSettings, Simulated,
    SimulatedSettings, SwarmService, SwarmServiceSettings, Webhook, WebhookSettings,
};

/// What a service is scaled by, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TargetSettings {
    /// A fleet inside Prescale, for trying things out.
    Simulated(SimulatedSettings),
    /// An AWS Auto Scaling group.
    AwsAsg(AsgSettings),
    /// One or two EKS managed node groups.
    EksNodegroup(EksSettings),
    /// Containers of a Docker Engine, such as those of a Compose service.
    Docker(ContainerGroupSettings),
    /// A service of a Docker swarm.
    Swarm(SwarmServiceSettings),
    /// A workload of a Kubernetes cluster.
    Kubernetes(KubernetesSettings),
    /// Nodes of a Kubernetes cluster, ahead of the pods of a workload.
    KubernetesNodes(NodesSettings),
    /// Anything else, behind a URL.
    Webhook(WebhookSettings),
}

/// A target at work. Clones share their connection, or their fleet.
#[derive(Clone, Debug)]
pub enum Target {
    Simulated(Simulated),
    AwsAsg(AwsAsg),
    EksNodegroup(EksNodegroups),
    Docker(ContainerGroup),
    Swarm(SwarmService),
    Kubernetes(Kubernetes),
    KubernetesNodes(KubernetesNodes),
    Webhook(Webhook),
}

/// The same for whatever kind it is.
macro_rules! each {
    ($self:expr, $target:ident => $does:expr) => {
        match $self {
            Self::Simulated($target) => $does,
            Self::AwsAsg($target) => $does,
            Self::EksNodegroup($target) => $does,
            Self::Docker($target) => $does,
            Self::Swarm($target) => $does,
            Self::Kubernetes($target) => $does,
            Self::KubernetesNodes($target) => $does,
            Self::Webhook($target) => $does,
        }
    };
}

/// What all kinds of targets are configured with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// Of what is asked for, in units.
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// Price of a unit, where it is known.
    pub(crate) price_usd_hour: Option<f64>,
    /// Mode `act` may be replayed against it on the event clock.
    pub(crate) allow_replay: bool,
}

/// What is wrong with the limits of a target's calls; `max_attempts` where it has one.
pub(crate) fn limit_faults(timeout: Span, attempt_timeout: Span, max_attempts: Option<u32>) -> Vec<String> {
    let mut faults = Vec::new();
    if attempt_timeout.millis() <= 0 {
        faults.push(format!("attempt_timeout {attempt_timeout} is not above 0s"));
    }
    if timeout < attempt_timeout {
        faults.push(format!("timeout {timeout} is below attempt_timeout {attempt_timeout}"));
    }
    if max_attempts == Some(0) {
        faults.push("max_attempts 0 is below 1".to_owned());
    }
    faults
}

impl TargetSettings {
    /// The target; nothing is connected to before its first use.
    pub fn build(&self) -> Result<Target, ActuateError> {
        self.build_in(&Connections::default())
    }

    /// The target, with what it can share with others.
    pub fn build_in(&self, connections: &Connections) -> Result<Target, ActuateError> {
        if let Some(detail) = self.faults().into_iter().next() {
            return Err(ActuateError::Invalid(Failure { operation: "settings", target: self.describe(), detail }));
        }
        Ok(match self {
            Self::Simulated(settings) => Target::Simulated(Simulated::new(settings.fleet)),
            Self::AwsAsg(settings) => Target::AwsAsg(AwsAsg::new(settings.clone(), connections)),
            Self::EksNodegroup(settings) => Target::EksNodegroup(EksNodegroups::new(settings.clone(), connections)),
            Self::Docker(settings) => Target::Docker(ContainerGroup::new(settings.clone())),
            Self::Swarm(settings) => Target::Swarm(SwarmService::new(settings.clone())),
            Self::Kubernetes(settings) => Target::Kubernetes(Kubernetes::new(settings.clone())),
            Self::KubernetesNodes(settings) => Target::KubernetesNodes(KubernetesNodes::new(settings.clone())),
            Self::Webhook(settings) => Target::Webhook(Webhook::new(settings.clone())),
        })
    }

    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let Bounds { min, max, price_usd_hour, .. } = self.bounds();
        if min > max {
            faults.push(format!("min {min} exceeds max {max}"));
        }
        if price_usd_hour.is_some_and(|price| !price.is_finite() || price < 0.0) {
            faults.push(format!("price_usd_hour {} is not a price", price_usd_hour.unwrap_or_default()));
        }
        faults.extend(each!(self, settings => settings.faults()));
        faults
    }

    pub fn min(&self) -> u32 {
        self.bounds().min
    }

    pub fn max(&self) -> u32 {
        self.bounds().max
    }

    /// Price of a unit, where it is known.
    pub fn price_usd_hour(&self) -> Option<f64> {
        self.bounds().price_usd_hour
    }

    /// Whether mode `act` may be replayed against this target on the event clock.
    pub fn allow_replay(&self) -> bool {
        self.bounds().allow_replay
    }

    /// Whether its capacity is split over on-demand and spot units.
    pub fn has_spot(&self) -> bool {
        match self {
            Self::AwsAsg(settings) => settings.spot.is_some(),
            Self::EksNodegroup(settings) => settings.spot.is_some(),
            _ => false,
        }
    }

    /// The simulated fleet, where it is one.
    pub fn simulated(&self) -> Option<&SimulatedSettings> {
        match self {
            Self::Simulated(settings) => Some(settings),
            _ => None,
        }
    }

    /// Provisioning latency (p90) and warm-up that the target itself knows.
    pub fn lead_time(&self) -> Option<(Span, Span)> {
        self.simulated().map(|SimulatedSettings { fleet, .. }| (fleet.provisioning_latency_p90, fleet.warm_up))
    }

    /// The target in a few words.
    pub fn describe(&self) -> String {
        each!(self, settings => settings.describe())
    }

    fn bounds(&self) -> Bounds {
        each!(self, settings => settings.bounds())
    }
}

impl Target {
    /// Whether it lives in the time of the data, so that what is seen of it means something in a replay.
    pub fn follows_event_time(&self) -> bool {
        match self {
            Self::Simulated(_) => true,
            Self::AwsAsg(target) => target.follows_event_time(),
            _ => false,
        }
    }

    /// The units of a target whose capacity is split, and what it may be made of, as last observed; `None` = it is not split,
    /// or was not seen.
    pub fn capacity(&self) -> Option<Capacity> {
        match self {
            Self::AwsAsg(target) => target.capacity(),
            Self::EksNodegroup(target) => target.capacity(),
            _ => None,
        }
    }

    /// What the owner of a workload says of spot on the workload itself, as last observed; `None` = it never was.
    pub fn spot_annotations(&self) -> Option<BTreeMap<String, String>> {
        match self {
            Self::Kubernetes(target) => target.spot_annotations(),
            _ => Some(BTreeMap::new()),
        }
    }

    /// Units of a target that takes them away by name, as last observed: since when they are there it does not know.
    pub fn units(&self) -> Vec<UnitView> {
        match self {
            Self::AwsAsg(target) => target.units(),
            _ => Vec::new(),
        }
    }

    /// Why the target does not get what it wants, in its own words; `None` = it does, or it does not say.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::AwsAsg(target) => target.trouble(),
            Self::EksNodegroup(target) => target.trouble(),
            _ => None,
        }
    }
}

// Boxed: in each loop that waits for a target there would otherwise be room for the largest of all kinds of calls.
impl Actuator for Target {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        each!(self, target => Box::pin(target.observe(now)).await)
    }

    async fn apply(&self, decision: &Decision, now: Timestamp) -> Result<Outcome, ActuateError> {
        each!(self, target => Box::pin(target.apply(decision, now)).await)
    }

    fn tends(&self) -> bool {
        each!(self, target => target.tends())
    }

    fn describe(&self) -> String {
        each!(self, target => target.describe())
    }
}
