//! What a configuration file may say, and what it is told when it says something else.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::path::PathBuf;

use prescale_domain::{OpeningHours, PlanningRule, Span};
use prescale_ingest::history::Columns;

use super::{FallbackSource, HistorySource, TableFormat, parse, parse_for_elsewhere, refusal};

const SERVICE: &str = r#"
[[services]]
name = "checkout"
unit_capacity = 50.0
target = { kind = "aws-asg", group = "checkout-asg", min = 2, max = 200, price_usd_hour = 0.17 }
"#;

#[track_caller]
fn faults(text: &str) -> Vec<(String, String)> {
    let error = parse(text, "test.toml", PathBuf::from(".")).unwrap_err();
    error.faults.into_iter().map(|fault| (fault.path, fault.text)).collect()
}

#[test]
fn the_smallest_useful_file_is_enough() {
    let loaded = parse(SERVICE, "test.toml", PathBuf::from(".")).unwrap();
    let settings = loaded.config.services[0].policy_settings(&loaded.config.policy);
    assert_eq!((settings.min_units, settings.max_units), (2, 200));
    assert!((settings.quantile - 0.99).abs() < 1e-12, "{}", settings.quantile);
    assert!(refusal(&loaded.config).is_none());
}

#[test]
fn a_template_says_what_the_file_does_not_say() {
    let policy = |more: &str| {
        let loaded = parse(&format!("{SERVICE}{more}"), "test.toml", PathBuf::from(".")).unwrap();
        let settings = loaded.config.services[0].policy_settings(&loaded.config.policy);
        let lines = loaded.resolved.lines.join("\n");
        (settings, lines)
    };
    let (conservative, lines) = policy("policy = { template = \"conservative\", step_up_units = 4 }\n");
    assert_eq!((conservative.step_up_units, conservative.step_down_units), (4, 1));
    assert_eq!((conservative.cooldown_up, conservative.cooldown_down), (Span::from_secs(300), Span::from_secs(600)));
    assert_eq!(conservative.planning.rule, PlanningRule::Thresholds);
    assert!(!conservative.planning.predictive);
    assert!(lines.contains("services[0].policy.scale_up_at = 0.8  # template"), "{lines}");
    assert!(lines.contains("services[0].policy.step_up_units = 4  # file"), "{lines}");
    let (of_pool, _) = policy("[policy]\npool = \"embedding\"\n");
    assert_eq!((of_pool.planning.scale_up_at, of_pool.step_up_units), (0.6, 2));
    let wrong = faults(&format!("{SERVICE}[policy]\ntemplate = \"bold\"\n"));
    let said = "`bold` is none of aggressive, conservative, cost-optimized, high-performance";
    assert!(wrong.contains(&("policy.template".into(), said.into())), "{wrong:?}");
}

