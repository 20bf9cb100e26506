//! Events of the calendar on the wire. Rule: what a client sends is checked field by field, and all that is wrong with it
//! is told at once.

#[cfg(test)]
mod tests;

use std::ops::Range;

use prescale_domain::{CalendarEvent, ServiceName, Span, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// Of a kind and of the name of a service.
const NAME_CHARS_MAX: usize = 200;
const SERVICES_MAX: usize = 1000;
/// What lasts longer is no event but the usual load; most often a year is mistyped.
const LENGTH_MAX: Span = Span::from_minutes(366 * 24 * 60);
/// From 1970 until 2500: what can be written exactly, and what somebody may mean.
const TIMES: Range<i64> = 0..16_725_225_600_000;
const FIELDS: [&str; 5] = ["kind", "services", "start", "end", "expected_uplift"];

/// `/api/v1/events`: calendar events that are known now, by start.
#[derive(Serialize, JsonSchema)]
pub(crate) struct EventsBody {
    pub(crate) events: Vec<EventBody>,
    /// `after` of the next page; null = this was the last.
    pub(crate) next: Option<String>,
}

/// An event of the calendar.
#[derive(Serialize, JsonSchema)]
pub(crate) struct EventBody {
    pub(crate) id: String,
    /// `campaign`, `launch`, `sale`, `maintenance`, `holiday`, …
    pub(crate) kind: String,
    /// The services that it concerns; empty = all.
    pub(crate) services: Vec<ServiceName>,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// Expected load as a multiple of the usual (1.0 = no change); null = nobody dared to say.
    pub(crate) expected_uplift: Option<f64>,
    /// Since when it is known as it is.
    pub(crate) known_at: Timestamp,
    /// The calendar that tells it, a file, a URL or `holidays/` and a country; null = it was told on the topic of events,
    /// as through this API.
    pub(crate) source: Option<String>,
}

/// What a client tells of an event: its id is in the path, and it is known from now on.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(crate) struct EventInput {
    /// `campaign`, `launch`, `sale`, `maintenance`, …
    #[schemars(length(min = 1, max = 200))]
    pub(crate) kind: String,
    /// The services that it concerns; none = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub(crate) services: Vec<ServiceName>,
    pub(crate) start: Timestamp,
    /// Later than `start`, by 366 days at most.
    pub(crate) end: Timestamp,
    /// Expected load as a multiple of the usual (2.0 = twice), where somebody dares to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(crate) expected_uplift: Option<f64>,
}

/// A field that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct FieldFault {
    /// Where in the body, as a JSON pointer such as `#/end`.
    pub(crate) pointer: String,
    /// What is wrong and what to write instead.
    pub(crate) detail: String,
}

impl EventBody {
    pub(crate) fn new(event: &CalendarEvent) -> Self {
        Self {
            source: CalendarEvent::calendar_of(&event.id).map(str::to_owned),
            id: event.id.clone(),
            kind: event.kind.clone(),
            services: event.services.clone(),
            start: event.start,
            end: event.end,
            expected_uplift: event.expected_uplift,
            known_at: event.known_at,
        }
    }
}

impl EventInput {
    /// Reads what a client sent.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn read(body: &Value) -> Result<Self, Vec<FieldFault>> {
        let Value::Object(fields) = body else {
            let detail = r#"is no object such as {"kind": "campaign", "start": "2026-11-27T08:00:00Z", "end": "2026-11-27T20:00:00Z"}"#;
            return Err(vec![FieldFault { pointer: "#".to_owned(), detail: detail.to_owned() }]);
        };
        let mut reading = Reading { fields, faults: Vec::new() };
        reading.unknown();
        let (kind, services) = (reading.kind(), reading.services());
        let (start, end) = (reading.time("start"), reading.time("end"));
        let expected_uplift = reading.uplift();
        if let (Some(start), Some(end)) = (start, end) {
            reading.order(start, end);
        }
        match (kind, start, end) {
            (Some(kind), Some(start), Some(end)) if reading.faults.is_empty() => {
                Ok(Self { kind, services, start, end, expected_uplift })
            }
            _ => Err(reading.faults),
        }
    }

    /// Whether it says of the event what is known already.
    pub(crate) fn says(&self, known: &CalendarEvent) -> bool {
        *self == Self::from(known)
    }

    /// As an event; since when it is known is told by who writes it.
    pub(crate) fn event(self, id: &str) -> CalendarEvent {
        let Self { kind, services, start, end, expected_uplift } = self;
        CalendarEvent { id: id.to_owned(), kind, services, start, end, expected_uplift, known_at: Timestamp::MAX }
    }
}

