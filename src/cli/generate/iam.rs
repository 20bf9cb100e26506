//! The least that AWS must allow. Rule: exactly the calls that the configured targets make, each on the resources that it can
//! be held to; `tests/it/generate.rs` holds it to the calls that are really made.

use std::collections::BTreeMap;

use prescale_actuate::{CloudWatchSettings, MetricQuery, Permission, SpotQueueSettings};
use serde_json::{Value, json};

use crate::config::Config;

/// `None` = nothing of it is in AWS.
pub(super) fn policy(config: &Config, region: &str, account: &str) -> Option<Value> {
    // Actions by the resources that they are allowed on.
    let mut statements: BTreeMap<Vec<String>, Vec<&'static str>> = BTreeMap::new();
    let mut resources: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let of_targets = config.services.iter().flat_map(|service| service.target.permissions());
    let of_metrics = config.cloudwatch.iter().flat_map(CloudWatchSettings::permissions);
    let of_queues = config.notices.iter().flat_map(SpotQueueSettings::permissions);
    let of_polls = config.cloudwatch_metrics.iter().map(|_| MetricQuery::permission());
    for Permission { action, resource } in of_targets.chain(of_metrics).chain(of_queues).chain(of_polls) {
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