#[test]
fn all_faults_come_at_once_each_with_its_place() {
    let text = format!(
        "mod = \"act\"\n[kafka]\nbootstrap = \"x\"\n[features]\nstep = \"soon\"\npipelines = [\"missing.sql\"]\n{}",
        SERVICE.replace("min = 2", "min = 2, colour = \"red\"")
    );
    let found = faults(&text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    for expected in ["mod", "kafka.bootstrap", "features.step"] {
        assert!(paths.contains(&expected), "{expected} in {found:?}");
    }
    assert!(found.iter().any(|(path, text)| path.starts_with("services[0]") && text.contains("colour")), "{found:?}");
}

#[test]
fn values_out_of_bounds_name_value_and_bound() {
    let text = SERVICE.replace("50.0", "0.0").replace("min = 2", "min = 300");
    let found = faults(&text);
    assert!(found.contains(&("services[0].unit_capacity".into(), "0 is not above 0".into())), "{found:?}");
    assert!(found.contains(&("services[0].target".into(), "min 300 exceeds max 200".into())), "{found:?}");
}

#[test]
fn a_service_says_where_its_users_are_and_when_they_are_at_work() {
    let hours = |more: &str| {
        let loaded = parse(&format!("{SERVICE}{more}"), "test.toml", PathBuf::from(".")).unwrap();
        loaded.config.services[0].opening_hours("Europe/Berlin".parse().unwrap()).unwrap()
    };
    assert_eq!(hours(""), OpeningHours::usual("Europe/Berlin".parse().unwrap()));
    let own = hours("time_zone = \"Asia/Tokyo\"\nbusiness_hours = \"Sat-Sun 10:00-22:00\"\n");
    assert_eq!((own.zone.to_string().as_str(), own.days.len(), own.from_minute), ("Asia/Tokyo", 2, 600));
    for (more, path, text) in [
        ("time_zone = \"Mars/Olympus\"\n", "services[0].time_zone", "`Mars/Olympus` is no IANA time zone"),
        ("business_hours = \"nine to five\"\n", "services[0].business_hours", "`nine to five` is no hours of business"),
    ] {
        let found = faults(&format!("{SERVICE}{more}"));
        assert!(found.len() == 1 && found[0].0 == path && found[0].1.contains(text), "{found:?}");
    }
}

#[test]
fn a_covariate_is_neither_the_signal_nor_the_service_itself_nor_one_that_is_not_there() {
    let named = "name = \"checkout\"\ncovariates = [\"standard\", \"requests_per_second\", \"service:checkout\", \"service:shop\", \"\"]";
    let found = faults(&SERVICE.replace("name = \"checkout\"", named));
    let expected = [
        ("services[0].covariates[1]", "`requests_per_second` is the signal itself"),
        ("services[0].covariates[2]", "`service:checkout` is the service itself"),
        ("services[0].covariates[3]", "`service:shop` is no service of this configuration"),
        ("services[0].covariates[4]", "is empty"),
    ];
    assert_eq!(found, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    let both = format!(
        "{SERVICE}{}",
        SERVICE.replace("checkout\"", "shop\"\ncovariates = [\"standard\", \"service:checkout\"]")
    );
    let loaded = parse(&both, "test.toml", PathBuf::from(".")).unwrap();
    assert_eq!(loaded.config.services[0].all_covariates(), Vec::<String>::new());
    let all = loaded.config.services[1].all_covariates();
    assert_eq!((all[0].as_str(), all.last().map(String::as_str)), ("queue_length_mean", Some("service:checkout")));
}

#[test]
fn processes_that_share_pipelines_write_exactly_once() {
    let found = faults("[features]\nprocesses = 3\ndelivery = \"at-least-once\"\n");
    let text = "3: several share a pipeline only with features.delivery = \"exactly-once\"";
    assert_eq!(found, [("features.processes".to_owned(), text.to_owned())]);
    assert_eq!(faults("[features]\nprocesses = 0\n"), [("features.processes".to_owned(), "0 is below 1".to_owned())]);
}

#[test]
fn settings_of_forecasting_out_of_bounds_come_with_the_others() {
    let text = "[topics]\npartitions = 0\n[features]\nstep = \"7m\"\n[forecast]\nstep = \"7m\"\nhorizon_steps = 0\nlevels = [0.9, 0.5]\n\
        [forecast.drift]\nthreshold = 0.0\n[forecast.budget]\nfirst_samples = 0\n";
    let found = faults(text);
    let expected = [
        ("topics.partitions", "0 is below 1"),
        ("forecast.horizon_steps", "0 is out of bounds, expected 1 to 1440"),
        ("forecast.step", "7m is out of bounds, expected at least 1s and a divisor of 1d"),
        ("forecast.levels", "[0.9, 0.5] is out of bounds, expected ascending, each in (0, 1), with 0.5 among them"),
        ("forecast.drift.threshold", "0 is out of bounds, expected above 0"),
        ("forecast.budget.first_samples", "0 is out of bounds, expected at least 1"),
    ];
    assert_eq!(found, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
}

#[test]
fn the_compacted_topic_of_epochs_is_no_other_topic() {
    let found = faults("[topics]\nepochs = \"features\"\n");
    assert_eq!(found[0].0, "topics.epochs");
    assert!(faults("[features]\ndelivery = \"twice\"\n")[0].1.contains("exactly-once"));
}

#[test]
fn secrets_come_from_files_or_the_environment_and_are_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let text = format!(
        "[kafka.client]\n\"sasl.password\" = \"${{file:{}}}\"\n\"ssl.key.password\" = \"plain\"\n",
        path.display()
    );
    let loaded = parse(&text, "test.toml", PathBuf::from(".")).unwrap();
    assert_eq!(loaded.config.kafka.client["sasl.password"], "hunter2");
    let shown = loaded.resolved.lines.join("\n");
    assert!(!shown.contains("hunter2") && !shown.contains("plain"), "{shown}");
    assert!(shown.contains("state.dir = \"prescale-state\"  # default"), "{shown}");
    let missing = faults("[kafka.client]\n\"sasl.password\" = \"${env:PRESCALE_NO_SUCH_VARIABLE}\"\n");
    assert_eq!(missing[0].1, "environment variable `PRESCALE_NO_SUCH_VARIABLE` is not set");
}

#[test]
fn a_lead_time_beyond_the_horizon_is_refused_with_the_specified_json() {
    let text = format!("[lead_time]\nprovisioning_latency = \"31m\"\n{SERVICE}");
    let loaded = parse(&text, "test.toml", PathBuf::from(".")).unwrap();
    assert_eq!(
        refusal(&loaded.config).unwrap(),
        r#"{"error":"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time"}"#
    );
    let text = format!("[lead_time]\nprovisioning_latency = \"30m\"\n{SERVICE}");
    let loaded = parse(&text, "test.toml", PathBuf::from(".")).unwrap();
    assert!(refusal(&loaded.config).unwrap().contains("lead-time-beyond-horizon"));
}

#[test]
fn provisioning_beyond_the_confident_horizon_is_refused_to_the_second() {
    let refused = |latency: &str, more: &str| {
        let text = format!(
            "[forecast]\nmodels = [\"arima\"]\n[features]\nlateness = \"0s\"\n[policy]\ndecision_interval = \"1s\"\n\
             {SERVICE}confident_horizon = \"20m\"\nlead_time = {{ provisioning_latency = \"{latency}\", warm_up = \"0s\" }}\n{more}"
        );
        refusal(&parse(&text, "test.toml", PathBuf::from(".")).unwrap().config)
    };
    let exact = r#"{"error":"Forecasting horizon SLA violation: Node provisioning exceeds predictive lead time"}"#;
    assert_eq!(refused("1199s", ""), None);
    // Equal is not physically impossible, though with the decision interval it is too late.
    assert!(refused("1200s", "").unwrap().contains("lead-time-beyond-horizon"));
    assert_eq!(refused("1201s", "").as_deref(), Some(exact));
    assert_eq!(refused("1201s", "allow_reactive_only = true\n"), None);
}

#[test]
fn formats_and_the_registry_of_tables_are_read() {
    let text = "[features.formats]\na = { kind = \"protobuf\", descriptor_set = \"a.binpb\", message = \"shop.A\" }\n\
        b = { kind = \"protobuf-registry\" }\n[schema_registry]\nendpoint = \"https://registry\"\napi_key = \"me\"\napi_secret = \"hush\"\n";
    let loaded = parse(text, "test.toml", PathBuf::from(".")).unwrap();
    let formats = &loaded.config.features.formats;
    assert_eq!(formats["b"], TableFormat::ProtobufRegistry {});
    assert!(matches!(&formats["a"], TableFormat::Protobuf { message, .. } if message == "shop.A"));
    let registry = loaded.config.schema_registry.settings().unwrap();
    assert_eq!((registry.endpoint.as_str(), registry.api_secret.as_deref()), ("https://registry", Some("hush")));
    assert!(loaded.resolved.lines.iter().all(|line| !line.contains("hush")), "{:?}", loaded.resolved.lines);
    let none = parse("", "test.toml", PathBuf::from(".")).unwrap();
    assert_eq!(none.config.schema_registry.settings(), None);
    for wrong in ["{ kind = \"thrift\" }", "{ kind = \"protobuf\" }", "{ kind = \"avro-registry\", schema = \"x\" }"] {
        let found = faults(&format!("[features.formats]\na = {wrong}\n"));
        assert!(found.iter().any(|(path, _)| path.starts_with("features.formats.a")), "{wrong}: {found:?}");
    }
}

#[test]
fn the_history_of_a_service_is_a_file_or_a_query() {
    let with = |history: &str| format!("{SERVICE}history = {history}\n");
    let file = r#"{ kind = "file", path = "Cargo.toml", columns = { value = "load" } }"#;
    let loaded = parse(&with(file), "test.toml", PathBuf::from(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let columns = Columns { value: Some("load".to_owned()), ..Columns::default() };
    let expected = HistorySource::File { path: "Cargo.toml".to_owned(), columns };
    assert_eq!(loaded.config.services[0].history, Some(expected));
    let query = r#"{ kind = "prometheus", url = "http://localhost:9090", query = "up", bearer_token = "secret" }"#;
    let loaded = parse(&with(query), "test.toml", PathBuf::from(".")).unwrap();
    let shown = loaded.resolved.lines.join("\n");
    assert!(shown.contains("query = \"up\"") && !shown.contains("\"secret\""), "{shown}");
    let wrong = [
        (r#"{ kind = "file", path = "absent.csv" }"#, "`./absent.csv` is not a file"),
        (
            r#"{ kind = "prometheus", url = "localhost", query = "up" }"#,
            "url `localhost` is not a URL such as http://prometheus:9090",
        ),
        (r#"{ kind = "prometheus", url = "http://a", query = " " }"#, "query is empty, expected PromQL"),
        (
            r#"{ kind = "prometheus", url = "http://a", query = "up", from = "2026-01-02T00:00:00Z", to = "2026-01-01T00:00:00Z" }"#,
            "from 2026-01-02T00:00:00Z is not before to 2026-01-01T00:00:00Z",
        ),
    ];
    for (history, text) in wrong {
        assert_eq!(faults(&with(history)), [("services[0].history".to_owned(), text.to_owned())]);
    }
}

#[test]
fn another_source_of_load_is_asked_in_time_and_not_too_soon() {
    let with = |more: &str| {
        format!("{SERVICE}fallback = {{ kind = \"prometheus\", url = \"http://a:9090\", query = \"up\"{more} }}\n")
    };
    let loaded = parse(&with(", bearer_token = \"hush\""), "test.toml", PathBuf::from(".")).unwrap();
    let FallbackSource::Prometheus { after, fresh_for, service_label, .. } =
        loaded.config.services[0].fallback.clone().unwrap();
    assert_eq!((after, fresh_for, service_label), (None, None, None));
    assert!(loaded.resolved.lines.iter().all(|line| !line.contains("hush")), "{:?}", loaded.resolved.lines);
    assert!(parse(&with(", after = \"70s\", fresh_for = \"20s\""), "test.toml", PathBuf::from(".")).is_ok());
    let wrong = [
        (
            ", after = \"65s\"",
            "after 65s is not longer than 65s, features.step and features.lateness, as long as a stream that speaks may take",
        ),
        (", fresh_for = \"15s\"", "fresh_for 15s is not longer than policy.fast_interval, 15s: it is asked no sooner"),
    ];
    for (more, text) in wrong {
        assert_eq!(faults(&with(more)), [("services[0].fallback".to_owned(), text.to_owned())]);
    }
    let found = faults(&with("").replace("http://a:9090", "a").replace("\"up\"", "\"\""));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn hours_are_kept_longer_than_windows_or_not_at_all() {
    assert!(parse("[features]\ncoarse_retention = \"0s\"\n", "test.toml", PathBuf::from(".")).is_ok());
    let text = "35d is not longer than features.retention, 35d; \"0s\" switches it off";
    let found = faults("[features]\ncoarse_retention = \"35d\"\n");
    assert_eq!(found, [("features.coarse_retention".to_owned(), text.to_owned())]);
}

#[test]
fn an_experiment_is_between_what_is_configured_and_what_it_says_otherwise() {
    let text = |more: &str| {
        format!(
            "{SERVICE}policy = {{ step_up_units = 7 }}\n[[experiments]]\nname = \"bold\"\nstart = \"2026-12-01T00:00:00Z\"\nend = \"2026-12-29T00:00:00Z\"\ndesign = {{ kind = \"switchback\", period = \"1d\", washout = \"1h\" }}\n{more}"
        )
    };
    let loaded = parse(&text("treatment = { template = \"aggressive\" }"), "test.toml", PathBuf::from(".")).unwrap();
    let setup = loaded.config.experiments[0].setup(&loaded.config);
    assert!(setup.settings.faults().is_empty());
    assert_eq!(setup.settings.services, ["checkout".into()]);
    // What the service says itself holds where the treatment does not say otherwise.
    let plain = parse(&text("treatment = { risk_max = 0.4 }"), "test.toml", PathBuf::from(".")).unwrap();
    let treated = &plain.config.experiments[0].setup(&plain.config).treatments[&"checkout".into()];
    let own = plain.config.services[0].policy_settings(&plain.config.policy);
    assert_eq!((treated.step_up_units, treated.planning.risk_max), (7, 0.4));
    assert_ne!(own.planning.risk_max, 0.4);
    assert_eq!(setup.treatments[&"checkout".into()].planning.scale_up_at, 0.6);

    let said =
        |more: &str| faults(&text(more)).into_iter().map(|(path, text)| format!("{path}: {text}")).collect::<Vec<_>>();
    assert_eq!(said("treatment = {}"), ["experiments[0].treatment: is what is configured for `checkout`"]);
    let wrong = said("treatment = { risk_max = 2.0 }\nservices = [\"shop\", \"checkout\"]");
    assert_eq!(
        wrong,
        [
            "experiments[0].services: `shop` is no service of this configuration",
            "experiments[0].treatment (policy.risk_max): 2 is not in [0, 0.5]"
        ]
    );
    let second = "treatment = { risk_max = 0.4 }\n[[experiments]]\nname = \"bold\"\nstart = \"2027-12-01T00:00:00Z\"\nend = \"2026-12-29T00:00:00Z\"\ndesign = { kind = \"service-split\", share = 0.5, first_look = \"7d\" }\ntreatment = { risk_max = 0.4 }";
    let wrong = said(second);
    assert!(wrong.iter().any(|text| text == "experiments[1].name: `bold` is there twice"), "{wrong:?}");
    assert!(wrong.iter().any(|text| text.contains("`checkout` is in the experiment `bold` too")), "{wrong:?}");
    assert!(wrong.iter().any(|text| text.contains("is not after start")), "{wrong:?}");
    assert!(wrong.iter().any(|text| text.contains("can't be split")), "{wrong:?}");
}

#[test]
fn a_configuration_for_elsewhere_keeps_its_references_and_looks_for_no_file() {
    let text = "[kafka]\nbootstrap_servers = \"kafka:9092\"\n[kafka.client]\n\"sasl.password\" = \"${env:PRESCALE_NO_SUCH}\"\n\
                [features]\npipelines = [\"no-such.sql\"]\n";
    let config = parse_for_elsewhere(text, "prescale.toml").unwrap();
    assert_eq!(config.kafka.client["sasl.password"], "${env:PRESCALE_NO_SUCH}");
    let error = parse(text, "prescale.toml", PathBuf::from(".")).unwrap_err();
    assert!(error.to_string().contains("`PRESCALE_NO_SUCH` is not set"), "{error}");
    let wrong = parse_for_elsewhere("[kafka]\nbootstrap_servers = \"\"\n", "prescale.toml").unwrap_err();
    assert!(wrong.to_string().contains("kafka.bootstrap_servers: is empty"), "{wrong}");
}
