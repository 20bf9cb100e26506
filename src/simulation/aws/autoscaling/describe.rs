//! Groups and their activities, as AWS tells them. Rule: instances of the warm pool are told by DescribeWarmPool alone.

use super::super::answer::Refusal;
use super::super::form::Form;
use super::super::group::{Activity, Group, Launches, WarmPool};
use super::super::instance::Instance;
use super::super::world::World;
use super::super::xml::Xml;
use super::policy::{write_mixed, write_template};
use super::{page, token};

impl World {
    pub(super) fn describe_groups(&self, form: &Form) -> Result<String, Refusal> {
        let names = form.list("AutoScalingGroupNames.member");
        let filters = form.structures("Filters.member");
        let instances = form.flag("IncludeInstances")?.unwrap_or(true);
        let chosen = self.groups.values().filter(|group| {
            (names.is_empty() || names.contains(&group.name.as_str()))
                && filters.iter().all(|filter| fits(filter, group))
        });
        let (groups, next) = page(chosen.collect(), form, 50, 100)?;
        let mut xml = Xml::default();
        xml.list("AutoScalingGroups", "member", groups, |xml, group| self.write_group(xml, group, instances));
        xml.maybe("NextToken", token(next));
        Ok(xml.finish())
    }

    fn write_group(&self, xml: &mut Xml, group: &Group, instances: bool) {
        xml.leaf("AutoScalingGroupName", &group.name).leaf("AutoScalingGroupARN", &group.arn);
        match &group.launches {
            Launches::Template(template) => write_template(xml, "LaunchTemplate", template),
            Launches::Mixed(mixed) => write_mixed(xml, mixed),
        }
        xml.leaf("MinSize", group.min).leaf("MaxSize", group.max).leaf("DesiredCapacity", group.desired);
        xml.leaf("DefaultCooldown", group.cooldown_secs);
        xml.texts("AvailabilityZones", &group.zones);
        xml.texts("LoadBalancerNames", &group.load_balancers).texts("TargetGroupARNs", &group.target_groups);
        xml.leaf("HealthCheckType", &group.health_check).leaf("HealthCheckGracePeriod", group.grace_secs);
        if instances {
            let own = self.members(group).filter(|one| !one.lifecycle.is_of_warm_pool());
            xml.list("Instances", "member", own, |xml, instance| write_instance(xml, group, instance));
        }
        xml.leaf("CreatedTime", group.created);
        xml.list("SuspendedProcesses", "member", &group.suspended, |xml, (process, reason)| {
            xml.leaf("ProcessName", process).leaf("SuspensionReason", reason);
        });
        xml.leaf("VPCZoneIdentifier", &group.subnets);
        if group.deleting {
            xml.leaf("Status", "Delete in progress");
        }
        xml.list("Tags", "member", &group.tags, |xml, tag| {
            xml.leaf("ResourceId", &group.name).leaf("ResourceType", "auto-scaling-group");
            xml.leaf("Key", &tag.key).leaf("Value", &tag.value).leaf("PropagateAtLaunch", tag.propagate);
        });
        xml.texts("TerminationPolicies", &group.termination_policies);
        xml.leaf("NewInstancesProtectedFromScaleIn", group.protect_new);
        let role = "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling";
        xml.leaf("ServiceLinkedRoleARN", format!("arn:aws:iam::{}:role/{role}", self.settings.account));
        xml.leaf("CapacityRebalance", group.rebalance);
        if let Some(pool) = &group.warm_pool {
            write_warm_pool(xml, pool);
            xml.leaf("WarmPoolSize", self.members(group).filter(|one| one.lifecycle.is_of_warm_pool()).count());
        }
        xml.maybe("DefaultInstanceWarmup", group.warmup_secs);
    }

    pub(super) fn describe_warm_pool(&self, form: &Form) -> Result<String, Refusal> {
        let group = self.named(form)?;
        let all = self.members(group).filter(|one| one.lifecycle.is_of_warm_pool()).collect();
        let (instances, next) = page(all, form, 50, 50)?;
        let mut xml = Xml::default();
        if let Some(pool) = &group.warm_pool {
            write_warm_pool(&mut xml, pool);
        }
        xml.list("Instances", "member", instances, |xml, instance| write_instance(xml, group, instance));
        xml.maybe("NextToken", token(next));
        Ok(xml.finish())
    }

