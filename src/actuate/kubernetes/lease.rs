//! Who of several replicas acts: a Lease of the cluster. Rule: a lease is another's until it stood unchanged for its whole
//! duration by this process's own clock, and this process's own for two thirds of it, counted from before it asked; so two
//! clocks need only run at about the same speed. Every write is bound to the version that was seen.

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use kube::core::ObjectMeta;
use kube::core::params::{GetParams, PostParams};
use prescale_domain::{Clock, Span, Timestamp};

use super::change::{count, manager};
use super::cluster::{Call, Cluster};
use super::reference::Place;
use crate::ActuateError;

/// Which lease, and for how long each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    /// In whole seconds. It is renewed well before; another one takes over after it.
    pub duration: Span,
}

/// Whether this replica acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Until then, unless it is renewed. `token` is higher than that of each holder before.
    Holds { token: u32, until: Timestamp },
    /// Another one holds it; it is of no use to ask again before `until`.
    Waits { holder: String, until: Timestamp },
}

/// What a lease says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// `None` = released.
    holder: Option<String>,
    duration: Span,
    transitions: u32,
    version: String,
}

/// A record, and since when it stands unchanged as far as this process knows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    record: Record,
    since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Acquire,
    Renew,
    Wait { until: Timestamp },
}

impl Seen {
    /// After one more look: what is unchanged goes on standing.
    fn after(before: Option<Self>, record: Record, now: Timestamp) -> Self {
        match before {
            Some(before) if before.record == record => before,
            _ => Self { record, since: now },
        }
    }
}

/// What `me` does about a lease.
fn next(seen: &Seen, me: &str, now: Timestamp) -> Next {
    let Some(holder) = &seen.record.holder else { return Next::Acquire };
    let until = seen.since + seen.record.duration;
    match (holder == me, now >= until) {
        (true, _) => Next::Renew,
        (false, true) => Next::Acquire,
        (false, false) => Next::Wait { until },
    }
}

/// The record by which `me` has the lease from now on; bound to the version of the one before.
fn claim(before: &Record, me: &str, duration: Span, next: Next) -> Record {
    let transitions = before.transitions.saturating_add(u32::from(next == Next::Acquire));
    Record { holder: Some(me.to_owned()), duration, transitions, version: before.version.clone() }
}

/// How long a holder relies on what it asked for at `asked`.
fn reliable_until(asked: Timestamp, duration: Span) -> Timestamp {
    asked + Span::from_millis(duration.millis() / 3 * 2)
}

/// One replica's part in a lease.
#[derive(Clone, Debug)]
pub struct Lease {
    cluster: Cluster,
    settings: LeaseSettings,
    me: String,
    seen: Option<Seen>,
}

impl Lease {
    /// `me` must differ from every other replica's name, and from its own before a restart. A duration is at least 1 s.
    pub fn new(cluster: Cluster, settings: LeaseSettings, me: String) -> Self {
        let seconds = settings.duration.steps_up(Span::from_secs(1)).clamp(1, 86_400);
        let duration = Span::from_secs(i64::try_from(seconds).unwrap_or(86_400));
        Self { cluster, settings: LeaseSettings { duration, ..settings }, me, seen: None }
    }

