//! The registry of targets. Rule: closed; a new kind is one file, a variant in each enum and a line in [`each`], and the
//! compiler names the rest.

use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ActuateError, Actuator, AsgSettings, AwsAsg, ContainerGroup, ContainerGroupSettings, Failure, Simulated,
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
    /// Containers of a Docker Engine, such as those of a Compose service.
    Docker(ContainerGroupSettings),
    /// A service of a Docker swarm.
    Swarm(SwarmServiceSettings),
    /// Anything else, behind a URL.
    Webhook(WebhookSettings),
}

/// A target at work. Clones share their connection, or their fleet.
#[derive(Clone, Debug)]
pub enum Target {
    Simulated(Simulated),
    AwsAsg(AwsAsg),
    Docker(ContainerGroup),
    Swarm(SwarmService),
    Webhook(Webhook),
}

/// The same for whatever kind it is.
macro_rules! each {
    ($self:expr, $target:ident => $does:expr) => {
        match $self {
            Self::Simulated($target) => $does,
            Self::AwsAsg($target) => $does,
            Self::Docker($target) => $does,
            Self::Swarm($target) => $does,
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

impl TargetSettings {
    /// The target; nothing is connected to before its first use.
    pub fn build(&self) -> Result<Target, ActuateError> {
        if let Some(detail) = self.faults().into_iter().next() {
            return Err(ActuateError::Invalid(Failure { operation: "settings", target: self.describe(), detail }));
        }
        Ok(match self {
            Self::Simulated(settings) => Target::Simulated(Simulated::new(settings.fleet)),
            Self::AwsAsg(settings) => Target::AwsAsg(AwsAsg::new(settings.clone())),
            Self::Docker(settings) => Target::Docker(ContainerGroup::new(settings.clone())),
            Self::Swarm(settings) => Target::Swarm(SwarmService::new(settings.clone())),
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

impl Actuator for Target {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        each!(self, target => target.observe(now).await)
    }

    async fn apply(&self, decision: &Decision, now: Timestamp) -> Result<Outcome, ActuateError> {
        each!(self, target => target.apply(decision, now).await)
    }

    fn describe(&self) -> String {
        each!(self, target => target.describe())
    }
}
