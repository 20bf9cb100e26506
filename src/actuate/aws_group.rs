//! What of an Auto Scaling group matters here. Rule: capacity is counted in the group's own unit: where instance types have
//! weights, an instance is as many units as it weighs.

use std::collections::BTreeMap;

use aws_sdk_autoscaling::types::{
    AutoScalingGroup, Instance, LifecycleState, MixedInstancesPolicy, TagDescription, WarmPoolConfiguration,
};
use prescale_domain::{PoolId, is_spot_annotation};

/// A group as it was described.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) desired: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) members: Vec<Member>,
    pub(crate) zones: Vec<String>,
    /// Names of the processes that are suspended.
    pub(crate) suspended: Vec<String>,
    pub(crate) warm_pool: Option<WarmPoolConfiguration>,
    /// What it launches, where that is a mix.
    pub(crate) mixed: Option<MixedInstancesPolicy>,
    /// It replaces spot instances at a recommendation or a notice by itself.
    pub(crate) rebalances: bool,
    /// Those of its tags that say something of spot.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// An instance of a group that is not in its warm pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) pool: PoolId,
    /// In service and healthy.
    pub(crate) serves: bool,
    /// On its way out.
    pub(crate) leaves: bool,
    pub(crate) protected: bool,
    pub(crate) weight: u32,
}

impl Group {
    /// Units in service. More than are desired is legal: while an instance is replaced both count.
    pub(crate) fn ready(&self) -> u32 {
        self.members.iter().filter(|member| member.serves).map(|member| member.weight).fold(0, u32::saturating_add)
    }

    /// Those that start or serve.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.leaves)
    }

    /// Whether the group's owner has suspended this process.
    pub(crate) fn suspends(&self, process: &str) -> bool {
        self.suspended.iter().any(|name| name == process)
    }
}

impl From<&AutoScalingGroup> for Group {
    fn from(group: &AutoScalingGroup) -> Self {
        let suspended = group.suspended_processes().iter().filter_map(|process| process.process_name());
        Self {
            desired: units(group.desired_capacity()),
            min: units(group.min_size()),
            max: units(group.max_size()),
            members: group.instances().iter().filter_map(member).collect(),
            zones: group.availability_zones().to_vec(),
            suspended: suspended.map(str::to_owned).collect(),
            warm_pool: group.warm_pool_configuration().cloned(),
            mixed: group.mixed_instances_policy().cloned(),
            rebalances: group.capacity_rebalance().unwrap_or_default(),
            annotations: group.tags().iter().filter_map(annotation).collect(),
        }
    }
}

fn annotation(tag: &TagDescription) -> Option<(String, String)> {
    let key = tag.key().filter(|key| is_spot_annotation(key))?;
    Some((key.to_owned(), tag.value().unwrap_or_default().to_owned()))
}

/// AWS has no negative capacities; the SDK's type would allow them.
fn units(count: Option<i32>) -> u32 {
    u32::try_from(count.unwrap_or_default()).unwrap_or_default()
}

/// `None` for those of the warm pool: they wait there and serve nobody.
fn member(instance: &Instance) -> Option<Member> {
    let state = instance.lifecycle_state().map_or("", LifecycleState::as_str);
    if state.starts_with("Warmed:") {
        return None;
    }
    let healthy = instance.health_status() == Some("Healthy");
    Some(Member {
        id: instance.instance_id().unwrap_or_default().to_owned(),
        pool: PoolId {
            instance_type: instance.instance_type().unwrap_or_default().to_owned(),
            zone: instance.availability_zone().unwrap_or_default().to_owned(),
        },
        serves: state == LifecycleState::InService.as_str() && healthy,
        leaves: state.starts_with("Terminat") || state.starts_with("Detach"),
        protected: instance.protected_from_scale_in().unwrap_or_default(),
        weight: instance.weighted_capacity().and_then(|weight| weight.parse().ok()).unwrap_or(1),
    })
}
