//! The calendar of events as rows: one for each service and minute, with what was known when the minute began. Rule: pure,
//! and a row of a minute depends only on what had become known by then.

use std::collections::{BTreeMap, BTreeSet};

use prescale_domain::{CalendarEvent, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::CalendarMessage;

/// The width of a row's time.
pub const MINUTE: Span = Span::from_minutes(1);

/// How long ahead an event is told of.
pub const AHEAD: Span = Span::from_minutes(24 * 60);

/// Kinds of events that bring load.
const CAMPAIGNS: [&str; 3] = ["campaign", "launch", "sale"];

/// What the calendar says of one service in one minute: a record of the topic of event minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventMinute {
    pub minute: Timestamp,
    pub service: ServiceName,
    /// A campaign, a launch or a sale is on.
    pub campaign_active: bool,
    /// Expected load as a multiple of the usual: the highest of the events that are on, of whatever kind; `None` where
    /// nobody dared to say.
    pub expected_uplift: Option<f64>,
    /// Until the next campaign begins; `None` where none is known within [`AHEAD`].
    pub minutes_to_start: Option<i64>,
}

/// All that was ever told of events.
#[derive(Debug, Default)]
pub struct EventMinutes {
    /// By event: from when on, what it is; `None` = taken back.
    versions: BTreeMap<String, BTreeMap<Timestamp, Option<CalendarEvent>>>,
    services: BTreeSet<ServiceName>,
}

impl EventMinutes {
    /// Rows are made for these services, and for those that events name.
    pub fn new(services: impl IntoIterator<Item = ServiceName>) -> Self {
        Self { versions: BTreeMap::new(), services: services.into_iter().collect() }
    }

    /// Takes a record of the topic of events; `told_at` is the record's own time, from which on an event is taken back.
    pub fn take(&mut self, message: CalendarMessage, told_at: Timestamp) {
        match message {
            CalendarMessage::Event(event) => {
                self.services.extend(event.services.iter().cloned());
                let versions = self.versions.entry(event.id.clone()).or_default();
                versions.insert(event.known_at, Some(event));
            }
            CalendarMessage::Delete(id) => {
                if let Some(versions) = self.versions.get_mut(&id) {
                    versions.insert(told_at, None);
                }
            }
        }
    }

    /// The first minute at which anything was known, and the first after the last event has ended.
    pub fn range(&self) -> Option<(Timestamp, Timestamp)> {
        let events = || self.versions.values().flat_map(BTreeMap::values).flatten();
        let first = events().map(|event| event.known_at.max(event.start - AHEAD)).min()?;
        let last = events().map(|event| event.end).max()?;
        Some((first.floor_to(MINUTE), last.floor_to(MINUTE) + MINUTE))
    }

    /// The rows of the minute that begins at `minute`, by service.
    pub fn rows(&self, minute: Timestamp) -> Vec<EventMinute> {
        let known: Vec<&CalendarEvent> = self
            .versions
            .values()
            .filter_map(|versions| versions.range(..=minute).next_back()?.1.as_ref())
            .filter(|event| event.end > minute)
            .collect();
        self.services.iter().map(|service| row(&known, minute, service)).collect()
    }
}

