//! Keeps a lease in the background. Rule: a renewal that fails or hangs shortens the tenure, it never ends the keeper.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use prescale_domain::{Span, Timestamp};
use prescale_telemetry::actuate::LeaseChange;
use tokio::time::Instant;

use super::{Candidate, LeasePlace, LeaseSettings, Tenure};

/// What is left to the only replica there is.
const ALWAYS: Span = Span::from_minutes(24 * 60);

/// What others see of a [`Keeper`]: whether this replica may act. Clones see the same.
#[derive(Clone, Debug)]
pub struct TenureWatch {
    /// The clock that never jumps.
    started: Instant,
    /// `None`: nobody else is there, so this replica always may.
    shared: Option<Arc<Mutex<Shared>>>,
}

#[derive(Debug)]
struct Shared {
    candidate: Candidate,
    /// Why the lease could not be read or written last.
    fault: Option<String>,
}

impl Default for TenureWatch {
    /// Of the only replica.
    fn default() -> Self {
        Self { started: Instant::now(), shared: None }
    }
}

impl TenureWatch {
    /// Time that is left to act in; `None` = this replica may not, with the reason.
    ///
    /// # Errors
    /// Why it may not, as a sentence.
    pub fn left(&self) -> Result<Span, String> {
        let Some(shared) = &self.shared else { return Ok(ALWAYS) };
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let now = since(self.started);
        if let Some(Tenure { until, .. }) = shared.candidate.tenure(now) {
            return Ok(until.since(now));
        }
        Err(match (&shared.fault, shared.candidate.holder()) {
            (Some(fault), _) => format!("the lease can't be renewed: {fault}"),
            (None, Some(holder)) => format!("replica `{holder}` has the lease"),
            (None, None) => "nobody has the lease yet".to_owned(),
        })
    }

    /// The fencing token, where this replica may act.
    pub fn term(&self) -> Option<u64> {
        let shared = self.shared.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        shared.candidate.tenure(since(self.started)).map(|tenure| tenure.term)
    }
}

/// Renews the lease of one replica, or waits for it.
#[derive(Debug)]
pub struct Keeper<P> {
    place: P,
    settings: LeaseSettings,
    shared: Arc<Mutex<Shared>>,
    watch: TenureWatch,
    held: bool,
}

impl<P: LeasePlace> Keeper<P> {
    /// `me` is a name that no other replica has, and none of an earlier life of this one.
    pub fn new(me: &str, settings: LeaseSettings, place: P) -> Self {
        let shared = Shared { candidate: Candidate::new(me, settings), fault: None };
        let shared = Arc::new(Mutex::new(shared));
        let watch = TenureWatch { started: Instant::now(), shared: Some(Arc::clone(&shared)) };
        Self { place, settings, shared, watch, held: false }
    }

    pub fn watch(&self) -> TenureWatch {
        self.watch.clone()
    }

    /// One look at the lease, and a renewal or an attempt to take it over where it is time for that.
    pub async fn turn(&mut self) {
        // A turn that takes longer than a renewal may is given up; the next one reads afresh.
        let done = tokio::time::timeout(self.settings.renew.to_std(), self.look()).await;
        let fault = match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {}", self.settings.renew)),
        };
        self.with(|shared| shared.fault = fault);
        let held = self.watch.left().is_ok();
        if held != self.held {
            self.held = held;
            LeaseChange { held, term: self.watch.term() }.emit();
        }
    }

    /// Goes on until `end`, and gives the lease up then. Whoever acts under it has stopped before.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            self.turn().await;
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(self.settings.renew.to_std()) => {}
            }
        }
        self.release().await;
    }

    /// Gives the lease up, so that nobody has to wait for its end.
    pub async fn release(&mut self) {
        let Some(record) = self.with(|shared| shared.candidate.release()) else { return };
        let giving_up = async {
            let found = self.place.read().await.ok().flatten();
            let Some((_, version)) = found.filter(|(found, _)| found.holder == record.holder) else { return };
            // Where this fails the lease ends by itself.
            self.place.write(&record, Some(&version)).await.ok();
        };
        tokio::time::timeout(self.settings.renew.to_std(), giving_up).await.ok();
    }

    async fn look(&self) -> Result<(), crate::ActuateError> {
        let found = self.place.read().await?;
        let began = since(self.watch.started);
        let next = self.with(|shared| shared.candidate.next(began, found.as_ref().map(|(record, _)| record)));
        let Some(record) = next else { return Ok(()) };
        let written = self.place.write(&record, found.as_ref().map(|(_, version)| version)).await?;
        self.with(|shared| if written { shared.candidate.written(began, &record) } else { shared.candidate.outrun() });
        Ok(())
    }

    fn with<T>(&self, does: impl FnOnce(&mut Shared) -> T) -> T {
        does(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn since(started: Instant) -> Timestamp {
    Timestamp::from_millis(i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX))
}
