//! When each partition last brought rows, on a clock. Rule: what waits in a broker that is out of reach, and time in which
//! nobody asked, is no silence of the source.

use std::collections::BTreeMap;

use prescale_domain::{Span, Timestamp};
use prescale_ingest::Polled;

/// The partitions of one source.
#[derive(Default)]
pub(crate) struct Quiet {
    last_rows: BTreeMap<i32, Timestamp>,
}

impl Quiet {
    pub(crate) fn see(&mut self, polled: &Polled, now: Timestamp) {
        for partition in &polled.partitions {
            let last = self.last_rows.entry(*partition).or_insert(now);
            // What waits in a broker that was out of reach is not known: silence counts from when it is back.
            if polled.unreachable.is_some() {
                *last = now;
            }
        }
        for batch in &polled.batches {
            self.last_rows.insert(batch.partition, now);
        }
    }

    /// Partitions that have been read to their end and brought nothing for `limit`, or for `early` where nothing more is in
    /// them at all.
    pub(crate) fn idle(&self, polled: &Polled, now: Timestamp, limit: Option<Span>, early: Option<Span>) -> Vec<i32> {
        let limit = |id: &i32| limit.into_iter().chain(early.filter(|_| polled.caught_up.contains(id))).min();
        let silent = |id: &&i32| {
            let length = self.last_rows.get(id).map(|last| now.since(*last));
            length.zip(limit(id)).is_some_and(|(length, limit)| length >= limit)
        };
        polled.partitions.iter().filter(|id| polled.at_end.contains(id)).filter(silent).copied().collect()
    }

    /// Time in which nobody asked the source is not its silence.
    pub(crate) fn skip(&mut self, length: Span) {
        self.last_rows.values_mut().for_each(|last| *last = *last + length);
    }
}
