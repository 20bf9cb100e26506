//! Round after round: read, compare with the round before, send. Rule: what is away is waited for beside the rounds; only a
//! start that can't do without, and a single round, end with an error.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use prescale_domain::{Clock, ServiceName, Span};
use prescale_telemetry::collect::{ContainersUnread, EngineAway, EngineBack};
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::container::ContainerReading;
use crate::engine::Engine;
use crate::host::{Host, HostReading};
use crate::outlet::Outlet;
use crate::rows::{Round, of_container, of_host};
use crate::{CollectError, DEFAULT_DOCKER_HOST, MetricRecord};

/// Between the first reading and the first round: long enough for a rate that means something.
const SETTLE: Span = Span::from_secs(1);
/// How long a single round may take to arrive, and the last records of an agent that is stopped.
const ONCE_LIMIT: Span = Span::from_secs(30);
const STOP_LIMIT: Span = Span::from_secs(5);
const INTERVAL_MIN: Span = Span::from_secs(1);
const INTERVAL_MAX: Span = Span::from_minutes(60);

/// Whether containers are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DockerUse {
    /// The start fails without an engine.
    On,
    Off,
    /// Where and as long as there is an engine.
    #[default]
    Auto,
}

/// What is read, and how often.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// From round to round.
    pub interval: Span,
    /// The service that the machine's own metrics are of.
    pub service: ServiceName,
    pub docker: DockerUse,
    /// `unix:///path/of/a/socket` or `tcp://host:port`.
    pub docker_host: String,
    /// One round, and no more.
    pub once: bool,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            interval: Span::from_secs(10),
            service: ServiceName::new("host"),
            docker: DockerUse::default(),
            docker_host: DEFAULT_DOCKER_HOST.to_owned(),
            once: false,
        }
    }
}

impl AgentSettings {
    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.interval < INTERVAL_MIN || self.interval > INTERVAL_MAX {
            faults.push(format!("interval {} is not from {INTERVAL_MIN} to {INTERVAL_MAX}", self.interval));
        }
        if self.service.as_str().trim().is_empty() {
            faults.push("service is empty".to_owned());
        }
        if self.docker != DockerUse::Off {
            faults.extend(Engine::fault(&self.docker_host));
        }
        faults
    }
}

/// What an agent has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub rounds: u64,
    /// Records that have arrived.
    pub records: u64,
    /// Records that will not.
    pub given_up: u64,
}

/// Reads and sends until `stop`, or once.
///
/// # Errors
/// See [`CollectError`]; a reader of NDJSON that has gone away ends it without one.
pub async fn run(
    settings: &AgentSettings,
    clock: &dyn Clock,
    outlet: &mut Outlet,
    stop: &CancellationToken,
) -> Result<Summary, CollectError> {
    if let Some(fault) = settings.faults().into_iter().next() {
        return Err(CollectError::Settings(fault));
    }
    let mut agent = Agent::begin(settings).await?;
    let mut rounds = 0;
    let first = tokio::time::Instant::now() + settings.interval.min(SETTLE).to_std();
    let mut ticks = tokio::time::interval_at(first, settings.interval.to_std());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let records = tokio::select! {
            () = stop.cancelled() => break,
            records = agent.round(clock) => records,
        };
        match outlet.put(&records) {
            Err(CollectError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => break,
            put => put?,
        }
        rounds += 1;
        if settings.once {
            break;
        }
    }
    let finished = outlet.finish(if settings.once { ONCE_LIMIT } else { STOP_LIMIT }).await;
    if settings.once {
        finished?;
    }
    let (records, given_up) = outlet.counts();
    Ok(Summary { rounds, records, given_up })
}

/// What is remembered from round to round.
struct Agent<'a> {
    settings: &'a AgentSettings,
    begun: Instant,
    host_name: Option<Arc<str>>,
    host: Host,
    host_before: Option<HostReading>,
    engine: Option<Engine>,
    /// Whether the engine answered when it was last asked; `None` = it never was.
    engine_answers: Option<bool>,
    /// By id; only those that the last look saw.
    containers_before: BTreeMap<Arc<str>, ContainerReading>,
}

impl<'a> Agent<'a> {
    /// Reads everything a first time, for later readings to be compared with.
    async fn begin(settings: &'a AgentSettings) -> Result<Self, CollectError> {
        let begun = Instant::now();
        let mut engine = (settings.docker != DockerUse::Off).then(|| Engine::new(&settings.docker_host));
        if let (DockerUse::On, Some(engine)) = (settings.docker, &mut engine) {
            let refused = engine.client().await.err();
            if let Some(error) = refused {
                return Err(CollectError::Engine { host: engine.host().to_owned(), error });
            }
        }
        let mut agent = Self {
            settings,
            begun,
            host_name: Host::name(),
            host: Host::new(begun),
            host_before: None,
            engine,
            engine_answers: None,
            containers_before: BTreeMap::new(),
        };
        agent.host_before = agent.host.read().await;
        for container in agent.containers().await {
            agent.containers_before.insert(container.id.clone(), container);
        }
        Ok(agent)
    }

    async fn round(&mut self, clock: &dyn Clock) -> Vec<MetricRecord> {
        let round = Round { ts: clock.now(), host: self.host_name.clone() };
        let mut records = Vec::new();
        if let Some(reading) = self.host.read().await {
            records.extend(of_host(&round, &self.settings.service, self.host_before.as_ref(), &reading));
            self.host_before = Some(reading);
        }
        let round = Round { ts: clock.now(), ..round };
        let mut seen = BTreeMap::new();
        for container in self.containers().await {
            records.extend(of_container(&round, self.containers_before.get(&container.id), &container));
            seen.insert(container.id.clone(), container);
        }
        self.containers_before = seen;
        records
    }

    /// The running containers; none while there is no engine, of which is told when it changes.
    async fn containers(&mut self) -> Vec<ContainerReading> {
        let Some(engine) = &mut self.engine else { return Vec::new() };
        let look = engine.look(self.begun).await;
        let answered = self.engine_answers.replace(look.is_ok());
        match look {
            Ok(look) => {
                if answered == Some(false) {
                    EngineBack { host: engine.host() }.emit();
                }
                if let Some((error, count)) = &look.unread {
                    ContainersUnread { host: engine.host(), count: *count, error }.emit();
                }
                look.containers
            }
            Err(error) => {
                // Where nobody asked for an engine, none is nothing to warn of.
                let is_expected = answered.is_some() || self.settings.docker == DockerUse::On;
                if answered != Some(false) {
                    EngineAway { host: engine.host(), error: &error, is_expected }.emit();
                }
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests;
