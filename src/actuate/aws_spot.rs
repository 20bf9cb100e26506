//! Groups whose capacity is split over on-demand and spot units. Rule: what is wanted comes with the decision; what runs is
//! what EC2 says runs.

use prescale_domain::{Commitment, PoolId, SplitUnit, SpotSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a group's capacity is split, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsgSpotSettings {
    /// Instance types of the group's mixed instances policy.
    pub types: Vec<InstanceTypeSettings>,
    /// Capacity that is paid for in any case: reserved instances, savings plans.
    #[serde(default)]
    pub commitments: Vec<Commitment>,
    /// How much may be spot, and at which risk.
    #[serde(default)]
    pub plan: SpotSettings,
}

/// An instance type and what one of it costs on demand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceTypeSettings {
    /// Such as `m7i.large`.
    pub name: String,
    /// On demand, of one instance.
    pub usd_hour: f64,
    /// Units of capacity that one carries, as in the policy.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl AsgSpotSettings {
    /// Everything that is wrong with them, as sentences.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.types.is_empty() {
            faults.push("spot.types is empty".to_owned());
        }
        for (at, one) in self.types.iter().enumerate() {
            if one.name.trim().is_empty() {
                faults.push(format!("spot.types: number {} has no name", at + 1));
            }
            if self.types[..at].iter().any(|other| other.name == one.name) {
                faults.push(format!("spot.types: `{}` is there twice", one.name));
            }
            if !one.usd_hour.is_finite() || one.usd_hour <= 0.0 {
                faults.push(format!("spot.types: usd_hour {} of `{}` is not a price", one.usd_hour, one.name));
            }
            if !(1..=999).contains(&one.weight) {
                faults.push(format!("spot.types: weight {} of `{}` is not from 1 to 999", one.weight, one.name));
            }
        }
        faults
    }
}

/// A target whose capacity is split, as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    pub settings: AsgSpotSettings,
    /// Where it may have units.
    pub zones: Vec<String>,
    /// Units that start or serve; those on their way out are not among them.
    pub units: Vec<SplitUnit>,
    /// Last known prices of spot instances, in USD an hour.
    pub prices: Vec<(PoolId, f64)>,
    /// Spot units that were asked for are refused: the last launch failed for want of capacity.
    pub refused: bool,
}
