//! Groups whose capacity is split over on-demand and spot units. Rule: what is wanted comes with the decision; what runs is
//! what EC2 says runs.

use std::collections::BTreeMap;

use prescale_domain::{Commitment, PoolId, SplitUnit, SpotSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How capacity is split over on-demand and spot units, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitSettings {
    /// Instance types of the group's mixed instances policy, or of the node group of spot nodes.
    pub types: Vec<InstanceTypeSettings>,
    /// Capacity that is paid for in any case: reserved instances, savings plans.
    #[serde(default)]
    pub commitments: Vec<Commitment>,
    /// How much may be spot, and at which risk.
    #[serde(default)]
    pub plan: SpotSettings,
    /// Whether an Auto Scaling group replaces units under notice by itself (AWS's capacity rebalancing), for where notices don't reach
    /// Prescale: on the last notice it ends the unit at once and then launches another, while Prescale lets it serve until
    /// that one does.
    #[serde(default)]
    pub capacity_rebalance: bool,
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

impl SplitSettings {
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
        faults.extend(plan_faults(&self.plan));
        faults
    }
}

fn plan_faults(plan: &SpotSettings) -> Vec<String> {
    let mut faults = Vec::new();
    let shares = [
        ("risk", Some(plan.risk)),
        ("pool_share_max", Some(plan.pool_share_max)),
        ("zone_share_max", Some(plan.zone_share_max)),
        ("step_share", Some(plan.step_share)),
        ("noticed", Some(plan.noticed)),
        ("hysteresis", Some(plan.hysteresis)),
        ("wish.max_share", plan.wish.max_share),
        ("wish.discount", plan.wish.discount),
    ];
    for (name, share) in shares {
        if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
            faults.push(format!("spot.plan.{name} {share} is not a share from 0 to 1"));
        }
    }
    if !(plan.criticality.is_finite() && plan.criticality > 0.0) {
        faults.push(format!("spot.plan.criticality {} is not above 0", plan.criticality));
    }
    faults
}

/// A target whose capacity is split, as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    pub settings: SplitSettings,
    /// Where it may have units.
    pub zones: Vec<String>,
    /// Units that start or serve; those on their way out are not among them.
    pub units: Vec<SplitUnit>,
    /// Last known prices of spot instances, in USD an hour.
    pub prices: Vec<(PoolId, f64)>,
    /// Spot units that were asked for are refused: the last launch failed for want of capacity.
    pub refused: bool,
    /// What is said of spot on the target itself: its tags.
    pub annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_told() {
        let kind = |name: &str, usd_hour| InstanceTypeSettings { name: name.to_owned(), usd_hour, weight: 1 };
        let plan = SpotSettings { risk: 1.5, criticality: 0.0, ..SpotSettings::default() };
        let settings = SplitSettings {
            types: vec![kind("m5.large", 0.1), kind("m5.large", -1.0)],
            commitments: Vec::new(),
            plan,
            capacity_rebalance: false,
        };
        let expected = [
            "spot.types: `m5.large` is there twice",
            "spot.types: usd_hour -1 of `m5.large` is not a price",
            "spot.plan.risk 1.5 is not a share from 0 to 1",
            "spot.plan.criticality 0 is not above 0",
        ];
        assert_eq!(settings.faults(), expected);
        let sound = SplitSettings { types: vec![kind("m5.large", 0.1)], plan: SpotSettings::default(), ..settings };
        assert_eq!(sound.faults(), Vec::<String>::new());
    }
}
