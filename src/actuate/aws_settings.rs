//! How an Auto Scaling group is configured. Rule: what is not set is left alone.

use prescale_domain::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws::Place;
use crate::aws_spot::SplitSettings;
use crate::target::{Bounds, limit_faults};

/// An Auto Scaling group, as configured. Credentials, and what is not set here, come from the standard AWS environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsgSettings {
    /// The group's name.
    pub group: String,
    /// Bounds of what is asked for; the group's own bounds hold as well.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// Another endpoint than the region's.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
    /// Limit of one call with all its attempts, and of one attempt.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    #[serde(default = "default_attempt_timeout")]
    pub attempt_timeout: Span,
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// What is written of the group.
    #[serde(default)]
    pub writes: AsgWrites,
    /// How units are taken away.
    #[serde(default)]
    pub scale_in: AsgScaleIn,
    /// How units are added.
    #[serde(default)]
    pub scale_out: AsgScaleOut,
    /// Keeps the group's warm pool as large as the forecast asks for. The group must have one; without this it is left alone.
    #[serde(default)]
    pub warm_pool: Option<WarmPoolSettings>,
    /// Splits what is wanted over on-demand and spot units. The group must have a mixed instances policy.
    #[serde(default)]
    pub spot: Option<SplitSettings>,
    /// Mode `act` may be replayed against this target on the event clock: never for a group that serves anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

/// What of a group is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AsgWrites {
    /// Its desired capacity.
    #[default]
    Desired,
    /// Its minimum, as a floor under what other policies of the group decide.
    Floor,
    /// Its desired capacity, and its minimum and maximum as configured here.
    DesiredAndBounds,
}

/// How units are taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AsgScaleIn {
    /// The group chooses, by its termination policies.
    #[default]
    Group,
    /// Instances by name: those that serve nobody first, then those of the fullest zone, and there the oldest; none that is
    /// protected.
    Targeted,
}

/// How units are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AsgScaleOut {
    /// By desired capacity; the group launches when it comes to it.
    #[default]
    Desired,
    /// By `LaunchInstances`, which tells at once what there is; what could not be had goes into desired capacity.
    LaunchInstances,
}

/// A warm pool that follows the forecast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarmPoolSettings {
    /// Prepared beyond what the forecast asks for, as a share of it.
    pub reserve: f64,
    /// Most units prepared, those in service included; the group's maximum where it is not set.
    pub max: Option<u32>,
}

impl Default for WarmPoolSettings {
    fn default() -> Self {
        Self { reserve: 0.1, max: None }
    }
}

fn default_timeout() -> Span {
    Span::from_secs(10)
}

fn default_attempt_timeout() -> Span {
    Span::from_secs(3)
}

fn default_max_attempts() -> u32 {
    3
}

impl AsgSettings {
    /// A group with everything else at its default.
    pub fn new(group: &str, min: u32, max: u32) -> Self {
        Self {
            group: group.to_owned(),
            min,
            max,
            price_usd_hour: None,
            endpoint_url: None,
            region: None,
            timeout: default_timeout(),
            attempt_timeout: default_attempt_timeout(),
            max_attempts: default_max_attempts(),
            writes: AsgWrites::default(),
            scale_in: AsgScaleIn::default(),
            scale_out: AsgScaleOut::default(),
            warm_pool: None,
            spot: None,
            allow_replay: false,
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            endpoint_url: self.endpoint_url.clone(),
            region: self.region.clone(),
            timeout: self.timeout,
            attempt_timeout: self.attempt_timeout,
            max_attempts: self.max_attempts,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let Self { min, max, price_usd_hour, allow_replay, .. } = *self;
        Bounds { min, max, price_usd_hour, allow_replay }
    }

    pub(crate) fn describe(&self) -> String {
        format!("asg `{}`", self.group)
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.group.trim().is_empty() {
            faults.push("group is empty".to_owned());
        }
        faults.extend(limit_faults(self.timeout, self.attempt_timeout, Some(self.max_attempts)));
        if self.warm_pool.is_some_and(|pool| !(0.0..=10.0).contains(&pool.reserve)) {
            faults.push("warm_pool.reserve is not a share from 0 to 10".to_owned());
        }
        if let Some(spot) = &self.spot {
            faults.extend(spot.faults());
            if self.writes == AsgWrites::Floor {
                faults.push("writes `floor` does not go with spot: the split is of desired capacity".to_owned());
            }
            // It launches before the policy says what, and its answer comes before its desired capacity.
            if self.scale_out == AsgScaleOut::LaunchInstances {
                faults.push(
                    "scale_out `launch-instances` does not go with spot: policy and capacity change in one call"
                        .to_owned(),
                );
            }
            if self.scale_in == AsgScaleIn::Targeted {
                faults.push("scale_in `targeted` does not go with spot: the group keeps to its policy".to_owned());
            }
        }
        faults
    }
}
