//! `prescale check`: is this configuration sound, and what does it amount to.

use std::path::PathBuf;

use clap::Args;
use prescale_domain::{Mode, Span};
use prescale_features::{Covariate, ERROR_RATE, ERROR_RATE_OF, STANDARD_NAME};
use prescale_pipeline::{PipelineError, Plan};

use super::{Failure, print};
use crate::app::formats::Formats;
use crate::app::pipelines::{Steps, is_for_features, udfs, unfit, unshareable};
use crate::config::{self, Config, FallbackSource, Loaded, State};

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
    let formats = Formats::load(&loaded.config, &loaded.directory).map_err(Failure::Invalid)?;
    let mut faults = Vec::new();
    let (mut pipelines, mut plans) = (Vec::new(), Vec::new());
    for pipeline in &loaded.config.features.pipelines {
        match read_pipeline(&loaded, &formats, pipeline) {
            Ok((summary, plan)) => {
                pipelines.push(format!("{pipeline}: {summary}"));
                plans.push(plan);
            }
            Err(error) => faults.push(format!("{pipeline}: {error}")),
        }
    }
    plans.retain(|plan| is_for_features(plan, &loaded.config.topics.features));
    // Where pipelines are wrong, what they make is not known, nor where others fill the topic.
    if faults.is_empty() && !plans.is_empty() {
        faults.extend(unmade(&loaded.config, &plans));
    }
    if !faults.is_empty() {
        return Err(Failure::Invalid(faults.join("\n")));
    }
    loaded.config.selector.setup(&loaded.config, &loaded.directory).map_err(Failure::Invalid)?;
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

/// What is named and no pipeline makes: columns, and the parts of windows.
fn unmade(config: &Config, plans: &[Plan]) -> Vec<String> {
    let is_made = |column: &str| plans.iter().any(|plan| plan.makes(column));
    let mut faults = Vec::new();
    let is_derived = |column: &str| column == ERROR_RATE && ERROR_RATE_OF.into_iter().all(is_made);
    let steps = Steps::of(config);
    if let Some(early) = steps.early.filter(|_| !plans.iter().any(|plan| steps.is_early(plan))) {
        let hint = format!("add one with tumble(interval '{} seconds')", early.millis() / 1000);
        faults.push(format!("features.early_step: no pipeline makes windows of {early}\nhint: {hint}"));
    }
    for (index, service) in config.services.iter().enumerate() {
        let mut fault = |key: &str, column: &str| {
            faults.push(format!("services[{index}].{key}: no pipeline makes a column `{column}`"));
        };
        if !is_made(&service.signal) {
            fault("signal", &service.signal);
        }
        for (place, name) in service.covariates.iter().enumerate() {
            let Ok(Covariate::Measure(column)) = name.parse::<Covariate>() else { continue };
            if !(column == STANDARD_NAME || is_derived(&column) || is_made(&column)) {
                fault(&format!("covariates[{place}]"), &column);
            }
        }
        for (name, column) in service.signals.columns() {
            if !(is_derived(column) || is_made(column)) {
                fault(&format!("signals.{name}"), column);
            }
        }
    }
    faults
}

fn read_pipeline(loaded: &Loaded, formats: &Formats, pipeline: &str) -> Result<(String, Plan), String> {
    let text = std::fs::read_to_string(loaded.directory.join(pipeline)).map_err(|error| error.to_string())?;
    let udfs = udfs(loaded, pipeline).map_err(|error| error.to_string())?;
    let mut plan =
        prescale_pipeline::compile_with(&text, &udfs).map_err(|error| PipelineError::from(error).to_string())?;
    formats.apply(&mut plan)?;
    let features = &loaded.config.features;
    let fault = unfit(&plan, Steps::of(&loaded.config), &loaded.config.topics.features);
    match fault.or_else(|| unshareable(&plan, features.processes, &features.record_keys)) {
        Some(fault) => Err(fault),
        None => {
            let summary = plan.summary();
            summary.warnings.iter().for_each(|warning| super::say(&format!("warning: {pipeline}: {warning}")));
            Ok((super::sql::describe(&summary), plan))
        }
    }
}

fn design(config: &Config, pipelines: &[String]) -> Vec<String> {
    let horizon = Span::from_millis(config.forecast.step.millis() * i64::from(config.forecast.horizon_steps));
    let mut lines = vec![
        "configuration is sound".to_owned(),
        format!("  ingestion: Kafka at {}", config.kafka.bootstrap_servers),
        format!("  features: {} windows, closed {} after their end", config.features.step, config.features.lateness),
    ];
    lines
        .extend(config.features.early_step.map(|early| format!("    an open window counts from its first {early} on")));
    lines.extend(pipelines.iter().map(|pipeline| format!("    {pipeline}")));
    if config.features.processes > 1 && !config.features.pipelines.is_empty() {
        lines.push(format!(
            "  shared by {} processes, as consumer groups prescale-{}-<pipeline>; where each share stands is on {}",
            config.features.processes, config.topics.features, config.topics.epochs
        ));
    }
    lines.push(format!("  state: {}", place_of_state(config)));
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
            service.target.describe(),
            service.signal,
            settings.min_units,
            settings.max_units,
            service.unit_capacity,
            settings.quantile,
            lead.provisioning_latency + lead.warm_up + config.policy.decision_interval,
        ));
        if !service.covariates.is_empty() {
            lines.push(format!("    the LSTM looks at {} too, where measured", service.all_covariates().join(", ")));
        }
        lines.push(format!(
            "    scale-in after {} of lower need by more than {} %; reactive at {} % utilization without a forecast; held when blind for {}",
            settings.stabilization_down,
            settings.hysteresis * 100.0,
            settings.reactive_utilization * 100.0,
            settings.blind_after,
        ));
        if let (Some(column), Some(objective)) = (&service.signals.latency, service.objective.latency) {
            lines.push(format!("    what a unit carries is learnt from {column} within {objective}"));
        }
        if let Some(FallbackSource::Prometheus { url, .. }) = &service.fallback {
            lines.push(format!("    while the stream is silent: load from Prometheus at {url}, upwards only"));
        }
    }
    if config.selector.enabled {
        let arms = config.selector.arms().join(", ");
        lines.push(format!("  policies are chosen by {} between {arms}, once an hour", config.selector.file));
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

fn place_of_state(config: &Config) -> String {
    let State { dir, checkpoints, .. } = &config.state;
    match checkpoints.as_str() {
        "" => format!("{dir}, checkpoints too"),
        place => format!("{dir}, checkpoints in {place}, which the process that starts last takes over"),
    }
}
