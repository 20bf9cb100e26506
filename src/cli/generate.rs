//! `prescale generate`: manifests and policies for what is configured, ready to apply. Rule: pure text from the
//! configuration; every field is one that the served API knows.

mod alerts;
mod helm;
mod hpa;
mod iam;
mod karpenter;
mod keda;
mod rbac;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails")]
mod tests;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use prescale_actuate::{ObjectRef, TargetSettings};
use serde_json::Value;

use super::{Failure, print};
use crate::config::{self, Config, ServiceConfig};

/// Manifests and policies for what is configured, ready to apply.
#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  prescale generate keda -c prescale.toml --scaler prescale.ops:9443 | kubectl apply -f -\n  prescale generate hpa -c prescale.toml --service checkout\n  prescale generate iam -c prescale.toml > policy.json\n  prescale generate alerts -c prescale.toml > prescale.rules.yaml\n  prescale generate rbac -c prescale.toml --namespace ops | kubectl apply -f -\n  prescale generate helm -c prescale.toml --out chart"
)]
pub(crate) enum Command {
    /// ScaledObjects: the forecast through Prescale's external scaler, beside a trigger on what is measured.
    Keda(KedaArguments),
    /// HorizontalPodAutoscalers (v2) on the external metric that Prescale serves.
    Hpa(Of),
    /// A spot-first NodePool, and a CapacityBuffer that has nodes ready before the pods come.
    Karpenter(Of),
    /// The least that AWS must allow for the configured targets, as an IAM policy.
    Iam(IamArguments),
    /// Alerting rules for Prometheus, on Prescale's own metrics.
    Alerts(AlertsArguments),
    /// The least that a cluster must allow for the configured targets and lease, as Roles for a service account.
    Rbac(RbacArguments),
    Helm(helm::Arguments),
}

#[derive(Args)]
pub(crate) struct RbacArguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Service account that Prescale runs as.
    #[arg(long, value_name = "NAME", default_value = "prescale")]
    service_account: String,
    /// Namespace of the account.
    #[arg(long, value_name = "NAMESPACE", default_value = "prescale")]
    namespace: String,
}

#[derive(Args)]
pub(crate) struct AlertsArguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// For which services.
#[derive(Args)]
pub(crate) struct Of {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only this service; default: all.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of services whose target names none.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
}

#[derive(Args)]
pub(crate) struct KedaArguments {
    #[command(flatten)]
    of: Of,
    /// Where Prescale's scaler is, as KEDA reaches it.
    #[arg(long, value_name = "HOST:PORT", default_value = "prescale.prescale:9443")]
    scaler: String,
    /// What the pods do, for the trigger on what is measured: celery (length of a RabbitMQ queue), vllm (requests, latency and
    /// GPU; from zero), training (GPU); kafka, cpu and memory name one trigger each.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Where the presets ask for metrics.
    #[arg(long, value_name = "URL", default_value = "http://prometheus.monitoring:9090")]
    prometheus: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    Celery,
    Vllm,
    Training,
    Kafka,
    Cpu,
    Memory,
}

#[derive(Args)]
pub(crate) struct IamArguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Number of the account; `*` = any.
    #[arg(long, value_name = "NUMBER", default_value = "*")]
    account: String,
    /// Region of targets that name none.
    #[arg(long, value_name = "REGION", default_value = "*")]
    region: String,
}

pub(crate) fn generate(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Keda(arguments) => {
            let config = load(&arguments.of.config)?;
            let Config { kafka, .. } = &config;
            let settings = keda::Settings {
                scaler: &arguments.scaler,
                preset: arguments.preset,
                prometheus: &arguments.prometheus,
                bootstrap_servers: &kafka.bootstrap_servers,
            };
            print_all(&each(&config, &arguments.of, |workload| vec![keda::scaled_object(workload, &settings)])?)
        }
        Command::Hpa(of) => {
            let config = load(&of.config)?;
            let made = each(&config, of, |workload| vec![hpa::autoscaler(workload)])?;
            if let Some(service) = config.services.iter().find(|service| is_too_long(service, of)) {
                return Err(Failure::Invalid(format!(
                    "`{}` is longer than the {NAME_MAX} characters of a label, by which an HPA asks for its metric\nhint: \
                     `prescale generate keda` has no such limit",
                    service.name
                )));
            }
            print_all(&made)
        }
        Command::Karpenter(of) => print_all(&each(&load(&of.config)?, of, karpenter::ahead)?),
        Command::Rbac(arguments) => {
            let RbacArguments { config, service_account, namespace } = arguments;
            let text = config::read(config).map_err(Failure::invalid)?;
            let needed = rbac::needed(&for_elsewhere(config, &text)?).map_err(Failure::Invalid)?;
            if needed.is_empty() {
                let told = "neither targets nor lease of the configuration are asked for by a pod's own account: nothing need \
                            be allowed";
                return Err(Failure::Invalid(told.to_owned()));
            }
            print_all(&rbac::objects(&needed, &rbac::Account { name: service_account, namespace }))
        }
        Command::Helm(arguments) => helm::generate(arguments),
        Command::Alerts(arguments) => {
            print(yaml(&alerts::rules(&load(&arguments.config)?))?.trim_end());
            Ok(())
        }
        Command::Iam(arguments) => {
            let config = load(&arguments.config)?;
            let policy = iam::policy(&config, &arguments.region, &arguments.account).ok_or_else(|| {
                Failure::Invalid("no target of the configuration is in AWS: nothing need be allowed".to_owned())
            })?;
            // Text, numbers and lists: serialising can't fail.
            print(&serde_json::to_string_pretty(&policy).unwrap_or_default());
            Ok(())
        }
    }
}

