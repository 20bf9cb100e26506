//! From the SDK's errors to ours. Rule: sorted by AWS's error code first, by status and transport second; the first cause is shown.

use std::error::Error;

use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};

use crate::{ActuateError, Failure};

/// The error for one failed call; `failure` says which, its detail is filled in here.
pub(crate) fn from_sdk<E>(error: &SdkError<E, HttpResponse>, failure: Failure) -> ActuateError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let with = |detail: String| Failure { detail, ..failure.clone() };
    match error {
        SdkError::TimeoutError(_) => ActuateError::Timeout(with("no answer in time".to_owned())),
        SdkError::DispatchFailure(dispatch) => {
            let cause = dispatch.as_connector_error().map(|error| first_cause(error)).unwrap_or_default();
            if dispatch.is_timeout() {
                ActuateError::Timeout(with(cause))
            } else if dispatch.is_user() {
                ActuateError::Invalid(with(cause))
            } else if is_about_credentials(error) {
                ActuateError::Denied(with(format!("no usable credentials: {cause}")))
            } else {
                ActuateError::Unreachable(with(cause))
            }
        }
        SdkError::ServiceError(service) => match service.err().code() {
            Some(code) => {
                let status = service.raw().status().as_u16();
                from_aws_code(code, service.err().message().unwrap_or_default(), status, failure.clone())
            }
            None => not_aws(service.raw(), with),
        },
        SdkError::ResponseError(response) => not_aws(response.raw(), with),
        _ => ActuateError::Invalid(with(first_cause(error))),
    }
}

/// What an error code of AWS is here, by its message and, for one that is not known, by the status of its answer; the detail of
/// `failure` is filled in. For every client of AWS, whatever its library.
pub fn from_aws_code(code: &str, message: &str, status: u16, failure: Failure) -> ActuateError {
    let failure = Failure { detail: format!("{code}: {message}"), ..failure };
    match code {
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequestsException" => {
            ActuateError::Throttled(failure)
        }
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "OptInRequired"
        | "SignatureDoesNotMatch"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException" => ActuateError::Denied(failure),
        // Another change is under way; the second is how AWS says that two met (its status is 500).
        "ScalingActivityInProgress" | "ResourceContention" | "ResourceInUseException" | "ResourceInUse" => {
            ActuateError::Conflict(failure)
        }
        "ResourceNotFoundException" | "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue" => {
            ActuateError::NotFound(failure)
        }
        "InvalidParameterException" | "InvalidRequestException" | "InvalidParameterValue" => {
            ActuateError::Invalid(failure)
        }
        "ValidationError" if message.contains("not found") => ActuateError::NotFound(failure),
        "ValidationError" => ActuateError::Invalid(failure),
        _ => from_http_status(status, failure),
    }
}

/// What a status says by itself, of a proxy as well as of AWS.
pub fn from_http_status(status: u16, failure: Failure) -> ActuateError {
    match status {
        401 | 403 | 407 => ActuateError::Denied(failure),
        429 => ActuateError::Throttled(failure),
        _ => ActuateError::Other(failure),
    }
}

/// An answer that is not in AWS's words: another server, or a simulator that does not know the operation.
fn not_aws(response: &HttpResponse, with: impl Fn(String) -> Failure) -> ActuateError {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").unwrap_or("no content type");
    from_http_status(status, with(format!("HTTP {status} ({kind}) that is not an answer of AWS")))
}

/// The innermost cause: the outer ones only say that something failed.
fn first_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn is_about_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(one) = cause {
        let text = one.to_string();
        if text.contains("credentials") || text.contains("identity") {
            return true;
        }
        cause = one.source();
    }
    false
}
