//! `prescale model`: the versions of models, and which one is the champion. Rule: what changes the champion says why, and
//! is refused where the version can't be read.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressStyle;
use prescale_controller::covariates;
use prescale_controller::registry::{Draft, ModelError, ModelRegistry};
use prescale_domain::{Clock as _, Series, ServiceName, Span, SystemClock};
use prescale_features::{FeatureStore, HistorySettings};
use prescale_forecast::ForecastCrateError;
use prescale_forecast::models::ModelKind;
use prescale_forecast::online::train_by_hand;
use prescale_forecast::past::Known;
use prescale_forecast::registry::{Registry, RegistryError, Version};
use prescale_ingest::history::{Columns, read_history};
use prescale_store::RedbStore;

use super::{Failure, print};
use crate::app::histories;
use crate::config::{self, Loaded};

/// The model registry: list, show, train, promote, roll back.
///
/// Versions of the LSTM with what they were trained on, their figures and the version that each began from, in the place
/// that `state.models` names: a folder or an S3 prefix. A version never changes. Exits with 1 if a version is unknown or
/// refused, and with 4 if the place can't be reached or what lies there can't be read.
#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  prescale model list -c prescale.toml\n  prescale model train -c prescale.toml --history checkout=checkout.csv.gz --promote\n  prescale model rollback -c prescale.toml --why 'missed the evening peak'"
)]
pub(crate) enum Arguments {
    List(List),
    Show(Show),
    Train(Train),
    Promote(Promote),
    Rollback(Rollback),
}

/// List all versions.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale model list -c prescale.toml --json")]
pub(crate) struct List {
    #[command(flatten)]
    shared: Shared,
}

/// Show one version, and when it was the champion.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale model show -c prescale.toml 3")]
pub(crate) struct Show {
    #[command(flatten)]
    shared: Shared,
    /// Number of the version; default: the champion.
    version: Option<u64>,
}

/// Train a version on history and register it.
///
/// It starts from the champion where there is one, unless --from-scratch says otherwise, and is judged on the newest part
/// of the history, which it is not trained on. It serves only once it is promoted.
#[derive(Args)]
#[command(
    after_help = "Example:\n  prescale model train -c prescale.toml --history checkout=checkout_1m.csv.gz --from-scratch"
)]
pub(crate) struct Train {
    #[command(flatten)]
    shared: Shared,
    /// History of a service in windows of features.step: CSV, NDJSON or Parquet, by the file's ending; `.gz` is unpacked.
    /// Default: the history in the state directory, for which the service must be stopped.
    #[arg(long, value_name = "SERVICE=FILE", value_parser = history)]
    history: Vec<(ServiceName, PathBuf)>,
    /// Take the histories that `history` of the services in the configuration names.
    #[arg(long, conflicts_with = "history")]
    configured: bool,
    /// Begin with fresh weights.
    #[arg(long)]
    from_scratch: bool,
    /// Promote it at once.
    #[arg(long)]
    promote: bool,
}

/// Make a version the champion.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale model promote -c prescale.toml 4 --why 'better on last week'")]
pub(crate) struct Promote {
    #[command(flatten)]
    shared: Shared,
    /// Number of the version.
    version: u64,
    /// Why, for the record.
    #[arg(long, default_value = "by hand")]
    why: String,
}

/// Make the champion before the present one the champion again.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale model rollback -c prescale.toml --why 'missed the evening peak'")]
pub(crate) struct Rollback {
    #[command(flatten)]
    shared: Shared,
    /// Why, for the record.
    #[arg(long, default_value = "by hand")]
    why: String,
}

