//! AWS Auto Scaling groups. Rule: a fresh look right before each change, and desired capacity is the only thing written:
//! an update of a whole group could erase what others own, such as its mixed-instances policy.

use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::{AutoScalingGroup, LifecycleState};
use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp};
use prescale_telemetry::actuate::CloudCall;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::aws_error::from_sdk;
use crate::error::refuse_unless_act;
use crate::target::Bounds;
use crate::wire::Wire;
use crate::{ActuateError, Actuator, Failure};

/// The first wait between two attempts; the SDK doubles it and draws a share of it.
const BACKOFF_FIRST: Span = Span::from_millis(500);

/// An Auto Scaling group, as configured. Credentials, and what is not set here, come from the standard AWS environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsgSettings {
    /// The group's name.
    pub group: String,
    /// Bounds of what is asked for; the group's own bounds hold as well.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
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

fn default_timeout() -> Span {
    Span::from_secs(10)
}

fn default_attempt_timeout() -> Span {
    Span::from_secs(3)
}

fn default_max_attempts() -> u32 {
    3
}

impl AsgSettings {
    /// A group with everything else at its default.
    pub fn new(group: &str, min: u32, max: u32) -> Self {
        Self {
            group: group.to_owned(),
            min,
            max,
            price_usd_hour: None,
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
        format!("asg `{}`", self.group)
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.group.trim().is_empty() {
            faults.push("group is empty".to_owned());
        }
        if self.attempt_timeout.millis() <= 0 {
            faults.push(format!("attempt_timeout {} is not above 0s", self.attempt_timeout));
        }
        if self.timeout < self.attempt_timeout {
            faults.push(format!("timeout {} is below attempt_timeout {}", self.timeout, self.attempt_timeout));
        }
        if self.max_attempts == 0 {
            faults.push("max_attempts 0 is below 1".to_owned());
        }
        faults
    }
}

/// One Auto Scaling group. It connects at its first use; clones share the connection.
#[derive(Clone, Debug)]
pub struct AwsAsg {
    settings: Arc<AsgSettings>,
    client: Arc<OnceCell<Client>>,
}

/// What of a group matters here.
#[derive(Clone, Copy, Debug)]
struct Group {
    desired: u32,
    ready: u32,
    min: u32,
    max: u32,
}

impl AwsAsg {
    pub fn new(settings: AsgSettings) -> Self {
        Self { settings: Arc::new(settings), client: Arc::default() }
    }

    /// The group at the other end of `wire`, in the region that is set or `us-east-1`. Nothing of the environment is read, and
    /// no endpoint but the wire's is known.
    pub fn over(settings: AsgSettings, wire: &Wire) -> Self {
        let region = settings.region.as_deref().unwrap_or("us-east-1");
        let client = Client::new(&within_limits(&settings, wire.sdk_config(region)));
        Self { settings: Arc::new(settings), client: Arc::new(OnceCell::new_with(Some(client))) }
    }

    #[cfg(test)]
    pub(crate) async fn connected(settings: AsgSettings, environment: ConfigLoader) -> Self {
        let client = connect(&settings, environment).await;
        Self { settings: Arc::new(settings), client: Arc::new(OnceCell::new_with(Some(client))) }
    }

    /// The client. Looking up the region may ask the machine's metadata service, so this too has a limit.
    async fn client(&self) -> Result<&Client, ActuateError> {
        let connecting = self
            .client
            .get_or_init(async || connect(&self.settings, aws_config::defaults(BehaviorVersion::latest())).await);
        let client = tokio::time::timeout(self.settings.timeout.to_std(), connecting).await.map_err(|_| {
            ActuateError::Timeout(self.failure("connect", format!("no region within {}", self.settings.timeout)))
        })?;
        if client.config().region().is_none() {
            let detail = "no region is set\nhint: set `region` of the target, or AWS_REGION".to_owned();
            return Err(ActuateError::Invalid(self.failure("connect", detail)));
        }
        Ok(client)
    }

