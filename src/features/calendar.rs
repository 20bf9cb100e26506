//! External events by id. Rule: a reader at `now` sees an event only from when it was known.

use std::collections::BTreeMap;

use prescale_domain::{CalendarEvent, Timestamp};
use prescale_store::{Store, Table, Write, prefix_end};

use crate::FeatureError;

/// All events that were ever told, upserted by id.
#[derive(Debug, Default)]
pub struct EventBook {
    events: BTreeMap<String, CalendarEvent>,
    unwritten: Vec<Write>,
}

impl EventBook {
    /// Adds or replaces an event.
    pub fn upsert(&mut self, event: CalendarEvent) {
        let value = serde_json::to_vec(&event).ok();
        self.unwritten.push(Write { table: Table::Events, key: event.id.clone().into_bytes(), value });
        self.events.insert(event.id.clone(), event);
    }

    /// Takes an event back (a tombstone on the topic).
    pub fn remove(&mut self, id: &str) {
        self.unwritten.push(Write { table: Table::Events, key: id.as_bytes().to_vec(), value: None });
        self.events.remove(id);
    }

    /// The events that were known at `now`, by id.
    pub fn known(&self, now: Timestamp) -> Vec<CalendarEvent> {
        self.events.values().filter(|event| event.known_at <= now).cloned().collect()
    }

    pub fn load(&mut self, store: &dyn Store) -> Result<(), FeatureError> {
        for (_, value) in store.range(Table::Events, b"", &prefix_end(&[u8::MAX; 8]), usize::MAX, false)? {
            let event: CalendarEvent = serde_json::from_slice(&value)
                .map_err(|error| FeatureError::Corrupt { service: "events".into(), error: error.to_string() })?;
            self.events.insert(event.id.clone(), event);
        }
        Ok(())
    }

    /// Changes since the last call.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.unwritten)
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::Span;
    use prescale_store::MemoryStore;

    use super::*;

    #[test]
    fn an_event_is_seen_from_when_it_was_known_until_it_is_taken_back() {
        let known_at = Timestamp::from_millis(1000);
        let event = CalendarEvent {
            id: "sale".into(),
            kind: "campaign".into(),
            services: vec![],
            start: known_at + Span::from_minutes(5),
            end: known_at + Span::from_minutes(9),
            expected_uplift: Some(2.0),
            known_at,
        };
        let (mut book, store) = (EventBook::default(), MemoryStore::default());
        book.upsert(event.clone());
        assert!(book.known(Timestamp::from_millis(999)).is_empty());
        assert_eq!(book.known(known_at), std::slice::from_ref(&event));
        store.write(&book.take_writes()).unwrap();
        let mut read = EventBook::default();
        read.load(&store).unwrap();
        assert_eq!(read.known(known_at), [event]);
        read.remove("sale");
        assert!(read.known(known_at).is_empty());
    }
}
