//! Public holidays as events of kind `holiday`. Rule: from local midnight to the next, as observed; for all services.

use chrono::{DateTime, Datelike as _, NaiveDate};
use holidays_rs::{Calendar, Country};
use prescale_domain::{CALENDAR_PREFIX, CalendarEvent, Span, Timestamp, Zone};

use super::{FeedEvent, FeedFault};

/// Laws say long before which days are holidays.
const KNOWN_BEFORE: Span = Span::from_minutes(365 * 24 * 60);

/// The national holidays of one country.
#[derive(Clone, Copy, Debug)]
pub struct Holidays(Country);

impl Holidays {
    /// By the country's English name, in any case.
    ///
    /// # Errors
    /// A country that is not known; the error names those that are.
    pub fn of(country: &str) -> Result<Self, FeedFault> {
        let found = Country::ALL.iter().find(|known| known.name().eq_ignore_ascii_case(country.trim()));
        found.copied().map(Self).ok_or_else(|| FeedFault {
            place: format!("country `{country}`"),
            reason: format!("its holidays are not known; those of {} are", holiday_countries().join(", ")),
            hint: "give an iCalendar file of its holidays under calendars.files",
        })
    }

    /// Those of the years in which `first` and `last` are, and between.
    pub fn events(self, zone: Zone, first: Timestamp, last: Timestamp) -> Vec<FeedEvent> {
        let year =
            |moment: Timestamp| DateTime::from_timestamp_millis(moment.millis()).map_or(1970, |time| time.year());
        let calendar = Calendar::new(self.0);
        let mut events = Vec::new();
        for (date, _) in (year(first)..=year(last)).flat_map(|year| calendar.holidays_in(year)) {
            let day = NaiveDate::from_ymd_opt(date.year, u32::from(date.month), u32::from(date.day));
            let Some((day, next)) = day.and_then(|day| Some((day, day.succ_opt()?))) else { continue };
            let midnight = |day: NaiveDate| zone.moment(day.and_time(chrono::NaiveTime::MIN));
            let start: Timestamp = midnight(day);
            let event = CalendarEvent {
                id: format!("{CALENDAR_PREFIX}holidays/{}#{day}", self.0.name()),
                kind: "holiday".to_owned(),
                services: Vec::new(),
                start,
                end: midnight(next),
                expected_uplift: None,
                known_at: start - KNOWN_BEFORE,
            };
            events.push(FeedEvent { event, is_known_since: true });
        }
        events
    }
}

/// The names of all countries whose holidays are known.
pub fn holiday_countries() -> Vec<&'static str> {
    Country::ALL.iter().map(|country| country.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holiday_lasts_from_local_midnight_to_midnight_and_was_known_a_year_before() {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let events = Holidays::of("germany").unwrap().events("Europe/Berlin".parse().unwrap(), now, now);
        let unity = events.iter().find(|feed| feed.event.id.ends_with("#2026-10-03")).unwrap();
        assert_eq!(unity.event.id, "calendar/holidays/Germany#2026-10-03");
        assert_eq!(unity.event.start.to_string(), "2026-10-02T22:00:00Z");
        assert_eq!(unity.event.end.to_string(), "2026-10-03T22:00:00Z");
        assert_eq!(unity.event.known_at.to_string(), "2025-10-02T22:00:00Z");
        // Easter Monday moves.
        assert!(events.iter().any(|feed| feed.event.id.ends_with("#2026-04-06")));
    }

    #[test]
    fn a_country_that_is_not_known_is_refused_with_those_that_are() {
        let fault = Holidays::of("Atlantis").unwrap_err();
        assert!(fault.reason.contains("United States"), "{fault}");
    }
}
