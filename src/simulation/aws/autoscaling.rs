//! Auto Scaling (Query, 2011-01-01). Rule: refuses what AWS refuses, in its words, and changes nothing when it refuses.

mod describe;
mod groups;
mod instances;
mod policy;
mod pools;

use super::answer::Refusal;
use super::form::Form;
use super::group::Group;
use super::world::World;

pub(super) use groups::GroupRequest;
pub(super) use policy::template_id;

/// Operations that change nothing.
pub(super) fn reads(operation: &str) -> bool {
    operation.starts_with("Describe")
}

impl World {
    /// The content of the result of one call.
    pub(super) fn autoscaling(&mut self, operation: &str, form: &Form) -> Result<String, Refusal> {
        match operation {
            "CreateAutoScalingGroup" => self.create_group(form),
            "UpdateAutoScalingGroup" => self.update_group(form),
            "DeleteAutoScalingGroup" => self.delete_group(form),
            "SetDesiredCapacity" => self.set_desired_capacity(form),
            "SuspendProcesses" => self.suspend(form, true),
            "ResumeProcesses" => self.suspend(form, false),
            "DescribeAutoScalingGroups" => self.describe_groups(form),
            "DescribeScalingActivities" => self.describe_activities(form),
            "TerminateInstanceInAutoScalingGroup" => self.terminate_in_group(form),
            "SetInstanceProtection" => self.set_protection(form),
            "LaunchInstances" => self.launch_instances(form),
            "PutLifecycleHook" => self.put_hook(form),
            "DescribeLifecycleHooks" => self.describe_hooks(form),
            "CompleteLifecycleAction" => self.complete_action(form),
            "RecordLifecycleActionHeartbeat" => self.record_heartbeat(form),
            "PutWarmPool" => self.put_warm_pool(form),
            "DescribeWarmPool" => self.describe_warm_pool(form),
            "DeleteWarmPool" => self.delete_warm_pool(form),
            "StartInstanceRefresh" => self.start_refresh(form),
            "DescribeInstanceRefreshes" => self.describe_refreshes(form),
            other => {
                let message = format!("Could not find operation {other} for version 2011-01-01");
                Err(Refusal::new(400, "InvalidAction", message))
            }
        }
    }

    /// The group that a call names.
    fn named(&self, form: &Form) -> Result<&Group, Refusal> {
        let name = form.required("AutoScalingGroupName")?;
        self.groups.get(name).filter(|group| !group.deleting).ok_or_else(|| no_group(name))
    }

    fn named_mut(&mut self, form: &Form) -> Result<&mut Group, Refusal> {
        let name = form.required("AutoScalingGroupName")?;
        self.groups.get_mut(name).filter(|group| !group.deleting).ok_or_else(|| no_group(name))
    }
}

fn no_group(name: &str) -> Refusal {
    Refusal::validation(format!("AutoScalingGroup name not found - AutoScalingGroup: {name} not found"))
}

/// One page of what there is, and where the next begins.
fn page<T>(all: Vec<T>, form: &Form, default: u32, most: u32) -> Result<(Vec<T>, Option<usize>), Refusal> {
    let size = form.count("MaxRecords")?.unwrap_or(default);
    if !(1..=most).contains(&size) {
        return Err(Refusal::validation(format!(
            "1 validation error detected: Value '{size}' at 'maxRecords' failed to satisfy constraint: Member must have \
             value less than or equal to {most}"
        )));
    }
    let start = match form.get("NextToken") {
        None => 0,
        Some(token) => token
            .strip_prefix("page-")
            .and_then(|start| start.parse::<usize>().ok())
            .ok_or_else(|| Refusal::new(400, "InvalidNextToken", "The token is not valid."))?,
    };
    let next = start.saturating_add(size as usize);
    let more = next < all.len();
    Ok((all.into_iter().skip(start).take(size as usize).collect(), more.then_some(next)))
}

fn token(next: Option<usize>) -> Option<String> {
    next.map(|start| format!("page-{start}"))
}
