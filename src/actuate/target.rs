//! The registry of targets. Rule: closed; a new kind is one file and one variant, and the compiler names the rest.

use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ActuateError, Actuator, AsgSettings, AwsAsg, Failure, Simulated, SimulatedSettings};

/// What a service is scaled by, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TargetSettings {
    /// A fleet inside Prescale, for trying things out.
    Simulated(SimulatedSettings),
    /// An AWS Auto Scaling group.
    AwsAsg(AsgSettings),
}

/// A target at work. Clones share their connection, or their fleet.
#[derive(Clone, Debug)]
pub enum Target {
    Simulated(Simulated),
    AwsAsg(AwsAsg),
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
        })
    }

    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (min, max) = (self.min(), self.max());
        if min > max {
            faults.push(format!("min {min} exceeds max {max}"));
        }
        let price = self.price_usd_hour();
        if price.is_some_and(|price| !price.is_finite() || price < 0.0) {
            faults.push(format!("price_usd_hour {} is not a price", price.unwrap_or_default()));
        }
        if let Self::AwsAsg(settings) = self {
            faults.extend(settings.faults());
        }
        faults
    }

    pub fn min(&self) -> u32 {
        match self {
            Self::Simulated(settings) => settings.fleet.min,
            Self::AwsAsg(settings) => settings.min,
        }
    }

    pub fn max(&self) -> u32 {
        match self {
            Self::Simulated(settings) => settings.fleet.max,
            Self::AwsAsg(settings) => settings.max,
        }
    }

    /// Price of a unit, where it is known.
    pub fn price_usd_hour(&self) -> Option<f64> {
        match self {
            Self::Simulated(settings) => Some(settings.fleet.price_usd_hour),
            Self::AwsAsg(settings) => settings.price_usd_hour,
        }
    }

    /// Whether mode `act` may be replayed against this target on the event clock.
    pub fn allow_replay(&self) -> bool {
        match self {
            Self::Simulated(settings) => settings.allow_replay,
            Self::AwsAsg(settings) => settings.allow_replay,
        }
    }

    /// Provisioning latency (p90) and warm-up that the target itself knows.
    pub fn lead_time(&self) -> Option<(Span, Span)> {
        match self {
            Self::Simulated(SimulatedSettings { fleet, .. }) => Some((fleet.provisioning_latency_p90, fleet.warm_up)),
            Self::AwsAsg(_) => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Simulated(_) => "simulated fleet".to_owned(),
            Self::AwsAsg(settings) => settings.describe(),
        }
    }
}

impl Actuator for Target {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        match self {
            Self::Simulated(target) => target.observe(now).await,
            Self::AwsAsg(target) => target.observe(now).await,
        }
    }

    async fn apply(&self, decision: &Decision, now: Timestamp) -> Result<Outcome, ActuateError> {
        match self {
            Self::Simulated(target) => target.apply(decision, now).await,
            Self::AwsAsg(target) => target.apply(decision, now).await,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Simulated(target) => target.describe(),
            Self::AwsAsg(target) => target.describe(),
        }
    }
}
