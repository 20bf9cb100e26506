//! The borders of `ARCHITECTURE.md`: who may depend on whom, which crate is the home of a costly dependency, and which
//! places know nothing of the outside. Rule: read from the manifests and the sources, not from a list of exceptions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::Table;

use crate::kit;

const LAYERS: [(&str, u8); 15] = [
    ("domain", 0),
    ("telemetry", 1),
    ("tower", 1),
    ("store", 1),
    ("collect", 2),
    ("ingest", 2),
    ("features", 2),
    ("forecast", 2),
    ("decide", 2),
    ("actuate", 2),
    ("pipeline", 3),
    ("controller", 4),
    ("serve", 5),
    ("adapter", 5),
    ("simulation", 5),
];

/// Of layer 2, what `pipeline` may use.
const PIPELINE_USES: &[&str] = &["ingest"];

/// Dependency (or its prefix, with `*`) and the crates that may name it. The root package may use rdkafka in its tests.
const HOMES: &[(&str, &[&str])] = &[
    ("rdkafka", &["ingest", "collect"]),
    ("burn*", &["forecast"]),
    ("datafusion*", &["pipeline"]),
    ("aws-*", &["actuate"]),
    ("kube*", &["actuate"]),
    ("k8s-openapi", &["actuate"]),
    ("bollard", &["actuate", "collect"]),
    ("sysinfo", &["collect"]),
    ("redb", &["store"]),
    ("libloading", &["pipeline"]),
    ("syn", &["pipeline"]),
    ("object_store", &["store"]),
    ("arrow*", &["ingest", "pipeline", "features"]),
    ("parquet", &["ingest", "pipeline", "features"]),
    ("prost*", &["ingest", "adapter"]),
    ("protox", &["ingest", "adapter"]),
    ("axum*", &["serve", "adapter"]),
    ("tonic*", &["adapter"]),
];

/// Files and folders of `src/` that know no clock, file, network, environment or executor.
const PURE: &[&str] = &[
    "domain",
    "decide",
    "simulation",
    "forecast/drift",
    "forecast/accuracy",
    "forecast/calibrate",
    "forecast/ensemble",
    "pipeline/watermark",
    "pipeline/window",
    "pipeline/late",
    "pipeline/commit",
    "ingest/decode",
    "actuate/fleet",
    "collect/container",
    "collect/rate",
    "collect/rows",
    "adapter/limiter",
    "adapter/metrics/quantity",
    "adapter/metrics/selector",
];

/// The wall clock has one reader.
const CLOCK: (&str, &str) = ("domain/time.rs", "Utc::now");

const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "Utc::now",
    "Local::now",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "File::",
    "TcpStream",
    "UdpSocket",
    "tokio",
    "rdkafka",
    "rand::rng(",
    "from_os_rng",
    "include_str!(\"/",
];

fn crates() -> BTreeMap<String, Table> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(kit::root().join("src")).unwrap() {
        let folder = entry.unwrap();
        if let Ok(text) = std::fs::read_to_string(folder.path().join("Cargo.toml")) {
            found.insert(folder.file_name().into_string().unwrap(), text.parse().unwrap());
        }
    }
    assert!(!found.is_empty());
    found
}

/// Names of all dependencies in a manifest, those of tests and build scripts included.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

#[test]
fn a_crate_depends_on_lower_layers_only() {
    for (name, manifest) in crates() {
        let own = layer(&name).unwrap_or_else(|| panic!("crate `{name}` has no layer"));
        for dependency in dependencies(&manifest) {
            let Some(other) = dependency.strip_prefix("prescale-") else { continue };
            let below = layer(other).unwrap_or_else(|| panic!("crate `{other}` has no layer"));
            assert!(below < own, "`{name}` (layer {own}) depends on `{other}` (layer {below})");
            if name == "pipeline" && below == 2 {
                assert!(PIPELINE_USES.contains(&other), "`pipeline` depends on `{other}`");
            }
        }
    }
}

#[test]
fn a_costly_dependency_has_one_home() {
    let mut manifests = crates();
    let mut root: Table = std::fs::read_to_string(kit::root().join("Cargo.toml")).unwrap().parse().unwrap();
    root.remove("dev-dependencies");
    manifests.insert("(root)".to_owned(), root);
    for (name, manifest) in &manifests {
        for dependency in dependencies(manifest) {
            for (costly, homes) in HOMES {
                let same = match costly.strip_suffix('*') {
                    Some(prefix) => dependency.starts_with(prefix),
                    None => dependency == *costly,
                };
                assert!(
                    !same || homes.contains(&name.as_str()),
                    "`{dependency}` is named by `{name}`, not only by {homes:?}"
                );
            }
        }
    }
}

#[test]
fn pure_places_name_nothing_of_the_outside() {
    let source = kit::root().join("src");
    let mut checked = 0;
    for place in PURE {
        let files = files_of(&source.join(place));
        for file in files {
            let path = file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
            let text = product_code(&std::fs::read_to_string(&file).unwrap());
            for word in IMPURE {
                if (path.as_str(), *word) != CLOCK {
                    assert!(!text.contains(word), "src/{path} names `{word}`");
                }
            }
            checked += 1;
        }
    }
    assert!(checked >= PURE.len(), "only {checked} files were found");
}

#[test]
fn each_crate_is_in_the_architecture_table() {
    let document = std::fs::read_to_string(kit::root().join("ARCHITECTURE.md")).unwrap();
    for name in crates().keys() {
        let row = document.lines().find(|line| line.starts_with('|') && line.contains(&format!("| `{name}`")));
        let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for `{name}`"));
        let shown: u8 = row.split('|').nth(1).unwrap().trim().parse().unwrap();
        assert_eq!(Some(shown), layer(name), "layer of `{name}`");
    }
}

/// The Rust files of a module: `place.rs`, and all below `place/` but its tests and examples. A place that has not come
/// yet has none.
fn files_of(place: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = Some(place.with_extension("rs")).filter(|file| file.is_file()).into_iter().collect();
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                let product = !path.ends_with("examples") && !path.ends_with("tests");
                folders.extend(product.then_some(path));
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A source without its comments and its tests.
pub(crate) fn product_code(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}