#[derive(Args)]
struct Shared {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

fn history(text: &str) -> Result<(ServiceName, PathBuf), String> {
    let (service, file) = text.split_once('=').ok_or("expected SERVICE=FILE")?;
    if service.is_empty() || file.is_empty() {
        return Err("expected SERVICE=FILE".to_owned());
    }
    Ok((ServiceName::new(service), PathBuf::from(file)))
}

pub(crate) fn model(arguments: &Arguments) -> Result<(), Failure> {
    match arguments {
        Arguments::List(list) => {
            let (_, registry) = open(&list.shared)?;
            let found = registry.read().map_err(failure)?;
            show(list.shared.json, &listed(&registry.place(), &found), || table(&registry.place(), &found))
        }
        Arguments::Show(one) => {
            let (_, registry) = open(&one.shared)?;
            let found = registry.read().map_err(failure)?;
            let number = one.version.or(found.champion).ok_or_else(|| {
                Failure::No(format!("there is no champion in `{}`\nhint: name a version", registry.place()))
            })?;
            let (version, _) = registry.load(number).map_err(failure)?;
            let reigns: Vec<_> = found.reigns.iter().filter(|reign| reign.version == number).collect();
            let champion = found.champion == Some(number);
            let body = serde_json::json!({ "version": version, "champion": champion, "reigns": reigns });
            show(one.shared.json, &body, || described(&version, &found))
        }
        Arguments::Train(train) => trained(train),
        Arguments::Promote(promote) => {
            let (_, registry) = open(&promote.shared)?;
            let before = registry.read().map_err(failure)?.champion;
            registry.promote(promote.version, SystemClock.now(), &promote.why).map_err(failure)?;
            crowned(promote.shared.json, promote.version, before)
        }
        Arguments::Rollback(rollback) => {
            let (_, registry) = open(&rollback.shared)?;
            let before = registry.read().map_err(failure)?.champion;
            let champion = registry.roll_back(SystemClock.now(), &rollback.why).map_err(failure)?;
            crowned(rollback.shared.json, champion, before)
        }
    }
}

fn open(shared: &Shared) -> Result<(Loaded, ModelRegistry), Failure> {
    let loaded = config::load(&shared.config).map_err(Failure::invalid)?;
    let place = config::models_place(&loaded).map_err(Failure::Outside)?;
    let registry = ModelRegistry::open(&place).map_err(failure)?;
    Ok((loaded, registry))
}

fn failure(error: ModelError) -> Failure {
    match &error {
        ModelError::Registry(
            RegistryError::Unknown { .. } | RegistryError::Champion { .. } | RegistryError::NoFormer { .. },
        ) => Failure::No(error.to_string()),
        _ => Failure::outside(error),
    }
}

fn show(
    json: bool,
    body: &serde_json::Value,
    text: impl FnOnce() -> Result<String, fmt::Error>,
) -> Result<(), Failure> {
    let bug = |error: &dyn fmt::Display| Failure::Bug(error.to_string());
    if json {
        print(&serde_json::to_string_pretty(body).map_err(|error| bug(&error))?);
    } else {
        print(text().map_err(|error| bug(&error))?.trim_end());
    }
    Ok(())
}

fn crowned(json: bool, champion: u64, before: Option<u64>) -> Result<(), Failure> {
    let body = serde_json::json!({ "champion": champion, "before": before });
    let was = before.map_or_else(String::new, |before| format!("; it was {before}"));
    show(json, &body, || Ok(format!("version {champion} is the champion{was}")))
}

fn listed(place: &str, registry: &Registry) -> serde_json::Value {
    let versions: Vec<&Version> = registry.versions.values().collect();
    serde_json::json!({ "place": place, "champion": registry.champion, "versions": versions, "reigns": registry.reigns })
}

fn table(place: &str, registry: &Registry) -> Result<String, fmt::Error> {
    if registry.versions.is_empty() {
        let hint = "hint: train one with prescale model train, or let the service do it";
        return Ok(format!("no versions in `{place}`\n{hint}"));
    }
    let mut text = String::new();
    writeln!(text, "  version  model  parent  {:<20}  {:<20}  {:<10}    loss", "created", "trained until", "reason")?;
    for version in registry.versions.values() {
        let mark = if registry.champion == Some(version.number) { '*' } else { ' ' };
        let parent = version.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
        let loss = version.metrics.get("loss").map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}"));
        writeln!(
            text,
            "{mark} {:>7}  {:<5}  {parent:>6}  {:<20}  {:<20}  {:<10}  {loss:>6}",
            version.number,
            version.model.name(),
            version.created_at.to_string(),
            version.training.until.to_string(),
            version.reason,
        )?;
    }
    text.push_str("* = champion; loss = pinball loss on windows not trained on, as a share of damped Holt's");
    Ok(text)
}

fn described(version: &Version, registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:<14}{value}");
    let champion = if registry.champion == Some(version.number) { ", the champion" } else { "" };
    line("version", format!("{} ({}{champion})", version.number, version.model))?;
    line("parent", version.parent.map_or_else(|| "none".to_owned(), |parent| parent.to_string()))?;
    line("created", format!("{}, {}", version.created_at, version.reason))?;
    let training = &version.training;
    line("trained on", format!("{} to {} in steps of {}", training.from, training.until, training.step))?;
    line("horizon", format!("{} steps", training.horizon_steps))?;
    let services: Vec<&str> = training.services.iter().map(ServiceName::as_str).collect();
    line("services", services.join(", "))?;
    for (name, value) in &version.metrics {
        line(name, format!("{value:.4}"))?;
    }
    line("object", format!("{} ({} bytes)", version.object, version.bytes))?;
    for reign in registry.reigns.iter().filter(|reign| reign.version == version.number) {
        line(&reign.kind, format!("{}: {}", reign.at, reign.why))?;
    }
    Ok(text)
}

