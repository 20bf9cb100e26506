//! How EKS node groups are configured. Rule: what is not set is left alone.

use prescale_domain::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws::Place;
use crate::aws_spot::SplitSettings;
use crate::eks_drain::EksDrainSettings;
use crate::target::{Bounds, limit_faults};

/// One or two managed node groups of a cluster, as configured. Credentials, and what is not set here, come from the standard
/// AWS environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EksSettings {
    pub cluster: String,
    /// The group of on-demand nodes, or the only one.
    pub nodegroup: String,
    /// A group of spot nodes beside it.
    #[serde(default)]
    pub spot_nodegroup: Option<String>,
    /// Bounds of both groups together; each group's own bounds hold as well.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// With a spot group: nodes that are on-demand before any is spot, and percent of those above that are on-demand too.
    #[serde(default)]
    pub on_demand_base: u32,
    #[serde(default)]
    pub on_demand_percent_above_base: u32,
    /// With a spot group, and in the place of both: plans with each decision how many nodes are on-demand.
    #[serde(default)]
    pub spot: Option<SplitSettings>,
    /// What of a group is written.
    #[serde(default)]
    pub writes: EksWrites,
    /// Nodes are emptied through the cluster's own API before they go. Without it EKS takes which it likes, budgets or not.
    #[serde(default)]
    pub drain: Option<EksDrainSettings>,
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
    /// Mode `act` may be replayed against this target on the event clock: never for a group that serves anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

/// What of a node group is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EksWrites {
    /// Its desired size: where no cluster autoscaler runs.
    #[default]
    Desired,
    /// Its minimum, as a floor under what a cluster autoscaler decides.
    Floor,
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

impl EksSettings {
    /// A group with everything else at its default.
    pub fn new(cluster: &str, nodegroup: &str, min: u32, max: u32) -> Self {
        Self {
            cluster: cluster.to_owned(),
            nodegroup: nodegroup.to_owned(),
            spot_nodegroup: None,
            min,
            max,
            price_usd_hour: None,
            on_demand_base: 0,
            on_demand_percent_above_base: 0,
            spot: None,
            writes: EksWrites::default(),
            drain: None,
            endpoint_url: None,
            region: None,
            timeout: default_timeout(),
            attempt_timeout: default_attempt_timeout(),
            max_attempts: default_max_attempts(),
            allow_replay: false,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let Self { min, max, price_usd_hour, allow_replay, .. } = *self;
        Bounds { min, max, price_usd_hour, allow_replay }
    }

    pub(crate) fn describe(&self) -> String {
        let Self { cluster, nodegroup, spot_nodegroup, .. } = self;
        match spot_nodegroup {
            Some(spot) => format!("node groups `{nodegroup}` and `{spot}` of `{cluster}`"),
            None => format!("node group `{nodegroup}` of `{cluster}`"),
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.cluster.trim().is_empty() {
            faults.push("cluster is empty".to_owned());
        }
        if self.nodegroup.trim().is_empty() {
            faults.push("nodegroup is empty".to_owned());
        }
        if self.spot_nodegroup.as_ref() == Some(&self.nodegroup) {
            faults.push(format!("spot_nodegroup `{}` is nodegroup as well", self.nodegroup));
        }
        if self.spot_nodegroup.is_none() && (self.on_demand_base, self.on_demand_percent_above_base) != (0, 0) {
            faults.push(
                "on_demand_base and on_demand_percent_above_base have no effect without spot_nodegroup".to_owned(),
            );
        }
        if self.on_demand_percent_above_base > 100 {
            faults.push(format!("on_demand_percent_above_base {} exceeds 100", self.on_demand_percent_above_base));
        }
        faults.extend(self.spot.iter().flat_map(|spot| self.split_faults(spot)));
        if self.drain.is_some() && self.writes == EksWrites::Floor {
            faults.push("drain has no effect where writes = \"floor\": nothing goes by that".to_owned());
        }
        faults.extend(self.drain.iter().flat_map(EksDrainSettings::faults).map(|fault| format!("drain.{fault}")));
        faults.extend(limit_faults(self.timeout, self.attempt_timeout, Some(self.max_attempts)));
        faults
    }

    fn split_faults(&self, spot: &SplitSettings) -> Vec<String> {
        let mut faults = spot.faults();
        if self.spot_nodegroup.is_none() {
            faults.push(
                "spot has no effect without spot_nodegroup: a node group is all on-demand or all spot".to_owned(),
            );
        }
        if (self.on_demand_base, self.on_demand_percent_above_base) != (0, 0) {
            faults
                .push("on_demand_base and on_demand_percent_above_base do not go with spot: it plans both".to_owned());
        }
        if self.writes == EksWrites::Floor {
            faults.push("writes `floor` does not go with spot: the split is of desired sizes".to_owned());
        }
        if let Some(one) = spot.types.iter().find(|one| one.weight != 1) {
            faults.push(format!("spot.types: weight {} of `{}`: node groups count nodes", one.weight, one.name));
        }
        if spot.capacity_rebalance {
            faults.push("spot.capacity_rebalance has no effect: EKS rebalances spot groups in any case".to_owned());
        }
        faults
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
}

#[cfg(test)]
mod tests {
    use prescale_domain::SpotSettings;

    use super::*;
    use crate::aws_spot::InstanceTypeSettings;

    #[test]
    fn a_planned_split_needs_two_groups_and_is_the_only_split() {
        let of = |name: &str, weight| InstanceTypeSettings { name: name.to_owned(), usd_hour: 0.1, weight };
        let spot = |types, capacity_rebalance| {
            Some(SplitSettings { types, commitments: Vec::new(), plan: SpotSettings::default(), capacity_rebalance })
        };
        let two = |settings: EksSettings| EksSettings { spot_nodegroup: Some("spot".to_owned()), ..settings };
        let one = EksSettings { spot: spot(vec![of("m5.large", 1)], false), ..EksSettings::new("prod", "base", 0, 9) };
        assert_eq!(two(one.clone()).faults(), Vec::<String>::new());
        let wrong = EksSettings {
            on_demand_base: 1,
            writes: EksWrites::Floor,
            spot: spot(vec![of("m5.large", 1), of("m5.xlarge", 2)], true),
            ..one
        };
        let expected = [
            "on_demand_base and on_demand_percent_above_base have no effect without spot_nodegroup",
            "spot has no effect without spot_nodegroup: a node group is all on-demand or all spot",
            "on_demand_base and on_demand_percent_above_base do not go with spot: it plans both",
            "writes `floor` does not go with spot: the split is of desired sizes",
            "spot.types: weight 2 of `m5.xlarge`: node groups count nodes",
            "spot.capacity_rebalance has no effect: EKS rebalances spot groups in any case",
        ];
        assert_eq!(wrong.faults(), expected);
    }
}
