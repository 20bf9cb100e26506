//! An Auto Scaling group, as asked for. Rule: what the caller set and nobody changed is told back as it was set.

use std::collections::{BTreeMap, BTreeSet};

use prescale_domain::Timestamp;

use super::mix::Mix;

/// The launch template of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
}

/// One line of a mixed-instances policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) kind: Option<String>,
    pub(super) weight: Option<u32>,
    /// vCPUs and memory in MiB, at least and at most.
    pub(super) requirements: Option<[Option<u32>; 4]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mixed {
    pub(super) template: Template,
    pub(super) overrides: Vec<Override>,
    pub(super) on_demand_strategy: String,
    pub(super) base: u32,
    pub(super) percent_above: u32,
    pub(super) spot_strategy: String,
    pub(super) spot_pools: Option<u32>,
    pub(super) spot_max_price: Option<String>,
}

/// What a group launches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Launches {
    Template(Template),
    Mixed(Mixed),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WarmPool {
    pub(super) max_prepared: Option<u32>,
    pub(super) min_size: u32,
    pub(super) pool_state: String,
    pub(super) reuse: Option<bool>,
    pub(super) deleting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) transition: String,
    pub(super) heartbeat_secs: u32,
    pub(super) default_result: String,
    pub(super) target_arn: Option<String>,
    pub(super) role_arn: Option<String>,
    pub(super) metadata: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) propagate: bool,
}

/// A scaling activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Activity {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) cause: String,
    pub(super) start: Timestamp,
    pub(super) end: Option<Timestamp>,
    pub(super) status: &'static str,
    pub(super) progress: u8,
    pub(super) details: String,
    pub(super) message: Option<String>,
}

/// A rolling replacement of all instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refresh {
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) start: Timestamp,
    pub(super) end: Option<Timestamp>,
    /// Instances that are still to go.
    pub(super) left: BTreeSet<u64>,
    pub(super) total: usize,
    pub(super) min_healthy_percent: u32,
    pub(super) protected: String,
}

impl Refresh {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.status, "Pending" | "InProgress")
    }
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) created: Timestamp,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) desired: u32,
    pub(super) launches: Launches,
    pub(super) zones: Vec<String>,
    pub(super) subnets: String,
    pub(super) cooldown_secs: u32,
    pub(super) warmup_secs: Option<i64>,
    pub(super) health_check: String,
    pub(super) grace_secs: u32,
    pub(super) termination_policies: Vec<String>,
    pub(super) protect_new: bool,
    pub(super) rebalance: bool,
    pub(super) load_balancers: Vec<String>,
    pub(super) target_groups: Vec<String>,
    pub(super) tags: Vec<Tag>,
    /// Process → why it is suspended.
    pub(super) suspended: BTreeMap<String, String>,
    pub(super) hooks: BTreeMap<String, Hook>,
    pub(super) warm_pool: Option<WarmPool>,
    pub(super) refreshes: Vec<Refresh>,
    pub(super) members: BTreeSet<u64>,
    /// Why its capacity is what it is, for the causes of activities.
    pub(super) reason: String,
    /// When the last activity ended.
    pub(super) settled_at: Option<Timestamp>,
    /// When it will look at itself next, so that it does so once.
    pub(super) woken_at: Option<Timestamp>,
    /// When it will try again to launch what could not be had.
    pub(super) retry_at: Option<Timestamp>,
    pub(super) deleting: bool,
    /// `ClientToken` of LaunchInstances → what was answered.
    pub(super) launched_by_token: BTreeMap<String, (u32, String)>,
}

impl Group {
    pub(super) fn suspends(&self, process: &str) -> bool {
        self.suspended.contains_key(process)
    }

    pub(super) fn mix(&self) -> Mix {
        match &self.launches {
            Launches::Template(_) => Mix::ON_DEMAND,
            Launches::Mixed(mixed) => Mix { base: mixed.base, percent_above: mixed.percent_above },
        }
    }

    pub(super) fn template(&self) -> &Template {
        match &self.launches {
            Launches::Template(template) => template,
            Launches::Mixed(mixed) => &mixed.template,
        }
    }

    pub(super) fn hooks_of(&self, transition: &str) -> Vec<&Hook> {
        self.hooks.values().filter(|hook| hook.transition == transition).collect()
    }

    pub(super) fn refresh(&self) -> Option<&Refresh> {
        self.refreshes.iter().find(|refresh| refresh.is_active())
    }
}
