//! Containers of one engine, found by their labels. Rule: a container without the labels is never touched; new ones are copies
//! of those that are there, and the first to go is what serves least.
//!
//! Containers that are stopped count as none. They are started before new ones are made, as Compose does; so where a group
//! goes down to zero one of them stays, stopped, as what the next are copied from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard::errors::Error as Bollard;
use bollard::models::NetworkConnectRequest;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures::StreamExt;
use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::copy::{Blueprint, NewContainer};
use super::engine::{self, Call, Engine};
use super::group::{self, Member, NUMBER, ONE_OFF, PROJECT, SERVICE};
use crate::error::refuse_unless_act;
use crate::target::Bounds;
use crate::{ActuateError, Actuator};

/// So many are started or stopped at a time: an engine does little more at once, and others use it too.
const AT_A_TIME: usize = 8;

/// Names that are tried for a new container.
const NAMES_TRIED: u32 = 5;

/// A group of containers, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerGroupSettings {
    /// The Compose project, and the service in it.
    #[serde(default)]
    pub project: Option<String>,
    #[serde(default)]
    pub service: Option<String>,
    /// Other labels that the group's containers have, with their values; all of them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Bounds of what is asked for.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// The engine's API: `unix:///path/of/a/socket`, or `tcp://host:port` on a network that is safe.
    #[serde(default = "default_host")]
    pub host: String,
    /// Between the request to stop and the end by force.
    #[serde(default = "default_stop_grace")]
    pub stop_grace: Span,
    /// Limit of one change with all its calls, and of one call.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    #[serde(default = "default_attempt_timeout")]
    pub attempt_timeout: Span,
    /// What new containers are made of; without it they are copies.
    #[serde(default)]
    pub template: Option<ContainerTemplate>,
    /// Mode `act` may be replayed against this target on the event clock: never for a group that serves anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

/// What new containers are made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerTemplate {
    /// The image, which the engine must have: nothing is pulled.
    pub image: String,
    /// The name before `-` and a number; with a Compose project `project-service` unless set.
    pub name: Option<String>,
    /// The image's own where empty.
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// The engine's default network where empty.
    pub networks: Vec<String>,
    pub memory_bytes: Option<u64>,
    pub cpus: Option<f64>,
}

fn default_host() -> String {
    engine::DEFAULT_HOST.to_owned()
}

fn default_stop_grace() -> Span {
    Span::from_secs(10)
}

fn default_timeout() -> Span {
    Span::from_secs(60)
}

fn default_attempt_timeout() -> Span {
    Span::from_secs(10)
}

impl ContainerGroupSettings {
    /// The containers of a Compose service, with everything else at its default.
    pub fn compose(project: &str, service: &str, min: u32, max: u32) -> Self {
        Self {
            project: Some(project.to_owned()),
            service: Some(service.to_owned()),
            labels: BTreeMap::new(),
            min,
            max,
            price_usd_hour: None,
            host: default_host(),
            stop_grace: default_stop_grace(),
            timeout: default_timeout(),
            attempt_timeout: default_attempt_timeout(),
            template: None,
            allow_replay: false,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let Self { min, max, price_usd_hour, allow_replay, .. } = *self;
        Bounds { min, max, price_usd_hour, allow_replay }
    }

    pub(crate) fn describe(&self) -> String {
        let words: Vec<_> = match (&self.project, &self.service) {
            (Some(project), Some(service)) if self.labels.is_empty() => {
                return format!("containers `{project}/{service}`");
            }
            _ => self.selector().into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        };
        format!("containers `{}`", words.join(","))
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.selector().is_empty() {
            faults.push("nothing says which containers: set `project` and `service`, or `labels`".to_owned());
        }
        if self.project.is_some() != self.service.is_some() {
            faults.push("`project` and `service` belong together".to_owned());
        }
        if self.selector().iter().any(|(name, value)| name.is_empty() || value.is_empty()) {
            faults.push("a label, or its value, is empty".to_owned());
        }
        if self.stop_grace.millis() < 0 {
            faults.push(format!("stop_grace {} is below 0s", self.stop_grace));
        }
        faults.extend(engine::faults(&self.host, self.timeout, self.attempt_timeout));
        let Some(template) = &self.template else { return faults };
        if template.image.is_empty() {
            faults.push("template.image is empty".to_owned());
        }
        if self.new_name(template).is_none() {
            faults.push("template.name is not set, and no `project` and `service` give one".to_owned());
        }
        if template.cpus.is_some_and(|cpus| !(cpus.is_finite() && cpus > 0.0)) {
            faults.push(format!("template.cpus {} is not above 0", template.cpus.unwrap_or_default()));
        }
        faults
    }

    /// Labels and values that a container of the group has.
    fn selector(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.extend(self.project.iter().map(|project| (PROJECT.to_owned(), project.clone())));
        labels.extend(self.service.iter().map(|service| (SERVICE.to_owned(), service.clone())));
        labels
    }

    fn new_name(&self, template: &ContainerTemplate) -> Option<String> {
        let composed = || Some(format!("{}-{}", self.project.as_ref()?, self.service.as_ref()?));
        template.name.clone().filter(|name| !name.is_empty()).or_else(composed)
    }

    /// What new containers are made of, if the settings say it.
    fn blueprint(&self) -> Option<Blueprint> {
        let template = self.template.as_ref()?;
        let mut labels: HashMap<_, _> = self.selector().into_iter().collect();
        if self.project.is_some() {
            labels.insert(NUMBER.to_owned(), String::new());
            labels.insert(ONE_OFF.to_owned(), "False".to_owned());
        }
        Some(Blueprint::configured(template, &self.new_name(template)?, labels))
    }
}

/// A group of containers. It connects at its first use; clones share the connection.
#[derive(Clone, Debug)]
pub struct ContainerGroup {
    settings: Arc<ContainerGroupSettings>,
    engine: Engine,
}

impl ContainerGroup {
    pub fn new(settings: ContainerGroupSettings) -> Self {
        let engine = Engine::new(&settings.host, settings.describe(), settings.attempt_timeout);
        Self { settings: Arc::new(settings), engine }
    }

