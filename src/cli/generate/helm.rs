//! A Helm chart that installs Prescale with exactly this configuration. Rule: the configuration goes in as it is written, with
//! its references to secrets and never with what they stand for; templates are static, and what they have to know of the
//! configuration is data beside them; what can't run in a pod is refused before anything is written.

mod carried;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails")]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use prescale_pipeline::udf::Udfs;
use serde_json::{Map, Value, json};

use self::carried::Layout;
use super::{NAME_MAX, Workload, alerts, hpa, karpenter, keda, rbac, short};
use crate::cli::{Failure, print, say};
use crate::config::{self, Config, FallbackSource, ServiceConfig};

/// Files that are the same in each chart.
const STATIC: [(&str, &str); 12] = [
    (".helmignore", include_str!("helm/chart/.helmignore")),
    ("templates/NOTES.txt", include_str!("helm/chart/templates/NOTES.txt")),
    ("templates/_helpers.tpl", include_str!("helm/chart/templates/_helpers.tpl")),
    ("templates/apiservices.yaml", include_str!("helm/chart/templates/apiservices.yaml")),
    ("templates/configuration.yaml", include_str!("helm/chart/templates/configuration.yaml")),
    ("templates/monitoring.yaml", include_str!("helm/chart/templates/monitoring.yaml")),
    ("templates/poddisruptionbudget.yaml", include_str!("helm/chart/templates/poddisruptionbudget.yaml")),
    ("templates/rbac.yaml", include_str!("helm/chart/templates/rbac.yaml")),
    ("templates/scaling.yaml", include_str!("helm/chart/templates/scaling.yaml")),
    ("templates/serviceaccount.yaml", include_str!("helm/chart/templates/serviceaccount.yaml")),
    ("templates/services.yaml", include_str!("helm/chart/templates/services.yaml")),
    ("templates/statefulset.yaml", include_str!("helm/chart/templates/statefulset.yaml")),
];

/// In a folder of a chart: the names of the files that were written, so that the next one takes them away.
const MARKER: &str = ".prescale-chart";

/// A ConfigMap holds 1 MiB, its names and what the API server notes of it included; the release, which Helm keeps in a Secret
/// of the same size, holds the templates as well, but packed.
const CARRIED_BYTES_MAX: usize = 900 << 10;

/// A Helm chart (v2) that installs Prescale with exactly this configuration, and the SQL files that it names.
///
/// Secrets stay the references that they are written as: the pod gets what they stand for by env, envFrom and extraVolumes of
/// the chart's values.
#[derive(Args)]
#[command(
    after_help = "Example:\n  prescale generate helm -c prescale.toml --out chart\n  helm upgrade --install prescale chart --namespace ops --values mine.yaml"
)]
pub(crate) struct Arguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of the chart: one that is not there, is empty, or holds a chart that was written so, which is written anew.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A configuration and what it names.
struct Source<'a> {
    config: &'a Config,
    text: &'a str,
    /// Name of its file.
    file: &'a str,
    layout: &'a Layout,
    /// What is in the files that it names, by their paths in it.
    contents: &'a BTreeMap<String, Vec<u8>>,
}

pub(super) fn generate(Arguments { config: path, out }: &Arguments) -> Result<(), Failure> {
    let text = config::read(path).map_err(Failure::invalid)?;
    let config = super::for_elsewhere(path, &text)?;
    let layout = carried::layout(&config, &text).map_err(Failure::Invalid)?;
    let file = path.file_name().and_then(|name| name.to_str()).filter(|name| is_plain(name)).ok_or_else(|| {
        Failure::Invalid(format!(
            "`{}` can't be in a ConfigMap, whose names are of letters, digits, `-`, `_` and `.`\nhint: rename the file",
            path.display()
        ))
    })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut contents = BTreeMap::new();
    for named in layout.carried.keys() {
        let place = directory.join(named);
        let read = std::fs::read(&place).map_err(|error| {
            let hint = "hint: paths are relative to the configuration; of a file that is in the pod by other means write the \
                        whole path";
            Failure::Invalid(format!("read `{}`: {error}\n{hint}", place.display()))
        });
        contents.insert(named.clone(), read?);
    }
    let source = Source { config: &config, text: &text, file, layout: &layout, contents: &contents };
    let files = chart(&source)?;
    write(out, &files)?;
    print(&format!("{}: {} files", out.display(), files.len()));
    if !layout.needs.is_empty() {
        say("the pod needs, by env, envFrom, extraVolumes and extraVolumeMounts of the values:");
        layout.needs.iter().for_each(|need| say(&format!("  {need}")));
    }
    Ok(())
}

