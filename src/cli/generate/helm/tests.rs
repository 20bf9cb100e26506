//! A chart as files, before Helm sees it.

use super::*;

const CONFIG: &str = r#"
mode = "act"

[kafka]
bootstrap_servers = "kafka:9092"

[kafka.client]
"sasl.password" = "${env:KAFKA_PASSWORD}"
"ssl.ca.location" = "certificates/ca.pem"

[features]
pipelines = ["../pipelines/requests.sql"]
processes = 3

[lease]
place = "kubernetes://ops/prescale"

[serve]
listen = "0.0.0.0:8080"

[adapter]
metrics = { listen = "0.0.0.0:6443" }
keda = { listen = "[::]:9443" }

[[services]]
name = "checkout"
unit_capacity = 50.0
target = { kind = "kubernetes", namespace = "shop", workload = "Deployment/checkout", min = 2, max = 40 }

[[services]]
name = "search"
mode = "recommend"
unit_capacity = 50.0
target = { kind = "kubernetes", namespace = "shop", workload = "Deployment/search", min = 0, max = 40 }
fallback = { kind = "prometheus", url = "${file:prometheus.url}", query = "sum(rate(requests_total[1m]))" }

[[services]]
name = "simulated"
unit_capacity = 20.0
target = { kind = "simulated", fleet = { min = 2, max = 50, initial = 2 } }
"#;

const SQL: &str = include_str!("../../../../pipelines/requests.sql");

/// The chart, its files as text.
fn charted(text: &str) -> Result<BTreeMap<String, String>, String> {
    let config = config::parse_for_elsewhere(text, "prescale.toml").map_err(|error| error.to_string())?;
    let layout = carried::layout(&config, text)?;
    let contents = layout.carried.keys().map(|name| (name.clone(), SQL.as_bytes().to_vec())).collect();
    let source = Source { config: &config, text, file: "prescale.toml", layout: &layout, contents: &contents };
    let files = chart(&source).map_err(|failure| failure.to_string())?;
    Ok(files.into_iter().map(|(name, content)| (name, String::from_utf8(content).unwrap())).collect())
}

fn data(files: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&files[&format!("files/{name}.json")]).unwrap()
}

#[track_caller]
fn refused(from: &str, to: &str, told: &str) {
    let text = CONFIG.replace(from, to);
    assert_ne!(text, CONFIG);
    let error = charted(&text).unwrap_err();
    assert!(error.contains(told) && error.contains("hint: "), "{error}");
}

#[test]
fn the_configuration_goes_in_as_it_is_written() {
    let files = charted(CONFIG).unwrap();
    assert_eq!(files["files/carried/config/prescale.toml"], CONFIG);
    assert_eq!(files["files/carried/pipelines/requests.sql"], SQL);
    let facts = data(&files, "facts");
    assert_eq!(facts["directory"], "/etc/prescale/config");
    assert_eq!(facts["state"], "/etc/prescale/config/prescale-state");
    assert_eq!(facts["ports"], json!({"api": 8080, "keda": 9443, "metrics": 6443}));
    assert_eq!((&facts["leased"], &facts["shared"], &facts["cluster"]), (&json!(true), &json!(true), &json!(true)));
    assert_eq!(facts["carried"][1]["path"], "/etc/prescale/pipelines/requests.sql");
    let needs = [
        "the environment variable `KAFKA_PASSWORD`",
        "the file `/etc/prescale/config/certificates/ca.pem` (kafka.client.ssl.ca.location)",
        "the file `/etc/prescale/config/prometheus.url` (`${file:prometheus.url}`)",
    ];
    assert_eq!(facts["needs"], json!(needs));
    let values: Value = serde_saphyr::from_str(&files["values.yaml"]).unwrap();
    assert_eq!(values["replicas"], 3);
    let services = json!({
        "checkout": {"autoscale": false, "min": 2, "max": 40},
        "search": {"autoscale": true, "min": 0, "max": 40},
    });
    assert_eq!(values["services"], services);
    assert!(
        files["values.yaml"].contains("#   the environment variable `KAFKA_PASSWORD`\n"),
        "{}",
        files["values.yaml"]
    );
    let schema: Value = serde_json::from_str(&files["values.schema.json"]).unwrap();
    assert!(schema["properties"]["services"]["properties"]["search"].is_object(), "{schema:#}");
    jsonschema::validate(&schema, &values).unwrap();
    // Each of them says what is its own.
    let properties: Vec<&String> =
        schema["properties"].as_object().unwrap().keys().filter(|key| *key != "global").collect();
    let keys: Vec<&String> = values.as_object().unwrap().keys().collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>(), properties.iter().collect::<BTreeSet<_>>());
    let description: Value = serde_saphyr::from_str(&files["Chart.yaml"]).unwrap();
    assert_eq!((&description["apiVersion"], &description["name"]), (&json!("v2"), &json!("prescale")));
}

