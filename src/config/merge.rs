//! From text to a typed configuration. Rule: a fault in one place does not hide the others.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{Config, DEFAULTS, Fault, template};

/// Every value of a configuration as a line, with where it came from; secrets are masked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) lines: Vec<String>,
}

/// What becomes of `${env:NAME}` and `${file:PATH}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum References {
    Replaced,
    /// For who writes of a process elsewhere: what they stand for is that one's secret.
    Kept,
}

/// Puts `text` over the defaults and gives it its types.
pub(crate) fn resolve(text: &str, kept: References) -> Result<(Config, Resolved), Vec<Fault>> {
    let fault = |path: &str, text: String| Fault { path: path.to_owned(), text };
    let mut own: Table =
        toml::from_str(text).map_err(|error| vec![fault("", error.to_string().trim_end().to_owned())])?;
    let mut merged: Table = toml::from_str(DEFAULTS).map_err(|error| vec![fault("defaults", error.to_string())])?;
    let mut filled = BTreeSet::new();
    let wrong = template::expand(&mut own, &mut filled);
    let mut mine = BTreeSet::new();
    overlay(&mut merged, &own, "", &mut mine);
    fill_rules(&mut merged);
    let resolved = describe(&merged, &mine, &filled);
    let mut faults = wrong;
    let mut merged = Value::Table(merged);
    if kept == References::Replaced {
        references(&mut merged, "", &mut faults);
    }
    loop {
        match serde_path_to_error::deserialize::<_, Config>(merged.clone()) {
            Ok(config) if faults.is_empty() => return Ok((config, resolved)),
            Ok(_) => return Err(faults),
            Err(error) => {
                // The first line says what; where is said by the path.
                let said = error.inner().to_string();
                let text = said.lines().next().unwrap_or_default().to_owned();
                let path = place(&error.path().to_string(), &text);
                faults.push(fault(&path, text));
                // Without the offending value the rest can be looked at; where that is not possible we stop.
                if !remove(&mut merged, &path) {
                    return Err(faults);
                }
                put_back(&mut merged, &path);
            }
        }
    }
}

/// A service that says some of the rules has the others of `[rules]`.
fn fill_rules(merged: &mut Table) {
    let Some(Value::Table(common)) = merged.get("rules").cloned() else { return };
    let services = merged.get_mut("services").and_then(Value::as_array_mut);
    for service in services.into_iter().flatten() {
        let Some(Value::Table(own)) = service.get_mut("rules") else { continue };
        let mut whole = common.clone();
        overlay(&mut whole, own, "", &mut BTreeSet::new());
        *own = whole;
    }
}

/// Where the fault is: the path, with the key that nobody knows.
fn place(path: &str, text: &str) -> String {
    let path = if path == "." { "" } else { path };
    let Some(key) = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) else {
        return path.to_owned();
    };
    if path == key || path.ends_with(&format!(".{key}")) { path.to_owned() } else { join(path, key) }
}

/// Puts the default at `path` where there is one, so that a wrong value is not a missing one too.
fn put_back(merged: &mut Value, path: &str) {
    let Ok(mut default) = toml::from_str::<Table>(DEFAULTS).map(Value::Table) else { return };
    let mut at = merged;
    let mut steps = path.split('.').peekable();
    while let Some(step) = steps.next() {
        let Some(found) = default.get(step).cloned() else { return };
        let Value::Table(table) = at else { return };
        if steps.peek().is_none() {
            drop(table.insert(step.to_owned(), found));
            return;
        }
        let Some(next) = table.get_mut(step) else { return };
        (at, default) = (next, found);
    }
}

fn overlay(base: &mut Table, own: &Table, path: &str, mine: &mut BTreeSet<String>) {
    for (key, value) in own {
        let path = join(path, key);
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(own)) => overlay(base, own, &path, mine),
            _ => {
                drop(base.insert(key.clone(), value.clone()));
                mine.insert(path);
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Replaces `${env:NAME}` and `${file:PATH}`.
fn references(value: &mut Value, path: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::String(text) => {
            let Some(inside) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else { return };
            let found = match inside.split_once(':') {
                Some(("env", name)) => {
                    environment(name).ok_or_else(|| format!("environment variable `{name}` is not set"))
                }
                Some(("file", file)) => std::fs::read_to_string(file)
                    .map(|content| content.trim_end().to_owned())
                    .map_err(|error| format!("file `{file}` can't be read: {error}")),
                _ => Err(format!("`{text}` is neither ${{env:NAME}} nor ${{file:PATH}}")),
            };
            match found {
                Ok(found) => *text = found,
                Err(text) => faults.push(Fault { path: path.to_owned(), text }),
            }
        }
        Value::Table(table) => {
            for (key, value) in table {
                references(value, &join(path, key), faults);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                references(item, &format!("{path}[{index}]"), faults);
            }
        }
        _ => {}
    }
}

/// The configuration is the one place that reads the environment.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Takes the value at `path` away, or the innermost list element or table around it that can go.
fn remove(root: &mut Value, path: &str) -> bool {
    let mut steps: Vec<String> = Vec::new();
    for part in path.split('.') {
        let mut pieces = part.split('[');
        steps.extend(pieces.next().filter(|name| !name.is_empty()).map(str::to_owned));
        steps.extend(pieces.map(|index| format!("[{}", index)));
    }
    let Some(last) = steps.pop() else { return false };
    let mut at = root;
    for step in &steps {
        let next = match step.strip_prefix('[').map(|index| index.trim_end_matches(']').parse::<usize>()) {
            Some(index) => index.ok().and_then(|index| at.get_mut(index)),
            None => at.get_mut(step.as_str()),
        };
        match next {
            Some(value) => at = value,
            None => return false,
        }
    }
    match (at, last.strip_prefix('[').and_then(|index| index.trim_end_matches(']').parse::<usize>().ok())) {
        (Value::Array(items), Some(index)) if index < items.len() => {
            items.remove(index);
            true
        }
        (Value::Table(table), None) => table.remove(&last).is_some(),
        _ => false,
    }
}

fn describe(merged: &Table, mine: &BTreeSet<String>, filled: &BTreeSet<String>) -> Resolved {
    let mut lines = Vec::new();
    leaves(&Value::Table(merged.clone()), "", &mut |path, value| {
        let own = mine.iter().any(|prefix| {
            path == prefix || path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
        });
        let origin = match own {
            _ if filled.contains(path) => "template",
            true => "file",
            false => "default",
        };
        lines.push(format!("{path} = {}  # {origin}", masked(path, value)));
    });
    Resolved { lines }
}

fn masked(path: &str, value: &Value) -> String {
    let last = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    let secret = ["password", "secret", "token", "key.pem", "credential"]
        .iter()
        .any(|word| last.contains(word) || path.contains(word));
    match value {
        Value::String(text) if secret && !text.starts_with("${") => "\"***\"".to_owned(),
        other => other.to_string(),
    }
}

fn leaves(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                leaves(value, &join(path, key), visit);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}[{index}]"), visit);
            }
        }
        leaf => visit(path, leaf),
    }
}
