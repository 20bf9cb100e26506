//! The forecast streams of a back-test: made once by the loop's own code, kept by what they depend on. Rule: a stream that
//! is found is the one that would be made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prescale_controller::ControllerSettings;
use prescale_controller::replay::Replay;
use prescale_domain::{CalendarEvent, Series, ServiceName, Timestamp};
use prescale_simulation::stream::ForecastStream;

use crate::app;
use crate::cli::{Failure, say};

/// Changes with whatever makes other forecasts of the same history.
const VERSION: &str = concat!("prescale-", env!("CARGO_PKG_VERSION"), "-streams-1");

/// What forecasts depend on.
pub(super) struct Question<'a> {
    pub(super) settings: ControllerSettings,
    pub(super) histories: &'a BTreeMap<ServiceName, Series>,
    /// The load of the first part of each window, where it is known by itself.
    pub(super) parts: &'a BTreeMap<ServiceName, Series>,
    pub(super) events: Vec<CalendarEvent>,
    /// Forecasts are wanted after windows that end from here on.
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The stream of each service: from `folder` if it is there, else made and kept there. `progress` is told the share done.
pub(super) fn streams(
    question: Question,
    folder: Option<&Path>,
    progress: &mut dyn FnMut(f64),
) -> Result<BTreeMap<ServiceName, ForecastStream>, Failure> {
    let key = key(&question);
    let path = |service: &ServiceName| -> Option<PathBuf> {
        Some(folder?.join(format!("{}-{}.forecasts", file_name(service), &key[..16])))
    };
    // What is forecast at a moment depends on what was before it: a stream of a longer time holds this one.
    let first = question.histories.values().map(|series| series.start).min().unwrap_or(question.from);
    // Before the first window is over there is nothing to say.
    let (from, to) = (question.from.max(first + question.settings.step), question.to);
    let kept = question.histories.keys().map(|service| {
        let bytes = std::fs::read(path(service)?).ok()?;
        let stream = ForecastStream::from_bytes(&bytes).ok()?;
        (stream.reaches_from() <= from && to <= stream.end()).then(|| (service.clone(), stream))
    });
    if let Some(kept) = kept.collect::<Option<BTreeMap<_, _>>>() {
        return Ok(kept);
    }
    if let Some(path) = question.histories.keys().next().and_then(path) {
        say(&format!("forecasts are made, and kept as `{}` and the like", path.display()));
    }
    let made = make(question, progress)?;
    for (service, stream) in &made {
        let Some(path) = path(service) else { continue };
        write_whole(&path, &stream.to_bytes())?;
    }
    Ok(made)
}

fn make(question: Question, progress: &mut dyn FnMut(f64)) -> Result<BTreeMap<ServiceName, ForecastStream>, Failure> {
    let Question { settings, histories, parts, events, from, to } = question;
    let (step, levels, horizon) = (settings.step, settings.online.levels.clone(), settings.online.horizon());
    let first = histories.values().map(|series| series.start).min().unwrap_or(from);
    let mut streams: BTreeMap<ServiceName, ForecastStream> = histories
        .keys()
        .map(|service| {
            (
                service.clone(),
                ForecastStream::new(service.clone(), (from - step).max(first), step, levels.clone(), horizon),
            )
        })
        .collect();
    let mut replay = Replay::new(settings, events).map_err(app::controller_failure)?;
    let (mut start, whole) = (first, to.since(first).seconds().max(1.0));
    while start + step <= to {
        let known = histories.iter().filter(|(_, series)| series.start <= start && start < series.end());
        let loads = known.map(|(service, series)| (service.clone(), series.at(start))).collect();
        let of_parts = parts.iter().map(|(service, parts)| (service.clone(), parts.at(start))).collect();
        let made = replay.window(start, &loads, &of_parts).map_err(app::controller_failure)?;
        if start + step >= from {
            for (service, stream) in &mut streams {
                match made.get(service) {
                    Some(Ok(forecast)) => stream.push(Ok(forecast)),
                    Some(Err(reason)) => stream.push(Err(reason)),
                    None => stream.push(Err("no-history")),
                }
            }
        }
        start = start + step;
        progress(start.since(first).seconds() / whole);
    }
    Ok(streams)
}

/// A digest of all that forecasts depend on.
fn key(question: &Question) -> String {
    let Question { settings, histories, parts, events, .. } = question;
    let mut hasher = blake3::Hasher::new();
    let mut add = |value: &serde_json::Value| {
        hasher.update(value.to_string().as_bytes());
        hasher.update(b"\n");
    };
    add(&serde_json::json!([VERSION, settings.step, settings.lateness, settings.retention]));
    if let Some(early) = settings.early_step {
        add(&serde_json::json!(["early", early]));
    }
    add(&serde_json::to_value(&settings.online).unwrap_or_default());
    for service in &settings.services {
        add(&serde_json::json!([service.name, service.signal, service.covariates]));
    }
    add(&serde_json::to_value(events).unwrap_or_default());
    for (service, series) in histories.iter().chain(*parts) {
        hasher.update(serde_json::json!([service, series.start, series.step]).to_string().as_bytes());
        for value in &series.values {
            hasher.update(&value.map_or(u64::MAX, f64::to_bits).to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// A service's name as that of a file.
pub(super) fn file_name(service: &ServiceName) -> String {
    service.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Writes a file that is there as a whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Outside(format!("write `{}`: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)
}
