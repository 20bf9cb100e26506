//! `prescale check`: is this configuration sound, and what does it amount to.

use std::path::PathBuf;

use clap::Args;
use prescale_actuate::TargetSettings;
use prescale_domain::{Mode, Span};
use prescale_pipeline::PipelineError;

use super::{Failure, print};
use crate::app::pipelines::{udfs, unfit};
use crate::config::{self, Config, Loaded};

/// Check a configuration and its feature SQL, and print the design that it amounts to.
///
/// Exits with 3 and a list of all faults if the configuration or the SQL is invalid, with 1 and a JSON object if the
/// set-up is valid but predictive scaling is impossible with it.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale check -c prescale.toml --show-resolved")]
pub(crate) struct Arguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print every value and where it came from; secrets are masked.
    #[arg(long)]
    show_resolved: bool,
}

pub(crate) fn check(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    if arguments.show_resolved {
        for line in &loaded.resolved.lines {
            print(line);
        }
        return Ok(());
    }
    let mut faults = Vec::new();
    let mut pipelines = Vec::new();
    for pipeline in &loaded.config.features.pipelines {
        match read_pipeline(&loaded, pipeline) {
            Ok(summary) => pipelines.push(format!("{pipeline}: {summary}")),
            Err(error) => faults.push(format!("{pipeline}: {error}")),
        }
    }
    if !faults.is_empty() {
        return Err(Failure::Invalid(faults.join("\n")));
    }
    if let Some(refusal) = config::refusal(&loaded.config) {
        print(&refusal);
        return Err(Failure::No(
            "the set-up is refused\nhint: raise forecast.horizon_steps or shorten lead_time".into(),
        ));
    }
    for line in design(&loaded.config, &pipelines) {
        print(&line);
    }
    Ok(())
}

fn read_pipeline(loaded: &Loaded, pipeline: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(loaded.directory.join(pipeline)).map_err(|error| error.to_string())?;
    let udfs = udfs(loaded, pipeline).map_err(|error| error.to_string())?;
    let plan = prescale_pipeline::compile_with(&text, &udfs).map_err(|error| PipelineError::from(error).to_string())?;
    match unfit(&plan, loaded.config.features.step) {
        Some(fault) => Err(fault),
        None => Ok(super::sql::describe(&plan.summary())),
    }
}

fn design(config: &Config, pipelines: &[String]) -> Vec<String> {
    let horizon = Span::from_millis(config.forecast.step.millis() * i64::from(config.forecast.horizon_steps));
    let mut lines = vec![
        "configuration is sound".to_owned(),
        format!("  ingestion: Kafka at {}", config.kafka.bootstrap_servers),
        format!("  features: {} windows, closed {} after their end", config.features.step, config.features.lateness),
    ];
    lines.extend(pipelines.iter().map(|pipeline| format!("    {pipeline}")));
    lines.push(format!(
        "  forecast: LSTM sequence-to-sequence, horizon {horizon} in steps of {}, retrained every {}, and on drift",
        config.forecast.step, config.forecast.refit_every
    ));
    for service in &config.services {
        let settings = service.policy_settings(&config.policy);
        let lead = service.lead_times(config.lead_time);
        let mode = match service.mode.unwrap_or(config.mode) {
            Mode::Observe => "observes",
            Mode::Recommend => "recommends",
            Mode::Act => "acts",
        };
        lines.push(format!(
            "  service {}: {mode}; {} on {}; {} to {} units of {} each; capacity covers the {} quantile {} ahead",
            service.name,
            target_kind(&service.target),
            service.signal,
            settings.min_units,
            settings.max_units,
            service.unit_capacity,
            settings.quantile,
            lead.provisioning_latency + lead.warm_up + config.policy.decision_interval,
        ));
        lines.push(format!(
            "    scale-in after {} of lower need by more than {} %; reactive at {} % utilization without a forecast; held when blind for {}",
            settings.stabilization_down,
            settings.hysteresis * 100.0,
            settings.reactive_utilization * 100.0,
            settings.blind_after,
        ));
    }
    if config.services.is_empty() {
        lines.push("  no service is configured: nothing will be forecast".to_owned());
    }
    if config.features.pipelines.is_empty() {
        lines.push("  no pipeline is configured: the features topic must be filled by another process".to_owned());
    }
    lines.push("  avoided: purely reactive thresholds, no upper bound, scale-in on missing data".to_owned());
    lines
}

fn target_kind(target: &TargetSettings) -> String {
    match target {
        TargetSettings::Simulated(_) => "simulated fleet".to_owned(),
        TargetSettings::AwsAsg(settings) => format!("Auto Scaling group `{}`", settings.group),
    }
}
