//! Errors as Kubernetes tells them: a `Status` object (meta/v1). Rule: the message is the one for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::Absent;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    reason: Reason,
    message: String,
    /// Kind and name of what was asked for, where that was a metric.
    about: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    BadRequest,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    ServiceUnavailable,
}

impl Reason {
    fn code(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// As in apimachinery's `metav1.StatusReason`.
    fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

impl Refusal {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), about: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(Reason::Unauthorized, message)
    }

    pub(super) fn unknown_path(path: &str) -> Self {
        Self::new(Reason::NotFound, format!("the server could not find the requested resource `{path}`"))
    }

    pub(super) fn method(method: &str) -> Self {
        Self::new(Reason::MethodNotAllowed, format!("{method} is not supported: metrics are read with GET"))
    }

    pub(super) fn not_found(metric: &str, message: impl Into<String>) -> Self {
        Self { about: Some(metric.to_owned()), ..Self::new(Reason::NotFound, message) }
    }

    pub(super) fn absent(metric: &str, absent: &Absent) -> Self {
        let reason = match absent {
            Absent::Service { .. } => Reason::NotFound,
            Absent::Value { .. } | Absent::Stale { .. } => Reason::ServiceUnavailable,
        };
        Self { about: Some(metric.to_owned()), ..Self::new(reason, absent.to_string()) }
    }

    fn body(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.as_str(),
        });
        if let Some(metric) = &self.about {
            status["details"] = json!({ "name": metric, "kind": "metrics" });
        }
        status["code"] = self.reason.code().as_u16().into();
        status
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.reason.code(), Json(self.body())).into_response()
    }
}
