//! From this client's errors to ours. Rule: sorted by AWS's error code first, by transport second, as the SDK's are. The client
//! knows few codes; of the others it hands on the answer, which is read here.

use std::error::Error;

use prescale_actuate::{ActuateError, Failure, from_aws_code, from_http_status};
use rusoto_core::RusotoError;
use rusoto_core::request::BufferedHttpResponse;

/// The error for one failed call; `failure` says which, its detail is filled in here.
pub(crate) fn from_rusoto<E: Error + 'static>(error: &RusotoError<E>, failure: Failure) -> ActuateError {
    let with = |detail: String| Failure { detail, ..failure.clone() };
    match error {
        // Those that Auto Scaling's operations declare and this target meets all say that another change is under way, but
        // for a token that it never sends.
        RusotoError::Service(error) => ActuateError::Conflict(with(error.to_string())),
        RusotoError::HttpDispatch(error) => ActuateError::Unreachable(with(error.to_string())),
        RusotoError::Credentials(error) => ActuateError::Denied(with(format!("no usable credentials: {error}"))),
        RusotoError::Validation(error) => ActuateError::Invalid(with(error.clone())),
        RusotoError::ParseError(error) => ActuateError::Other(with(format!("an answer that is not AWS's: {error}"))),
        RusotoError::Unknown(answer) => from_answer(answer, failure),
        RusotoError::Blocking => ActuateError::Other(with(error.to_string())),
    }
}

fn from_answer(answer: &BufferedHttpResponse, failure: Failure) -> ActuateError {
    let (body, status) = (String::from_utf8_lossy(&answer.body), answer.status.as_u16());
    match element(&body, "Code") {
        Some(code) => from_aws_code(code, element(&body, "Message").unwrap_or_default(), status, failure),
        None => {
            let detail = format!("HTTP {status} that is not an answer of AWS");
            from_http_status(status, Failure { detail, ..failure })
        }
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
