//! Errors of the API as RFC 9457 problem details. Rule: each names what was asked for, by name and value.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::event_body::FieldFault;

/// An error as `application/problem+json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// `urn:prescale:problem:<code>`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    /// Fields of the body that can't be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldFault>,
}

impl Problem {
    fn new(status: StatusCode, code: &str, title: &'static str, detail: String) -> Self {
        Self {
            kind: format!("urn:prescale:problem:{code}"),
            title,
            status: status.as_u16(),
            detail,
            errors: Vec::new(),
        }
    }

    pub(crate) fn bad_request(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request can't be understood", detail)
    }

    pub(crate) fn unknown_service(name: &str, known: &[&str]) -> Self {
        let detail = format!("service `{name}` is not known; known: {}", list(known));
        Self::new(StatusCode::NOT_FOUND, "unknown-service", "No such service", detail)
    }

    pub(crate) fn unknown_decision(id: &str) -> Self {
        let detail = format!("decision `{id}` is not recorded; in a URL, `#` is written %23");
        Self::new(StatusCode::NOT_FOUND, "unknown-decision", "No such decision", detail)
    }

    pub(crate) fn unknown_event(id: &str) -> Self {
        let detail = format!("event `{id}` is not known now; in a URL, `/` is written %2F and `#` %23");
        Self::new(StatusCode::NOT_FOUND, "unknown-event", "No such event", detail)
    }

    pub(crate) fn not_permitted(reason: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not-permitted", "The caller may not change things", reason)
    }

    pub(crate) fn event_of_a_calendar(id: &str, calendar: &str) -> Self {
        let detail = format!("event `{id}` is told by the calendar `{calendar}`: change it there");
        Self::new(StatusCode::CONFLICT, "event-of-a-calendar", "A calendar tells this event", detail)
    }

    pub(crate) fn replay() -> Self {
        let detail = "this is a replay, which knows the events that were on the topic when it began; prescale run without --clock event takes them as they come";
        Self::new(StatusCode::CONFLICT, "replay", "A replay takes no events", detail.to_owned())
    }

    pub(crate) fn too_large(max: usize) -> Self {
        let detail = format!("the body is longer than {max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    pub(crate) fn not_json(form: &str) -> Self {
        let detail = format!("content-type `{form}` is not application/json");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "The body is not declared as JSON", detail)
    }

    pub(crate) fn invalid_event(errors: Vec<FieldFault>) -> Self {
        let told: Vec<String> = errors.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect();
        let title = "The event can't be told as it is";
        let detail = told.join("; ");
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-event", title, detail) }
    }

    pub(crate) fn event_log(error: &str) -> Self {
        let detail = format!(
            "the topic of events can't be written: {error}; nothing will be written later: ask again once Kafka answers"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "events-unavailable", "Kafka has not acknowledged it", detail)
    }

    pub(crate) fn archive(error: &str) -> Self {
        let detail = format!("recorded decisions can't be read: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "archive-unavailable", "The state store does not answer", detail)
    }

    pub(crate) fn replay_goes_on() -> Self {
        let detail = "this is a replay, whose decisions follow from its input alone; prescale run without --clock event can be paused";
        Self::new(StatusCode::CONFLICT, "replay-goes-on", "A replay is not paused", detail.to_owned())
    }

    pub(crate) fn no_answer(error: &str) -> Self {
        let detail = format!("the loop: {error}; look at /api/v1/pause whether it has been done since, or ask again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-answer", "The loop does not answer", detail)
    }

    pub(crate) fn shadow_off() -> Self {
        let detail = "nothing is shadowed here; [shadow] enabled = true of a running service does";
        Self::new(StatusCode::NOT_FOUND, "shadow-off", "Shadow mode is off", detail.to_owned())
    }

    pub(crate) fn too_many_streams(max: usize) -> Self {
        let detail = format!("{max} live streams are open, which is the most");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", "Too many live streams", detail)
    }

    pub(crate) fn unknown_route(uri: &Uri) -> Self {
        let detail = format!("`{}` is not a path of this API; all are in /api/v1/openapi.json", uri.path());
        Self::new(StatusCode::NOT_FOUND, "unknown-path", "No such path", detail)
    }

    pub(crate) fn method(method: &str, uri: &Uri) -> Self {
        let detail = format!("`{}` does not take {method}; the header Allow has what it takes", uri.path());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let form = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, form);
        response
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none yet".to_owned() } else { names.join(", ") }
}
