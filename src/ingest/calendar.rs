//! Records of the `events` topic. Rule: an event replaces the one of its id; two forms take one back.

use prescale_domain::CalendarEvent;
use serde::Deserialize;

use crate::RawBatch;

/// What a record tells.
#[derive(Debug, PartialEq)]
pub enum CalendarMessage {
    Event(CalendarEvent),
    /// The id of an event that is taken back.
    Delete(String),
}

/// Its forms as a value.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Event(CalendarEvent),
    Delete { delete: String },
}

impl CalendarMessage {
    /// Reads record `index`: an event, `{"delete": id}`, or a tombstone whose key is the id.
    ///
    /// # Errors
    /// What is wrong with the record.
    pub fn read(batch: &RawBatch, index: usize) -> Result<Self, String> {
        if batch.tombstones.binary_search(&index).is_ok() {
            let key = batch.key(index).ok_or("a tombstone without a key names no event")?;
            let id = std::str::from_utf8(key).map_err(|error| format!("the key of a tombstone is no text: {error}"))?;
            return Ok(Self::Delete(id.to_owned()));
        }
        match serde_json::from_slice(batch.bytes(index)).map_err(|error| error.to_string())? {
            Value::Event(event) => Ok(Self::Event(event)),
            Value::Delete { delete } => Ok(Self::Delete(delete)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<CalendarMessage, String> {
        let mut batch = RawBatch::new("events".into(), 0);
        batch.push(0, None, Some(b"before"));
        key.into_iter().for_each(|key| batch.push_key(key));
        batch.push(1, None, value);
        CalendarMessage::read(&batch, 1)
    }

    #[test]
    fn an_event_is_told_and_taken_back_by_a_tombstone_or_in_words() {
        let event = br#"{"id": "sale", "kind": "campaign", "services": [], "start": "2026-11-27T00:00:00Z",
            "end": "2026-11-28T00:00:00Z", "expected_uplift": 2.0, "known_at": "2026-11-20T00:00:00Z"}"#;
        let Ok(CalendarMessage::Event(told)) = read(Some(b"another key"), Some(event)) else { panic!("not an event") };
        assert_eq!(told.id, "sale");
        let delete = Ok(CalendarMessage::Delete("sale".to_owned()));
        assert_eq!(read(Some(b"sale"), None), delete);
        assert_eq!(read(None, Some(br#"{"delete": "sale"}"#)), delete);
    }

    #[test]
    fn what_names_no_event_is_refused() {
        assert_eq!(read(None, None).unwrap_err(), "a tombstone without a key names no event");
        assert!(read(Some(b"\xff"), None).unwrap_err().contains("no text"));
        // A record with an empty value is no tombstone.
        for value in [&b""[..], b"{}", b"[]", b"sale"] {
            assert!(read(Some(b"sale"), Some(value)).is_err());
        }
    }
}
