//! Who may act. Rule: of all replicas at most one at any moment, whatever their clocks say; who is not sure does not act.
//!
//! A lease is a record in a place where a write may be made conditional on what was read ([`LeasePlace`]). Its holder renews
//! it; others take it over when they have seen one and the same record for as long as it lasts, by their own clock (as
//! Kubernetes' leader election does), so that clocks need not agree, only run at about the same speed. The holder counts its
//! tenure from before its last successful write, and ends it [`LeaseSettings::margin`] early: that is what clocks may
//! differ in speed, and what a call that is under way may still take on its way.
//!
//! Times here are those of a clock that never jumps, in milliseconds since any moment; each replica has its own.

mod keeper;
#[cfg(test)]
mod tests;

use std::future::Future;

use prescale_domain::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use keeper::{Keeper, TenureWatch};

use crate::ActuateError;

/// How long a lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSettings {
    /// After this long without a renewal another replica takes over.
    pub duration: Span,
    /// How often it is renewed, and looked at by those who wait.
    pub renew: Span,
    /// The holder stops this long before the lease ends.
    pub margin: Span,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self { duration: Span::from_secs(30), renew: Span::from_secs(5), margin: Span::from_secs(5) }
    }
}

impl LeaseSettings {
    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let Self { duration, renew, margin } = *self;
        let mut faults = Vec::new();
        if renew <= Span::ZERO {
            faults.push(format!("renew {renew} is not above 0s"));
        }
        if margin <= Span::ZERO {
            faults.push(format!("margin {margin} is not above 0s"));
        }
        if renew + renew + margin > duration {
            faults.push(format!(
                "duration {duration} is too short: it must allow for two renewals ({renew} each) and the margin ({margin})"
            ));
        }
        faults
    }
}

/// The lease as it lies in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub holder: String,
    /// Grows with each change of holder: the fencing token.
    pub term: u64,
    /// Grows with each renewal.
    pub renewal: u64,
    /// The holder has given it up.
    pub released: bool,
}

/// Where a lease lies.
pub trait LeasePlace: Send + Sync + 'static {
    /// What a conditional write refers to.
    type Version: Clone + Send + Sync;

    /// The record and which version of it that is; `None` where there is none yet.
    fn read(&self) -> impl Future<Output = Result<Option<(LeaseRecord, Self::Version)>, ActuateError>> + Send;

    /// Writes the record if the one that was read is still there. Whether it did.
    fn write(
        &self,
        record: &LeaseRecord,
        read: Option<&Self::Version>,
    ) -> impl Future<Output = Result<bool, ActuateError>> + Send;
}

/// A time in which nobody else acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    pub term: u64,
    /// Its end, on the replica's own clock that never jumps.
    pub until: Timestamp,
}

/// What a replica knows of the lease. Pure: it is told the time and what it reads.
#[derive(Clone, Debug)]
pub struct Candidate {
    me: String,
    settings: LeaseSettings,
    /// The record that was read last, and since when it has been that one.
    seen: Option<(LeaseRecord, Timestamp)>,
    tenure: Option<Tenure>,
}

impl Candidate {
    /// `me` is a name that no other replica has, and none of an earlier life of this one.
    pub fn new(me: &str, settings: LeaseSettings) -> Self {
        Self { me: me.to_owned(), settings, seen: None, tenure: None }
    }

    /// What to write, now that `found` was read at `now`; `None` = wait.
    pub fn next(&mut self, now: Timestamp, found: Option<&LeaseRecord>) -> Option<LeaseRecord> {
        let Some(found) = found else {
            return Some(self.record(1, 0));
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != found) {
            self.seen = Some((found.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        if found.holder == self.me && !found.released {
            return Some(self.record(found.term, found.renewal.saturating_add(1)));
        }
        // Somebody else has it, so this one does not.
        self.tenure = None;
        let over = found.released || now.since(since) >= self.settings.duration;
        over.then(|| self.record(found.term.saturating_add(1), found.renewal.saturating_add(1)))
    }

    /// The record was written; `began` is from before the write was sent.
    pub fn written(&mut self, began: Timestamp, record: &LeaseRecord) {
        self.tenure = (record.holder == self.me && !record.released)
            .then(|| Tenure { term: record.term, until: began + self.settings.duration - self.settings.margin });
        self.seen = Some((record.clone(), began));
    }

    /// Somebody else was first.
    pub fn outrun(&mut self) {
        self.tenure = None;
    }

    /// The record that gives the lease up, where this replica has it. From now on it has it no more.
    pub fn release(&mut self) -> Option<LeaseRecord> {
        let Tenure { term, .. } = self.tenure.take()?;
        let renewal = self.seen.as_ref().map_or(0, |(seen, _)| seen.renewal);
        Some(LeaseRecord { released: true, ..self.record(term, renewal.saturating_add(1)) })
    }

    /// The time in which this replica may act, if it may at `now`.
    pub fn tenure(&self, now: Timestamp) -> Option<Tenure> {
        self.tenure.filter(|tenure| now < tenure.until)
    }

    /// Who has the lease, as far as is known.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().filter(|(seen, _)| !seen.released).map(|(seen, _)| seen.holder.as_str())
    }

    fn record(&self, term: u64, renewal: u64) -> LeaseRecord {
        LeaseRecord { holder: self.me.clone(), term, renewal, released: false }
    }
}