    async fn members(&self) -> Result<Vec<Member>, ActuateError> {
        const CALL: Call = Call { name: "ContainerList", operation: "list containers" };
        let selector = self.settings.selector();
        let labels: Vec<_> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let options =
            ListContainersOptionsBuilder::new().all(true).filters(&HashMap::from([("label", labels)])).build();
        let listed = self.engine.ask(CALL, self.engine.client().await?.list_containers(Some(options))).await?;
        Ok(group::members(listed))
    }

    async fn grow(&self, members: &[Member], count: u32) -> Result<(), ActuateError> {
        let stopped: Vec<_> = members.iter().filter(|member| !member.alive).take(count as usize).collect();
        let missing = count - u32::try_from(stopped.len()).unwrap_or(u32::MAX).min(count);
        // Known before anything is changed, so that a group that can't grow is not half grown.
        let blueprint = if missing > 0 { Some(self.blueprint(members).await?) } else { None };
        all_of(stopped.iter().map(|member| self.start(&member.id)).collect()).await?;
        let Some(blueprint) = blueprint else { return Ok(()) };
        let numbers = group::next_numbers(members, missing);
        all_of(numbers.map(|number| self.create_free(&blueprint, number, missing)).collect()).await
    }

    /// Ends so many; tells why one had to stay.
    async fn shrink(&self, members: &[Member], count: u32) -> Result<Option<String>, ActuateError> {
        let mut victims = group::victims(members, count);
        let others = members.len() - victims.len();
        let mut kept = None;
        if others == 0 && self.settings.template.is_none() {
            kept = victims.pop(); // the oldest that serves
        }
        if let Some(last) = kept {
            const CALL: Call = Call { name: "ContainerInspect", operation: "inspect container" };
            let seen = self.engine.ask(CALL, self.engine.client().await?.inspect_container(&last.id, None)).await?;
            if seen.host_config.and_then(|host| host.auto_remove) == Some(true) {
                let reason = format!(
                    "`{}` removes itself when it stops, and nothing would be left to copy; set `template` to go to 0",
                    last.name
                );
                all_of(victims.iter().map(|member| self.remove(member)).collect()).await?;
                return Ok(Some(reason));
            }
        }
        all_of(victims.iter().map(|member| self.remove(member)).collect()).await?;
        if let Some(last) = kept {
            self.stop(last).await?;
        }
        Ok(None)
    }

    async fn blueprint(&self, members: &[Member]) -> Result<Blueprint, ActuateError> {
        const CALL: Call = Call { name: "ContainerInspect", operation: "inspect container" };
        const IMAGE: Call = Call { name: "ImageInspect", operation: "inspect image" };
        if let Some(blueprint) = self.settings.blueprint() {
            return Ok(blueprint);
        }
        let Some(source) = group::source(members) else {
            let detail = "no container has these labels, so there is nothing to copy; start one, or set `template`";
            return Err(ActuateError::NotFound(self.engine.failure("copy container", detail.to_owned())));
        };
        let client = self.engine.client().await?;
        let seen = self.engine.ask(CALL, client.inspect_container(&source.id, None)).await?;
        // A name that was given to a newer image since would deploy it, which is nothing that an autoscaler may do.
        let name = seen.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default();
        let named = self.engine.ask(IMAGE, client.inspect_image(&name)).await;
        let same = named.is_ok_and(|image| image.id == seen.image);
        let image = seen.image.clone().filter(|_| !same);
        Blueprint::copied(seen, image).ok_or_else(|| {
            let detail = format!("the engine does not tell all of `{}`", source.name);
            ActuateError::Other(self.engine.failure("copy container", detail))
        })
    }

