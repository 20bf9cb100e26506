//! Lifecycle hooks, warm pools and instance refreshes, as asked for. Rule: what they do is the group's, in `reconcile` and
//! `lifecycle`.

use std::collections::BTreeSet;

use prescale_domain::Span;

use super::super::answer::Refusal;
use super::super::form::Form;
use super::super::group::{Hook, Refresh, WarmPool};
use super::super::lifecycle::{HOOK_LIMIT, LAUNCHING, TERMINATING};
use super::super::world::World;
use super::super::xml::Xml;
use super::{page, token};

/// AWS's default heartbeat, an hour.
const HEARTBEAT_SECS: u32 = 3600;

pub(super) fn read_hook(form: &Form) -> Result<Hook, Refusal> {
    let transition = form.required("LifecycleTransition")?;
    if transition != LAUNCHING && transition != TERMINATING {
        return Err(Refusal::validation(format!("Invalid Lifecycle Transition: {transition}")));
    }
    let heartbeat_secs = form.count("HeartbeatTimeout")?.unwrap_or(HEARTBEAT_SECS);
    if !(30..=7200).contains(&heartbeat_secs) {
        return Err(Refusal::validation("Heartbeat Timeout must be between 30 and 7200 seconds."));
    }
    let default_result = form.get("DefaultResult").unwrap_or("ABANDON");
    if !["CONTINUE", "ABANDON"].contains(&default_result) {
        return Err(Refusal::validation(format!("Invalid lifecycle default result: {default_result}")));
    }
    let text = |name: &str| form.get(name).map(str::to_owned);
    Ok(Hook {
        name: form.required("LifecycleHookName")?.to_owned(),
        transition: transition.to_owned(),
        heartbeat_secs,
        default_result: default_result.to_owned(),
        target_arn: text("NotificationTargetARN"),
        role_arn: text("RoleARN"),
        metadata: text("NotificationMetadata"),
    })
}

impl World {
    pub(super) fn put_hook(&mut self, form: &Form) -> Result<String, Refusal> {
        // A hook that is there keeps what the call does not name.
        let name = form.required("LifecycleHookName")?;
        let known = self.named(form)?.hooks.get(name).cloned();
        let hook = match known {
            Some(known) if form.get("LifecycleTransition").is_none() => Hook {
                heartbeat_secs: form.count("HeartbeatTimeout")?.unwrap_or(known.heartbeat_secs),
                default_result: form.get("DefaultResult").map_or(known.default_result.clone(), str::to_owned),
                ..known
            },
            _ => read_hook(form)?,
        };
        self.named_mut(form)?.hooks.insert(hook.name.clone(), hook);
        Ok(String::new())
    }

    pub(super) fn describe_hooks(&self, form: &Form) -> Result<String, Refusal> {
        let names = form.list("LifecycleHookNames.member");
        let group = self.named(form)?;
        let hooks = group.hooks.values().filter(|hook| names.is_empty() || names.contains(&hook.name.as_str()));
        let mut xml = Xml::default();
        xml.list("LifecycleHooks", "member", hooks, |xml, hook| {
            let limit = HOOK_LIMIT.millis().min(i64::from(hook.heartbeat_secs) * 100_000) / 1000;
            xml.leaf("LifecycleHookName", &hook.name).leaf("AutoScalingGroupName", &group.name);
            xml.leaf("LifecycleTransition", &hook.transition);
            xml.maybe("NotificationTargetARN", hook.target_arn.as_ref()).maybe("RoleARN", hook.role_arn.as_ref());
            xml.maybe("NotificationMetadata", hook.metadata.as_ref());
            xml.leaf("HeartbeatTimeout", hook.heartbeat_secs).leaf("GlobalTimeout", limit);
            xml.leaf("DefaultResult", &hook.default_result);
        });
        Ok(xml.finish())
    }

    /// The instance and the hook of a lifecycle action that waits.
    fn waiting(&self, form: &Form) -> Result<(u64, String), Refusal> {
        let hook = form.required("LifecycleHookName")?;
        let group = self.named(form)?;
        let (token, id) = (form.get("LifecycleActionToken"), form.get("InstanceId"));
        let found = self.members(group).find(|one| {
            id.is_none_or(|id| one.id == id)
                && (id.is_some() || token.is_some())
                && one.waits.iter().any(|wait| wait.hook == hook && token.is_none_or(|token| token == wait.token))
        });
        found.map(|one| (one.number, hook.to_owned())).ok_or_else(|| {
            Refusal::validation(match (id, token) {
                (Some(id), _) => format!("No active Lifecycle Action found with instance ID {id}"),
                (None, token) => format!("No active Lifecycle Action found with token {}", token.unwrap_or("null")),
            })
        })
    }

    pub(super) fn complete_action(&mut self, form: &Form) -> Result<String, Refusal> {
        let result = form.required("LifecycleActionResult")?;
        if !["CONTINUE", "ABANDON"].contains(&result) {
            return Err(Refusal::validation(format!("Invalid lifecycle action result: {result}")));
        }
        let (number, hook) = self.waiting(form)?;
        self.complete(number, &hook, result == "CONTINUE");
        Ok(String::new())
    }

