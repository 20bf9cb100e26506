//! Calendars of events outside Kafka: iCalendar and CSV, public holidays, and what of them the `events` topic lacks. Rule:
//! an event that does not say since when it was known is known from now, and what is over is never taken back.

mod csv;
mod fetch;
mod holidays;
mod icalendar;

use std::collections::BTreeMap;

use prescale_domain::{CALENDAR_PREFIX, CalendarEvent, Timestamp, Zone};
use thiserror::Error;

pub use self::csv::read_csv;
pub use self::fetch::{FetchError, fetch};
pub use self::holidays::{Holidays, holiday_countries};
pub use self::icalendar::read_icalendar;

use crate::CalendarMessage;

/// An event as a feed tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedEvent {
    /// Its `known_at` counts only where `is_known_since` is set.
    pub event: CalendarEvent,
    /// Whether the feed says since when the event was known.
    pub is_known_since: bool,
}

/// A feed that can't be used, as a whole.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{place}: {reason}\nhint: {hint}")]
pub struct FeedFault {
    /// Such as `line 3` or ``event `launch@example.com` ``.
    pub place: String,
    pub reason: String,
    pub hint: &'static str,
}

/// Whether a calendar of this name can be read: by its ending, before any `?` of a URL.
pub fn is_readable(name: &str) -> bool {
    Form::of(name).is_some()
}

/// The events of the calendar `name`, whose ending says its form; recurring ones as often as they start before `until`.
/// Times without a zone, and dates, are local in `zone`.
///
/// # Errors
/// The first event that can't be used, and why.
pub fn read(name: &str, text: &str, zone: Zone, until: Timestamp) -> Result<Vec<FeedEvent>, FeedFault> {
    match Form::of(name) {
        Some(Form::ICalendar) => read_icalendar(name, text, zone, until),
        Some(Form::Csv) => read_csv(name, text, zone),
        None => Err(FeedFault {
            place: "the file".to_owned(),
            reason: "its name ends with neither .ics nor .csv".to_owned(),
            hint: "name it after its form",
        }),
    }
}

enum Form {
    ICalendar,
    Csv,
}

impl Form {
    fn of(name: &str) -> Option<Self> {
        let path = name.split_once('?').map_or(name, |(path, _)| path).to_lowercase();
        let ends = |with: &str| path.ends_with(with);
        if ends(".ics") {
            Some(Self::ICalendar)
        } else if ends(".csv") {
            Some(Self::Csv)
        } else {
            None
        }
    }
}

/// What brings `topic`, the events that the topic holds, to what the feeds say `now`: new and changed events, and those
/// that are gone before they were over. `known_at` of an event that did not change stays.
pub fn changes(topic: &BTreeMap<String, CalendarEvent>, feeds: &[FeedEvent], now: Timestamp) -> Vec<CalendarMessage> {
    let mut wanted: BTreeMap<&str, CalendarEvent> = BTreeMap::new();
    for FeedEvent { event: fed, is_known_since } in feeds {
        let mut event = fed.clone();
        if !is_known_since {
            let told = topic.get(&event.id);
            event.known_at = told.map_or(now, |told| told.known_at);
            if told.is_some_and(|told| *told != event) {
                event.known_at = now;
            }
        }
        wanted.insert(&fed.id, event);
    }
    let gone = topic.values().filter(|event| event.id.starts_with(CALENDAR_PREFIX) && event.end > now);
    let gone = gone.filter(|event| !wanted.contains_key(event.id.as_str()));
    let gone: Vec<CalendarMessage> = gone.map(|event| CalendarMessage::Delete(event.id.clone())).collect();
    let told = wanted.into_values().filter(|event| topic.get(&event.id) != Some(event));
    told.map(CalendarMessage::Event).chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use prescale_domain::Span;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn event(id: &str, end_minutes: i64, known_at: Timestamp) -> CalendarEvent {
        let end = NOW + Span::from_minutes(end_minutes);
        CalendarEvent {
            id: format!("{CALENDAR_PREFIX}{id}"),
            kind: "sale".to_owned(),
            services: vec![],
            start: end - Span::from_minutes(1),
            end,
            expected_uplift: None,
            known_at,
        }
    }

    fn feed(event: &CalendarEvent, is_known_since: bool) -> FeedEvent {
        FeedEvent { event: event.clone(), is_known_since }
    }

    #[test]
    fn only_what_changed_is_told_and_nothing_becomes_known_earlier_than_it_was() {
        let (old, later) = (NOW - Span::from_minutes(60), NOW + Span::from_minutes(1));
        let told = event("told", 5, old);
        let topic = BTreeMap::from([(told.id.clone(), told.clone())]);
        // The same, seen again later without a word of since when: nothing.
        assert_eq!(changes(&topic, &[feed(&event("told", 5, later), false)], later), []);
        // Moved: known from now.
        let moved = event("told", 9, old);
        let expected = CalendarEvent { known_at: later, ..moved.clone() };
        assert_eq!(changes(&topic, &[feed(&moved, false)], later), [CalendarMessage::Event(expected)]);
        // The feed says since when.
        let expected = CalendarMessage::Event(moved.clone());
        assert_eq!(changes(&topic, &[feed(&moved, true)], later), [expected]);
        let new = event("new", 5, old);
        let expected = CalendarEvent { known_at: later, ..new.clone() };
        assert_eq!(changes(&topic, &[feed(&told, true), feed(&new, false)], later), [CalendarMessage::Event(expected)]);
    }

    #[test]
    fn what_is_gone_is_taken_back_unless_it_is_over_or_came_from_elsewhere() {
        let by_hand = CalendarEvent { id: "by-hand".to_owned(), ..event("x", 5, NOW) };
        let all = [event("over", -5, NOW), event("ahead", 5, NOW), by_hand];
        let topic: BTreeMap<_, _> = all.iter().map(|event| (event.id.clone(), event.clone())).collect();
        assert_eq!(changes(&topic, &[], NOW), [CalendarMessage::Delete("calendar/ahead".to_owned())]);
    }
}
