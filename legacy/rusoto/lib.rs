//! Auto Scaling groups through `rusoto_autoscaling`, the client that AWS's own SDK has replaced. Legacy: see
//! `docs/designs/0039-rusoto.md` for why nobody should begin with it.
//!
//! **Owns** one [`Actuator`] and its errors, outside the workspace. **May depend on** `actuate`, `domain` and `telemetry`. Rule:
//! the contract is that of the SDK's target, on less: desired capacity is all that it writes, and a call that may have had its
//! effect is never made again.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

mod error;

use std::sync::Arc;
use std::time::Duration;

use hyper_014::client::HttpConnector;
use prescale_actuate::{
    ActuateError, Actuator, AsgScaleIn, AsgScaleOut, AsgSettings, AsgWrites, Failure, TargetSettings,
};
use prescale_domain::{Decision, Mode, Outcome, TargetState, Timestamp};
use prescale_telemetry::actuate::CloudCall;
use rusoto_autoscaling::{
    AutoScalingGroup, AutoScalingGroupNamesType, Autoscaling, AutoscalingClient, DescribeInstanceRefreshesType,
    Instance, SetDesiredCapacityType,
};
use rusoto_core::credential::ProvideAwsCredentials;
use rusoto_core::{HttpClient, Region, RusotoError};

use error::from_rusoto;

/// The first wait between two attempts; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

const DESCRIBE: &str = "describe group";
const SET: &str = "set desired capacity";

/// One Auto Scaling group. Clones share their connection.
#[derive(Clone)]
pub struct RusotoAsg {
    settings: Arc<AsgSettings>,
    client: AutoscalingClient,
}

/// A group as it was described, as far as it matters here. Capacity is counted in the group's own unit.
struct Group {
    desired: u32,
    min: u32,
    max: u32,
    ready: u32,
    suspended: Vec<String>,
}

/// Whether a call may be made again after a failure that leaves open what became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It only looks.
    Always,
    /// It changes something: only where AWS said that it did not.
    Refused,
}

impl RusotoAsg {
    /// The group, in the account of `credentials`; nothing is connected to before its first use.
    ///
    /// # Errors
    /// [`ActuateError::Invalid`]: settings that can't be, that name no region, or that ask for more than desired capacity.
    pub fn new(
        settings: AsgSettings,
        credentials: impl ProvideAwsCredentials + Send + Sync + 'static,
    ) -> Result<Self, ActuateError> {
        let target = describe(&settings);
        let invalid =
            |detail: String| ActuateError::Invalid(Failure { operation: "settings", target: target.clone(), detail });
        let mut faults = TargetSettings::AwsAsg(settings.clone()).faults();
        let plain = settings.writes == AsgWrites::Desired
            && settings.scale_in == AsgScaleIn::Group
            && settings.scale_out == AsgScaleOut::Desired
            && settings.warm_pool.is_none()
            && settings.spot.is_none();
        if !plain {
            faults
                .push("this client sets desired capacity and nothing else\nhint: use the target `aws-asg`".to_owned());
        }
        if let Some(fault) = faults.into_iter().next() {
            return Err(invalid(fault));
        }
        let region = region(&settings).ok_or_else(|| invalid("no region is set".to_owned()))?;
        let is_plain = settings.endpoint_url.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = if is_plain {
            // Its own client speaks TLS alone.
            let http = HttpClient::from_connector(HttpConnector::new());
            AutoscalingClient::new_with(http, credentials, region)
        } else {
            let http = HttpClient::new().map_err(|error| invalid(format!("TLS: {error}")))?;
            AutoscalingClient::new_with(http, credentials, region)
        };
        Ok(Self { settings: Arc::new(settings), client })
    }

    /// One call with all its attempts, within the limits of the settings; `operation` is ours, `name` is AWS's.
    async fn call<T, E, Answer>(
        &self,
        operation: &'static str,
        name: &'static str,
        again: Again,
        mut attempt: impl FnMut() -> Answer,
    ) -> Result<T, ActuateError>
    where
        Answer: Future<Output = Result<T, RusotoError<E>>>,
        E: std::error::Error + 'static,
    {
        let failure = |detail: String| Failure { operation, target: self.describe(), detail };
        let attempts = async {
            let mut made = 1;
            let mut backoff = BACKOFF_FIRST;
            loop {
                let answer = match tokio::time::timeout(self.settings.attempt_timeout.to_std(), attempt()).await {
                    Ok(answer) => answer.map_err(|error| from_rusoto(&error, failure(String::new()))),
                    Err(_) => Err(ActuateError::Timeout(failure("no answer in time".to_owned()))),
                };
                let Err(error) = answer else { return answer };
                if made >= self.settings.max_attempts || !may_repeat(&error, again) {
                    return Err(error);
                }
                tokio::time::sleep(backoff).await;
                (made, backoff) = (made + 1, backoff * 2);
            }
        };
        let limit = self.settings.timeout;
        let result = match tokio::time::timeout(limit.to_std(), attempts).await {
            Ok(result) => result,
            Err(_) => Err(ActuateError::Timeout(failure(format!("no answer within {limit}")))),
        };
        CloudCall { operation: name, failure: result.as_ref().err().map(ActuateError::code) }.emit();
        result
    }