    pub(super) fn describe_activities(&self, form: &Form) -> Result<String, Refusal> {
        let asked = form.list("ActivityIds.member");
        let deleted = form.flag("IncludeDeletedGroups")?.unwrap_or(false);
        let only = form.get("AutoScalingGroupName");
        if let Some(name) = only.filter(|name| !deleted && !self.groups.contains_key(*name)) {
            return Err(super::no_group(name));
        }
        let groups = self.activities.iter().filter(|(name, _)| {
            only.is_none_or(|only| only == name.as_str()) && (deleted || self.groups.contains_key(*name))
        });
        let mut all: Vec<(&String, &Activity)> = groups
            .flat_map(|(name, activities)| activities.iter().rev().map(move |activity| (name, activity)))
            .filter(|(_, activity)| asked.is_empty() || asked.contains(&activity.id.as_str()))
            .collect();
        all.sort_by_key(|(_, activity)| std::cmp::Reverse(activity.start));
        let (shown, next) = page(all, form, 100, 100)?;
        let mut xml = Xml::default();
        xml.list("Activities", "member", shown, |xml, (name, activity)| self.write_activity(xml, name, activity));
        xml.maybe("NextToken", token(next));
        Ok(xml.finish())
    }

    pub(super) fn write_activity(&self, xml: &mut Xml, group: &str, activity: &Activity) {
        xml.leaf("ActivityId", &activity.id).leaf("AutoScalingGroupName", group);
        xml.leaf("Description", &activity.description).leaf("Cause", &activity.cause);
        xml.leaf("StartTime", activity.start).maybe("EndTime", activity.end);
        xml.leaf("StatusCode", activity.status).maybe("StatusMessage", activity.message.as_ref());
        xml.leaf("Progress", activity.progress).leaf("Details", &activity.details);
        match self.groups.get(group) {
            Some(group) => xml.leaf("AutoScalingGroupARN", &group.arn),
            None => xml.leaf("AutoScalingGroupState", "Deleted"),
        };
    }
}

/// AWS: `tag:key` with values, `tag-key`, `tag-value`.
fn fits(filter: &Form, group: &Group) -> bool {
    let values = filter.list("Values.member");
    let wanted = |text: &str| values.contains(&text);
    match filter.get("Name").unwrap_or_default() {
        "tag-key" => group.tags.iter().any(|tag| wanted(&tag.key)),
        "tag-value" => group.tags.iter().any(|tag| wanted(&tag.value)),
        name => match name.strip_prefix("tag:") {
            Some(key) => group.tags.iter().any(|tag| tag.key == key && wanted(&tag.value)),
            None => false,
        },
    }
}

fn write_instance(xml: &mut Xml, group: &Group, instance: &Instance) {
    xml.leaf("InstanceId", &instance.id).leaf("InstanceType", &instance.kind);
    xml.leaf("AvailabilityZone", &instance.zone).leaf("LifecycleState", instance.lifecycle.text());
    xml.leaf("HealthStatus", if instance.healthy { "Healthy" } else { "Unhealthy" });
    write_template(xml, "LaunchTemplate", group.template());
    xml.leaf("ProtectedFromScaleIn", instance.protected);
    if instance.weight > 1 {
        xml.leaf("WeightedCapacity", instance.weight);
    }
}

fn write_warm_pool(xml: &mut Xml, pool: &WarmPool) {
    xml.within("WarmPoolConfiguration", |xml| {
        xml.maybe("MaxGroupPreparedCapacity", pool.max_prepared).leaf("MinSize", pool.min_size);
        xml.leaf("PoolState", &pool.pool_state);
        if pool.deleting {
            xml.leaf("Status", "PendingDelete");
        }
        if let Some(reuse) = pool.reuse {
            xml.within("InstanceReusePolicy", |xml| {
                xml.leaf("ReuseOnScaleIn", reuse);
            });
        }
    });
}
