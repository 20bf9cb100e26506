//! Replicas of a swarm's service. Rule: the specification is read right before each change and written back as it was, under
//! the version that was read; another's change in between is a conflict and never overwritten.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::models::TaskState;
use bollard::query_parameters::ListTasksOptionsBuilder;
use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{self, Call, Engine};
use crate::error::refuse_unless_act;
use crate::target::Bounds;
use crate::{ActuateError, Actuator};

/// A service of a swarm, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwarmServiceSettings {
    /// The service's name or id.
    pub service: String,
    /// Bounds of what is asked for.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// The API of a manager: `unix:///path/of/a/socket`, or `tcp://host:port` on a network that is safe.
    #[serde(default = "default_host")]
    pub host: String,
    /// Limit of one change with all its calls, and of one call.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    #[serde(default = "default_attempt_timeout")]
    pub attempt_timeout: Span,
    /// Mode `act` may be replayed against this target on the event clock: never for a service that serves anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

fn default_host() -> String {
    engine::DEFAULT_HOST.to_owned()
}

fn default_timeout() -> Span {
    Span::from_secs(20)
}

fn default_attempt_timeout() -> Span {
    Span::from_secs(5)
}

impl SwarmServiceSettings {
    /// A service with everything else at its default.
    pub fn new(service: &str, min: u32, max: u32) -> Self {
        Self {
            service: service.to_owned(),
            min,
            max,
            price_usd_hour: None,
            host: default_host(),
            timeout: default_timeout(),
            attempt_timeout: default_attempt_timeout(),
            allow_replay: false,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let Self { min, max, price_usd_hour, allow_replay, .. } = *self;
        Bounds { min, max, price_usd_hour, allow_replay }
    }

    pub(crate) fn describe(&self) -> String {
        format!("swarm service `{}`", self.service)
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.service.trim().is_empty() {
            faults.push("service is empty".to_owned());
        }
        // It becomes a part of a path, and Docker allows no other letters.
        if !self.service.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter)) {
            faults.push(format!("service `{}` is not a name of Docker's", self.service));
        }
        faults.extend(engine::faults(&self.host, self.timeout, self.attempt_timeout));
        faults
    }
}

/// A service of a swarm. It connects at its first use; clones share the connection.
#[derive(Clone, Debug)]
pub struct SwarmService {
    settings: Arc<SwarmServiceSettings>,
    engine: Engine,
}

/// A service as it was read.
struct Seen {
    version: u64,
    /// Whole, as the manager told it.
    spec: Value,
    replicas: u32,
}

impl SwarmService {
    pub fn new(settings: SwarmServiceSettings) -> Self {
        let engine = Engine::new(&settings.host, settings.describe(), settings.attempt_timeout);
        Self { settings: Arc::new(settings), engine }
    }

    async fn seen(&self) -> Result<Seen, ActuateError> {
        const CALL: Call = Call { name: "ServiceInspect", operation: "inspect service" };
        let mut service = self.engine.read(CALL, &format!("/services/{}", self.settings.service)).await?;
        let failure = |detail: &str| self.engine.failure(CALL.operation, detail.to_owned());
        let version = service.pointer("/Version/Index").and_then(Value::as_u64);
        let (Some(version), Some(spec)) = (version, service.get_mut("Spec").map(Value::take)) else {
            return Err(ActuateError::Other(failure("an answer without a version, or without a specification")));
        };
        let Some(replicated) = spec.pointer("/Mode/Replicated") else {
            return Err(ActuateError::Invalid(failure("it has no number of replicas: its mode is not `replicated`")));
        };
        // What is not said is one replica.
        let replicas = replicated.get("Replicas").and_then(Value::as_u64).unwrap_or(1);
        Ok(Seen { version, replicas: u32::try_from(replicas).unwrap_or(u32::MAX), spec })
    }

    async fn running(&self) -> Result<u32, ActuateError> {
        const CALL: Call = Call { name: "TaskList", operation: "list tasks" };
        let filters =
            HashMap::from([("service", vec![self.settings.service.as_str()]), ("desired-state", vec!["running"])]);
        let options = ListTasksOptionsBuilder::new().filters(&filters).build();
        let tasks = self.engine.ask(CALL, self.engine.client().await?.list_tasks(Some(options))).await?;
        let states = tasks.into_iter().filter_map(|task| task.status?.state);
        Ok(u32::try_from(states.filter(|state| *state == TaskState::RUNNING).count()).unwrap_or(u32::MAX))
    }

    async fn set_replicas(&self, seen: Seen, units: u32) -> Result<(), ActuateError> {
        const CALL: Call = Call { name: "ServiceUpdate", operation: "set replicas" };
        let Seen { version, mut spec, .. } = seen;
        if let Some(Value::Object(replicated)) = spec.pointer_mut("/Mode/Replicated") {
            replicated.insert("Replicas".to_owned(), units.into());
        }
        let path = format!("/services/{}/update?version={version}&registryAuthFrom=spec", self.settings.service);
        self.engine.write(CALL, &path, &spec).await
    }

    async fn change(&self, decision: &Decision) -> Result<Outcome, ActuateError> {
        let units = decision.desired.max(self.settings.min).min(self.settings.max);
        let seen = self.seen().await?;
        if seen.replicas == units {
            return Ok(Outcome::Unchanged { units });
        }
        if let Err(error) = self.set_replicas(seen, units).await {
            let ActuateError::Conflict(_) = error else { return Err(error) };
            // Somebody was quicker. What he wrote is kept: it is read, and written back with the other number.
            let seen = self.seen().await?;
            if seen.replicas == units {
                return Ok(Outcome::Unchanged { units });
            }
            self.set_replicas(seen, units).await?;
        }
        Ok(Outcome::Applied { units, clamped: units != decision.desired })
    }
}

impl Actuator for SwarmService {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        let Seen { replicas, .. } = self.seen().await?;
        let ready = self.running().await?;
        Ok(TargetState { desired: replicas, ready: Some(ready), min: None, max: None, observed_at: now })
    }

    async fn apply(&self, decision: &Decision, _now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let limit = self.settings.timeout;
        tokio::time::timeout(limit.to_std(), self.change(decision)).await.unwrap_or_else(|_| {
            let detail = format!("not done within {limit}; the next observation tells what came of it");
            Err(ActuateError::Timeout(self.engine.failure("set replicas", detail)))
        })
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}
