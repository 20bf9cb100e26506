//! Events in iCalendar (RFC 5545), recurring ones as one event each time. Rule: an event that can't be used refuses the
//! file, and none counts as known before its present wording was.
//!
//! `CATEGORIES` (the first) is the kind, else `event`; `X-PRESCALE-SERVICES` names services (by commas; absent = all);
//! `X-PRESCALE-UPLIFT` is the expected load as a multiple of the usual. An event is known since `LAST-MODIFIED`, else
//! `CREATED`, else `DTSTAMP`. Cancelled events are none.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, TimeZone as _, Utc};
use icalendar::{Calendar, CalendarDateTime, Component as _, DatePerhapsTime, Event, EventLike as _, EventStatus};
use prescale_domain::{CALENDAR_PREFIX, CalendarEvent, ServiceName, Span, Timestamp, Zone};
use rrule::{RRule, Unvalidated};

use super::{FeedEvent, FeedFault};

/// Of one recurring event.
const MAX_OCCURRENCES: u16 = 5000;
const DAY: Span = Span::from_minutes(24 * 60);

/// The events of a file called `name`, recurring ones as often as they start before `until`. Times without a zone, and dates, are local in `zone`.
///
/// # Errors
/// The first event that can't be used, and why.
pub fn read_icalendar(name: &str, text: &str, zone: Zone, until: Timestamp) -> Result<Vec<FeedEvent>, FeedFault> {
    let calendar: Calendar = text.parse().map_err(|reason| FeedFault {
        place: "the file".to_owned(),
        reason,
        hint: "is it an iCalendar file that begins with BEGIN:VCALENDAR?",
    })?;
    let mut own: BTreeSet<(String, i64)> = BTreeSet::new();
    let mut parts = Vec::new();
    for event in calendar.events() {
        let part = Part::of(event, zone)?;
        if let Some(replaced) = part.replaces {
            own.insert((part.id.clone(), replaced.millis()));
        }
        parts.push(part);
    }
    let mut events = Vec::new();
    for part in parts.iter().filter(|part| !part.is_cancelled) {
        for start in part.starts(until)? {
            let is_replaced = part.replaces.is_none() && own.contains(&(part.id.clone(), start.millis()));
            if !is_replaced {
                events.push(part.feed(name, start));
            }
        }
    }
    Ok(events)
}

/// One `VEVENT`.
struct Part<'a> {
    event: &'a Event,
    id: String,
    zone: Zone,
    local_start: NaiveDateTime,
    start: Timestamp,
    length: Span,
    /// The occurrence of a recurring event that it stands for.
    replaces: Option<Timestamp>,
    is_cancelled: bool,
    uplift: Option<f64>,
}

impl<'a> Part<'a> {
    fn of(event: &'a Event, zone: Zone) -> Result<Self, FeedFault> {
        let id = event.get_uid();
        let called = id.or_else(|| event.get_summary()).unwrap_or("without a name");
        let fault = |reason: &str, hint| FeedFault { place: format!("event `{called}`"), reason: reason.into(), hint };
        let resolve = |time: &DatePerhapsTime| {
            resolve(time, zone).ok_or_else(|| {
                fault("it names a time zone that is not known", "write TZID=Europe/Berlin, or times in UTC with a Z")
            })
        };
        let missing = |what: &str| fault(what, "give it UID, DTSTART and DTEND or DURATION");
        let given = event.get_start().ok_or_else(|| missing("it has no DTSTART"))?;
        let (local_start, own_zone) = resolve(&given)?;
        let start = own_zone.moment(local_start);
        let length = if let Some(end) = event.get_end() {
            let (local, zone) = resolve(&end)?;
            zone.moment(local).since(start)
        } else if let Some(text) = event.property_value("DURATION") {
            duration(text).ok_or_else(|| missing("its DURATION can't be read"))?
        } else if matches!(given, DatePerhapsTime::Date(_)) {
            DAY
        } else {
            return Err(missing("it has no end"));
        };
        if length <= Span::ZERO {
            return Err(missing("it ends before it starts"));
        }
        let uplift = event.property_value("X-PRESCALE-UPLIFT").map(str::trim);
        let number = |text: &str| text.parse::<f64>().ok().filter(|uplift| uplift.is_finite() && *uplift >= 0.0);
        let wrong = || fault("X-PRESCALE-UPLIFT is no multiple of the usual load", "write X-PRESCALE-UPLIFT:2.5");
        let replaces = event.get_recurrence_id().map(|time| resolve(&time)).transpose()?;
        Ok(Self {
            event,
            zone: own_zone,
            local_start,
            start,
            length,
            replaces: replaces.map(|(local, zone)| zone.moment(local)),
            is_cancelled: event.get_status() == Some(EventStatus::Cancelled),
            uplift: uplift.map(|text| number(text).ok_or_else(wrong)).transpose()?,
            id: id.ok_or_else(|| missing("it has no UID"))?.to_owned(),
        })
    }