    async fn group(&self) -> Result<Group, ActuateError> {
        const OPERATION: &str = "describe group";
        let client = self.client().await?;
        let answer = client.describe_auto_scaling_groups().auto_scaling_group_names(&self.settings.group).send().await;
        let answer = answer.map_err(|error| from_sdk(&error, self.failure(OPERATION, String::new())));
        CloudCall { operation: "DescribeAutoScalingGroups", failure: answer.as_ref().err().map(ActuateError::code) }
            .emit();
        let answer = answer?;
        let named = |group: &&AutoScalingGroup| group.auto_scaling_group_name() == Some(&self.settings.group);
        match answer.auto_scaling_groups().iter().find(named) {
            Some(group) => Ok(Group::from(group)),
            None => {
                let region = client.config().region().map(Region::as_ref).unwrap_or_default();
                let detail = format!("no group of this name in {region}");
                Err(ActuateError::NotFound(self.failure(OPERATION, detail)))
            }
        }
    }

    async fn set_desired(&self, units: u32) -> Result<(), ActuateError> {
        let failure = |detail: String| self.failure("set desired capacity", detail);
        let capacity = i32::try_from(units)
            .map_err(|_| ActuateError::Invalid(failure(format!("desired capacity {units} exceeds {}", i32::MAX))))?;
        let call = self.client().await?.set_desired_capacity();
        let call = call.auto_scaling_group_name(&self.settings.group).desired_capacity(capacity).honor_cooldown(false);
        let answer = call.send().await.map_err(|error| from_sdk(&error, failure(String::new())));
        CloudCall { operation: "SetDesiredCapacity", failure: answer.as_ref().err().map(ActuateError::code) }.emit();
        answer.map(|_| ())
    }

    fn failure(&self, operation: &'static str, detail: String) -> Failure {
        Failure { operation, target: self.settings.describe(), detail }
    }
}

impl Actuator for AwsAsg {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        let Group { desired, ready, min, max } = self.group().await?;
        Ok(TargetState { desired, ready: Some(ready), min: Some(min), max: Some(max), observed_at: now })
    }

    async fn apply(&self, decision: &Decision, _now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let group = self.group().await?;
        // The group's bounds have the last word: AWS refuses what lies outside them.
        let units = decision.desired.max(self.settings.min).min(self.settings.max).max(group.min).min(group.max);
        if units == group.desired {
            return Ok(Outcome::Unchanged { units });
        }
        self.set_desired(units).await?;
        Ok(Outcome::Applied { units, clamped: units != decision.desired })
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}

impl From<&AutoScalingGroup> for Group {
    fn from(group: &AutoScalingGroup) -> Self {
        // AWS has no negative capacities; the SDK's type would allow them.
        let units = |count: Option<i32>| u32::try_from(count.unwrap_or_default()).unwrap_or_default();
        // `Warmed:InService` and the like are another state: such instances wait in the warm pool and serve nobody.
        let serves = group.instances().iter().filter(|instance| {
            instance.lifecycle_state() == Some(&LifecycleState::InService)
                && instance.health_status() == Some("Healthy")
        });
        Self {
            desired: units(group.desired_capacity()),
            ready: u32::try_from(serves.count()).unwrap_or(u32::MAX),
            min: units(group.min_size()),
            max: units(group.max_size()),
        }
    }
}

async fn connect(settings: &AsgSettings, environment: ConfigLoader) -> Client {
    let mut loader = environment;
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &settings.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    Client::new(&within_limits(settings, loader.load().await))
}

/// The same with the target's own limits of time and attempts.
fn within_limits(settings: &AsgSettings, config: SdkConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.attempt_timeout.to_std())
        .operation_attempt_timeout(settings.attempt_timeout.to_std())
        .operation_timeout(settings.timeout.to_std())
        .build();
    let retries =
        RetryConfig::standard().with_max_attempts(settings.max_attempts).with_initial_backoff(BACKOFF_FIRST.to_std());
    config.into_builder().timeout_config(timeouts).retry_config(retries).build()
}
