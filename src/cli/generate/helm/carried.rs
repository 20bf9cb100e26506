//! What a configuration names outside of itself, and where a pod has it. Rule: a path that is relative to the configuration
//! leads to the same file in the pod; what a chart can't carry, and every secret, is told as a need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use prescale_actuate::{ClusterSettings, TargetSettings};
use prescale_adapter::TlsSettings;
use toml::{Table, Value};

use crate::config::{Config, HistorySource, TableFormat};

/// Above all that the chart brings into a pod.
const ROOT: &str = "/etc/prescale";

/// Folder of the configuration below that, once for each step that its paths lead up.
const FOLDER: &str = "config";

/// Where everything is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    /// Of the configuration, in the pod.
    pub(super) directory: String,
    /// Of what is written, in the pod.
    pub(super) state: String,
    /// Files that come with the chart: the path in the configuration, and that in the pod.
    pub(super) carried: BTreeMap<String, String>,
    /// What the pod needs beside the chart.
    pub(super) needs: Vec<String>,
}

/// The layout for a configuration, given as text as well.
///
/// # Errors
/// What can't be so in a pod, with its place.
pub(super) fn layout(config: &Config, text: &str) -> Result<Layout, String> {
    let named = named(config);
    let state_dir = config.state.dir.as_str();
    for (place, path) in named.iter().map(|(place, path)| (place.as_str(), *path)).chain([("state.dir", state_dir)]) {
        if is_reference(path) {
            return Err(format!(
                "{place}: what `{path}` stands for is known in the pod alone, and the chart has to know the path\nhint: \
                 write the path into the configuration"
            ));
        }
    }
    let up = named.iter().map(|(_, path)| steps_up(path)).max().unwrap_or_default().max(1);
    let directory = format!("{ROOT}{}", format!("/{FOLDER}").repeat(up));
    let in_pod = |place: &str, path: &str| {
        joined(&directory, path).ok_or_else(|| {
            format!(
                "{place}: `{path}` leads above the root of a pod\nhint: write the whole path into the configuration"
            )
        })
    };
    let (mut carried, mut needs) = (BTreeMap::new(), references(text, &directory));
    for (place, path) in named {
        let there = in_pod(&place, path)?;
        if path.starts_with('/') {
            needs.insert(format!("the file `{there}` ({place})"));
            continue;
        }
        if !there.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.')) {
            return Err(format!(
                "{place}: `{path}` can't be in a ConfigMap, whose names are of letters, digits, `-`, `_` and `.`\nhint: \
                 rename the file"
            ));
        }
        carried.insert(path.to_owned(), there);
    }
    let state = in_pod("state.dir", state_dir)?;
    let covers = |file: &str| file == state || file.starts_with(&format!("{}/", state.trim_end_matches('/')));
    if covers(&directory) || carried.values().any(|file| covers(file)) {
        return Err(format!(
            "state.dir: a volume at `{state}` would cover the configuration\nhint: give the state a folder of its own, such \
             as state.dir = \"/var/lib/prescale\""
        ));
    }
    needs.extend(elsewhere(config, &directory));
    if !config.shadow.reports.is_empty() {
        let reports = in_pod("shadow.reports", &config.shadow.reports)?;
        if !covers(&reports) {
            needs.insert(format!("the folder `{reports}`, to write to (shadow.reports)"));
        }
    }
    Ok(Layout { directory, state, carried, needs: needs.into_iter().collect() })
}

/// The name of a file of the pod within a ConfigMap.
pub(super) fn key(path: &str) -> String {
    below_root(path).replace('/', "__")
}

pub(super) fn below_root(path: &str) -> &str {
    path.strip_prefix(ROOT).unwrap_or(path).trim_start_matches('/')
}

/// Files that the configuration names relative to itself, with their places.
fn named(config: &Config) -> Vec<(String, &str)> {
    let mut named: Vec<(String, &str)> = Vec::new();
    for (index, path) in config.features.pipelines.iter().enumerate() {
        named.push((format!("features.pipelines[{index}]"), path));
    }
    for (table, format) in &config.features.formats {
        match format {
            TableFormat::Protobuf { descriptor_set, .. } => {
                named.push((format!("features.formats.{table}.descriptor_set"), descriptor_set));
            }
            TableFormat::Avro { schema } => named.push((format!("features.formats.{table}.schema"), schema)),
            TableFormat::ProtobufRegistry {} | TableFormat::AvroRegistry {} => {}
        }
    }
    let is_url = |path: &str| path.starts_with("http://") || path.starts_with("https://");
    for (index, path) in config.calendars.files.iter().enumerate().filter(|(_, path)| !is_url(path)) {
        named.push((format!("calendars.files[{index}]"), path));
    }
    for (index, service) in config.services.iter().enumerate() {
        if let Some(HistorySource::File { path, .. }) = &service.history {
            named.push((format!("services[{index}].history"), path));
        }
    }
    if config.selector.enabled {
        named.push(("selector.file".to_owned(), &config.selector.file));
    }
    named
}

