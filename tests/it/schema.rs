//! The schema of the configuration file. Rule: the committed one is what the command prints, it takes every
//! configuration that is shipped, and what the product refuses by its form it refuses too.

use jsonschema::Validator;
use serde_json::Value;

use crate::kit;

const SERVICE: &str = "[[services]]\nname = \"a\"\nunit_capacity = 1.0\ntarget = { kind = \"simulated\" }\n";

fn printed() -> String {
    let finished = kit::run(&["config", "schema"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&serde_json::from_str(&printed()).unwrap()).unwrap()
}

/// A configuration file as JSON.
#[track_caller]
fn json(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

#[test]
fn the_committed_schema_of_the_configuration_is_what_the_command_prints() {
    let (path, printed) = (kit::root().join("schemas/config.schema.json"), printed());
    if std::env::var_os("PRESCALE_BLESS").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let same = std::fs::read_to_string(&path).unwrap_or_default() == printed;
    assert!(same, "{} differs\nhint: PRESCALE_BLESS=1 tests/run.sh the_committed_schema writes it", path.display());
}

#[test]
fn the_configurations_that_are_shipped_conform_to_the_schema() {
    let validator = validator();
    for file in ["config/default.toml", "docker/prescale.toml"] {
        let text = std::fs::read_to_string(kit::root().join(file)).unwrap();
        let faults: Vec<String> = validator.iter_errors(&json(&text)).map(|fault| fault.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new(), "{file}");
    }
    for text in ["", SERVICE] {
        assert!(validator.is_valid(&json(text)), "{text}");
    }
}

#[test]
fn what_the_product_refuses_by_its_form_the_schema_refuses() {
    let validator = validator();
    let wrong = [
        "mod = \"act\"".to_owned(),
        "mode = \"acting\"".to_owned(),
        "[kafka]\nbootstrap = \"x\"".to_owned(),
        "[topics]\npartitions = \"one\"".to_owned(),
        SERVICE.replace("unit_capacity = 1.0\n", ""),
        SERVICE.replace("simulated", "imagined"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("prescale.toml");
    for text in wrong {
        assert!(!validator.is_valid(&json(&text)), "{text}");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(kit::run(&["check", "-c", path.to_str().unwrap()]).code, Some(3), "{text}");
    }
}
