//! An epoch's output in the state store, from the moment that its input counts as read until it is known to be written.
//! Rule: saved in the same write as the checkpoint; bytes come back as they were.

use std::sync::Arc;

use prescale_ingest::OutRecord;
use prescale_store::{Store, Table, Write};

use crate::PipelineError;
use crate::commit::Marker;

/// First byte of what is stored.
const FORMAT: u8 = 2;

/// What one transaction writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outbox {
    pub(crate) marker: Marker,
    /// The transaction before it, if there was one.
    pub(crate) before: Option<Marker>,
    /// In the order in which they are written. None = all of it has been written.
    pub(crate) records: Vec<OutRecord>,
    /// Of the sources' groups.
    pub(crate) offsets: Vec<GroupOffset>,
}

/// The next offset to read of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupOffset {
    /// The place of the source in the plan.
    pub(crate) source: usize,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl Outbox {
    /// The last outbox of `pipeline`, if it ever had one.
    pub(crate) fn load(store: &dyn Store, pipeline: &str) -> Result<Option<Self>, PipelineError> {
        let Some(bytes) = store.get(Table::Outbox, pipeline.as_bytes())? else { return Ok(None) };
        Self::decode(&bytes).map(Some).ok_or_else(|| PipelineError::Checkpoint {
            pipeline: pipeline.to_owned(),
            error: "its outbox is in no form that this version knows".to_owned(),
        })
    }

    pub(crate) fn write(&self, pipeline: &str) -> Write {
        Write { table: Table::Outbox, key: pipeline.as_bytes().to_vec(), value: Some(self.encode()) }
    }

    /// The same outbox after all of it has been written.
    pub(crate) fn emptied(&self) -> Self {
        Self { marker: self.marker.clone(), before: None, records: Vec::new(), offsets: Vec::new() }
    }

    /// Last transaction known to be committed, and the one that may not be.
    pub(crate) fn standing(&self) -> (Option<Marker>, Option<Marker>) {
        if self.records.is_empty() {
            (Some(self.marker.clone()), None)
        } else {
            (self.before.clone(), Some(self.marker.clone()))
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_marker(&mut out, &self.marker);
        put_option(&mut out, self.before.as_ref(), put_marker);
        put_length(&mut out, self.offsets.len());
        for GroupOffset { source, partition, offset } in &self.offsets {
            put_length(&mut out, *source);
            out.extend_from_slice(&partition.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        put_length(&mut out, self.records.len());
        for record in &self.records {
            put_bytes(&mut out, record.topic.as_bytes());
            put_option(&mut out, record.partition.as_ref(), |out, id| out.extend_from_slice(&id.to_le_bytes()));
            put_option(&mut out, record.key.as_ref(), |out, key| put_bytes(out, key));
            put_bytes(&mut out, &record.value);
            put_length(&mut out, record.headers.len());
            for (name, value) in &record.headers {
                put_bytes(&mut out, name.as_bytes());
                put_bytes(&mut out, value);
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut left = Reader(bytes);
        if left.take(1)? != [FORMAT] {
            return None;
        }
        let marker = left.marker()?;
        let before = if left.flag()? { Some(left.marker()?) } else { None };
        let offsets = (0..left.length()?).map(|_| left.offset()).collect::<Option<_>>()?;
        let mut topic: Arc<str> = "".into();
        let records = (0..left.length()?).map(|_| left.record(&mut topic)).collect::<Option<_>>()?;
        left.0.is_empty().then_some(Self { marker, before, records, offsets })
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_marker(out: &mut Vec<u8>, marker: &Marker) {
    out.extend_from_slice(&marker.epoch.to_le_bytes());
    put_bytes(out, marker.run.as_bytes());
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn offset(&mut self) -> Option<GroupOffset> {
        Some(GroupOffset { source: self.length()?, partition: self.i32()?, offset: self.i64()? })
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == [1])
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.i64()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn marker(&mut self) -> Option<Marker> {
        Some(Marker { epoch: u64::from_le_bytes(self.take(8)?.try_into().ok()?), run: self.text()?.to_owned() })
    }

    /// `topic` is that of the record before, which is often the same.
    fn record(&mut self, topic: &mut Arc<str>) -> Option<OutRecord> {
        let name = self.text()?;
        if **topic != *name {
            *topic = name.into();
        }
        let partition = if self.flag()? { Some(self.i32()?) } else { None };
        let key = if self.flag()? { Some(self.bytes()?.to_vec()) } else { None };
        let value = self.bytes()?.to_vec();
        let headers = (0..self.length()?)
            .map(|_| Some((self.text()?.to_owned(), self.bytes()?.to_vec())))
            .collect::<Option<_>>()?;
        Some(OutRecord { topic: Arc::clone(topic), partition, key, value, headers })
    }
}

#[cfg(test)]
mod tests {
    use prescale_store::MemoryStore;

    use super::*;

    fn outbox() -> Outbox {
        let row = OutRecord {
            topic: "features".into(),
            partition: None,
            key: Some(b"web".to_vec()),
            value: b"{}".to_vec(),
            headers: Vec::new(),
        };
        let letter = OutRecord {
            topic: "dead-letters".into(),
            partition: Some(3),
            key: None,
            value: vec![0, 159, 146, 150],
            headers: vec![("reason".to_owned(), b"decode".to_vec()), ("error".to_owned(), Vec::new())],
        };
        Outbox {
            marker: Marker { epoch: 7, run: "b".to_owned() },
            before: Some(Marker { epoch: 6, run: "a".to_owned() }),
            records: vec![row.clone(), letter, row],
            offsets: vec![
                GroupOffset { source: 0, partition: 0, offset: 12 },
                GroupOffset { source: 1, partition: 3, offset: i64::MAX },
            ],
        }
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let (store, full) = (MemoryStore::default(), outbox());
        assert_eq!(Outbox::load(&store, "p").unwrap(), None);
        for outbox in [full.clone(), full.emptied()] {
            store.write(&[outbox.write("p")]).unwrap();
            assert_eq!(Outbox::load(&store, "p").unwrap(), Some(outbox));
        }
        assert_eq!(full.standing(), (full.before.clone(), Some(full.marker.clone())));
        assert_eq!(full.emptied().standing(), (Some(full.marker.clone()), None));
    }

    #[test]
    fn bytes_that_are_cut_off_or_changed_in_form_are_refused() {
        let whole = outbox().encode();
        assert!((0..whole.len()).all(|length| Outbox::decode(&whole[..length]).is_none()));
        assert_eq!(Outbox::decode(&[&whole[..], b"x"].concat()), None);
        assert_eq!(Outbox::decode(&[&[9][..], &whole[1..]].concat()), None);
    }
}