/// What is read, or written to, at a path that no chart should carry.
fn elsewhere(config: &Config, directory: &str) -> BTreeSet<String> {
    let mut needs = BTreeSet::new();
    let mut file = |place: String, path: &Path| {
        let path = path.to_string_lossy();
        if !is_reference(&path) {
            let there = joined(directory, &path).unwrap_or_else(|| path.clone().into_owned());
            needs.insert(format!("the file `{there}` ({place})"));
        }
    };
    for (key, value) in &config.kafka.client {
        if ["location", "keytab"].iter().any(|word| key.ends_with(word)) {
            file(format!("kafka.client.{key}"), Path::new(value));
        }
    }
    let adapter = &config.adapter;
    let servers = [
        ("metrics", adapter.metrics.listen.is_some().then_some(&adapter.metrics.tls)),
        ("keda", adapter.keda.tls.as_ref()),
        ("ratelimit", adapter.ratelimit.tls.as_ref()),
    ];
    for (server, tls) in servers {
        let Some(TlsSettings { certificate, key, client_ca, .. }) = tls else { continue };
        for (name, path) in [("certificate", certificate), ("key", key), ("client_ca", client_ca)] {
            path.iter().for_each(|path| file(format!("adapter.{server}.tls.{name}"), path));
        }
    }
    for (place, cluster) in clusters(config) {
        cluster.kubeconfig.iter().for_each(|path| file(format!("{place}.kubeconfig"), path));
    }
    let shared = [
        ("state.checkpoints", &config.state.checkpoints),
        ("state.models", &config.state.models),
        ("lease.place", &config.lease.place),
    ];
    for (place, url) in shared {
        if let Some(folder) = url.strip_prefix("file://") {
            needs.insert(format!("the folder `{folder}`, to write to ({place})"));
        }
    }
    for (index, service) in config.services.iter().enumerate() {
        let host = match &service.target {
            TargetSettings::Docker(settings) => &settings.host,
            TargetSettings::Swarm(settings) => &settings.host,
            _ => continue,
        };
        if let Some(socket) = host.strip_prefix("unix://") {
            needs.insert(format!("the socket `{socket}` (services[{index}].target.host)"));
        }
    }
    needs
}

/// Clusters that are asked, each with the place of its settings.
fn clusters(config: &Config) -> Vec<(String, &ClusterSettings)> {
    let mut clusters = vec![("lease.cluster".to_owned(), &config.lease.cluster)];
    for (index, service) in config.services.iter().enumerate() {
        let of_target = |rest: &str| format!("services[{index}].target.{rest}");
        match &service.target {
            TargetSettings::Kubernetes(settings) => clusters.push((of_target("cluster"), &settings.cluster)),
            TargetSettings::KubernetesNodes(settings) => clusters.push((of_target("cluster"), &settings.cluster)),
            TargetSettings::EksNodegroup(settings) => {
                let drains = settings.drain.iter();
                clusters.extend(drains.map(|drain| (of_target("drain.kubernetes"), &drain.kubernetes)));
            }
            _ => {}
        }
    }
    clusters
}

fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.ends_with('}')
}

/// What `${env:NAME}` and `${file:PATH}` ask the pod for.
fn references(text: &str, directory: &str) -> BTreeSet<String> {
    let mut needs = BTreeSet::new();
    // It was read before.
    let table = toml::from_str::<Table>(text).unwrap_or_default();
    let mut left: Vec<&Value> = table.values().collect();
    while let Some(value) = left.pop() {
        match value {
            Value::Table(table) => left.extend(table.values()),
            Value::Array(items) => left.extend(items),
            Value::String(text) => {
                let Some(inside) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else { continue };
                match inside.split_once(':') {
                    Some(("env", name)) => needs.insert(format!("the environment variable `{name}`")),
                    Some(("file", path)) => {
                        let there = joined(directory, path).unwrap_or_else(|| path.to_owned());
                        needs.insert(format!("the file `{there}` (`{text}`)"))
                    }
                    _ => continue,
                };
            }
            _ => {}
        }
    }
    needs
}

/// How far above its beginning a relative path leads on its way.
fn steps_up(path: &str) -> usize {
    let (mut down, mut up) = (0_usize, 0_usize);
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::Prefix(_) => return 0,
            Component::Normal(_) => down += 1,
            Component::ParentDir if down > 0 => down -= 1,
            Component::ParentDir => up += 1,
            Component::CurDir => {}
        }
    }
    up
}

/// Where `path` leads from the folder `from`, by its letters alone; `None` = above the root.
fn joined(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        parts.clear();
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_by_its_letters() {
        let config = "/etc/prescale/config";
        for (path, up, there) in [
            ("a.sql", 0, Some("/etc/prescale/config/a.sql")),
            ("./b/../a.sql", 0, Some("/etc/prescale/config/a.sql")),
            ("../pipelines/a.sql", 1, Some("/etc/prescale/pipelines/a.sql")),
            ("b/../../a.sql", 1, Some("/etc/prescale/a.sql")),
            ("../../../../a.sql", 4, None),
            ("/srv/../a.sql", 0, Some("/a.sql")),
        ] {
            assert_eq!((steps_up(path), joined(config, path).as_deref()), (up, there), "{path}");
        }
        assert_eq!(key("/etc/prescale/pipelines/a.sql"), "pipelines__a.sql");
    }
}