    pub(super) fn record_heartbeat(&mut self, form: &Form) -> Result<String, Refusal> {
        let (number, hook) = self.waiting(form)?;
        let secs = self.named(form)?.hooks.get(&hook).map_or(HEARTBEAT_SECS, |hook| hook.heartbeat_secs);
        self.heartbeat(number, &hook, Span::from_secs(i64::from(secs)));
        Ok(String::new())
    }

    pub(super) fn put_warm_pool(&mut self, form: &Form) -> Result<String, Refusal> {
        let pool_state = form.get("PoolState").unwrap_or("Stopped").to_owned();
        if !["Stopped", "Running", "Hibernated"].contains(&pool_state.as_str()) {
            return Err(Refusal::validation(format!("Invalid warm pool state: {pool_state}")));
        }
        // -1 takes the limit away.
        let max_prepared = form.number("MaxGroupPreparedCapacity")?.and_then(|number| u32::try_from(number).ok());
        let min_size = form.count("MinSize")?.unwrap_or(0);
        let reuse = form.flag("InstanceReusePolicy.ReuseOnScaleIn")?;
        let group = self.named_mut(form)?;
        if group.warm_pool.as_ref().is_some_and(|pool| pool.deleting) {
            let message = format!("The warm pool for group {} is being deleted.", group.name);
            return Err(Refusal::validation(message));
        }
        if max_prepared.is_some_and(|most| most < group.min) {
            let message = "MaxGroupPreparedCapacity must be greater than or equal to the minimum size of the group.";
            return Err(Refusal::validation(message));
        }
        group.warm_pool = Some(WarmPool { max_prepared, min_size, pool_state, reuse, deleting: false });
        let name = group.name.clone();
        self.wake(&name);
        Ok(String::new())
    }

    pub(super) fn delete_warm_pool(&mut self, form: &Form) -> Result<String, Refusal> {
        let force = form.flag("ForceDelete")?.unwrap_or(false);
        let group = self.named(form)?;
        let name = group.name.clone();
        if group.warm_pool.is_none() {
            return Err(Refusal::validation(format!("No warm pool found for Auto Scaling group: {name}")));
        }
        if !force && self.members(group).any(|one| one.lifecycle.is_of_warm_pool()) {
            let message = "You cannot delete a warm pool while there are instances in it.";
            return Err(Refusal::new(400, "ResourceInUse", message));
        }
        if let Some(pool) = self.groups.get_mut(&name).and_then(|group| group.warm_pool.as_mut()) {
            pool.deleting = true;
        }
        self.wake(&name);
        Ok(String::new())
    }

    pub(super) fn start_refresh(&mut self, form: &Form) -> Result<String, Refusal> {
        let preferences = form.below("Preferences").unwrap_or_default();
        let min_healthy_percent = preferences.count("MinHealthyPercentage")?.unwrap_or(90);
        let protected = preferences.get("ScaleInProtectedInstances").unwrap_or("Wait").to_owned();
        if min_healthy_percent > 100 {
            return Err(Refusal::validation("MinHealthyPercentage must be between 0 and 100."));
        }
        let (id, now) = (self.uuid(), self.now);
        let group = self.named(form)?;
        if let Some(active) = group.refresh() {
            let message = format!("An Instance Refresh is already in progress: {}", active.id);
            return Err(Refusal::new(400, "InstanceRefreshInProgress", message));
        }
        let live = self.members(group).filter(|one| one.lifecycle.is_live());
        let left: BTreeSet<u64> = live.map(|one| one.number).collect();
        let total = left.len();
        let refresh = Refresh {
            id: id.clone(),
            status: "Pending",
            start: now,
            end: None,
            left,
            total,
            min_healthy_percent,
            protected,
        };
        let group = self.named_mut(form)?;
        group.refreshes.push(refresh);
        let name = group.name.clone();
        self.wake(&name);
        let mut xml = Xml::default();
        xml.leaf("InstanceRefreshId", id);
        Ok(xml.finish())
    }

    pub(super) fn describe_refreshes(&self, form: &Form) -> Result<String, Refusal> {
        let asked = form.list("InstanceRefreshIds.member");
        let group = self.named(form)?;
        let fits = |refresh: &&Refresh| asked.is_empty() || asked.contains(&refresh.id.as_str());
        let (shown, next) = page(group.refreshes.iter().rev().filter(fits).collect(), form, 50, 100)?;
        let mut xml = Xml::default();
        xml.list("InstanceRefreshes", "member", shown, |xml, refresh| {
            let done = refresh.total - refresh.left.len().min(refresh.total);
            let percent = if refresh.status == "Successful" { 100 } else { done * 100 / refresh.total.max(1) };
            xml.leaf("InstanceRefreshId", &refresh.id).leaf("AutoScalingGroupName", &group.name);
            xml.leaf("Status", refresh.status).leaf("StartTime", refresh.start).maybe("EndTime", refresh.end);
            if refresh.status != "Pending" {
                xml.leaf("PercentageComplete", percent).leaf("InstancesToUpdate", refresh.left.len());
            }
            xml.within("Preferences", |xml| {
                xml.leaf("MinHealthyPercentage", refresh.min_healthy_percent);
                xml.leaf("ScaleInProtectedInstances", &refresh.protected);
            });
        });
        xml.maybe("NextToken", token(next));
        Ok(xml.finish())
    }
}
