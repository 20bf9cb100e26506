//! The answers. Rule: a service belongs to every namespace, as Prescale knows of none; which one is meant is said by the label
//! `service`, or by the name of the object that is described.

use std::collections::BTreeMap;

use prescale_domain::{ServiceName, Span, Timestamp};
use serde_json::{Value, json};

use super::quantity::quantity;
use super::selector::Selector;
use super::status::Refusal;
use super::{CUSTOM, EXTERNAL, LOAD_METRIC, UNITS_METRIC};
use crate::{Absent, Dated, Desk};

/// All metrics.
pub(super) const METRICS: [&str; 2] = [UNITS_METRIC, LOAD_METRIC];

/// Asks for a time ahead, such as `10m`.
const AHEAD: &str = "ahead";
const SERVICE: &str = "service";

/// A kind of object that may stand for a service.
pub(super) struct Object {
    /// In paths.
    pub(super) resource: &'static str,
    api_version: &'static str,
    kind: &'static str,
}

pub(super) const OBJECTS: [Object; 4] = [
    Object { resource: "deployments.apps", api_version: "apps/v1", kind: "Deployment" },
    Object { resource: "statefulsets.apps", api_version: "apps/v1", kind: "StatefulSet" },
    Object { resource: "replicasets.apps", api_version: "apps/v1", kind: "ReplicaSet" },
    Object { resource: "services", api_version: "v1", kind: "Service" },
];

/// What is asked of an object.
pub(super) struct Described<'a> {
    pub(super) namespace: &'a str,
    pub(super) resource: &'a str,
    /// `*` = all.
    pub(super) name: &'a str,
    pub(super) metric: &'a str,
    /// Of the objects.
    pub(super) labels: &'a str,
    /// Of the metric.
    pub(super) metric_labels: &'a str,
}

/// An `ExternalMetricValueList`: one item for each service that the labels select.
pub(super) fn external(desk: &Desk, metric: &str, labels: &str) -> Result<Value, Refusal> {
    let (selector, ahead) = selector(metric, labels)?;
    let mut items = Vec::new();
    for service in selected(desk, &selector) {
        let Dated { value, at } = measured(desk, metric, &service, ahead)?;
        let mut labels = json!({ SERVICE: service.as_str() });
        if let Some(ahead) = ahead {
            labels[AHEAD] = ahead.to_string().into();
        }
        items.push(
            json!({ "metricName": metric, "metricLabels": labels, "timestamp": second(at), "value": quantity(value) }),
        );
    }
    if items.is_empty() {
        return Err(Refusal::not_found(metric, format!("no service is selected by `{labels}`")));
    }
    let (group, version) = EXTERNAL;
    Ok(json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": format!("{group}/{version}"),
        "metadata": {},
        "items": items,
    }))
}

/// A `MetricValueList`: of the service that has the name of the object, or the one that the label `service` of the metric names.
pub(super) fn custom(desk: &Desk, asked: &Described<'_>) -> Result<Value, Refusal> {
    let metric = asked.metric;
    let object = OBJECTS.iter().find(|object| object.resource == asked.resource);
    let object =
        object.ok_or_else(|| Refusal::not_found(metric, format!("there are no metrics of `{}`", asked.resource)))?;
    let (mut selector, ahead) = selector(metric, asked.metric_labels)?;
    let named = selector.take(SERVICE).map_err(Refusal::bad_request)?;
    if !selector.is_empty() {
        return Err(Refusal::bad_request(format!("metrics have no other labels than `{SERVICE}` and `{AHEAD}`")));
    }
    let mut items = Vec::new();
    for (name, service) in objects(desk, asked, named.as_deref())? {
        let Dated { value, at } = measured(desk, metric, &service, ahead)?;
        let mut identifier = json!({ "name": metric });
        if !asked.metric_labels.is_empty() {
            let ahead = ahead.map(|ahead| (AHEAD, ahead.to_string()));
            let named = named.clone().map(|named| (SERVICE, named));
            let labels: BTreeMap<_, _> = ahead.into_iter().chain(named).collect();
            identifier["selector"] = json!({ "matchLabels": labels });
        }
        items.push(json!({
            "describedObject": {
                "kind": object.kind,
                "namespace": asked.namespace,
                "name": name,
                "apiVersion": object.api_version,
            },
            "metric": identifier,
            "timestamp": second(at),
            "value": quantity(value),
        }));
    }
    let (group, version) = CUSTOM;
    Ok(json!({
        "kind": "MetricValueList",
        "apiVersion": format!("{group}/{version}"),
        "metadata": {},
        "items": items,
    }))
}

/// The objects that are meant, and the service that each stands for.
fn objects(desk: &Desk, asked: &Described<'_>, named: Option<&str>) -> Result<Vec<(String, ServiceName)>, Refusal> {
    if asked.name != "*" {
        let service = desk.service(named.unwrap_or(asked.name));
        let service = service.map_err(|absent| Refusal::absent(asked.metric, &absent))?;
        return Ok(vec![(asked.name.to_owned(), service)]);
    }
    if !asked.labels.is_empty() || named.is_some() {
        return Err(Refusal::bad_request("the labels of objects are not known: name one object"));
    }
    Ok(desk.services().into_iter().map(|service| (service.to_string(), service)).collect())
}

fn selector(metric: &str, labels: &str) -> Result<(Selector, Option<Span>), Refusal> {
    if !METRICS.contains(&metric) {
        return Err(Refusal::not_found(metric, format!("the metric `{metric}` is none of {}", METRICS.join(", "))));
    }
    let mut selector = Selector::parse(labels).map_err(Refusal::bad_request)?;
    let ahead = selector.take(AHEAD).map_err(Refusal::bad_request)?;
    let ahead = ahead.map(|text| {
        let ahead = text.parse::<Span>().ok().filter(|ahead| *ahead >= Span::ZERO);
        ahead.ok_or_else(|| Refusal::bad_request(format!("`{AHEAD}` is `{text}`, not a length of time such as 10m")))
    });
    Ok((selector, ahead.transpose()?))
}

fn selected(desk: &Desk, selector: &Selector) -> Vec<ServiceName> {
    let mut services = desk.services();
    services.retain(|service| selector.matches(&BTreeMap::from([(SERVICE, service.as_str())])));
    services
}

fn measured(desk: &Desk, metric: &str, service: &ServiceName, ahead: Option<Span>) -> Result<Dated<f64>, Refusal> {
    let value: Result<Dated<f64>, Absent> = if metric == UNITS_METRIC {
        desk.units(service, ahead).map(|units| Dated { value: f64::from(units.value), at: units.at })
    } else {
        desk.load(service, ahead)
    };
    value.map_err(|absent| Refusal::absent(metric, &absent))
}

/// Kubernetes writes whole seconds.
fn second(at: Timestamp) -> String {
    at.floor_to(Span::from_secs(1)).to_rfc3339()
}
