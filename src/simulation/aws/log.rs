//! What was called. Rule: each request leaves one record, whatever became of it; nobody's credentials are in it.

use std::collections::BTreeMap;

use prescale_actuate::wire::WireRequest;
use prescale_domain::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::fault::FaultKind;
use super::form::{Form, decode};
use super::{Service, autoscaling};

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallRecord {
    pub at: Timestamp,
    pub service: &'static str,
    pub operation: String,
    /// Its parameters by their names on the wire; of JSON, by the path to each value.
    pub parameters: BTreeMap<String, String>,
    /// HTTP status; `None` = no answer was given.
    pub status: Option<u16>,
    /// AWS's code, where the call was refused.
    pub error: Option<String>,
    pub fault: Option<FaultKind>,
}

/// A request as its service reads it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) service: Service,
    pub(super) operation: String,
    /// Parameters of a Query API, or of the query of a REST API.
    pub(super) form: Form,
    pub(super) json: Value,
    /// Parts of the path.
    pub(super) path: Vec<String>,
}

impl Call {
    /// `None` = a request to no service that is simulated.
    pub(super) fn of(request: &WireRequest) -> Option<Self> {
        let json = || serde_json::from_slice(&request.body).unwrap_or_else(|_| Value::Object(Map::new()));
        let parts = request.path.split('/').filter(|part| !part.is_empty());
        let path: Vec<String> = parts.map(|part| decode(part.replace('+', "%2B").as_bytes())).collect();
        if let Some(operation) = request.header("x-amz-target").and_then(|target| target.strip_prefix("AmazonSQS.")) {
            let (operation, form) = (operation.to_owned(), Form::default());
            return Some(Self { service: Service::Sqs, operation, form, json: json(), path });
        }
        let query = Form::parse(request.query.as_bytes());
        if path.first().is_some_and(|first| first == "clusters") {
            let operation = eks_operation(&request.method, &path).to_owned();
            return Some(Self { service: Service::Eks, operation, form: query, json: json(), path });
        }
        let form = if request.method == "POST" { Form::parse(&request.body) } else { query };
        let service = match form.get("Version")? {
            "2011-01-01" => Service::AutoScaling,
            "2016-11-15" => Service::Ec2,
            _ => return None,
        };
        let operation = form.get("Action")?.to_owned();
        Some(Self { service, operation, form, json: Value::Null, path })
    }

    pub(super) fn reads(&self) -> bool {
        match self.service {
            Service::AutoScaling | Service::Ec2 => autoscaling::reads(&self.operation),
            Service::Eks => self.operation.starts_with("Describe") || self.operation.starts_with("List"),
            Service::Sqs => self.operation.starts_with("Get"),
        }
    }

    /// Names that the call is about.
    pub(super) fn about(&self) -> Vec<&str> {
        let names = ["AutoScalingGroupName", "InstanceId", "LifecycleHookName"];
        let mut about: Vec<&str> = names.iter().filter_map(|name| self.form.get(name)).collect();
        about.extend(self.form.list("AutoScalingGroupNames.member"));
        about.extend(self.form.list("InstanceId"));
        about.extend(self.path.iter().map(String::as_str));
        for name in ["name", "nodegroupName", "QueueName", "QueueUrl"] {
            let text = self.json.get(name).and_then(Value::as_str);
            about.extend(text.and_then(|text| text.rsplit('/').next()));
        }
        about
    }

    pub(super) fn record(&self, at: Timestamp, answer: &Answer, fault: Option<FaultKind>) -> CallRecord {
        let mut parameters: BTreeMap<String, String> = self
            .form
            .iter()
            .filter(|(name, _)| !matches!(*name, "Action" | "Version"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        flatten("", &self.json, &mut parameters);
        if self.service == Service::Eks {
            parameters.insert("path".to_owned(), self.path.join("/"));
        }
        let silent = matches!(fault, Some(FaultKind::Hang | FaultKind::Drop | FaultKind::LostAnswer));
        let error = (answer.status >= 400).then(|| code(answer)).flatten();
        CallRecord {
            at,
            service: self.service.name(),
            operation: self.operation.clone(),
            parameters,
            status: (!silent).then_some(answer.status),
            error,
            fault,
        }
    }
}

fn code(answer: &Answer) -> Option<String> {
    let header = |name: &str| answer.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let from_body = || {
        let (_, rest) = answer.body.split_once("<Code>")?;
        rest.split_once("</Code>").map(|(code, _)| code.to_owned())
    };
    let from_json = || {
        let (_, rest) = answer.body.split_once("com.amazonaws.sqs#")?;
        rest.split_once('"').map(|(code, _)| code.to_owned())
    };
    header("x-amzn-errortype").or_else(from_body).or_else(from_json)
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, into)),
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                flatten(&below(&(number + 1).to_string()), value, into);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            into.insert(path.to_owned(), text.clone());
        }
        other => {
            into.insert(path.to_owned(), other.to_string());
        }
    }
}

fn eks_operation(method: &str, path: &[String]) -> &'static str {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match (method, names.as_slice()) {
        ("POST", ["clusters"]) => "CreateCluster",
        ("GET", ["clusters", _]) => "DescribeCluster",
        ("POST", ["clusters", _, "node-groups"]) => "CreateNodegroup",
        ("GET", ["clusters", _, "node-groups"]) => "ListNodegroups",
        ("GET", ["clusters", _, "node-groups", _]) => "DescribeNodegroup",
        ("POST", ["clusters", _, "node-groups", _, "update-config"]) => "UpdateNodegroupConfig",
        ("GET", ["clusters", _, "updates"]) => "ListUpdates",
        ("GET", ["clusters", _, "updates", _]) => "DescribeUpdate",
        _ => "Unknown",
    }
}