    /// When it starts, each time.
    fn starts(&self, until: Timestamp) -> Result<Vec<Timestamp>, FeedFault> {
        let Some(text) = self.event.property_value("RRULE") else { return Ok(vec![self.start]) };
        let fault = |reason: String| FeedFault {
            place: format!("event `{}`", self.id),
            reason,
            hint: "its RRULE has to be one of RFC 5545 with fewer than 5,000 occurrences a file",
        };
        let zone = rrule::Tz::from(self.zone.tz());
        let first = self.zone.tz().from_local_datetime(&self.local_start).earliest();
        let first = first.ok_or_else(|| fault("it starts when clocks are set forward".to_owned()))?;
        let rule: RRule<Unvalidated> = text.parse().map_err(|error: rrule::RRuleError| fault(error.to_string()))?;
        let set = rule.build(first.with_timezone(&zone)).map_err(|error| fault(error.to_string()))?;
        let last = Utc.timestamp_millis_opt(until.millis()).single();
        let set = last.map_or_else(|| set.clone(), |last: DateTime<Utc>| set.clone().before(last.with_timezone(&zone)));
        let found = set.all(MAX_OCCURRENCES);
        if found.limited {
            return Err(fault(format!("it recurs more than {MAX_OCCURRENCES} times")));
        }
        let excluded = self.excluded();
        let starts = found.dates.iter().map(|date| Timestamp::from_millis(date.timestamp_millis()));
        Ok(starts.filter(|start| *start < until && !excluded.contains(start)).collect())
    }

    fn excluded(&self) -> BTreeSet<Timestamp> {
        let single = self.event.properties().get("EXDATE").into_iter();
        let several = self.event.multi_properties().get("EXDATE").into_iter().flatten();
        let values = single.chain(several).flat_map(|property| {
            let zone = property.params().get("TZID").and_then(|zone| zone.value().parse().ok()).unwrap_or(self.zone);
            property.value().split(',').filter_map(move |text| exact(text.trim(), zone, self.local_start))
        });
        values.collect()
    }

    fn feed(&self, name: &str, start: Timestamp) -> FeedEvent {
        let stamp = self.event.get_last_modified().or_else(|| self.event.get_created());
        let known = stamp.or_else(|| self.event.get_timestamp());
        let known = known.map(|time| Timestamp::from_millis(time.timestamp_millis()));
        let is_one_of_many = self.replaces.is_some() || self.event.property_value("RRULE").is_some();
        let place = self.replaces.unwrap_or(start);
        let occurrence = if is_one_of_many { format!("@{place}") } else { String::new() };
        let services = self.event.property_value("X-PRESCALE-SERVICES").unwrap_or_default();
        let services = services.replace('\\', "");
        let services = services.split(',').map(str::trim).filter(|service| !service.is_empty());
        let kind = self.event.get_categories().and_then(|kinds| kinds.into_iter().next());
        let event = CalendarEvent {
            id: format!("{CALENDAR_PREFIX}{name}#{}{occurrence}", self.id),
            kind: kind.map_or_else(|| "event".to_owned(), |kind| kind.trim().to_lowercase()),
            services: services.map(ServiceName::new).collect(),
            start,
            end: start + self.length,
            expected_uplift: self.uplift,
            known_at: known.unwrap_or(Timestamp::MAX),
        };
        FeedEvent { event, is_known_since: known.is_some() }
    }
}

