//! Events in CSV, with the names of the `events` topic as its header. Rule: a line that can't be used refuses the file.

use chrono::{NaiveDate, NaiveDateTime};
use csv::{ReaderBuilder, Trim};
use prescale_domain::{CALENDAR_PREFIX, CalendarEvent, ServiceName, Timestamp, Zone};
use serde::Deserialize;

use super::{FeedEvent, FeedFault};

const HINT: &str =
    "a line is id,kind,services,start,end,expected_uplift,known_at; services are separated by spaces, none means all";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    kind: String,
    #[serde(default)]
    services: String,
    start: String,
    end: String,
    #[serde(default)]
    expected_uplift: Option<f64>,
    #[serde(default)]
    known_at: String,
}

/// The events of a file called `name`. Times are RFC 3339, or local in `zone` where they name no offset; a date alone is
/// its midnight. The columns `services`, `expected_uplift` and `known_at` may be absent or empty.
///
/// # Errors
/// The first line that is no event, and why.
pub fn read_csv(name: &str, text: &str, zone: Zone) -> Result<Vec<FeedEvent>, FeedFault> {
    let mut events = Vec::new();
    let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
    for row in reader.deserialize::<Row>() {
        let place = |line: Option<u64>| line.map_or_else(|| "the file".to_owned(), |line| format!("line {line}"));
        let row = row.map_err(|error| FeedFault {
            place: place(error.position().map(csv::Position::line)),
            reason: error.to_string(),
            hint: HINT,
        })?;
        let fault = |reason: String| FeedFault { place: format!("event `{}`", row.id), reason, hint: HINT };
        let time = |name: &str, text: &str| {
            parse(zone, text)
                .ok_or_else(|| fault(format!("{name} `{text}` is not a time such as 2026-11-27T00:00:00Z")))
        };
        let (start, end) = (time("start", &row.start)?, time("end", &row.end)?);
        let is_known_since = !row.known_at.is_empty();
        let known_at = if is_known_since { time("known_at", &row.known_at)? } else { Timestamp::MAX };
        if row.id.is_empty() || row.kind.is_empty() {
            return Err(fault("it has no id or no kind".to_owned()));
        }
        if end <= start {
            return Err(fault("it ends before it starts".to_owned()));
        }
        if let Some(uplift) = row.expected_uplift.filter(|uplift| !uplift.is_finite() || *uplift < 0.0) {
            return Err(fault(format!("an uplift of {uplift} is no multiple of the usual load")));
        }
        let event = CalendarEvent {
            id: format!("{CALENDAR_PREFIX}{name}#{}", row.id),
            kind: row.kind,
            services: row.services.split_whitespace().map(ServiceName::new).collect(),
            start,
            end,
            expected_uplift: row.expected_uplift,
            known_at,
        };
        events.push(FeedEvent { event, is_known_since });
    }
    Ok(events)
}

fn parse(zone: Zone, text: &str) -> Option<Timestamp> {
    let local = || {
        let time = text.parse::<NaiveDateTime>().or_else(|_| text.replacen(' ', "T", 1).parse::<NaiveDateTime>());
        time.ok().or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_time(chrono::NaiveTime::MIN)))
    };
    text.parse::<Timestamp>().ok().or_else(|| Some(zone.moment(local()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events() {
        let text = "\
id,kind,services,start,end,expected_uplift,known_at
# what marketing plans
black-friday,sale,checkout search,2026-11-27,2026-11-28,2.5,2026-10-01T09:00:00Z
deploy, maintenance,,2026-11-27T22:00:00+01:00,2026-11-27 23:00:00,,
";
        let events = read_csv("plan.csv", text, "Europe/Berlin".parse().unwrap()).unwrap();
        let [sale, deploy] = &events[..] else { panic!("{events:?}") };
        assert_eq!(sale.event.id, "calendar/plan.csv#black-friday");
        assert_eq!(sale.event.services, [ServiceName::new("checkout"), ServiceName::new("search")]);
        assert_eq!(sale.event.start.to_string(), "2026-11-26T23:00:00Z");
        assert_eq!((sale.event.expected_uplift, sale.is_known_since), (Some(2.5), true));
        assert_eq!(sale.event.known_at.to_string(), "2026-10-01T09:00:00Z");
        assert_eq!((deploy.event.kind.as_str(), deploy.is_known_since), ("maintenance", false));
        assert_eq!((deploy.event.end - deploy.event.start.since(Timestamp::from_millis(0))).millis(), 3_600_000);
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_place() {
        let header = "id,kind,services,start,end,expected_uplift,known_at\n";
        let refused = |line: &str| read_csv("x.csv", &format!("{header}{line}\n"), Zone::UTC).unwrap_err().to_string();
        assert!(refused("a,sale,,tomorrow,2026-11-28,,").contains("event `a`: start `tomorrow`"));
        assert!(refused("a,sale,,2026-11-28,2026-11-27,,").contains("ends before it starts"));
        assert!(refused("a,sale,,2026-11-27,2026-11-28,-1,").contains("uplift of -1"));
        assert!(refused("a,sale,,2026-11-27,2026-11-28,much,").contains("line 2"));
        assert!(refused(",sale,,2026-11-27,2026-11-28,,").contains("no id"));
        assert!(read_csv("x.csv", "when,what\n1,2\n", Zone::UTC).is_err());
    }
}
