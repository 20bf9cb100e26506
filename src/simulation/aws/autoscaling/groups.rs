//! Groups are made, changed and ended. Rule: an update changes what it names and nothing else; a refused one changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::super::answer::Refusal;
use super::super::form::Form;
use super::super::group::{Group, Launches, Tag};
use super::super::world::World;
use super::no_group;

const PROCESSES: [&str; 9] = [
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
];

/// What of a group other services set as well.
#[derive(Clone, Debug)]
pub(in super::super) struct GroupRequest {
    pub(in super::super) name: String,
    pub(in super::super) sizes: (u32, u32, u32),
    pub(in super::super) launches: Launches,
    pub(in super::super) zones: Vec<String>,
    pub(in super::super) subnets: String,
    pub(in super::super) rebalance: bool,
    pub(in super::super) tags: Vec<Tag>,
}

impl World {
    pub(super) fn create_group(&mut self, form: &Form) -> Result<String, Refusal> {
        let name = form.required("AutoScalingGroupName")?.to_owned();
        if self.groups.contains_key(&name) {
            let message =
                format!("AutoScalingGroup by this name already exists - A group with the name {name} already exists");
            return Err(Refusal::new(400, "AlreadyExists", message));
        }
        let size = |name: &str| form.count(name).and_then(|size| size.ok_or_else(|| super::super::form::missing(name)));
        let (min, max) = (size("MinSize")?, size("MaxSize")?);
        let desired = form.count("DesiredCapacity")?.unwrap_or(min);
        check_sizes(min, max, desired)?;
        let launches = self.launches(form)?.ok_or_else(|| {
            Refusal::validation(
                "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or \
                 MixedInstancesPolicy parameter.",
            )
        })?;
        let zones = self.zones(form)?;
        let request = GroupRequest {
            name: name.clone(),
            sizes: (min, max, desired),
            launches,
            zones,
            subnets: form.get("VPCZoneIdentifier").unwrap_or_default().to_owned(),
            rebalance: form.flag("CapacityRebalance")?.unwrap_or(false),
            tags: tags(form)?,
        };
        let mut group = self.group_from(request);
        apply(&mut group, form)?;
        let hooks = form.structures("LifecycleHookSpecificationList.member");
        for hook in &hooks {
            let hook = super::pools::read_hook(hook)?;
            group.hooks.insert(hook.name.clone(), hook);
        }
        self.groups.insert(name.clone(), group);
        self.wake(&name);
        Ok(String::new())
    }

    /// A group that launches nothing yet.
    pub(in super::super) fn group_from(&mut self, request: GroupRequest) -> Group {
        let GroupRequest { name, sizes: (min, max, desired), launches, zones, subnets, rebalance, tags } = request;
        let id = self.uuid();
        let reason = format!(
            "At {} a user request created an AutoScalingGroup changing the desired capacity from 0 to {desired}.  ",
            self.now
        );
        Group {
            arn: self.arn("autoscaling", &format!("autoScalingGroup:{id}:autoScalingGroupName/{name}")),
            name,
            created: self.now,
            min,
            max,
            desired,
            launches,
            zones,
            subnets,
            cooldown_secs: 300,
            warmup_secs: None,
            health_check: "EC2".to_owned(),
            grace_secs: 0,
            termination_policies: vec!["Default".to_owned()],
            protect_new: false,
            rebalance,
            load_balancers: Vec::new(),
            target_groups: Vec::new(),
            tags,
            suspended: BTreeMap::new(),
            hooks: BTreeMap::new(),
            warm_pool: None,
            refreshes: Vec::new(),
            members: BTreeSet::new(),
            reason,
            settled_at: None,
            woken_at: None,
            retry_at: None,
            deleting: false,
            launched_by_token: BTreeMap::new(),
        }
    }