/// All files of the chart, by their paths in it.
fn chart(source: &Source<'_>) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let Source { config, text, file, layout, contents } = source;
    let ports = ports(config)?;
    let needed = rbac::needed(config).map_err(Failure::Invalid)?;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut carried = vec![(format!("{}/{file}", layout.directory), text.as_bytes())];
    for (named, content) in contents.iter() {
        let Some(path) = layout.carried.get(named) else { continue };
        if config.features.pipelines.contains(named) {
            check_sql(named, content)?;
        }
        // Two names may lead to one file.
        if carried.iter().all(|(known, _)| known != path) {
            carried.push((path.clone(), content.as_slice()));
        }
    }
    check_size(&carried)?;
    let mut entries: Vec<Value> = Vec::new();
    let mut keys = BTreeSet::new();
    for (path, content) in carried {
        let (key, binary) = (carried::key(&path), std::str::from_utf8(content).is_err());
        if !keys.insert(key.clone()) {
            let told = format!("two files would be called `{key}` in the ConfigMap\nhint: rename `{path}`");
            return Err(Failure::Invalid(told));
        }
        let place = format!("files/carried/{}", carried::below_root(&path));
        entries.push(json!({"path": path, "key": key, "file": place, "binary": binary}));
        files.insert(place, content.to_vec());
    }
    // What each of several replicas would do as well.
    let (leased, shared) =
        (!config.lease.place.is_empty(), config.features.pipelines.is_empty() || config.features.processes > 1);
    let facts = json!({
        "file": file,
        "directory": layout.directory,
        "state": layout.state,
        "mode": config.mode,
        "scheme": "HTTP",
        "leased": leased,
        "shared": shared,
        // Whether the pod asks the cluster for anything.
        "cluster": !needed.is_empty(),
        "ports": ports,
        "needs": layout.needs,
        "carried": entries,
    });
    let needed: Vec<Value> =
        needed.iter().map(|access| json!({"namespace": access.namespace, "rules": access.rules})).collect();
    let data = [
        ("facts", facts),
        ("rbac", json!({ "needed": needed })),
        ("scaling", scaling(config)),
        ("alerts", alerts::rules(config)),
    ];
    for (name, value) in data {
        let text = serde_json::to_string_pretty(&value).map_err(|error| Failure::Bug(error.to_string()))?;
        files.insert(format!("files/{name}.json"), text.into_bytes());
    }
    let replicas = if leased && shared { config.features.processes.max(2) } else { 1 };
    files.insert("Chart.yaml".to_owned(), description(file).into_bytes());
    files.insert("values.yaml".to_owned(), values::values(config, replicas, &layout.needs).into_bytes());
    files.insert("values.schema.json".to_owned(), values::schema(config)?.into_bytes());
    for (path, text) in STATIC {
        files.insert(path.to_owned(), text.as_bytes().to_vec());
    }
    Ok(files)
}

fn description(file: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    // The kinds of a cluster are asked for in one answer since 1.30.
    format!(
        "# Written by `prescale generate helm`, which writes it anew.\napiVersion: v2\nname: prescale\ndescription: \
         Prescale with the configuration {file}\ntype: application\nversion: {version}\nappVersion: \"{version}\"\n\
         kubeVersion: \">=1.30.0-0\"\nkeywords: [autoscaling, forecasting, kafka]\n"
    )
}

/// Where the pod listens. What listens for its own pod alone would never be ready.
fn ports(config: &Config) -> Result<Map<String, Value>, Failure> {
    let (serve, adapter) = (&config.serve, &config.adapter);
    let api = serve.listen.parse::<SocketAddr>();
    let api = api.map_err(|error| {
        let told = format!("serve.listen `{}`: {error}", serve.listen);
        Failure::Invalid(format!("{told}\nhint: write the address into the configuration, such as \"0.0.0.0:8080\""))
    })?;
    let listeners = [
        ("api", "serve.listen", Some(api)),
        ("keda", "adapter.keda.listen", adapter.keda.listen.map(|listen| listen.0)),
        ("metrics", "adapter.metrics.listen", adapter.metrics.listen.map(|listen| listen.0)),
        ("ratelimit", "adapter.ratelimit.listen", adapter.ratelimit.listen.map(|listen| listen.0)),
    ];
    let (mut ports, mut taken) = (Map::new(), BTreeMap::new());
    for (name, key, address) in listeners {
        let Some(address) = address else { continue };
        let port = address.port();
        if !address.ip().is_unspecified() || port == 0 {
            let port = if port == 0 { 8080 } else { port };
            return Err(Failure::Invalid(format!(
                "{key}: a pod that listens at {address} is reached by nobody, its probes included\nhint: write {key} = \
                 \"0.0.0.0:{port}\" into the configuration; a NetworkPolicy says who may reach it then"
            )));
        }
        if let Some(other) = taken.insert(port, key) {
            let told = format!("{key} and {other} are both at port {port}\nhint: give each a port of its own");
            return Err(Failure::Invalid(told));
        }
        ports.insert(name.to_owned(), json!(port));
    }
    Ok(ports)
}