fn trained(train: &Train) -> Result<(), Failure> {
    let (loaded, registry) = open(&train.shared)?;
    let settings = &loaded.config.forecast;
    let (mut named, mut kept) = (BTreeMap::new(), None);
    if train.configured {
        named = configured(&loaded)?;
    } else if train.history.is_empty() {
        kept = Some(recorded(&loaded)?);
    } else {
        named = read(&train.history, &loaded)?;
    }
    // Only what the service has kept has more than loads.
    let covariates = kept.as_ref().map(covariates).unwrap_or_default();
    let histories = kept.as_ref().map_or(&named, FeatureStore::all);
    let known = Known { histories, covariates: &covariates };
    let now = SystemClock.now();
    let champion = registry.read().map_err(failure)?.champion.filter(|_| !train.from_scratch);
    let base = champion.map(|number| registry.load(number)).transpose().map_err(failure)?;
    let bar = super::forecast::progress_bar();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(format!("training on {} services", histories.len()));
    bar.enable_steady_tick(Duration::from_millis(100));
    let base = base.map(|(_, bytes)| bytes);
    let done = train_by_hand(settings, known, base).map_err(|error| match error {
        ForecastCrateError::TooShort { .. } | ForecastCrateError::Diverged { .. } => Failure::No(error.to_string()),
        other => Failure::outside(other),
    })?;
    bar.finish_and_clear();
    let config = serde_json::to_value(settings).map_err(|error| Failure::Bug(error.to_string()))?;
    let draft = Draft {
        model: ModelKind::Lstm,
        parent: champion,
        created_at: now,
        reason: "manual".to_owned(),
        training: done.training,
        metrics: done.metrics.clone(),
        config,
        bytes: done.model,
    };
    let number = registry.register(draft, train.promote.then_some("trained by hand")).map_err(failure)?;
    let body = serde_json::json!({ "version": number, "promoted": train.promote, "metrics": done.metrics });
    show(train.shared.json, &body, || {
        let loss =
            done.metrics.get("loss").map_or_else(String::new, |loss| format!(", loss {loss:.3} of damped Holt's"));
        let next = if train.promote { "it is the champion" } else { "promote it with prescale model promote" };
        Ok(format!("version {number} is registered{loss}; {next}"))
    })
}

fn read(files: &[(ServiceName, PathBuf)], loaded: &Loaded) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let step = loaded.config.features.step;
    let read = |(service, path): &(ServiceName, PathBuf)| {
        let configured = loaded.config.services.iter().find(|own| own.name == service.as_str());
        let signals: Vec<&str> = configured.map(|own| own.signal.as_str()).into_iter().collect();
        let histories = read_history(path, &Columns::default(), &signals).map_err(Failure::invalid)?;
        Ok((service.clone(), histories.series(Some(service), step).map_err(Failure::invalid)?))
    };
    files.iter().map(read).collect()
}

/// Those that the configuration names.
fn configured(loaded: &Loaded) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let histories = histories::configured(loaded, &SystemClock)?;
    if histories.is_empty() {
        let hint = "hint: give a service history = { kind = \"file\", path = \"…\" }";
        return Err(Failure::No(format!("the configuration names no history\n{hint}")));
    }
    Ok(histories)
}

/// What the service has kept.
fn recorded(loaded: &Loaded) -> Result<FeatureStore, Failure> {
    let config = &loaded.config;
    let store = RedbStore::open(&loaded.directory.join(&config.state.dir)).map_err(Failure::outside)?;
    let history = HistorySettings {
        step: config.features.step,
        retention: config.features.retention,
        coarse_retention: Span::ZERO,
    };
    let signals = config.services.iter().map(|service| (ServiceName::new(&service.name), service.signal.clone()));
    let covariates = config.services.iter().map(|service| (ServiceName::new(&service.name), service.all_covariates()));
    let mut features = FeatureStore::new(history, signals).with_covariates(covariates);
    features.load(&store).map_err(Failure::outside)?;
    if features.all().is_empty() {
        return Err(Failure::No(
            "the state directory holds no history\nhint: name files with --history SERVICE=FILE".to_owned(),
        ));
    }
    Ok(features)
}