impl From<&CalendarEvent> for EventInput {
    fn from(event: &CalendarEvent) -> Self {
        let CalendarEvent { kind, services, start, end, expected_uplift, .. } = event.clone();
        Self { kind, services, start, end, expected_uplift }
    }
}

/// The reading of one body.
struct Reading<'a> {
    fields: &'a Map<String, Value>,
    faults: Vec<FieldFault>,
}

impl Reading<'_> {
    fn fault(&mut self, place: &str, detail: String) {
        self.faults.push(FieldFault { pointer: format!("#/{place}"), detail });
    }

    fn unknown(&mut self) {
        for name in self.fields.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
            let detail = match name.as_str() {
                "known_at" => "is set by the server, to now: leave it out".to_owned(),
                "id" => "is in the path: leave it out".to_owned(),
                "source" => "is not to be chosen: leave it out".to_owned(),
                _ => format!("is no field of an event: those are {}", FIELDS.join(", ")),
            };
            // As RFC 6901 has it.
            self.fault(&name.replace('~', "~0").replace('/', "~1"), detail);
        }
    }

    fn kind(&mut self) -> Option<String> {
        const WANTED: &str = "a word such as campaign, launch, sale or maintenance";
        let found = match self.fields.get("kind") {
            None => Err(format!("is missing: give {WANTED}")),
            Some(Value::String(kind)) => name(kind, WANTED),
            Some(other) => Err(format!("{} is no text: give {WANTED}", brief(other))),
        };
        found.map_err(|detail| self.fault("kind", detail)).ok()
    }

    fn services(&mut self) -> Vec<ServiceName> {
        const WANTED: &str = "a list of names, or leave it out for all services";
        let list = match self.fields.get("services") {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.fault("services", format!("{} is no list: give {WANTED}", brief(other)));
                return Vec::new();
            }
        };
        if list.len() > SERVICES_MAX {
            let detail = format!("{} names are more than {SERVICES_MAX}: leave it out for all services", list.len());
            self.fault("services", detail);
            return Vec::new();
        }
        let mut services = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let found = match value {
                Value::String(service) => name(service, "the name of a service"),
                other => Err(format!("{} is no text: give the name of a service", brief(other))),
            };
            match found {
                Ok(service) => services.push(ServiceName::new(&service)),
                Err(detail) => self.fault(&format!("services/{index}"), detail),
            }
        }
        services
    }

    fn time(&mut self, field: &str) -> Option<Timestamp> {
        const WANTED: &str = "an RFC 3339 time such as 2026-11-27T08:00:00Z";
        let found = match self.fields.get(field) {
            None => Err(format!("is missing: give {WANTED}")),
            Some(value) => match value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
                Some(time) if TIMES.contains(&time.millis()) => Ok(time),
                Some(time) => Err(format!("{time} is not between 1970 and 2500: is a year wrong?")),
                None => Err(format!("{} is no time: give {WANTED}", brief(value))),
            },
        };
        found.map_err(|detail| self.fault(field, detail)).ok()
    }

    fn order(&mut self, start: Timestamp, end: Timestamp) {
        if end <= start {
            self.fault("end", format!("{end} is not after start, {start}: give the first moment after the event"));
        } else if end.since(start) > LENGTH_MAX {
            self.fault("end", format!("{end} is more than 366 days after start, {start}: is a year wrong?"));
        }
    }

    fn uplift(&mut self) -> Option<f64> {
        const WANTED: &str = "the expected load as a multiple of the usual, such as 2.0 for twice, or leave it out";
        let value = self.fields.get("expected_uplift").filter(|value| !value.is_null())?;
        let Some(uplift) = value.as_f64().filter(|uplift| uplift.is_finite()) else {
            self.fault("expected_uplift", format!("{} is no number: give {WANTED}", brief(value)));
            return None;
        };
        if uplift <= 0.0 {
            self.fault("expected_uplift", format!("{uplift} is not above 0: give {WANTED}"));
            return None;
        }
        Some(uplift)
    }
}

/// A name that can be shown and looked for.
fn name(text: &str, wanted: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(format!("is empty: give {wanted}"));
    }
    let chars = text.chars().count();
    if chars > NAME_CHARS_MAX {
        return Err(format!("its {chars} characters are more than {NAME_CHARS_MAX}: give {wanted}"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{} has control characters: give {wanted}", brief(&Value::from(text))));
    }
    Ok(text.to_owned())
}

/// The id that a path names.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn checked_id(id: &str) -> Result<(), String> {
    name(id, "a name that the event is known by").map(drop).map_err(|fault| format!("the id of the event {fault}"))
}

/// The beginning of a value, in backticks.
fn brief(value: &Value) -> String {
    const SHOWN: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
