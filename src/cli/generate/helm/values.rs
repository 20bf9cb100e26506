//! Values of the chart and their schema: the static ones, and what the configuration adds. Rule: the defaults install what is
//! configured, and nothing that could undo what Prescale does.

use prescale_actuate::{ScaledAs, TargetSettings};
use prescale_domain::Mode;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::config::{Config, ServiceConfig};

const VALUES: &str = include_str!("chart/values.yaml");
const SCHEMA: &str = include_str!("chart/values.schema.json");

/// `values.yaml`: `needs` is what the pod needs beside the chart.
pub(super) fn values(config: &Config, replicas: u32, needs: &[String]) -> String {
    let needs = match needs {
        [] => "#   nothing".to_owned(),
        needs => needs.iter().map(|need| format!("#   {}", one_line(need))).collect::<Vec<_>>().join("\n"),
    };
    let services: Vec<String> = of_pods(config).map(|service| bounds(config, service)).collect();
    let services = match &services[..] {
        [] => "services: {}".to_owned(),
        services => format!("services:\n{}", services.join("\n")),
    };
    VALUES.replace("@REPLICAS@", &replicas.to_string()).replace("@SERVICES@", &services).replace("@NEEDS@", &needs)
}

/// `values.schema.json`: of services it knows those that there are.
pub(super) fn schema(config: &Config) -> Result<String, Failure> {
    let mut schema: Value = serde_json::from_str(SCHEMA).map_err(|error| Failure::Bug(error.to_string()))?;
    for service in of_pods(config) {
        schema["properties"]["services"]["properties"][&service.name] = json!({"$ref": "#/definitions/service"});
    }
    serde_json::to_string_pretty(&schema).map_err(|error| Failure::Bug(error.to_string()))
}

/// Services whose units are pods of a workload that the configuration names.
pub(super) fn of_pods(config: &Config) -> impl Iterator<Item = &ServiceConfig> {
    config.services.iter().filter(|service| matches!(service.target, TargetSettings::Kubernetes(_)))
}

/// An HPA beside Prescale's own changes, or beside the HPA whose floor it sets, would be the second of two.
fn is_free(config: &Config, service: &ServiceConfig) -> bool {
    let acts = service.mode.unwrap_or(config.mode) == Mode::Act;
    let has_hpa =
        matches!(&service.target, TargetSettings::Kubernetes(settings) if settings.scaled_as == ScaledAs::HpaFloor);
    !acts && !has_hpa
}

/// A name in quotes of JSON is one of YAML, whatever is in it.
fn bounds(config: &Config, service: &ServiceConfig) -> String {
    let (name, free) = (json!(service.name), is_free(config, service));
    let (min, max) = (service.target.min(), service.target.max().max(1));
    format!("  {name}: {{autoscale: {free}, min: {min}, max: {max}}}")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
