//! The least that AWS must allow. Rule: exactly the calls that the configured targets make, each on the resources that it can
//! be held to; `tests/it/generate.rs` holds it to the calls that are really made.

use std::collections::BTreeMap;

use prescale_actuate::{Permission, TargetSettings};
use serde_json::{Value, json};

/// `None` = no target is in AWS.
pub(super) fn policy(targets: &[&TargetSettings], region: &str, account: &str) -> Option<Value> {
    // Actions by the resources that they are allowed on.
    let mut statements: BTreeMap<Vec<String>, Vec<&'static str>> = BTreeMap::new();
    let mut resources: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for Permission { action, resource } in targets.iter().flat_map(|target| target.permissions()) {
        let resource = resource.map_or_else(|| "*".to_owned(), |resource| resource.arn(region, account));
        let known = resources.entry(action).or_default();
        if !known.contains(&resource) {
            known.push(resource);
        }
    }
    for (action, mut resources) in resources {
        resources.sort();
        statements.entry(resources).or_default().push(action);
    }
    if statements.is_empty() {
        return None;
    }
    let statements: Vec<Value> = statements
        .into_iter()
        .map(|(resources, actions)| json!({"Effect": "Allow", "Action": actions, "Resource": resources}))
        .collect();
    Some(json!({"Version": "2012-10-17", "Statement": statements}))
}
