//! External events: campaigns, launches, maintenance. Rule: an event has no effect before it was known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ServiceName, Timestamp};

/// The ids of all events that a calendar outside Kafka tells begin with this, its name and `#`.
pub const CALENDAR_PREFIX: &str = "calendar/";

/// A happening with a place in time, known ahead; a record of the `events` topic (upsert by `id`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalendarEvent {
    pub id: String,
    /// `campaign`, `launch`, `sale`, `maintenance`, …
    pub kind: String,
    /// The services that it concerns; empty = all.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Expected load as a multiple of the usual (1.0 = no change), where somebody dared to say.
    #[serde(default)]
    pub expected_uplift: Option<f64>,
    /// When it became known: nothing computed for an earlier moment may use it.
    pub known_at: Timestamp,
}

impl CalendarEvent {
    /// The calendar outside Kafka that tells the event of this id: a file, a URL, or `holidays/` and a country.
    pub fn calendar_of(id: &str) -> Option<&str> {
        let rest = id.strip_prefix(CALENDAR_PREFIX)?;
        Some(rest.split_once('#').map_or(rest, |(calendar, _)| calendar))
    }

    /// Whether it covers `moment` for `service`, as far as could be known at `now`.
    pub fn covers(&self, service: &ServiceName, moment: Timestamp, now: Timestamp) -> bool {
        self.known_at <= now
            && self.start <= moment
            && moment < self.end
            && (self.services.is_empty() || self.services.contains(service))
    }
}
