//! Ready-made policies. Rule: a template says what the file does not say itself, at the same place.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Fault;
use super::shape::PolicyOverride;

const TEMPLATES: &str = include_str!("../../config/templates.toml");

/// Which template a kind of pool is served by.
const POOLS: [(&str, &str); 4] = [
    ("general", "conservative"),
    ("embedding", "aggressive"),
    ("generation", "high-performance"),
    ("classification", "cost-optimized"),
];

/// Puts the fields of `policy.template` and `policy.pool` of the file, of its services and of treatments beside what they say themselves;
/// `filled` are the places that were.
pub(super) fn expand(own: &mut Table, filled: &mut BTreeSet<String>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let known: Table = toml::from_str(TEMPLATES).unwrap_or_default();
    if let Some(Value::Table(policy)) = own.get_mut("policy") {
        fill(policy, "policy", &known, filled, &mut faults);
    }
    let services = own.get_mut("services").and_then(Value::as_array_mut);
    for (index, service) in services.into_iter().flatten().enumerate() {
        if let Some(Value::Table(policy)) = service.get_mut("policy") {
            fill(policy, &format!("services[{index}].policy"), &known, filled, &mut faults);
        }
    }
    let experiments = own.get_mut("experiments").and_then(Value::as_array_mut);
    for (index, experiment) in experiments.into_iter().flatten().enumerate() {
        if let Some(Value::Table(policy)) = experiment.get_mut("treatment") {
            fill(policy, &format!("experiments[{index}].treatment"), &known, filled, &mut faults);
        }
    }
    faults
}

/// The names of all templates.
pub(super) fn names() -> Vec<String> {
    toml::from_str::<Table>(TEMPLATES).unwrap_or_default().keys().cloned().collect()
}

/// What a template says.
pub(super) fn named(name: &str) -> Option<PolicyOverride> {
    let known: Table = toml::from_str(TEMPLATES).ok()?;
    known.get(name)?.clone().try_into().ok()
}

fn fill(policy: &mut Table, path: &str, known: &Table, filled: &mut BTreeSet<String>, faults: &mut Vec<Fault>) {
    let mut fault = |key: &str, text: String| faults.push(Fault { path: format!("{path}.{key}"), text });
    let of_pool = policy.get("pool").map(|pool| {
        let found = POOLS.iter().find(|(name, _)| Some(*name) == pool.as_str()).map(|(_, template)| *template);
        let names: Vec<&str> = POOLS.iter().map(|(name, _)| *name).collect();
        found.ok_or_else(|| format!("{pool} is none of {}", names.join(", ")))
    });
    let named = policy.get("template").map(|name| name.as_str().map(str::to_owned).ok_or_else(|| name.to_string()));
    let name = match (named, of_pool) {
        (Some(Ok(name)), _) => name,
        (Some(Err(wrong)), _) => return fault("template", format!("{wrong} is not the name of a template")),
        (None, Some(Ok(name))) => name.to_owned(),
        (None, Some(Err(wrong))) => return fault("pool", wrong),
        (None, None) => return,
    };
    policy.insert("template".to_owned(), Value::String(name.clone()));
    let Some(Value::Table(template)) = known.get(&name) else {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        return fault("template", format!("`{name}` is none of {}", names.join(", ")));
    };
    for (key, value) in template {
        if !policy.contains_key(key) {
            policy.insert(key.clone(), value.clone());
            filled.insert(format!("{path}.{key}"));
        }
    }
}
