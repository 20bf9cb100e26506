//! From this client's errors to ours. Rule: sorted by AWS's error code first, by transport second, as the SDK's are. The client
//! knows few codes; of the others it hands on the answer, which is read here.

use std::error::Error;

use prescale_actuate::{ActuateError, Failure};
use rusoto_core::RusotoError;
use rusoto_core::request::BufferedHttpResponse;

/// The error for one failed call; `failure` says which, its detail is filled in here.
pub(crate) fn from_rusoto<E: Error + 'static>(error: &RusotoError<E>, failure: Failure) -> ActuateError {
    let with = |detail: String| Failure { detail, ..failure };
    match error {
        // Those that Auto Scaling's operations declare and this target meets all say that another change is under way, but
        // for a token that it never sends.
        RusotoError::Service(error) => ActuateError::Conflict(with(error.to_string())),
        RusotoError::HttpDispatch(error) => ActuateError::Unreachable(with(error.to_string())),
        RusotoError::Credentials(error) => ActuateError::Denied(with(format!("no usable credentials: {error}"))),
        RusotoError::Validation(error) => ActuateError::Invalid(with(error.clone())),
        RusotoError::ParseError(error) => ActuateError::Other(with(format!("an answer that is not AWS's: {error}"))),
        RusotoError::Unknown(answer) => from_answer(answer, with),
        RusotoError::Blocking => ActuateError::Other(with(error.to_string())),
    }
}

fn from_answer(answer: &BufferedHttpResponse, with: impl FnOnce(String) -> Failure) -> ActuateError {
    let body = String::from_utf8_lossy(&answer.body);
    let Some(code) = element(&body, "Code") else {
        let status = answer.status.as_u16();
        return ActuateError::Other(with(format!("HTTP {status} that is not an answer of AWS")));
    };
    let message = element(&body, "Message").unwrap_or_default();
    let failure = with(format!("{code}: {message}"));
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
        "ScalingActivityInProgress" | "ResourceContention" | "ResourceInUseException" | "ResourceInUse" => {
            ActuateError::Conflict(failure)
        }
        "ResourceNotFoundException" => ActuateError::NotFound(failure),
        "InvalidParameterException" | "InvalidRequestException" | "InvalidParameterValue" => {
            ActuateError::Invalid(failure)
        }
        "ValidationError" if message.contains("not found") => ActuateError::NotFound(failure),
        "ValidationError" => ActuateError::Invalid(failure),
        _ => ActuateError::Other(failure),
    }
}

/// The text of the first element of that name, as it is written: AWS's codes and messages need no unescaping to be told apart.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

#[cfg(test)]
mod tests {
    use super::element;

    #[test]
    fn an_element_is_found_and_what_is_no_xml_has_none() {
        let body =
            "<ErrorResponse><Error><Code>Throttling</Code>\n<Message> Rate exceeded </Message></Error></ErrorResponse>";
        assert_eq!(element(body, "Code"), Some("Throttling"));
        assert_eq!(element(body, "Message"), Some("Rate exceeded"));
        for broken in ["", "<Code>", "<Code>Throttling", "</Code>x<Code>", "<html>502</html>"] {
            assert_eq!(element(broken, "Code"), None, "{broken}");
        }
    }
}
