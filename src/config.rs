//! Configuration: one strict TOML file over the embedded defaults. Rule: all faults at once, each with its place; after
//! loading everything is valid and secrets are resolved.

mod check;
mod experiment;
mod lease;
mod merge;
mod nodes;
mod selector;
mod shape;
mod size;
mod source;
mod template;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use merge::References;

pub(crate) use check::refusal;
pub(crate) use lease::LeaseConfig;
pub(crate) use merge::Resolved;
pub(crate) use nodes::NodesConfig;
pub(crate) use selector::SelectorConfig;
pub(crate) use shape::{Config, ServiceConfig, State, TableFormat, service};
pub(crate) use source::{CloudWatchSource, FallbackSource, HistorySource, PrometheusSource};

/// The embedded defaults, the only home of them.
pub(crate) const DEFAULTS: &str = include_str!("../config/default.toml");

/// One thing that is wrong: where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A configuration that can't be used.
#[derive(Debug)]
pub(crate) struct ConfigError {
    pub(crate) file: String,
    pub(crate) faults: Vec<Fault>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(f, "configuration `{}` has {count} fault{}", self.file, if count == 1 { "" } else { "s" })?;
        for Fault { path, text } in &self.faults {
            if path.is_empty() { write!(f, "\n  {text}")? } else { write!(f, "\n  {path}: {text}")? }
        }
        f.write_str("\nhint: `prescale config schema` prints all keys; config/default.toml explains them")
    }
}

/// A loaded configuration.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Every value and where it came from.
    pub(crate) resolved: Resolved,
    /// Relative paths in the configuration start here.
    pub(crate) directory: PathBuf,
}

/// Reads and checks the file at `path`.
pub(crate) fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = read(path)?;
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    parse(&text, &path.display().to_string(), directory)
}

/// Reads the file at `path`.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let text = format!("can't be read: {error}");
        ConfigError { file: path.display().to_string(), faults: vec![Fault { path: String::new(), text }] }
    })
}

/// The place of the model registry.
pub(crate) fn models_place(loaded: &Loaded) -> Result<String, String> {
    let state = &loaded.config.state;
    if !state.models.is_empty() {
        return Ok(state.models.clone());
    }
    let folder = loaded.directory.join(&state.dir).join("models");
    let folder = std::path::absolute(&folder).map_err(|error| format!("folder `{}`: {error}", folder.display()))?;
    Ok(format!("file://{}", folder.display()))
}

/// Checks a configuration given as text.
pub(crate) fn parse(text: &str, file: &str, directory: PathBuf) -> Result<Loaded, ConfigError> {
    let wrong = |faults| ConfigError { file: file.to_owned(), faults };
    let (config, resolved) = merge::resolve(text, References::Replaced).map_err(wrong)?;
    let faults = check::faults(&config, Some(&directory));
    if !faults.is_empty() {
        return Err(wrong(faults));
    }
    Ok(Loaded { config, resolved, directory })
}

/// Checks the configuration of a process elsewhere: secrets stay the references that they are written as, and files are not
/// looked for.
pub(crate) fn parse_for_elsewhere(text: &str, file: &str) -> Result<Config, ConfigError> {
    let wrong = |faults| ConfigError { file: file.to_owned(), faults };
    let (config, _) = merge::resolve(text, References::Kept).map_err(wrong)?;
    let mut faults = check::faults(&config, None);
    // Nobody here knows what is there in its place.
    faults.retain(|fault| !fault.text.contains("${"));
    if faults.is_empty() { Ok(config) } else { Err(wrong(faults)) }
}

/// The JSON Schema of the configuration file: what has a default may be left out.
pub(crate) fn schema() -> Json {
    let mut schema = schemars::schema_for!(Config).to_value();
    let defaults =
        toml::from_str(DEFAULTS).expect("the embedded defaults are TOML, every test of a configuration reads them");
    relax(&mut schema, "", &defaults);
    schema
}

/// Takes the keys of `defaults` out of what the object at the JSON pointer `place` requires, and so on below it.
fn relax(schema: &mut Json, place: &str, defaults: &toml::Table) {
    if let Some(Json::Array(required)) = schema.pointer_mut(&format!("{place}/required")) {
        required.retain(|name| name.as_str().is_none_or(|name| !defaults.contains_key(name)));
    }
    for (name, value) in defaults {
        let toml::Value::Table(inner) = value else { continue };
        let reference = schema.pointer(&format!("{place}/properties/{name}/$ref")).and_then(Json::as_str);
        if let Some(place) = reference.and_then(|reference| reference.strip_prefix('#')).map(str::to_owned) {
            relax(schema, &place, inner);
        }
    }
}

#[cfg(test)]
mod tests;
