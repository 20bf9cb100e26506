//! Tables in an object store, for checkpoints that outlive the machine. Rule: what counts is what the one manifest says;
//! it is replaced by a conditional put alone, so that a write is whole or absent, and whoever opens the store shuts out
//! who had it before. Why it is so: `docs/designs/0009-checkpoints-in-an-object-store.md`.

mod manifest;
pub(crate) mod place;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use tokio::runtime::Builder;

use crate::{Entries, MemoryStore, Store, StoreError, Table, Write};
use place::Place;
use session::Session;

/// A prefix of a bucket, held by the process that opened it last. Everything that it holds is kept in memory too: reads
/// ask nobody.
pub struct BucketStore {
    url: String,
    memory: Arc<MemoryStore>,
    /// `None` only while it is being dropped.
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// Changes that are to be written, and whom to tell.
struct Request {
    changes: Vec<Write>,
    done: SyncSender<Result<(), StoreError>>,
}

impl BucketStore {
    /// Opens `s3://bucket/prefix` or `file:///folder`: takes it over from the process that has it, if there is one.
    /// Endpoint, region and credentials of S3 come from the standard environment of AWS; `?endpoint=URL&region=NAME` after
    /// the prefix comes before it.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let place = Place::parse(url)?;
        let shown = place.to_string();
        let memory = Arc::new(MemoryStore::default());
        let (requests, waiting) = channel();
        let (opened, opening) = sync_channel(1);
        let held = Arc::clone(&memory);
        let work = move || serve(place, &held, &opened, &waiting);
        let broken = |error: &dyn std::fmt::Display| StoreError::Refused {
            place: shown.clone(),
            error: format!("its thread does not run: {error}"),
        };
        let thread = thread::Builder::new().name("state".to_owned()).spawn(work).map_err(|error| broken(&error))?;
        opening.recv().map_err(|error| broken(&error))??;
        Ok(Self { url: shown, memory, requests: Some(requests), thread: Some(thread) })
    }
}

/// Opens the place, says how that went, and writes until nobody can ask for it any more. On a thread and a runtime of its
/// own, so that callers may block wherever they are.
fn serve(place: Place, memory: &MemoryStore, opened: &SyncSender<Result<(), StoreError>>, waiting: &Receiver<Request>) {
    let shown = place.to_string();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = StoreError::Refused { place: shown, error: error.to_string() };
            return drop(opened.send(Err(error)));
        }
    };
    let mut session = match runtime.block_on(Session::open(place, memory)) {
        Ok(session) => session,
        Err(error) => return drop(opened.send(Err(error))),
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    runtime.block_on(session.clean());
    while let Ok(first) = waiting.recv() {
        // Who waits at the same time shares one manifest.
        let together: Vec<Request> = std::iter::once(first).chain(waiting.try_iter()).collect();
        let changes: Vec<&Write> = together.iter().flat_map(|request| &request.changes).collect();
        let outcome = runtime.block_on(session.write(&changes, memory));
        for request in &together {
            // Who asked may have given up.
            drop(request.done.send(outcome.clone()));
        }
        if outcome.is_ok() {
            runtime.block_on(session.clean());
        }
    }
}

impl Store for BucketStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
        newest_first: bool,
    ) -> Result<Entries, StoreError> {
        self.memory.range(table, from, to, limit, newest_first)
    }

    fn write(&self, changes: &[Write]) -> Result<(), StoreError> {
        let (done, outcome) = sync_channel(1);
        let request = Request { changes: changes.to_vec(), done };
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        let ended = || StoreError::Refused { place: self.url.clone(), error: "its thread has ended".to_owned() };
        if sent { outcome.recv().unwrap_or_else(|_| Err(ended())) } else { Err(ended()) }
    }
}

impl Drop for BucketStore {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // Nobody is left to tell of a panic.
            drop(thread.join());
        }
    }
}