    /// The zones that a call names, or those of its subnets: here the subnet's last letter that names a zone, else all.
    fn zones(&self, form: &Form) -> Result<Vec<String>, Refusal> {
        let known = self.settings.zone_names();
        let given: Vec<String> = form.list("AvailabilityZones.member").into_iter().map(str::to_owned).collect();
        if let Some(wrong) = given.iter().find(|zone| !known.contains(zone)) {
            return Err(Refusal::validation(format!("Invalid Availability Zone: [{wrong}]")));
        }
        if !given.is_empty() {
            return Ok(given);
        }
        let subnets = form.get("VPCZoneIdentifier").unwrap_or_default();
        if subnets.is_empty() {
            return Err(Refusal::validation("At least one Availability Zone or VPC Subnet is required."));
        }
        Ok(self.zones_of_subnets(&subnets.split(',').map(str::trim).collect::<Vec<_>>()))
    }

    pub(in super::super) fn zones_of_subnets(&self, subnets: &[&str]) -> Vec<String> {
        let zones = self.settings.zone_names();
        let named = |subnet: &&str| zones.iter().find(|zone| subnet.ends_with(&zone[zone.len() - 1..])).cloned();
        let found: BTreeSet<String> = subnets.iter().filter_map(named).collect();
        if found.is_empty() { zones } else { found.into_iter().collect() }
    }

    pub(super) fn update_group(&mut self, form: &Form) -> Result<String, Refusal> {
        let mut group = self.named(form)?.clone();
        let (min, max) = (form.count("MinSize")?.unwrap_or(group.min), form.count("MaxSize")?.unwrap_or(group.max));
        let asked = form.count("DesiredCapacity")?;
        // AWS moves the desired capacity into new bounds where the call does not name it.
        let desired = asked.unwrap_or_else(|| group.desired.max(min).min(max.max(min)));
        check_sizes(min, max, desired)?;
        if let Some(launches) = self.launches(form)? {
            group.launches = launches;
        }
        if !form.list("AvailabilityZones.member").is_empty() || form.get("VPCZoneIdentifier").is_some() {
            group.zones = self.zones(form)?;
        }
        apply(&mut group, form)?;
        if desired != group.desired || min != group.min || max != group.max {
            group.reason = format!(
                "At {} a user request update of AutoScalingGroup constraints to min: {min}, max: {max}, desired: {desired} \
                 changing the desired capacity from {} to {desired}.  ",
                self.now, group.desired
            );
        }
        (group.min, group.max, group.desired) = (min, max, desired);
        let name = group.name.clone();
        self.groups.insert(name.clone(), group);
        self.wake(&name);
        Ok(String::new())
    }

    pub(super) fn delete_group(&mut self, form: &Form) -> Result<String, Refusal> {
        let force = form.flag("ForceDelete")?.unwrap_or(false);
        let group = self.named_mut(form)?;
        if !force && !group.members.is_empty() {
            let message = "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance \
                           request(s) still in the group.";
            return Err(Refusal::new(400, "ResourceInUse", message));
        }
        group.deleting = true;
        (group.min, group.max, group.desired) = (0, 0, 0);
        let name = group.name.clone();
        self.reconcile(&name);
        Ok(String::new())
    }

    pub(super) fn set_desired_capacity(&mut self, form: &Form) -> Result<String, Refusal> {
        let honor = form.flag("HonorCooldown")?.unwrap_or(false);
        let desired = form.count("DesiredCapacity")?.ok_or_else(|| super::super::form::missing("DesiredCapacity"))?;
        let group = self.named(form)?;
        let beyond = |side: &str, bound: u32| {
            Refusal::validation(format!(
                "New SetDesiredCapacity value {desired} is {side} value {bound} for the AutoScalingGroup."
            ))
        };
        if desired > group.max {
            return Err(beyond("above max", group.max));
        }
        if desired < group.min {
            return Err(beyond("below min", group.min));
        }
        if honor && self.cools_down(group) {
            let message = "You cannot set the desired capacity while a scaling activity is in progress.";
            return Err(Refusal::new(400, "ScalingActivityInProgress", message));
        }
        let name = group.name.clone();
        self.set_desired(&name, desired, "a user request explicitly set group");
        Ok(String::new())
    }

