//! External events by id. Rule: a reader at `now` sees an event only from when it was known, as it was known then; what is
//! told later changes nothing of what was to be seen before.

use std::collections::BTreeMap;

use prescale_domain::{CalendarEvent, Timestamp};
use prescale_store::{Store, Table, Write, prefix_end};
use serde::{Deserialize, Serialize};

use crate::FeatureError;

/// Tellings of one event that are remembered; of one that changes all the time the oldest are forgotten.
const TELLINGS_MAX: usize = 100;

/// All events that were ever told, upserted by id.
#[derive(Debug, Default)]
pub struct EventBook {
    /// By id, then from when on: what the event is; `None` = taken back.
    events: BTreeMap<String, Tellings>,
    unwritten: Vec<Write>,
}

type Tellings = BTreeMap<Timestamp, Option<CalendarEvent>>;

/// As it is stored: the newest event of an id, as it was before there were older tellings, and those.
#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    newest: CalendarEvent,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken_back_at: Option<Timestamp>,
    /// Older events of the id, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<Telling>,
}

#[derive(Serialize, Deserialize)]
struct Telling {
    from: Timestamp,
    event: Option<CalendarEvent>,
}

impl EventBook {
    /// Adds an event, or replaces that of its id from when the new one was known.
    pub fn upsert(&mut self, event: CalendarEvent) {
        let tellings = self.events.entry(event.id.clone()).or_default();
        // The last word counts, also over what claimed to have become known later.
        tellings.split_off(&event.known_at);
        let id = event.id.clone();
        tellings.insert(event.known_at, Some(event));
        while tellings.len() > TELLINGS_MAX {
            tellings.pop_first();
        }
        self.note(&id);
    }

    /// Takes an event back (a tombstone on the topic): from `told_at` on nobody sees it.
    pub fn remove(&mut self, id: &str, told_at: Timestamp) {
        let Some(tellings) = self.events.get_mut(id) else { return };
        tellings.split_off(&told_at);
        if tellings.is_empty() {
            self.events.remove(id);
        } else {
            tellings.insert(told_at, None);
        }
        self.note(id);
    }

    /// The events that were known at `now`, by id.
    pub fn known(&self, now: Timestamp) -> Vec<CalendarEvent> {
        let last = |tellings: &Tellings| tellings.range(..=now).next_back().and_then(|(_, event)| event.clone());
        self.events.values().filter_map(last).collect()
    }

    pub fn load(&mut self, store: &dyn Store) -> Result<(), FeatureError> {
        for (_, value) in store.range(Table::Events, b"", &prefix_end(&[u8::MAX; 8]), usize::MAX, false)? {
            let Entry { newest, taken_back_at, earlier } = serde_json::from_slice(&value)
                .map_err(|error| FeatureError::Corrupt { service: "events".into(), error: error.to_string() })?;
            let mut tellings: Tellings = earlier.into_iter().map(|telling| (telling.from, telling.event)).collect();
            let id = newest.id.clone();
            tellings.insert(newest.known_at, Some(newest));
            tellings.extend(taken_back_at.map(|told_at| (told_at, None)));
            self.events.insert(id, tellings);
        }
        Ok(())
    }

    /// Changes since the last call.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.unwritten)
    }

    /// Notes that the tellings of an id have changed.
    fn note(&mut self, id: &str) {
        let value = self.events.get(id).and_then(|tellings| {
            let newest = tellings.iter().rev().find(|(_, event)| event.is_some());
            let (at, newest) = newest.and_then(|(at, event)| Some((*at, event.clone()?)))?;
            let earlier = tellings.range(..at).map(|(from, event)| Telling { from: *from, event: event.clone() });
            let taken_back_at = tellings.range(at..).nth(1).map(|(told_at, _)| *told_at);
            serde_json::to_vec(&Entry { newest, taken_back_at, earlier: earlier.collect() }).ok()
        });
        self.unwritten.push(Write { table: Table::Events, key: id.as_bytes().to_vec(), value });
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::Span;
    use prescale_store::MemoryStore;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    fn sale(known_at: i64, start: i64) -> CalendarEvent {
        CalendarEvent {
            id: "sale".into(),
            kind: "campaign".into(),
            services: vec![],
            start: at(start),
            end: at(start) + Span::from_minutes(9),
            expected_uplift: Some(2.0),
            known_at: at(known_at),
        }
    }

    #[track_caller]
    fn seen(book: &EventBook, minute: i64, expected: Option<&CalendarEvent>) {
        assert_eq!(book.known(at(minute)), expected.cloned().into_iter().collect::<Vec<_>>(), "at minute {minute}");
    }

    #[test]
    fn an_event_is_seen_as_it_was_known_until_it_is_taken_back() {
        let (mut book, store) = (EventBook::default(), MemoryStore::default());
        let (first, moved) = (sale(10, 50), sale(20, 60));
        book.upsert(first.clone());
        book.upsert(moved.clone());
        book.remove("sale", at(30));
        book.remove("unknown", at(30));
        store.write(&book.take_writes()).unwrap();
        let mut read = EventBook::default();
        read.load(&store).unwrap();
        for book in [&book, &read] {
            seen(book, 9, None);
            seen(book, 10, Some(&first));
            seen(book, 19, Some(&first));
            seen(book, 20, Some(&moved));
            seen(book, 29, Some(&moved));
            seen(book, 30, None);
        }
        // Told anew after it was taken back.
        read.upsert(sale(40, 70));
        store.write(&read.take_writes()).unwrap();
        let mut again = EventBook::default();
        again.load(&store).unwrap();
        for book in [&read, &again] {
            seen(book, 29, Some(&moved));
            seen(book, 39, None);
            seen(book, 40, Some(&sale(40, 70)));
        }
    }

    #[test]
    fn the_last_word_counts_from_when_it_was_known() {
        let mut book = EventBook::default();
        book.upsert(sale(20, 60));
        book.upsert(sale(10, 50));
        seen(&book, 9, None);
        seen(&book, 25, Some(&sale(10, 50)));
        // Taken back before it was known: it never was.
        book.remove("sale", at(5));
        seen(&book, 25, None);
    }

    #[test]
    fn events_that_an_older_version_has_written_are_read() {
        let (mut book, store) = (EventBook::default(), MemoryStore::default());
        let value = Some(serde_json::to_vec(&sale(10, 50)).unwrap());
        store.write(&[Write { table: Table::Events, key: b"sale".to_vec(), value }]).unwrap();
        book.load(&store).unwrap();
        seen(&book, 10, Some(&sale(10, 50)));
    }

    #[test]
    fn of_an_event_that_changes_all_the_time_the_oldest_tellings_are_forgotten() {
        let mut book = EventBook::default();
        (0..150).for_each(|minute| book.upsert(sale(minute, minute + 5)));
        seen(&book, 49, None);
        seen(&book, 50, Some(&sale(50, 55)));
        seen(&book, 500, Some(&sale(149, 154)));
    }
}