/// What clocks show, and of which zone; `None` = a zone that nobody knows.
fn resolve(time: &DatePerhapsTime, zone: Zone) -> Option<(NaiveDateTime, Zone)> {
    Some(match time {
        DatePerhapsTime::Date(day) => (day.and_time(chrono::NaiveTime::MIN), zone),
        DatePerhapsTime::DateTime(CalendarDateTime::Floating(local)) => (*local, zone),
        DatePerhapsTime::DateTime(CalendarDateTime::Utc(utc)) => (utc.naive_utc(), Zone::UTC),
        DatePerhapsTime::DateTime(CalendarDateTime::WithTimezone { date_time, tzid }) => {
            (*date_time, tzid.parse().ok()?)
        }
    })
}

/// A date or time as iCalendar writes it; a date alone is at the time of day of `like`.
fn exact(text: &str, zone: Zone, like: NaiveDateTime) -> Option<Timestamp> {
    if let Some(utc) = text.strip_suffix('Z') {
        return Some(Zone::UTC.moment(NaiveDateTime::parse_from_str(utc, "%Y%m%dT%H%M%S").ok()?));
    }
    let time = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%S").ok();
    let day = || Some(chrono::NaiveDate::parse_from_str(text, "%Y%m%d").ok()?.and_time(like.time()));
    Some(zone.moment(time.or_else(day)?))
}

