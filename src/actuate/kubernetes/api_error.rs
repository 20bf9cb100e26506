//! From the API's errors to ours. Rule: sorted by the HTTP status first, by transport second; the first cause is shown.

use std::error::Error;
use std::io;
use std::time::Duration;

use kube::Error as KubeError;
use kube::core::Status;

use crate::{ActuateError, Failure};

/// The error for one failed call; `failure` makes of a detail what is told.
pub(super) fn from_kube(error: &KubeError, failure: impl Fn(String) -> Failure) -> ActuateError {
    match error {
        KubeError::Api(status) => from_status(status, failure),
        KubeError::Auth(error) => ActuateError::Denied(failure(format!("no usable credentials: {error}"))),
        KubeError::SerdeError(_) | KubeError::FromUtf8(_) => {
            ActuateError::Other(failure(format!("an answer that is not one of Kubernetes: {}", first_cause(error))))
        }
        KubeError::HyperError(_) | KubeError::Service(_) | KubeError::ReadEvents(_) => {
            let cause = first_cause(error);
            if causes(error).any(is_timeout) {
                ActuateError::Timeout(failure(cause))
            } else {
                ActuateError::Unreachable(failure(cause))
            }
        }
        _ => ActuateError::Invalid(failure(first_cause(error))),
    }
}

/// How long the server wants to be left alone.
pub(super) fn retry_after(error: &KubeError) -> Duration {
    let seconds = match error {
        KubeError::Api(status) => status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
        _ => 0,
    };
    Duration::from_secs(seconds.into())
}

fn from_status(status: &Status, failure: impl Fn(String) -> Failure) -> ActuateError {
    let Status { code, message, reason, .. } = status;
    let failure = failure(match (message.is_empty(), reason.is_empty()) {
        (false, _) => format!("HTTP {code}: {message}"),
        (true, false) => format!("HTTP {code}: {reason}"),
        (true, true) => format!("HTTP {code}"),
    });
    match code {
        401 | 403 => ActuateError::Denied(failure),
        404 | 410 => ActuateError::NotFound(failure),
        409 => ActuateError::Conflict(failure),
        400 | 405 | 413 | 415 | 422 => ActuateError::Invalid(failure),
        429 => ActuateError::Throttled(failure),
        _ => ActuateError::Other(failure),
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// The innermost cause: the outer ones only say that something failed.
fn first_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
