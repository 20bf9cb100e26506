//! Answers and refusals in the form of each protocol. Rule: an SDK reads every one of them as an answer of AWS.

use serde_json::{Value, json};

use super::Service;
use super::xml::escape;

/// An answer before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// An error of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationError", message)
    }

    /// As each service says that its bucket is empty.
    pub(super) fn throttled(service: Service) -> Self {
        match service {
            Service::AutoScaling => Self::new(400, "Throttling", "Rate exceeded"),
            Service::Ec2 => Self::new(503, "RequestLimitExceeded", "Request limit exceeded."),
            Service::Eks => Self::new(429, "ThrottlingException", "Rate exceeded"),
            Service::Sqs => Self::new(403, "RequestThrottled", "Rate exceeded"),
        }
    }

    pub(super) fn denied(service: Service, operation: &str) -> Self {
        let message = format!(
            "User: arn:aws:iam::123456789012:user/prescale is not authorized to perform: {}:{operation}",
            service.name()
        );
        match service {
            Service::AutoScaling => Self::new(403, "AccessDenied", message),
            Service::Ec2 => {
                Self::new(403, "UnauthorizedOperation", "You are not authorized to perform this operation.")
            }
            Service::Eks | Service::Sqs => Self::new(403, "AccessDeniedException", message),
        }
    }

    pub(super) fn internal(service: Service) -> Self {
        match service {
            Service::AutoScaling => Self::new(500, "InternalFailure", "We are unable to determine the cause."),
            Service::Ec2 => Self::new(500, "InternalError", "An internal error has occurred"),
            Service::Eks => Self::new(500, "ServerException", "Internal Server Error"),
            Service::Sqs => Self::new(500, "InternalFailure", "Internal failure"),
        }
    }

    /// In the words of its service.
    pub(super) fn answer(&self, service: Service, request_id: &str) -> Answer {
        let Self { status, code, message } = self;
        match service {
            Service::AutoScaling => {
                let kind = if *status < 500 { "Sender" } else { "Receiver" };
                let body = format!(
                    "<ErrorResponse xmlns=\"{}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
                     <RequestId>{request_id}</RequestId></ErrorResponse>",
                    service.namespace(),
                    escape(code),
                    escape(message)
                );
                xml(*status, body, request_id)
            }
            Service::Ec2 => {
                let body = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{}</Code>\
                     <Message>{}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>",
                    escape(code),
                    escape(message)
                );
                xml(*status, body, request_id)
            }
            Service::Eks => {
                let mut answer = json_body(*status, &json!({"message": message}), "application/json", request_id);
                answer.headers.push(("x-amzn-errortype".to_owned(), code.clone()));
                answer
            }
            Service::Sqs => {
                let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": message});
                let mut answer = json_body(*status, &body, "application/x-amz-json-1.0", request_id);
                // The code of the older protocol, which some clients still look for.
                let older = if code == "QueueDoesNotExist" { "AWS.SimpleQueueService.NonExistentQueue" } else { code };
                answer.headers.push(("x-amzn-query-error".to_owned(), format!("{older};Sender")));
                answer
            }
        }
    }
}

/// The answer to a call of Auto Scaling or EC2.
pub(super) fn query(service: Service, operation: &str, inner: &str, request_id: &str) -> Answer {
    let namespace = service.namespace();
    let body = match service {
        Service::Ec2 => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{operation}Response xmlns=\"{namespace}\">\
             <requestId>{request_id}</requestId>{inner}</{operation}Response>"
        ),
        _ => format!(
            "<{operation}Response xmlns=\"{namespace}\"><{operation}Result>{inner}</{operation}Result>\
             <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
        ),
    };
    xml(200, body, request_id)
}

pub(super) fn json(service: Service, body: &Value, request_id: &str) -> Answer {
    let kind = if service == Service::Sqs { "application/x-amz-json-1.0" } else { "application/json" };
    json_body(200, body, kind, request_id)
}

fn xml(status: u16, body: String, request_id: &str) -> Answer {
    Answer { status, headers: headers("text/xml", request_id), body }
}

fn json_body(status: u16, body: &Value, kind: &str, request_id: &str) -> Answer {
    Answer { status, headers: headers(kind, request_id), body: body.to_string() }
}

fn headers(kind: &str, request_id: &str) -> Vec<(String, String)> {
    [("content-type", kind), ("x-amzn-requestid", request_id)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}