/// What `hpa`, `keda` and `karpenter` print, by service; the chart fills in bounds and the address of the scaler.
fn scaling(config: &Config) -> Value {
    let settings = keda::Settings { scaler: "", preset: None, prometheus: "", bootstrap_servers: "" };
    let (mut hpas, mut scaled_objects, mut nodes) = (Map::new(), Map::new(), Map::new());
    let mut pools = BTreeSet::new();
    for service in values::of_pods(config) {
        let service = &without_references(service);
        let (name, workload) = (service.name.clone(), Workload::of(service, "default"));
        // An HPA asks for its metric by a label.
        if name.len() <= NAME_MAX {
            hpas.insert(name.clone(), hpa::autoscaler(&workload));
        }
        scaled_objects.insert(name.clone(), keda::scaled_object(&workload, &settings));
        let mut ahead = karpenter::ahead(&workload);
        // A pool is in no namespace: those of two workloads of one name need two names.
        for pool in ahead.iter_mut().filter(|object| object["metadata"]["namespace"].is_null()) {
            let own = pool["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if !pools.insert(own.clone()) {
                pool["metadata"]["name"] = json!(short(&format!("{}-{own}", workload.namespace), NAME_MAX));
            }
        }
        nodes.insert(name, Value::Array(ahead));
    }
    json!({"hpa": hpas, "keda": scaled_objects, "karpenter": nodes})
}

/// KEDA does not know what references stand for.
fn without_references(service: &ServiceConfig) -> ServiceConfig {
    let mut service = service.clone();
    if let Some(FallbackSource::Prometheus { url, query, .. }) = &service.fallback
        && (url.starts_with("${") || query.starts_with("${"))
    {
        service.fallback = None;
    }
    service
}

/// Compiled functions are of one machine, and no text: the SQL has to do without them.
fn check_sql(path: &str, content: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(content);
    let checked = prescale_pipeline::check(&text, &Udfs::default());
    checked.map(drop).map_err(|error| {
        Failure::Invalid(format!(
            "pipeline `{path}`: {error}\nhint: a chart carries SQL, but no compiled functions: if it calls some, make an image \
             that has it and them, and write its whole path there into the configuration"
        ))
    })
}

fn check_size(carried: &[(String, &[u8])]) -> Result<(), Failure> {
    let bytes: usize = carried.iter().map(|(_, content)| content.len()).sum();
    let Some((largest, _)) = carried.iter().max_by_key(|(_, content)| content.len()) else { return Ok(()) };
    if bytes <= CARRIED_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::Invalid(format!(
        "the configuration and the files that it names are {bytes} bytes, and a ConfigMap holds {CARRIED_BYTES_MAX}\nhint: \
         bring the largest, `{largest}`, by extraVolumes, and write its whole path there into the configuration"
    )))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Writes the chart in place of one that was there.
fn write(out: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    let outside = |what: &str, path: &Path| {
        let told = format!("{what} `{}`", path.display());
        move |error: std::io::Error| {
            Failure::Outside(format!("{told}: {error}\nhint: name a folder that you may write to: --out DIR"))
        }
    };
    let marker = out.join(MARKER);
    let before = match std::fs::read_to_string(&marker) {
        Ok(before) => before,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(outside("read", &marker)(error)),
    };
    if before.is_empty() {
        let occupied = match std::fs::read_dir(out) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(outside("read", out)(error)),
        };
        if occupied {
            return Err(Failure::No(format!(
                "`{}` is not empty, and holds no chart of `prescale generate helm`: nothing was written\nhint: name another \
                 folder, or empty this one",
                out.display()
            )));
        }
    }
    let is_inside =
        |name: &&str| !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    for gone in before.lines().filter(is_inside).filter(|name| !files.contains_key(*name)) {
        let path = out.join(gone);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(outside("remove", &path)(error)),
            _ => {}
        }
    }
    let names: String = files.keys().map(|name| format!("{name}\n")).collect();
    // First: what is half written is ours as well.
    let all = std::iter::once((MARKER, names.as_bytes()));
    for (name, content) in all.chain(files.iter().map(|(name, content)| (name.as_str(), content.as_slice()))) {
        let path = out.join(name);
        let folder = path.parent().unwrap_or(out);
        std::fs::create_dir_all(folder).map_err(outside("make", folder))?;
        std::fs::write(&path, content).map_err(outside("write", &path))?;
    }
    Ok(())
}
