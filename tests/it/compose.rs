//! The container files. Rule: a Compose implementation reads what is shipped, and it is what the documents promise.

use std::process::{Command, Stdio};

use crate::kit;

#[test]
fn the_compose_file_is_valid_and_has_kafka_and_prescale() {
    let Some(compose) = kit::compose() else { return };
    let config = |arguments: &[&str]| {
        let mut command = Command::new(&compose);
        command.arg("--file").arg(kit::root().join("docker/compose.yaml")).arg("config").args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut services: Vec<_> = config(&["--services"]).lines().map(str::to_owned).collect();
    services.sort();
    assert_eq!(services, ["kafka", "prescale"]);
    config(&["--quiet"]);
}

#[test]
fn the_image_runs_as_somebody_without_rights() {
    let dockerfile = std::fs::read_to_string(kit::root().join("docker/Dockerfile")).unwrap();
    let last_stage = dockerfile.rsplit("\nFROM ").next().unwrap();
    let user = last_stage.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(!["root", "0"].contains(&user.split(':').next().unwrap()), "{user}");
}

#[test]
fn the_configuration_in_the_image_is_valid() {
    let checked = kit::run(&["check", "-c", "docker/prescale.toml"]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}