/// `P1W`, `P1DT2H`, `PT90M`, `PT30S`.
fn duration(text: &str) -> Option<Span> {
    let (mut seconds, mut number, mut is_time) = (0_i64, String::new(), false);
    for letter in text.trim().strip_prefix('+').unwrap_or(text.trim()).strip_prefix('P')?.chars() {
        let unit = match (letter, is_time) {
            ('0'..='9', _) => {
                number.push(letter);
                continue;
            }
            ('T', false) => {
                is_time = true;
                continue;
            }
            ('W', false) => 7 * 86_400,
            ('D', false) => 86_400,
            ('H', true) => 3600,
            ('M', true) => 60,
            ('S', true) => 1,
            _ => return None,
        };
        let part = number.parse::<i64>().ok()?.checked_mul(unit)?;
        seconds = seconds.checked_add(part)?;
        number.clear();
    }
    if number.is_empty() { Some(Span::from_millis(seconds.checked_mul(1000)?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(events: &str) -> String {
        let lines = format!("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//y//EN\n{events}\nEND:VCALENDAR\n");
        lines.replace('\n', "\r\n")
    }

    fn read(events: &str) -> Result<Vec<FeedEvent>, FeedFault> {
        let until = "2027-01-01T00:00:00Z".parse().unwrap();
        read_icalendar("plan.ics", &calendar(events), "Europe/Berlin".parse().unwrap(), until)
    }

    #[test]
    fn an_event_has_kind_services_uplift_and_since_when_it_was_known() {
        let events = read(
            "BEGIN:VEVENT\nUID:bf@example.com\nDTSTAMP:20261101T000000Z\nCREATED:20260901T000000Z\n\
             LAST-MODIFIED:20261002T000000Z\nSUMMARY:Black Friday\nCATEGORIES:Sale,Web\nDTSTART;VALUE=DATE:20261127\n\
             DTEND;VALUE=DATE:20261128\nX-PRESCALE-UPLIFT:2.5\nX-PRESCALE-SERVICES:checkout\\, search\nEND:VEVENT",
        )
        .unwrap();
        let [FeedEvent { event, is_known_since: true }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((event.id.as_str(), event.kind.as_str()), ("calendar/plan.ics#bf@example.com", "sale"));
        assert_eq!(event.services, [ServiceName::new("checkout"), ServiceName::new("search")]);
        assert_eq!(event.start.to_string(), "2026-11-26T23:00:00Z");
        assert_eq!(event.end.to_string(), "2026-11-27T23:00:00Z");
        assert_eq!(event.expected_uplift, Some(2.5));
        assert_eq!(event.known_at.to_string(), "2026-10-02T00:00:00Z");
    }

    #[test]
    fn a_recurring_event_keeps_its_local_hour_and_its_exceptions() {
        let events = read(
            "BEGIN:VEVENT\nUID:job\nDTSTART;TZID=Europe/Berlin:20261018T090000\nDURATION:PT1H30M\n\
             RRULE:FREQ=WEEKLY;COUNT=5\nEXDATE;TZID=Europe/Berlin:20261101T090000\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:job\nRECURRENCE-ID;TZID=Europe/Berlin:20261108T090000\n\
             DTSTART;TZID=Europe/Berlin:20261108T120000\nDURATION:PT1H\nEND:VEVENT",
        )
        .unwrap();
        let mut found: Vec<_> =
            events.iter().map(|feed| (feed.event.start.to_string(), feed.event.id.clone())).collect();
        found.sort();
        let starts: Vec<&str> = found.iter().map(|(start, _)| start.as_str()).collect();
        assert_eq!(
            starts,
            ["2026-10-18T07:00:00Z", "2026-10-25T08:00:00Z", "2026-11-08T11:00:00Z", "2026-11-15T08:00:00Z"]
        );
        // The occurrence that was moved has the id of the one that it stands for.
        assert_eq!(found[2].1, "calendar/plan.ics#job@2026-11-08T08:00:00Z");
        assert!(events.iter().all(|feed| !feed.is_known_since));
    }

    #[test]
    fn cancelled_events_are_none_and_recurring_ones_end_at_the_horizon() {
        let found = read(
            "BEGIN:VEVENT\nUID:a\nSTATUS:CANCELLED\nDTSTART:20261101T000000Z\nDURATION:PT1H\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:b\nDTSTART:20261231T000000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:c\nDTSTART:20990101T000000Z\nDURATION:PT1H\nEND:VEVENT",
        );
        let starts: Vec<String> = found.unwrap().iter().map(|feed| feed.event.start.to_string()).collect();
        assert_eq!(starts, ["2026-12-31T00:00:00Z", "2099-01-01T00:00:00Z"]);
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_name() {
        let refused = |event: &str| read(&format!("BEGIN:VEVENT\n{event}\nEND:VEVENT")).unwrap_err().to_string();
        assert!(refused("UID:a\nDTSTART:20261101T000000Z").contains("event `a`: it has no end"));
        assert!(refused("SUMMARY:x\nDTSTART:20261101T000000Z\nDURATION:PT1H").contains("event `x`: it has no UID"));
        assert!(refused("UID:a\nDTSTART;TZID=Mars/Olympus:20261101T000000\nDURATION:PT1H").contains("time zone"));
        assert!(refused("UID:a\nDTSTART:20261101T000000Z\nDURATION:PT1H\nRRULE:FREQ=OFTEN").contains("event `a`"));
        let often = "UID:a\nDTSTART:20261101T000000Z\nDURATION:PT1S\nRRULE:FREQ=SECONDLY";
        assert!(refused(often).contains("more than 5000 times"));
        let fault = read_icalendar("x.ics", "no calendar", Zone::UTC, Timestamp::MAX).unwrap_err();
        assert_eq!(fault.place, "the file");
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("P1DT2H3M4S"), Some(Span::from_secs(86_400 + 7200 + 180 + 4)));
        assert_eq!(duration("P2W"), Some(Span::from_secs(14 * 86_400)));
        assert_eq!(
            [duration("1H"), duration("PT"), duration("P1H"), duration("PT5")],
            [None, Some(Span::ZERO), None, None]
        );
    }
}