    /// Sets a desired capacity that is known to be within bounds.
    pub(in super::super) fn set_desired(&mut self, name: &str, desired: u32, who: &str) {
        let now = self.now;
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.desired != desired {
            group.reason = format!(
                "At {now} {who} desired capacity changing the desired capacity from {} to {desired}.  ",
                group.desired
            );
        }
        group.desired = desired;
        self.wake(name);
    }

    /// An activity goes on, or the last one ended less than a cooldown ago.
    fn cools_down(&self, group: &Group) -> bool {
        let moving = self.members(group).any(|one| one.activity.is_some());
        let cooldown = prescale_domain::Span::from_secs(i64::from(group.cooldown_secs));
        moving || group.settled_at.is_some_and(|settled| self.now < settled + cooldown)
    }

    pub(super) fn suspend(&mut self, form: &Form, suspends: bool) -> Result<String, Refusal> {
        let now = self.now;
        let named: Vec<String> = form.list("ScalingProcesses.member").into_iter().map(str::to_owned).collect();
        if let Some(wrong) = named.iter().find(|process| !PROCESSES.contains(&process.as_str())) {
            return Err(Refusal::validation(format!("Invalid scaling process: {wrong}")));
        }
        let named = if named.is_empty() { PROCESSES.map(str::to_owned).to_vec() } else { named };
        let group = self.named_mut(form)?;
        for process in named {
            if suspends {
                group.suspended.insert(process, format!("User suspended at {now}"));
            } else {
                group.suspended.remove(&process);
            }
        }
        let name = group.name.clone();
        self.wake(&name);
        Ok(String::new())
    }

    /// For those who know that a group is there.
    pub(in super::super) fn group(&self, name: &str) -> Result<&Group, Refusal> {
        self.groups.get(name).ok_or_else(|| no_group(name))
    }
}

fn check_sizes(min: u32, max: u32, desired: u32) -> Result<(), Refusal> {
    if min > max {
        let message = format!("Max bound, {max}, must be greater than or equal to min bound, {min}");
        return Err(Refusal::validation(message));
    }
    if !(min..=max).contains(&desired) {
        return Err(Refusal::validation(format!(
            "Desired capacity:{desired} must be between the specified min size:{min} and max size:{max}"
        )));
    }
    Ok(())
}

/// What is neither sizes nor launches, where the call names it.
fn apply(group: &mut Group, form: &Form) -> Result<(), Refusal> {
    if let Some(secs) = form.count("DefaultCooldown")? {
        group.cooldown_secs = secs;
    }
    if let Some(secs) = form.number("DefaultInstanceWarmup")? {
        group.warmup_secs = (secs >= 0).then_some(secs);
    }
    if let Some(secs) = form.count("HealthCheckGracePeriod")? {
        group.grace_secs = secs;
    }
    if let Some(kind) = form.get("HealthCheckType") {
        group.health_check = kind.to_owned();
    }
    if let Some(protects) = form.flag("NewInstancesProtectedFromScaleIn")? {
        group.protect_new = protects;
    }
    if let Some(rebalances) = form.flag("CapacityRebalance")? {
        group.rebalance = rebalances;
    }
    if let Some(subnets) = form.get("VPCZoneIdentifier") {
        group.subnets = subnets.to_owned();
    }
    let texts = |name: &str| form.list(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
    for (place, name) in [
        (&mut group.termination_policies, "TerminationPolicies.member"),
        (&mut group.load_balancers, "LoadBalancerNames.member"),
        (&mut group.target_groups, "TargetGroupARNs.member"),
    ] {
        let given = texts(name);
        if !given.is_empty() {
            *place = given;
        }
    }
    Ok(())
}

fn tags(form: &Form) -> Result<Vec<Tag>, Refusal> {
    let read = |tag: &Form| {
        Ok(Tag {
            key: tag.required("Key")?.to_owned(),
            value: tag.get("Value").unwrap_or_default().to_owned(),
            propagate: tag.flag("PropagateAtLaunch")?.unwrap_or(false),
        })
    };
    form.structures("Tags.member").iter().map(read).collect()
}