    async fn look(&self) -> Result<Group, ActuateError> {
        let answer = self
            .call(DESCRIBE, "DescribeAutoScalingGroups", Again::Always, || {
                self.client.describe_auto_scaling_groups(AutoScalingGroupNamesType {
                    auto_scaling_group_names: Some(vec![self.settings.group.clone()]),
                    ..AutoScalingGroupNamesType::default()
                })
            })
            .await?;
        let found =
            answer.auto_scaling_groups.iter().find(|group| group.auto_scaling_group_name == self.settings.group);
        found.map(Group::from).ok_or_else(|| {
            let detail = format!("no group of this name in {}", self.settings.region.as_deref().unwrap_or_default());
            ActuateError::NotFound(Failure { operation: DESCRIBE, target: self.describe(), detail })
        })
    }

    /// A change that is not this target's to make now, and why.
    async fn forbidden(&self, group: &Group, units: u32) -> Result<Option<&'static str>, ActuateError> {
        let suspends = |process: &str| group.suspended.iter().any(|name| name == process);
        if units > group.desired && suspends("Launch") {
            return Ok(Some("the group's process Launch is suspended"));
        }
        if units >= group.desired {
            return Ok(None);
        }
        if suspends("Terminate") {
            return Ok(Some("the group's process Terminate is suspended"));
        }
        let answer = self.call("describe instance refreshes", "DescribeInstanceRefreshes", Again::Always, || {
            self.client.describe_instance_refreshes(DescribeInstanceRefreshesType {
                auto_scaling_group_name: self.settings.group.clone(),
                max_records: Some(1),
                ..DescribeInstanceRefreshesType::default()
            })
        });
        match answer.await {
            Ok(answer) => {
                let mut refreshes = answer.instance_refreshes.iter().flatten().filter_map(|one| one.status.as_deref());
                let running = refreshes.any(|status| {
                    ["Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking"].contains(&status)
                });
                Ok(running.then_some("an instance refresh of the group is under way"))
            }
            // Of a service that does not know the operation nothing is refreshed either.
            Err(ActuateError::Other(_) | ActuateError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set_desired(&self, units: u32) -> Result<(), ActuateError> {
        self.call(SET, "SetDesiredCapacity", Again::Refused, || {
            self.client.set_desired_capacity(SetDesiredCapacityType {
                auto_scaling_group_name: self.settings.group.clone(),
                desired_capacity: units.into(),
                honor_cooldown: Some(false),
            })
        })
        .await
    }
}

impl Actuator for RusotoAsg {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        let Group { desired, min, max, ready, .. } = self.look().await?;
        Ok(TargetState { desired, ready: Some(ready), min: Some(min), max: Some(max), observed_at: now })
    }

    async fn apply(&self, decision: &Decision, _now: Timestamp) -> Result<Outcome, ActuateError> {
        if decision.inputs.mode != Mode::Act {
            let detail = format!("decision `{}` was not made in mode `act`, which alone changes a target", decision.id);
            return Err(ActuateError::Invalid(Failure {
                operation: "apply decision",
                target: self.describe(),
                detail,
            }));
        }
        let group = self.look().await?;
        // The group's bounds have the last word: AWS refuses what lies outside them.
        let AsgSettings { min, max, .. } = *self.settings;
        let units = decision.desired.max(min).min(max).max(group.min).min(group.max);
        if units == group.desired {
            return Ok(Outcome::Unchanged { units });
        }
        if let Some(reason) = self.forbidden(&group, units).await? {
            return Ok(Outcome::Held { units: group.desired, reason: reason.to_owned() });
        }
        self.set_desired(units).await?;
        Ok(Outcome::Applied { units, clamped: units != decision.desired })
    }

    fn describe(&self) -> String {
        describe(&self.settings)
    }
}

impl From<&AutoScalingGroup> for Group {
    fn from(group: &AutoScalingGroup) -> Self {
        let members = group.instances.iter().flatten();
        let suspended = group.suspended_processes.iter().flatten().filter_map(|process| process.process_name.clone());
        Self {
            desired: units(group.desired_capacity),
            min: units(group.min_size),
            max: units(group.max_size),
            ready: members.filter(|member| serves(member)).map(weight).fold(0, u32::saturating_add),
            suspended: suspended.collect(),
        }
    }
}

/// AWS has no negative capacities; the client's type would allow them.
fn units(count: i64) -> u32 {
    u32::try_from(count).unwrap_or_default()
}

/// In service and healthy; those that wait in a warm pool are not.
fn serves(instance: &Instance) -> bool {
    instance.lifecycle_state == "InService" && instance.health_status == "Healthy"
}

fn weight(instance: &Instance) -> u32 {
    instance.weighted_capacity.as_deref().and_then(|weight| weight.parse().ok()).unwrap_or(1)
}

fn describe(settings: &AsgSettings) -> String {
    format!("asg `{}` (rusoto)", settings.group)
}

/// `None` = the settings name none: this client would guess one.
fn region(settings: &AsgSettings) -> Option<Region> {
    let name = settings.region.clone().filter(|name| !name.is_empty())?;
    if let Some(endpoint) = settings.endpoint_url.clone() {
        return Some(Region::Custom { name, endpoint });
    }
    // It knows the regions of its day; the others have endpoints of the same form.
    Some(name.parse().unwrap_or_else(|_| {
        let endpoint = format!("https://autoscaling.{name}.amazonaws.com");
        Region::Custom { name, endpoint }
    }))
}

fn may_repeat(error: &ActuateError, again: Again) -> bool {
    match error {
        ActuateError::Throttled(_) => true,
        ActuateError::Timeout(_) | ActuateError::Unreachable(_) | ActuateError::Other(_) => again == Again::Always,
        _ => false,
    }
}
