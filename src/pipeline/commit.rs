//! The protocol that writes each epoch's output exactly once, as a state machine. Rule: pure; the caller does what the
//! [`Action`] says and tells what came of it as an [`Event`]. Why it is so: `docs/designs/0005-exactly-once-by-outbox.md`.
//!
//! One commit of the state store holds a checkpoint and its outbox, so that output is owed as soon as the rows that it
//! came from count as read. One Kafka transaction writes the outbox and a marker with the epoch's number. What became of a
//! transaction is asked of nobody but the topic with the markers, which an aborted transaction leaves as it was.

use prescale_ingest::kafka::Remedy;
use serde::{Deserialize, Serialize};

/// Names a transaction: written by it, so that it is found if and only if the transaction was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Counts the epochs of a pipeline that wrote something, from 1.
    pub(crate) epoch: u64,
    /// The run of the process that wrote it: two that write the same pipeline are told apart.
    pub(crate) run: String,
}

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make a new producer, which shuts out all others of the same name, then read the last marker.
    Open,
    /// Begin a transaction and queue what is owed.
    Send,
    /// Wait until all of it is acknowledged.
    Await,
    Commit,
    Abort,
    /// Nothing is owed.
    Rest,
    /// End: another process writes the same pipeline.
    GiveWay,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The state store holds an epoch with this marker.
    Saved(Marker),
    /// The last marker, read after all older producers were shut out.
    Opened(Option<Marker>),
    Sent,
    Acknowledged,
    Committed,
    Aborted,
    Failed(Remedy),
}

/// Where a pipeline stands in the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The last transaction that is known to be committed.
    last: Option<Marker>,
    /// The one that the state store holds and that is not known to be committed.
    owed: Option<Marker>,
    /// The highest number in use.
    epoch: u64,
    doing: Action,
    /// The topic of this state's output has been found to be, or made, its own.
    settled: bool,
    stranger: Option<Stranger>,
}

/// The last marker was none that this process knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) found: Option<Marker>,
    pub(crate) expected: Option<Marker>,
}

impl Commit {
    /// Goes on where a state store stands; the first action is [`Action::Open`].
    pub(crate) fn new(last: Option<Marker>, owed: Option<Marker>) -> Self {
        let epoch = last.iter().chain(&owed).map(|marker| marker.epoch).max().unwrap_or(0);
        Self { last, owed, epoch, doing: Action::Open, settled: false, stranger: None }
    }

    /// The marker of the next epoch that has output.
    pub(crate) fn next(&self, run: &str) -> Marker {
        Marker { epoch: self.epoch + 1, run: run.to_owned() }
    }

    pub(crate) fn last(&self) -> Option<&Marker> {
        self.last.as_ref()
    }

    /// What was found at the start, or made this process give way; told once.
    pub(crate) fn take_stranger(&mut self) -> Option<Stranger> {
        self.stranger.take()
    }

    pub(crate) fn on(&mut self, event: Event) -> Action {
        self.doing = match event {
            Event::Saved(marker) => {
                self.epoch = self.epoch.max(marker.epoch);
                self.owed = Some(marker);
                Action::Send
            }
            Event::Opened(found) => self.compare(found),
            Event::Sent => Action::Await,
            Event::Acknowledged => Action::Commit,
            Event::Committed => {
                self.last = self.owed.take();
                Action::Rest
            }
            Event::Aborted => Action::Send,
            Event::Failed(remedy) => self.mend(remedy),
        };
        self.doing
    }

    /// Whether what is owed has been committed, by the last marker.
    fn compare(&mut self, found: Option<Marker>) -> Action {
        let first = !std::mem::replace(&mut self.settled, true);
        if self.owed.is_some() && found == self.owed {
            self.last = self.owed.take();
        } else if found != self.last {
            self.stranger = Some(Stranger { found: found.clone(), expected: self.last.clone() });
            if !first {
                return Action::GiveWay;
            }
            // The state was deleted or brought back from elsewhere, or the topic of markers was: go on above both.
            let number = found.as_ref().map_or(0, |marker| marker.epoch);
            self.epoch = self.epoch.max(number);
            if self.owed.as_ref().is_some_and(|owed| owed.epoch <= number) {
                self.owed = None;
            }
            self.last = found;
        }
        if self.owed.is_some() { Action::Send } else { Action::Rest }
    }

    fn mend(&self, remedy: Remedy) -> Action {
        match (remedy, self.doing) {
            // Part of it may be queued.
            (Remedy::Repeat | Remedy::Abort, Action::Send) | (Remedy::Abort, Action::Await) => Action::Abort,
            (Remedy::Repeat, doing) => doing,
            // From a commit on, only the marker tells what became of the transaction.
            _ => Action::Open,
        }
    }
}

#[cfg(test)]
mod tests;
