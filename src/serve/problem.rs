//! Errors of the API as RFC 9457 problem details. Rule: each names what was asked for, by name and value.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// An error as `application/problem+json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// `urn:prescale:problem:<code>`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, code: &str, title: &'static str, detail: String) -> Self {
        Self { kind: format!("urn:prescale:problem:{code}"), title, status: status.as_u16(), detail }
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

    pub(crate) fn archive(error: &str) -> Self {
        let detail = format!("recorded decisions can't be read: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "archive-unavailable", "The state store does not answer", detail)
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
        let detail = format!("`{}` can only be read, not `{method}`", uri.path());
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