    /// Acquires, renews or waits. `clock` is one that does not jump. After an error nothing is known but the standing of the
    /// step before, which ends at its own time.
    pub async fn step(&mut self, clock: &impl Clock) -> Result<Standing, ActuateError> {
        let found = match self.read().await {
            Ok(object) => Some(object),
            Err(ActuateError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let asked = clock.now();
        let Some(object) = found else {
            let free = Record { holder: None, duration: Span::ZERO, transitions: 0, version: String::new() };
            let claimed = claim(&free, &self.me, self.settings.duration, Next::Acquire);
            return self.write(None, &claimed, Next::Acquire, asked, clock).await;
        };
        let record = self.record(&object);
        let seen = Seen::after(self.seen.take(), record, asked);
        let step = next(&seen, &self.me, asked);
        let record = seen.record.clone();
        self.seen = Some(seen);
        match step {
            Next::Wait { until } => Ok(Standing::Waits { holder: record.holder.unwrap_or_default(), until }),
            Next::Acquire | Next::Renew => {
                let claimed = claim(&record, &self.me, self.settings.duration, step);
                self.write(Some(&object), &claimed, step, asked, clock).await
            }
        }
    }

    /// Gives it up, if it is this replica's: the next one need not wait. Whoever calls has stopped acting before.
    pub async fn release(&mut self) -> Result<(), ActuateError> {
        const CALL: Call = Call { operation: "release lease", name: "UpdateLease" };
        let object = self.read().await?;
        let record = self.record(&object);
        if record.holder.as_deref() != Some(self.me.as_str()) {
            return Ok(());
        }
        let spec = LeaseSpec { holder_identity: Some(String::new()), ..object.spec.clone().unwrap_or_default() };
        let body = LeaseObject { spec: Some(spec), metadata: metadata(&self.settings, Some(&object)) };
        self.put(CALL, &body).await.map(|_| ())
    }

    async fn read(&self) -> Result<LeaseObject, ActuateError> {
        const CALL: Call = Call { operation: "read lease", name: "GetLease" };
        let work = self.cluster.ask(CALL, self.place().request().get(&self.settings.name, &GetParams::default()));
        self.cluster.within(CALL.operation, work).await
    }

    async fn write(
        &mut self,
        before: Option<&LeaseObject>,
        claimed: &Record,
        step: Next,
        asked: Timestamp,
        clock: &impl Clock,
    ) -> Result<Standing, ActuateError> {
        const CREATE: Call = Call { operation: "create lease", name: "CreateLease" };
        const UPDATE: Call = Call { operation: "update lease", name: "UpdateLease" };
        let old = before.and_then(|object| object.spec.clone()).unwrap_or_default();
        let at = micro_time(asked);
        let spec = LeaseSpec {
            holder_identity: claimed.holder.clone(),
            lease_duration_seconds: i32::try_from(claimed.duration.millis() / 1000).ok(),
            lease_transitions: i32::try_from(claimed.transitions).ok(),
            acquire_time: if step == Next::Acquire { at.clone() } else { old.acquire_time.clone() },
            renew_time: at,
            ..old
        };
        let body = LeaseObject { spec: Some(spec), metadata: metadata(&self.settings, before) };
        let written = match before {
            Some(_) => self.put(UPDATE, &body).await,
            None => self.post(CREATE, &body).await,
        };
        match written {
            Ok(object) => {
                let record = self.record(&object);
                let token = record.transitions;
                self.seen = Some(Seen::after(None, record, clock.now()));
                Ok(Standing::Holds { token, until: reliable_until(asked, claimed.duration) })
            }
            // Somebody was quicker: who, the next look tells.
            Err(ActuateError::Conflict(_)) => {
                self.seen = None;
                Ok(Standing::Waits { holder: String::new(), until: asked })
            }
            Err(error) => Err(error),
        }
    }

    async fn put(&self, call: Call, body: &LeaseObject) -> Result<LeaseObject, ActuateError> {
        let body = self.body(call, body)?;
        let request = self.place().request().replace(&self.settings.name, &post_params(), body);
        self.cluster.within(call.operation, self.cluster.ask(call, request)).await
    }

    async fn post(&self, call: Call, body: &LeaseObject) -> Result<LeaseObject, ActuateError> {
        let body = self.body(call, body)?;
        let request = self.place().request().create(&post_params(), body);
        self.cluster.within(call.operation, self.cluster.ask(call, request)).await
    }

    fn body(&self, call: Call, object: &LeaseObject) -> Result<Vec<u8>, ActuateError> {
        serde_json::to_vec(object)
            .map_err(|error| ActuateError::Invalid(self.cluster.failure(call.operation, error.to_string())))
    }

    fn place(&self) -> Place {
        Place::of::<LeaseObject>(Some(&self.settings.namespace))
    }

    fn record(&self, object: &LeaseObject) -> Record {
        let spec = object.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.filter(|seconds| *seconds > 0);
        Record {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: seconds.map_or(self.settings.duration, |seconds| Span::from_secs(seconds.into())),
            transitions: count(spec.lease_transitions),
            version: object.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

fn metadata(settings: &LeaseSettings, before: Option<&LeaseObject>) -> ObjectMeta {
    before.map_or_else(
        || ObjectMeta {
            name: Some(settings.name.clone()),
            namespace: Some(settings.namespace.clone()),
            ..ObjectMeta::default()
        },
        // With the version that was seen, and whatever others have put on it.
        |object| ObjectMeta { managed_fields: None, ..object.metadata.clone() },
    )
}

fn post_params() -> PostParams {
    PostParams { field_manager: manager(), ..PostParams::default() }
}

fn micro_time(at: Timestamp) -> Option<MicroTime> {
    jiff::Timestamp::from_millisecond(at.millis()).ok().map(MicroTime)
}

#[cfg(test)]
mod tests;
