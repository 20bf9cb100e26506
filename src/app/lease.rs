//! Which replica acts. Rule: with no place for a lease this process is taken to be the only one; else it acts only while it
//! has the lease, and gives it up when it stops.

use std::sync::Arc;

use prescale_actuate::{ActuateError, Cluster, Failure, Keeper, KubernetesLease, LeasePlace, LeaseRecord, TenureWatch};
use prescale_domain::{Clock, SystemClock};
use prescale_store::{Found, Objects, StoreError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::Failure as CliFailure;
use crate::config::LeaseConfig;

/// The lease at work: whether this replica may act, and what keeps it.
pub(crate) struct Leading {
    pub(crate) watch: TenureWatch,
    keeping: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Leading {
    /// Begins to keep the lease that is configured, in the background.
    pub(crate) fn start(config: &LeaseConfig) -> Result<Self, CliFailure> {
        let place = config.place.as_str();
        if place.is_empty() {
            return Ok(Self { watch: TenureWatch::default(), keeping: None });
        }
        if let Some(named) = place.strip_prefix("kubernetes://") {
            let (namespace, name) = named.split_once('/').unwrap_or(("default", named));
            let cluster = Cluster::new(config.cluster.clone(), "lease");
            let place = KubernetesLease::new(cluster, namespace, name, config.duration);
            return Ok(Self::keep(config, place));
        }
        let objects = Objects::open(place).map_err(CliFailure::outside)?;
        let name = format!("lease-{}.json", config.name);
        Ok(Self::keep(config, ObjectLease { objects: Some(Arc::new(objects)), name }))
    }

    fn keep<P: LeasePlace>(config: &LeaseConfig, place: P) -> Self {
        let keeper = Keeper::new(&replica(), config.settings(), place);
        let (watch, end) = (keeper.watch(), CancellationToken::new());
        let keeping = tokio::spawn(keeper.run(end.clone().cancelled_owned()));
        Self { watch, keeping: Some((keeping, end)) }
    }

    /// Gives the lease up, now that nobody acts under it any more.
    pub(crate) async fn end(self) {
        let Some((keeping, end)) = self.keeping else { return };
        end.cancel();
        // Where it can't be given up it ends by itself.
        drop(keeping.await);
    }
}

/// A name that no other replica has, and no earlier life of this one.
fn replica() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "prescale" } else { host.trim() };
    format!("{host}-{}-{}", std::process::id(), SystemClock.now().millis())
}

/// A lease as an object of a bucket or a folder.
struct ObjectLease {
    /// Taken at the end: objects have a runtime of their own, which may not end where async code runs.
    objects: Option<Arc<Objects>>,
    name: String,
}

impl Drop for ObjectLease {
    fn drop(&mut self) {
        let objects = self.objects.take();
        drop(std::thread::spawn(move || drop(objects)));
    }
}

impl ObjectLease {
    /// Objects block; they may not do so here.
    async fn ask<T: Send + 'static>(
        &self,
        operation: &'static str,
        does: impl FnOnce(&Objects, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ActuateError> {
        let (objects, name) = (self.objects.clone(), self.name.clone());
        let failure = move |detail: String| Failure { operation, target: "lease".to_owned(), detail };
        // It is only taken where nobody can ask any more.
        let Some(objects) = objects else { return Err(ActuateError::Other(failure("it is ended".to_owned()))) };
        match tokio::task::spawn_blocking(move || does(&objects, &name)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) if error.is_passing() => Err(ActuateError::Unreachable(failure(error.to_string()))),
            Ok(Err(error)) => Err(ActuateError::Other(failure(error.to_string()))),
            Err(error) => Err(ActuateError::Other(failure(error.to_string()))),
        }
    }
}

impl LeasePlace for ObjectLease {
    type Version = Found;

    async fn read(&self) -> Result<Option<(LeaseRecord, Found)>, ActuateError> {
        let Some(found) = self.ask("read lease", |objects, name| objects.get(name)).await? else { return Ok(None) };
        let record = serde_json::from_slice(&found.bytes).map_err(|error| {
            let detail = format!("{error}\nhint: delete the object `{}` when no replica runs", self.name);
            ActuateError::Invalid(Failure { operation: "read lease", target: "lease".to_owned(), detail })
        })?;
        Ok(Some((record, found)))
    }

    async fn write(&self, record: &LeaseRecord, read: Option<&Found>) -> Result<bool, ActuateError> {
        // Strings and numbers: serialising can't fail.
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        let read = read.cloned();
        self.ask("write lease", move |objects, name| objects.swap(name, bytes, read.as_ref())).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails")]

    use prescale_actuate::LeaseSettings;

    use super::*;

    #[tokio::test]
    async fn of_two_replicas_of_a_folder_one_acts_and_the_other_follows_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = LeaseConfig {
            place: format!("file://{}", folder.path().display()),
            name: "fleet".to_owned(),
            ..LeaseConfig::default()
        };
        let lease = |_| ObjectLease {
            objects: Some(Arc::new(Objects::open(&config.place).unwrap())),
            name: format!("lease-{}.json", config.name),
        };
        let mut first = Keeper::new("first", LeaseSettings::default(), lease(()));
        let mut second = Keeper::new("second", LeaseSettings::default(), lease(()));
        first.turn().await;
        second.turn().await;
        assert_eq!(first.watch().term(), Some(1));
        assert_eq!(second.watch().left(), Err("replica `first` has the lease".to_owned()));
        first.release().await;
        second.turn().await;
        first.turn().await;
        assert_eq!((first.watch().term(), second.watch().term()), (None, Some(2)));
    }
}