#[test]
fn scaling_objects_hold_no_reference_and_are_those_of_pods() {
    let scaling = data(&charted(CONFIG).unwrap(), "scaling");
    for kind in ["hpa", "keda", "karpenter"] {
        let services: Vec<&String> = scaling[kind].as_object().unwrap().keys().collect();
        assert_eq!(services, ["checkout", "search"], "{kind}");
    }
    assert_eq!(scaling["keda"]["search"]["spec"]["triggers"].as_array().unwrap().len(), 1);
    assert!(!scaling.to_string().contains("${"), "{scaling:#}");
}

#[test]
fn what_can_not_run_in_a_pod_is_refused_with_a_hint() {
    refused("0.0.0.0:8080", "127.0.0.1:8080", "serve.listen");
    refused("\"0.0.0.0:6443\"", "\"6443\"", "write adapter.metrics.listen = \"0.0.0.0:6443\"");
    refused("[::]:9443", "0.0.0.0:8080", "adapter.keda.listen and serve.listen are both at port 8080");
    refused("../pipelines/requests.sql", "../pipelines/my requests.sql", "rename the file");
    refused("../pipelines/requests.sql", "${env:PIPELINE}", "features.pipelines[0]");
    refused("[lease]", "[state]\ndir = \"/etc/prescale\"\n[lease]", "would cover the configuration");
    refused("Deployment/checkout", "Gadget/checkout", "GROUP/Gadget/checkout");
}

#[test]
fn a_pipeline_that_calls_compiled_functions_is_refused() {
    let text = CONFIG.to_owned();
    let config = config::parse_for_elsewhere(&text, "prescale.toml").unwrap();
    let layout = carried::layout(&config, &text).unwrap();
    let calls = SQL.replace("count(*)", "sum(weight_of(service))");
    assert_ne!(calls, SQL);
    let contents = BTreeMap::from([("../pipelines/requests.sql".to_owned(), calls.into_bytes())]);
    let source = Source { config: &config, text: &text, file: "prescale.toml", layout: &layout, contents: &contents };
    let error = chart(&source).unwrap_err().to_string();
    assert!(error.contains("weight_of") && error.contains("no compiled functions"), "{error}");
}

#[test]
fn a_lone_replica_is_what_a_configuration_without_a_lease_gets() {
    let alone = CONFIG.replace("[lease]\nplace = \"kubernetes://ops/prescale\"", "");
    let files = charted(&alone).unwrap();
    assert_eq!(
        (&data(&files, "facts")["leased"], files["values.yaml"].contains("\nreplicas: 1\n")),
        (&json!(false), true)
    );
}

#[test]
fn a_chart_is_written_anew_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("chart");
    let mut files: BTreeMap<String, Vec<u8>> =
        charted(CONFIG).unwrap().into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    write(&out, &files).unwrap();
    std::fs::write(out.join("templates/mine.yaml"), "mine").unwrap();
    files.remove("files/carried/pipelines/requests.sql").unwrap();
    write(&out, &files).unwrap();
    assert!(!out.join("files/carried/pipelines/requests.sql").exists());
    assert!(out.join("templates/mine.yaml").exists() && out.join("Chart.yaml").exists());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    write(&other, &files).unwrap();
    let error = write(folder.path(), &files).unwrap_err();
    assert!(matches!(&error, Failure::No(told) if told.contains("hint: ")), "{error:?}");
    assert!(!folder.path().join("Chart.yaml").exists());
}
