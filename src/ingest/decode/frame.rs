//! Confluent's wire format: a zero byte, the id of the writer's schema in four bytes (big-endian), then the record. Rule:
//! what is too short or begins otherwise is named and never guessed at.

use crate::RawBatch;

/// What goes before the record, in bytes.
pub(super) const FRAME: usize = 5;

/// A record without its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    pub(super) id: u32,
    pub(super) body: &'a [u8],
}

/// Takes the frame off.
pub(super) fn unframe(bytes: &[u8]) -> Result<Framed<'_>, String> {
    match bytes.split_first_chunk::<FRAME>() {
        Some(([0, id @ ..], body)) => Ok(Framed { id: u32::from_be_bytes(*id), body }),
        Some(([first, ..], _)) => {
            Err(format!("the record is not in Confluent's wire format: its first byte is {first}, expected 0"))
        }
        None => Err(format!("the record is not in Confluent's wire format: it has {} bytes", bytes.len())),
    }
}

/// The ids that the records of a batch name, ascending; records without a frame name none.
pub(super) fn ids(raw: &RawBatch) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for index in 0..raw.len() {
        if let Ok(framed) = unframe(raw.bytes(index))
            && found.last() != Some(&framed.id)
        {
            found.push(framed.id);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The records of a batch that have bytes, with their index in it, in order; `Err` says what is wrong with one before its
/// bytes are looked at.
pub(super) fn records(raw: &RawBatch) -> impl Iterator<Item = (u32, Result<&[u8], String>)> {
    let mut tombstones = raw.tombstones.iter().peekable();
    (0..raw.len()).filter_map(move |index| {
        if tombstones.next_if(|tombstone| **tombstone == index).is_some() {
            return None;
        }
        // Arrow's text columns count in i32.
        let fits = i32::try_from(raw.ends[index]).is_ok();
        let bytes = if fits { Ok(raw.bytes(index)) } else { Err("the batch is larger than 2 GiB".to_owned()) };
        Some((u32::try_from(index).unwrap_or(u32::MAX), bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_zero_and_an_id() {
        assert_eq!(unframe(b"\0\0\0\x01\x02abc"), Ok(Framed { id: 258, body: b"abc" }));
        assert_eq!(unframe(b"\0\xff\xff\xff\xff"), Ok(Framed { id: u32::MAX, body: b"" }));
        for wrong in [&b""[..], b"\0\0\0\0", b"{\"a\":1}"] {
            assert!(unframe(wrong).unwrap_err().contains("Confluent"), "{wrong:?}");
        }
    }

    #[test]
    fn a_batch_names_each_id_once() {
        let mut raw = RawBatch::new("t".into(), 0);
        let records = [Some(&b"\0\0\0\0\x09"[..]), None, Some(b"\0\0\0\0\x02x"), Some(b"\0\0"), Some(b"\0\0\0\0\x09")];
        records.iter().zip(0..).for_each(|(record, offset)| raw.push(offset, None, *record));
        assert_eq!(ids(&raw), [2, 9]);
        assert_eq!(records_with_bytes(&raw), [0, 2, 3, 4]);
    }

    fn records_with_bytes(raw: &RawBatch) -> Vec<u32> {
        super::records(raw).map(|(index, _)| index).collect()
    }
}
