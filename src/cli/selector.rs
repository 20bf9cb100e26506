//! `prescale selector`: trains the one that chooses between ready-made policies. Rule: what it learns from and what it is examined on
//! are different simulated days; the gate says whether it may serve, not the person who trains it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use prescale_actuate::FleetSettings;
use prescale_decide::selector::{Gate, Selector};
use prescale_domain::{Mode, Span, Timestamp};
use prescale_simulation::experiment::{ExperimentSettings, Stage};
use prescale_simulation::selector::{PolicyArm, Trained, TrainingSettings, train};
use prescale_simulation::workload::LoadSettings;

use super::forecast::progress_bar;
use super::{Failure, print};
use crate::config::{self, Loaded, ServiceConfig};

/// The selector of policies: train, show.
///
/// It learns in the simulator which of the policies of `[selector]` suits which kind of load, and is examined on other simulated
/// days. It serves (`selector.enabled`) only if its gain over what is configured is above zero with 95 % certainty.
#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  prescale selector train -c prescale.toml\n  prescale selector show -c prescale.toml"
)]
pub(crate) enum Arguments {
    Train(Train),
    Show(Show),
}

/// Train a selector and write it to `selector.file`.
///
/// Each simulated day is one of three services with the cycles, noise, campaigns and spikes of the demo, on fleets with the lead time of
/// the configuration. An arm is flown through it; what it costs and how long it is short is its reward.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale selector train -c prescale.toml --days 30 --exam-days 40 --seed 7")]
pub(crate) struct Train {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The service whose policy and units it is trained with; default: the first one.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Simulated days to learn from.
    #[arg(long, default_value_t = 30)]
    days: u64,
    /// Further ones that it is examined on.
    #[arg(long, default_value_t = 40)]
    exam_days: u64,
    /// Cost of being short all the time, in multiples of the cost of just the units needed.
    #[arg(long, default_value_t = 20.0, value_name = "NUMBER", value_parser = weight)]
    shortage_weight: f64,
    /// Seed of the first day; each further day has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn weight(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("give a number of at least 0".to_owned()) }
}

/// Show what a trained selector has learnt from, and whether it may serve.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale selector show -c prescale.toml")]
pub(crate) struct Show {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// Of a simulated day: what is known of it before, and what is flown.
const KNOWN: Span = Span::from_minutes(30 * 60);
const FLOWN: Span = Span::from_minutes(3 * 60);
/// Days begin at another hour each, so that all hours are flown.
const APART: Span = Span::from_minutes(31 * 60);
/// Units that the mean load needs.
const UNITS: f64 = 10.0;

pub(crate) fn selector(arguments: Arguments) -> Result<(), Failure> {
    match arguments {
        Arguments::Train(arguments) => train_one(&arguments),
        Arguments::Show(arguments) => show(&arguments),
    }
}

fn train_one(arguments: &Train) -> Result<(), Failure> {
    let loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    let service = service(&loaded, arguments.service.as_deref())?;
    let path = loaded.directory.join(&loaded.config.selector.file);
    let begin: Timestamp =
        "2026-03-02T00:00:00Z".parse().map_err(|error: prescale_domain::TimeError| Failure::Bug(error.to_string()))?;
    let lead = service.lead_times(loaded.config.lead_time);
    let fleet = FleetSettings {
        min: service.target.min(),
        max: service.target.max(),
        provisioning_latency: service.provisioning_median().unwrap_or(lead.provisioning_latency),
        provisioning_latency_p90: lead.provisioning_latency,
        warm_up: lead.warm_up,
        ..FleetSettings::default()
    };
    let bar = progress_bar();
    let (mut begun, all) = (0_u64, arguments.days.saturating_add(arguments.exam_days).max(1));
    let stage = |seed: u64| {
        bar.set_position(begun.saturating_mul(1000) / all);
        begun += 1;
        let start = begin + Span::from_millis(APART.millis().saturating_mul(seed.min(100_000) as i64));
        Stage::new(LoadSettings::demo(seed, start, KNOWN, FLOWN), FleetSettings { seed, ..fleet }, UNITS)
    };
    let trained = train(&training(&loaded, service, arguments), stage);
    bar.finish_and_clear();
    let Trained { selector, gate, chosen } = trained;
    let bytes = serde_json::to_vec(&selector).map_err(|error| Failure::Bug(error.to_string()))?;
    std::fs::write(&path, bytes).map_err(|error| Failure::Outside(format!("`{}`: {error}", path.display())))?;
    print(&format!("written to {}", path.display()));
    describe(&selector, gate);
    let names = selector.settings().arms.iter().zip(chosen);
    let chosen: Vec<String> =
        names.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    print(&format!("chosen in the examination: {}", chosen.join(", ")));
    Ok(())
}

fn service<'a>(loaded: &'a Loaded, name: Option<&str>) -> Result<&'a ServiceConfig, Failure> {
    let mut services = loaded.config.services.iter();
    let found = match name {
        Some(name) => services.find(|service| service.name == name),
        None => services.next(),
    };
    found.ok_or_else(|| match name {
        Some(name) => Failure::Invalid(format!("service `{name}` is not in the configuration")),
        None => {
            Failure::Invalid("the configuration has no service\nhint: it is trained with the policy of one".to_owned())
        }
    })
}

fn training(loaded: &Loaded, service: &ServiceConfig, arguments: &Train) -> TrainingSettings {
    let config = &loaded.config;
    let policies = config.selector.policies(service, config);
    let arm = |(name, policy)| PolicyArm {
        name,
        settings: ExperimentSettings {
            policy,
            decision_interval: config.policy.decision_interval,
            data_age: config.features.lateness,
            early: None,
            knows_events: true,
            mode: Mode::Act,
            rules: None,
        },
    };
    TrainingSettings {
        arms: config.selector.arms().into_iter().zip(policies).map(arm).collect(),
        default_arm: 0,
        stages: arguments.days,
        exam_stages: arguments.exam_days,
        shortage_weight: arguments.shortage_weight,
        seed: arguments.seed,
    }
}

fn show(arguments: &Show) -> Result<(), Failure> {
    let loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    // It is shown whether or not it is switched on.
    let config = config::SelectorConfig { enabled: true, ..loaded.config.selector.clone() };
    let setup = config.setup(&loaded.config, &loaded.directory).map_err(Failure::Invalid)?;
    if let Some(setup) = setup {
        describe(&setup.selector, setup.selector.gate());
    }
    if !loaded.config.selector.enabled {
        print("selector.enabled is false: what is configured decides");
    }
    Ok(())
}

/// What it has learnt from, and its gate.
fn describe(selector: &Selector, gate: Gate) {
    let episodes = selector.settings().arms.iter().zip(selector.episodes());
    let episodes: Vec<String> = episodes.map(|(name, count)| format!("{name} {count}")).collect();
    print(&format!("episodes by policy: {}", episodes.join(", ")));
    let number = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{value:+.4}"));
    let may = if gate.open { "it may serve" } else { "what is configured goes on to decide" };
    print(&format!(
        "gain over `{}` in {} episodes of the examination: {} (at least {} with 95 % certainty): {may}",
        config_name(selector),
        gate.episodes,
        number(gate.gain),
        number(gate.gain_low),
    ));
}

fn config_name(selector: &Selector) -> &str {
    let settings = selector.settings();
    settings.arms.get(settings.default_arm).map_or("configured", String::as_str)
}