    /// Makes one with `number`, or where a stranger has its name with the next number that none of its `siblings` tries.
    async fn create_free(&self, blueprint: &Blueprint, number: u32, siblings: u32) -> Result<(), ActuateError> {
        let tries = (0..NAMES_TRIED).map(|again| number.saturating_add(again.saturating_mul(siblings)));
        let mut result = Ok(());
        for number in tries {
            result = self.create(blueprint.numbered(number)).await;
            let Err(ActuateError::Conflict(failure)) = &result else { break };
            if !failure.detail.contains("already in use by container") {
                break;
            }
        }
        result
    }

    async fn create(&self, NewContainer { name, body, others }: NewContainer) -> Result<(), ActuateError> {
        const CALL: Call = Call { name: "ContainerCreate", operation: "create container" };
        const CONNECT: Call = Call { name: "NetworkConnect", operation: "connect network" };
        let client = self.engine.client().await?;
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let id = self.engine.ask(CALL, client.create_container(Some(options), body)).await?.id;
        let ready = async {
            for (network, endpoint) in others {
                let request = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint) };
                self.engine.ask(CONNECT, client.connect_network(&network, request)).await?;
            }
            self.start(&id).await
        };
        let started = ready.await;
        if started.is_err() {
            // It never served. The failure that is told is the first; a remainder is stopped and will be started later.
            drop(self.delete(&id).await);
        }
        started
    }

    async fn start(&self, id: &str) -> Result<(), ActuateError> {
        const CALL: Call = Call { name: "ContainerStart", operation: "start container" };
        self.engine.ask(CALL, self.engine.client().await?.start_container(id, None)).await
    }

    async fn stop(&self, member: &Member) -> Result<(), ActuateError> {
        const CALL: Call = Call { name: "ContainerStop", operation: "stop container" };
        let grace = self.settings.stop_grace;
        let seconds = i32::try_from(grace.to_std().as_secs_f64().ceil() as i64).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let client = self.engine.client().await?;
        let stopped = async { gone_is_fine(client.stop_container(&member.id, Some(options)).await) };
        self.engine.ask_patiently(CALL, grace, stopped).await
    }

    async fn remove(&self, member: &Member) -> Result<(), ActuateError> {
        self.stop(member).await?;
        self.delete(&member.id).await
    }

    async fn delete(&self, id: &str) -> Result<(), ActuateError> {
        const CALL: Call = Call { name: "ContainerDelete", operation: "remove container" };
        // Volumes stay, as with Compose: what is in them is not ours.
        let options = RemoveContainerOptionsBuilder::new().force(true).v(false).build();
        let client = self.engine.client().await?;
        let removed = async { gone_is_fine(client.remove_container(id, Some(options)).await) };
        self.engine.ask(CALL, removed).await
    }

    async fn change(&self, decision: &Decision) -> Result<Outcome, ActuateError> {
        let members = self.members().await?;
        let units = decision.desired.max(self.settings.min).min(self.settings.max);
        let present = group::alive(&members);
        if units == present {
            return Ok(Outcome::Unchanged { units });
        }
        if units > present {
            self.grow(&members, units - present).await?;
        } else if let Some(reason) = self.shrink(&members, present - units).await? {
            return Ok(Outcome::Held { units: 1, reason });
        }
        Ok(Outcome::Applied { units, clamped: units != decision.desired })
    }
}

impl Actuator for ContainerGroup {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        let members = self.members().await?;
        let (desired, ready) = (group::alive(&members), group::ready(&members));
        Ok(TargetState { desired, ready: Some(ready), min: None, max: None, observed_at: now })
    }

    async fn apply(&self, decision: &Decision, _now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let limit = self.settings.timeout;
        tokio::time::timeout(limit.to_std(), self.change(decision)).await.unwrap_or_else(|_| {
            let detail = format!("not done within {limit}; what was begun counts, the next decision does the rest");
            Err(ActuateError::Timeout(self.engine.failure("change number of containers", detail)))
        })
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}

/// Some at a time; all are tried, and the first failure is told.
async fn all_of<F: Future<Output = Result<(), ActuateError>>>(changes: Vec<F>) -> Result<(), ActuateError> {
    let results: Vec<_> = futures::stream::iter(changes).buffered(AT_A_TIME).collect().await;
    results.into_iter().collect()
}

/// A container that went by itself, or is going, need not be ended.
fn gone_is_fine(answer: Result<(), Bollard>) -> Result<(), Bollard> {
    match answer {
        Err(Bollard::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(Bollard::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(())
        }
        other => other,
    }
}
