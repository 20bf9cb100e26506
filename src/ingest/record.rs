//! Raw records in columns, and records that could not be used. Rule: bytes are never altered.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Consecutive records of one partition, in offset order, in columns: one buffer for all payloads.
#[derive(Clone, Default)]
pub struct RawBatch {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offsets: Vec<i64>,
    /// Broker timestamps in milliseconds; `i64::MIN` where a record has none.
    pub timestamps: Vec<i64>,
    /// All payloads end to end.
    pub payload: Vec<u8>,
    /// `ends[i]` is where record i's payload ends in `payload`; it starts where the one before ends.
    pub ends: Vec<usize>,
    /// Records without a payload (tombstones), by index, ascending; their slice is empty.
    pub tombstones: Vec<usize>,
    /// All keys end to end; a topic without keys costs nothing.
    pub keys: Vec<u8>,
    /// For each record that has a key, its index and where its key ends in `keys`; ascending.
    pub key_ends: Vec<(usize, usize)>,
}

impl RawBatch {
    pub fn new(topic: Arc<str>, partition: i32) -> Self {
        Self { topic, partition, ..Self::default() }
    }

    /// Makes room for so many records, and bytes of payload, more.
    pub(crate) fn reserve(&mut self, records: usize, bytes: usize) {
        self.offsets.reserve(records);
        self.timestamps.reserve(records);
        self.ends.reserve(records);
        self.payload.reserve(bytes);
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The payload of record `index`. Panics when `index` is not below [`RawBatch::len`].
    pub fn bytes(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.payload[start..self.ends[index]]
    }

    /// The key of record `index`; `None` where it has none.
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        let place = self.key_ends.binary_search_by_key(&index, |(record, _)| *record).ok()?;
        let start = if place == 0 { 0 } else { self.key_ends[place - 1].1 };
        Some(&self.keys[start..self.key_ends[place].1])
    }

    /// Gives the record that is appended next its key.
    pub fn push_key(&mut self, key: &[u8]) {
        self.keys.extend_from_slice(key);
        self.key_ends.push((self.offsets.len(), self.keys.len()));
    }

    /// Appends a record; `None` is a tombstone.
    pub fn push(&mut self, offset: i64, timestamp_millis: Option<i64>, payload: Option<&[u8]>) {
        if payload.is_none() {
            self.tombstones.push(self.offsets.len());
        }
        self.offsets.push(offset);
        self.timestamps.push(timestamp_millis.unwrap_or(i64::MIN));
        self.payload.extend_from_slice(payload.unwrap_or_default());
        self.ends.push(self.payload.len());
    }
}

impl fmt::Debug for RawBatch {
    /// In short, without the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.offsets.first(), self.offsets.last());
        let (topic, partition, bytes) = (&self.topic, self.partition, self.payload.len());
        write!(f, "RawBatch({topic}/{partition}, offsets {first:?} to {last:?}, {} records, {bytes} bytes)", self.len())
    }
}

/// A record that could not be used, on its way to the dead-letter topic with its original bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// `decode`, `schema`, `null_event_time`, `late`, `future`, `expression`, `key`.
    pub reason: String,
    pub error: String,
    pub payload: Vec<u8>,
}

/// A record on its way to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRecord {
    pub topic: Arc<str>,
    /// `None` = the key chooses it, as Java clients do; without a key it is any.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl DeadLetter {
    /// The record for the dead-letter topic: the original bytes, with where they came from and what was wrong in the
    /// headers.
    pub fn record(&self, topic: Arc<str>) -> OutRecord {
        let header = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        OutRecord {
            topic,
            partition: None,
            key: None,
            value: self.payload.clone(),
            headers: vec![
                header("topic", self.topic.as_bytes()),
                header("partition", self.partition.to_string().as_bytes()),
                header("offset", self.offset.to_string().as_bytes()),
                header("reason", self.reason.as_bytes()),
                header("error", self.error.as_bytes()),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_pushed() {
        let mut raw = RawBatch::new("t".into(), 7);
        raw.push(3, Some(99), Some(b"abc"));
        raw.push_key(b"gone");
        raw.push(5, None, None);
        raw.push_key(b"");
        raw.push(6, Some(100), Some(b""));
        raw.push(7, None, Some(b"\xff"));
        assert_eq!((raw.len(), raw.is_empty()), (4, false));
        assert_eq!((0..4).map(|index| raw.bytes(index)).collect::<Vec<_>>(), [&b"abc"[..], b"", b"", b"\xff"]);
        assert_eq!(raw.tombstones, [1]);
        assert_eq!((0..4).map(|index| raw.key(index)).collect::<Vec<_>>(), [None, Some(&b"gone"[..]), Some(b""), None]);
        assert_eq!((raw.offsets, raw.timestamps), (vec![3, 5, 6, 7], vec![99, i64::MIN, 100, i64::MIN]));
    }
}