/// A workload that a manifest is for.
struct Workload<'a> {
    service: &'a ServiceConfig,
    namespace: &'a str,
    /// Kubernetes' own form.
    api_version: String,
    kind: String,
    name: String,
    min: u32,
    max: u32,
}

impl<'a> Workload<'a> {
    fn of(service: &'a ServiceConfig, namespace: &'a str) -> Self {
        let (namespace, reference) = match &service.target {
            TargetSettings::Kubernetes(settings) => (settings.namespace.as_str(), settings.workload.clone()),
            _ => {
                let kind = "Deployment".to_owned();
                (namespace, ObjectRef { group: None, version: None, kind, name: service.name.clone() })
            }
        };
        // The usual kinds are all of `apps/v1`; of others the version is what is configured, or the first.
        let group = reference.group.unwrap_or_else(|| "apps".to_owned());
        let version = reference.version.unwrap_or_else(|| if group == "apps" { "v1" } else { "v1alpha1" }.to_owned());
        Self {
            service,
            namespace,
            api_version: format!("{group}/{version}"),
            kind: reference.kind,
            name: reference.name,
            min: service.target.min(),
            max: service.target.max(),
        }
    }

    fn object_name(&self, suffix: &str) -> String {
        format!("{}{suffix}", short(&self.name, NAME_MAX.saturating_sub(suffix.len())))
    }

    /// The service as the value of a label.
    fn label(&self) -> &'a str {
        short(&self.service.name, NAME_MAX)
    }
}

/// Names of objects and values of labels are no longer.
const NAME_MAX: usize = 63;

/// So much of a name as fits, without an end that no name may have.
fn short(name: &str, room: usize) -> &str {
    let end =
        name.char_indices().map(|(at, _)| at).chain([name.len()]).take_while(|at| *at <= room).last().unwrap_or(0);
    name[..end].trim_end_matches(['-', '.', '_'])
}

fn load(path: &Path) -> Result<Config, Failure> {
    Ok(config::load(path).map_err(Failure::invalid)?.config)
}

/// A configuration for a pod, with its references to secrets as they are written.
fn for_elsewhere(path: &Path, text: &str) -> Result<Config, Failure> {
    config::parse_for_elsewhere(text, &path.display().to_string()).map_err(|error| {
        let hint = if text.contains("${") {
            "\nhint: references stay as they are written, for the pod: numbers, durations and addresses have to be written out"
        } else {
            ""
        };
        Failure::Invalid(format!("{error}{hint}"))
    })
}

fn each(config: &Config, of: &Of, make: impl Fn(&Workload<'_>) -> Vec<Value>) -> Result<Vec<Value>, Failure> {
    let named = |service: &&ServiceConfig| of.service.as_ref().is_none_or(|name| service.name == *name);
    let services: Vec<&ServiceConfig> = config.services.iter().filter(named).collect();
    if let (Some(name), true) = (&of.service, services.is_empty()) {
        return Err(Failure::Invalid(format!("service `{name}` is not in the configuration")));
    }
    Ok(services.into_iter().flat_map(|service| make(&Workload::of(service, &of.namespace))).collect())
}

fn is_too_long(service: &ServiceConfig, of: &Of) -> bool {
    service.name.len() > NAME_MAX && of.service.as_ref().is_none_or(|name| service.name == *name)
}

fn print_all(documents: &[Value]) -> Result<(), Failure> {
    for document in documents {
        let text = yaml(document)?;
        print(&format!("---\n{}", text.trim_end()));
    }
    Ok(())
}

fn yaml(document: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(document).map_err(|error| Failure::Bug(format!("a manifest that is no YAML: {error}")))
}