fn row(known: &[&CalendarEvent], minute: Timestamp, service: &ServiceName) -> EventMinute {
    let of_service = |event: &&&CalendarEvent| event.services.is_empty() || event.services.contains(service);
    let is_campaign = |event: &&CalendarEvent| CAMPAIGNS.contains(&event.kind.as_str());
    let (active, coming): (Vec<&CalendarEvent>, Vec<&CalendarEvent>) =
        known.iter().filter(of_service).partition(|event| event.start <= minute);
    let next = coming.iter().filter(|event| is_campaign(event)).map(|event| event.start.since(minute)).min();
    EventMinute {
        minute,
        service: service.clone(),
        campaign_active: active.iter().any(is_campaign),
        expected_uplift: active.iter().filter_map(|event| event.expected_uplift).max_by(f64::total_cmp),
        minutes_to_start: next.filter(|wait| *wait <= AHEAD).map(|wait| wait.millis().div_euclid(MINUTE.millis())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    fn event(id: &str, kind: &str, services: &[&str], (known, start, end): (i64, i64, i64)) -> CalendarMessage {
        CalendarMessage::Event(CalendarEvent {
            id: id.to_owned(),
            kind: kind.to_owned(),
            services: services.iter().map(|name| ServiceName::new(name)).collect(),
            start: at(start),
            end: at(end),
            expected_uplift: Some(start as f64 / 10.0),
            known_at: at(known),
        })
    }

    /// `(active, uplift, minutes to start)` of one service.
    fn said(minutes: &EventMinutes, minute: i64, service: &str) -> (bool, Option<f64>, Option<i64>) {
        let rows = minutes.rows(at(minute));
        let row = rows.into_iter().find(|row| row.service.as_str() == service).unwrap();
        (row.campaign_active, row.expected_uplift, row.minutes_to_start)
    }

    #[test]
    fn an_event_is_told_from_when_it_was_known_until_it_has_ended() {
        let mut minutes = EventMinutes::new([ServiceName::new("shop"), ServiceName::new("cart")]);
        minutes.take(event("sale", "campaign", &["shop"], (5, 20, 30)), at(5));
        assert_eq!(said(&minutes, 4, "shop"), (false, None, None));
        assert_eq!(said(&minutes, 5, "shop"), (false, None, Some(15)));
        assert_eq!(said(&minutes, 20, "shop"), (true, Some(2.0), None));
        assert_eq!(said(&minutes, 29, "shop"), (true, Some(2.0), None));
        assert_eq!(said(&minutes, 30, "shop"), (false, None, None));
        assert_eq!(said(&minutes, 20, "cart"), (false, None, None));
        assert_eq!(minutes.range(), Some((at(5), at(31))));
    }

    #[test]
    fn what_is_told_later_changes_nothing_before_it() {
        let mut minutes = EventMinutes::new([ServiceName::new("shop")]);
        minutes.take(event("sale", "sale", &[], (0, 20, 30)), at(0));
        let before: Vec<_> = (0..40).map(|minute| minutes.rows(at(minute))).collect();
        minutes.take(event("sale", "sale", &[], (10, 25, 35)), at(10));
        minutes.take(CalendarMessage::Delete("sale".to_owned()), at(27));
        minutes.take(CalendarMessage::Delete("unknown".to_owned()), at(3));
        let after: Vec<_> = (0..40).map(|minute| minutes.rows(at(minute))).collect();
        assert_eq!(before[..10], after[..10]);
        assert_eq!(said(&minutes, 10, "shop"), (false, None, Some(15)));
        assert_eq!(said(&minutes, 26, "shop"), (true, Some(2.5), None));
        assert_eq!(said(&minutes, 27, "shop"), (false, None, None));
    }

    #[test]
    fn maintenance_is_no_campaign_and_the_highest_uplift_counts() {
        let mut minutes = EventMinutes::new([]);
        minutes.take(event("upgrade", "maintenance", &["db"], (0, 30, 40)), at(0));
        assert_eq!(said(&minutes, 29, "db"), (false, None, None));
        assert_eq!(said(&minutes, 30, "db"), (false, Some(3.0), None));
        minutes.take(event("launch", "launch", &["db"], (0, 35, 36)), at(0));
        assert_eq!(said(&minutes, 35, "db"), (true, Some(3.5), None));
        let far = AHEAD.millis() / 60_000 + 40;
        minutes.take(event("far", "sale", &["db"], (0, far, far + 5)), at(0));
        assert_eq!(said(&minutes, 39, "db").2, None, "more than a day ahead");
        assert_eq!(said(&minutes, 40, "db").2, Some(24 * 60));
    }
}
