//! Containers and services of a real Docker Engine. Rule: the engine's own client has the last word on what became of them.
//! What each failure of the engine becomes is proven beside the targets, in `src/actuate/docker/tests.rs`.

mod racer;

use std::process::{Command, Stdio};
use std::time::Duration;

use prescale_actuate::{
    Actuator, ContainerGroupSettings, ContainerTemplate, SwarmServiceSettings, Target, TargetSettings,
};
use prescale_domain::{Decision, Mode, Outcome, Span, Timestamp};
use serde_json::{Value, json};

use crate::kit;
use racer::Racer;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The sample of a decision, to act, with another capacity.
fn decision(desired: u32) -> Decision {
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let mut decision = samples.into_iter().next().unwrap();
    (decision.desired, decision.inputs.mode) = (desired, Mode::Act);
    decision
}

fn group(host: &str, label: (&str, &str), min: u32, max: u32) -> ContainerGroupSettings {
    ContainerGroupSettings {
        project: None,
        service: None,
        labels: [(label.0.to_owned(), label.1.to_owned())].into(),
        host: host.to_owned(),
        stop_grace: Span::ZERO,
        ..ContainerGroupSettings::compose("", "", min, max)
    }
}

fn build(settings: ContainerGroupSettings) -> Target {
    TargetSettings::Docker(settings).build().unwrap()
}

fn swarm(host: &str, service: &str) -> Target {
    let settings = SwarmServiceSettings { host: host.to_owned(), ..SwarmServiceSettings::new(service, 0, 20) };
    TargetSettings::Swarm(settings).build().unwrap()
}

fn run(program: &str, arguments: &[&str], host: &str) -> String {
    let output = Command::new(program).args(arguments).env("DOCKER_HOST", host).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn docker(host: &str, arguments: &[&str]) -> String {
    run("docker", arguments, host)
}

/// Names of running containers with a label, in order.
fn running(host: &str, label: &str) -> Vec<String> {
    let listed = docker(host, &["ps", "--filter", &format!("label={label}"), "--format", "{{.Names}}"]);
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn inspect(host: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(&docker(host, &["inspect", name])).unwrap()[0].take()
}

/// What of a container a copy has as well.
fn inherited(container: &Value) -> Value {
    let mut config = container["Config"].clone();
    config.as_object_mut().unwrap().remove("Hostname");
    let mut host = container["HostConfig"].clone();
    host.as_object_mut().unwrap().remove("PortBindings");
    json!([config, host, container["Image"]])
}

/// Looks until so many are wanted and serve, which a start takes a moment for.
async fn settled(target: &Target, units: u32) {
    for _ in 0..600 {
        let state = target.observe(NOW).await.unwrap();
        assert_eq!(state.desired, units);
        if state.ready == Some(units) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{units} units were not ready within a minute");
}

#[tokio::test]
async fn containers_follow_the_wish_and_copies_are_like_their_source() {
    let Some(host) = kit::docker() else { return };
    let (base, label) = (kit::unique("web"), kit::unique("l"));
    let (name, labels) = (format!("{base}-1"), format!("group={label}"));
    docker(
        &host,
        &[
            "run",
            "--detach",
            "--name",
            &name,
            "--label",
            &labels,
            "--label",
            "tier=front",
            "--env",
            "COLOUR=blue",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--restart",
            "unless-stopped",
            "--publish",
            "127.0.0.1:18080:80",
            "--volume",
            "/data",
            "--tmpfs",
            "/scratch",
            "--health-cmd",
            "true",
            "--health-interval",
            "1s",
            "prescale-test",
            "sleep",
            "3600",
        ],
    );
    let stranger = kit::unique("stranger");
    docker(&host, &["run", "--detach", "--name", &stranger, "--label", "group=other", "prescale-test"]);
    // It has the name that the second copy would have.
    docker(&host, &["create", "--name", &format!("{base}-3"), "prescale-test"]);
    let target = build(group(&host, ("group", &label), 0, 20));
    settled(&target, 1).await;

    let mut outcomes = Vec::new();
    for desired in [5, 5, 2] {
        outcomes.push(target.apply(&decision(desired), NOW).await.unwrap());
        settled(&target, desired).await;
        assert_eq!(running(&host, &labels).len(), desired as usize);
    }
    let applied = |units| Outcome::Applied { units, clamped: false };
    assert_eq!(outcomes, [applied(5), Outcome::Unchanged { units: 5 }, applied(2)]);
    // The newest went; the first is the one that was there before.
    let left = running(&host, &labels);
    assert_eq!(left[0], name);
    let (source, copy) = (inspect(&host, &name), inspect(&host, &left[1]));
    assert_eq!(inherited(&copy), inherited(&source));
    let port = |container: &Value| container["NetworkSettings"]["Ports"]["80/tcp"][0].clone();
    assert_eq!(port(&source), json!({"HostIp": "127.0.0.1", "HostPort": "18080"}));
    assert_eq!(port(&copy)["HostIp"], "127.0.0.1");
    assert_ne!(port(&copy)["HostPort"], "18080");

    assert_eq!(target.apply(&decision(0), NOW).await.unwrap(), applied(0));
    assert_eq!(target.apply(&decision(0), NOW).await.unwrap(), Outcome::Unchanged { units: 0 });
    settled(&target, 0).await;
    assert_eq!(running(&host, &labels), Vec::<String>::new());
    assert_eq!(target.apply(&decision(3), NOW).await.unwrap(), applied(3));
    settled(&target, 3).await;
    assert_eq!(running(&host, &labels).len(), 3);
    for container in running(&host, &labels) {
        assert_eq!(inherited(&inspect(&host, &container)), inherited(&source), "{container}");
    }
    assert_eq!(running(&host, "group=other"), [stranger]);
    let clamped = target.apply(&decision(25), NOW).await.unwrap();
    assert_eq!(clamped, Outcome::Applied { units: 20, clamped: true });
    settled(&target, 20).await;
}

#[tokio::test]
async fn copies_are_of_the_same_image_whatever_its_name_means_by_now() {
    let Some(host) = kit::docker() else { return };
    let (image, label) = (kit::unique("image"), kit::unique("l"));
    let name = format!("{label}-web");
    docker(&host, &["tag", "prescale-test", &image]);
    docker(&host, &["run", "--detach", "--name", &name, "--label", &format!("group={label}"), &image]);
    let first = docker(&host, &["inspect", "--format", "{{.Image}}", &name]);
    docker(&host, &["commit", "--change", "ENV NEWER=yes", &name, &image]);
    let target = build(group(&host, ("group", &label), 0, 5));
    target.apply(&decision(2), NOW).await.unwrap();
    let copy = inspect(&host, &format!("{name}-2"));
    assert_eq!(copy["Image"], first);
}

#[tokio::test]
async fn what_does_not_serve_is_not_ready_and_goes_first() {
    let Some(host) = kit::docker() else { return };
    let label = kit::unique("l");
    let labels = format!("group={label}");
    let start = |name: &str, health: &str| {
        let health = format!("--health-cmd={health}");
        docker(
            &host,
            &[
                "run",
                "--detach",
                "--name",
                &format!("{label}-{name}"),
                "--label",
                &labels,
                &health,
                "--health-interval=1s",
                "--health-retries=1",
                "prescale-test",
            ],
        );
    };
    for (name, health) in [("1", "true"), ("2", "false"), ("3", "true")] {
        start(name, health);
    }
    let target = build(group(&host, ("group", &label), 0, 5));
    let told = async || {
        let state = target.observe(NOW).await.unwrap();
        (state.desired, state.ready)
    };
    for _ in 0..300 {
        if told().await == (3, Some(2)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(told().await, (3, Some(2)));
    for left in [vec!["1", "3"], vec!["1"]] {
        target.apply(&decision(u32::try_from(left.len()).unwrap()), NOW).await.unwrap();
        let left: Vec<_> = left.iter().map(|name| format!("{label}-{name}")).collect();
        assert_eq!(running(&host, &labels), left);
    }
}

#[tokio::test]
async fn a_group_is_made_from_nothing_where_the_settings_say_of_what() {
    let Some(host) = kit::docker() else { return };
    let (label, network) = (kit::unique("l"), kit::unique("net"));
    let settings = group(&host, ("group", &label), 0, 5);
    let error = build(settings.clone()).apply(&decision(2), NOW).await.unwrap_err();
    assert_eq!(error.code(), "not-found", "{error}");

    docker(&host, &["network", "create", &network]);
    let template = ContainerTemplate {
        image: "prescale-test".to_owned(),
        name: Some(label.clone()),
        command: vec!["sleep".to_owned(), "1000".to_owned()],
        environment: [("COLOUR".to_owned(), "red".to_owned())].into(),
        networks: vec![network.clone()],
        memory_bytes: Some(64 << 20),
        cpus: Some(0.25),
    };
    let target = build(ContainerGroupSettings { template: Some(template), ..settings.clone() });
    for desired in [2, 0, 1] {
        target.apply(&decision(desired), NOW).await.unwrap();
        settled(&target, desired).await;
    }
    let one = inspect(&host, &format!("{label}-1"));
    assert_eq!(one["Config"]["Cmd"], json!(["sleep", "1000"]));
    assert_eq!(one["Config"]["Labels"], json!({"group": label}));
    assert!(one["Config"]["Env"].as_array().unwrap().contains(&json!("COLOUR=red")), "{one}");
    assert_eq!((&one["HostConfig"]["Memory"], &one["HostConfig"]["NanoCpus"]), (&json!(64 << 20), &json!(250_000_000)));
    assert!(one["NetworkSettings"]["Networks"][&network].is_object());

    let lost = ContainerTemplate { image: kit::unique("no-image"), name: Some(label.clone()), ..Default::default() };
    let error = build(ContainerGroupSettings { template: Some(lost), ..settings }).apply(&decision(3), NOW).await;
    assert_eq!(error.unwrap_err().code(), "not-found");
}

#[tokio::test]
async fn the_last_of_those_that_remove_themselves_stays() {
    let Some(host) = kit::docker() else { return };
    let label = kit::unique("l");
    let labels = format!("group={label}");
    docker(&host, &["run", "--detach", "--rm", "--name", &label, "--label", &labels, "prescale-test"]);
    let target = build(group(&host, ("group", &label), 0, 5));
    target.apply(&decision(3), NOW).await.unwrap();
    let outcome = target.apply(&decision(0), NOW).await.unwrap();
    assert!(matches!(&outcome, Outcome::Held { units: 1, reason } if reason.contains("template")), "{outcome:?}");
    settled(&target, 1).await;
}

#[tokio::test]
async fn a_compose_service_grows_and_stays_what_compose_knows() {
    let (Some(host), Some(compose)) = (kit::docker(), kit::compose()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compose.yaml");
    std::fs::write(
        &file,
        "version: \"3.8\"\nservices:\n  web:\n    image: prescale-test\n    environment: {COLOUR: green}\n    \
         networks: {front: {aliases: [shop]}, back: {}}\n  db:\n    image: prescale-test\n    networks: [back]\n\
         networks: {front: {}, back: {}}\n",
    )
    .unwrap();
    let project = kit::unique("shop");
    let composed = |arguments: &[&str]| {
        let file = file.to_str().unwrap();
        run(&compose, &[&["--file", file, "--project-name", &project, "--no-ansi"], arguments].concat(), &host)
    };
    composed(&["up", "--detach"]);
    composed(&["run", "--detach", "web", "sleep", "900"]);
    let settings = ContainerGroupSettings {
        host: host.clone(),
        stop_grace: Span::ZERO,
        ..ContainerGroupSettings::compose(&project, "web", 0, 10)
    };
    let target = build(settings);
    settled(&target, 1).await;
    target.apply(&decision(3), NOW).await.unwrap();
    settled(&target, 3).await;

    let name = |number: u32| format!("{project}_web_{number}");
    let (source, copy) = (inspect(&host, &name(1)), inspect(&host, &name(3)));
    let networks = |container: &Value| {
        let networks = container["NetworkSettings"]["Networks"].as_object().unwrap().clone();
        let short = container["Id"].as_str().unwrap()[..12].to_owned();
        let own = |network: &Value| {
            let aliases = network["Aliases"].as_array().unwrap().clone();
            let mut aliases: Vec<_> = aliases.into_iter().filter(|alias| *alias != short.as_str()).collect();
            aliases.sort_by_key(Value::to_string);
            Value::from(aliases)
        };
        networks.iter().map(|(name, network)| (name.clone(), own(network))).collect::<Vec<_>>()
    };
    assert_eq!(networks(&copy), networks(&source));
    assert_eq!(networks(&copy).len(), 2);
    let mut labels = source["Config"]["Labels"].clone();
    labels["com.docker.compose.container-number"] = json!("3");
    assert_eq!(copy["Config"]["Labels"], labels);
    assert_eq!(copy["Config"]["Env"], source["Config"]["Env"]);
    // Compose counts them as its own, beside the one-off, and finds nothing to be made anew.
    assert_eq!(composed(&["ps", "--quiet", "web"]).lines().count(), 4);
    composed(&["up", "--detach", "--scale", "web=3"]);
    assert_eq!(inspect(&host, &name(3))["Id"], copy["Id"]);

    target.apply(&decision(0), NOW).await.unwrap();
    target.apply(&decision(2), NOW).await.unwrap();
    settled(&target, 2).await;
    assert_eq!(running(&host, &format!("com.docker.compose.project={project}")).len(), 4, "2 web, db and the one-off");
    composed(&["down", "--timeout", "0", "--remove-orphans"]);
}

/// A service with more settings than one would like to lose.
fn create_service(host: &str, name: &str, port: u16) {
    let port = format!("published={port},target=80,mode=host");
    docker(
        host,
        &[
            "service",
            "create",
            "--detach",
            "--quiet",
            "--no-resolve-image",
            "--name",
            name,
            "--replicas",
            "1",
            "--label",
            "team=shop",
            "--container-label",
            "tier=front",
            "--env",
            "COLOUR=blue",
            "--limit-memory",
            "64M",
            "--reserve-cpu",
            "0.01",
            "--constraint",
            "node.role==manager",
            "--restart-condition",
            "any",
            "--restart-delay",
            "1s",
            "--stop-grace-period",
            "1s",
            "--update-parallelism",
            "2",
            "--update-delay",
            "3s",
            "--update-order",
            "start-first",
            "--rollback-monitor",
            "7s",
            "--mount",
            "type=tmpfs,destination=/scratch",
            "--health-cmd",
            "true",
            "--health-interval",
            "2s",
            "--cap-drop",
            "NET_RAW",
            "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=80",
            "--ulimit",
            "nofile=1024:2048",
            "--log-driver",
            "json-file",
            "--log-opt",
            "max-size=1m",
            "--host",
            "db:10.0.0.9",
            "--dns",
            "10.0.0.53",
            "--init",
            "--user",
            "0",
            "--hostname",
            "web-{{.Task.Slot}}",
            "--publish",
            &port,
            "--replicas-max-per-node",
            "50",
            "prescale-test",
            "sleep",
            "3600",
        ],
    );
}

fn spec(host: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(&docker(host, &["service", "inspect", name])).unwrap()[0]["Spec"].take()
}

/// A specification with another number of replicas.
fn with_replicas(mut spec: Value, replicas: u32) -> Value {
    spec["Mode"]["Replicated"]["Replicas"] = json!(replicas);
    spec
}

#[tokio::test]
async fn replicas_of_a_swarm_service_change_and_nothing_else_of_it() {
    let Some(host) = kit::docker() else { return };
    let name = kit::unique("svc");
    create_service(&host, &name, 18090);
    let before = spec(&host, &name);
    let target = swarm(&host, &name);
    settled(&target, 1).await;
    let mut outcomes = Vec::new();
    // The port of the host can be had once: of more replicas one serves.
    for desired in [3, 3, 50, 0, 1] {
        outcomes.push(target.apply(&decision(desired), NOW).await.unwrap());
        let wanted = desired.min(20);
        assert_eq!(target.observe(NOW).await.unwrap().desired, wanted);
        assert_eq!(spec(&host, &name), with_replicas(before.clone(), wanted));
    }
    let applied = |units, clamped| Outcome::Applied { units, clamped };
    let unchanged = Outcome::Unchanged { units: 3 };
    assert_eq!(outcomes, [applied(3, false), unchanged, applied(20, true), applied(0, false), applied(1, false)]);
    settled(&target, 1).await;
    docker(&host, &["service", "rm", &name]);
}

#[tokio::test]
async fn anothers_change_of_a_service_in_between_is_kept() {
    let Some(host) = kit::docker() else { return };
    let name = kit::unique("svc");
    create_service(&host, &name, 18091);
    let before = spec(&host, &name);
    let racer = Racer::start(&host, &name, 1);
    let outcome = swarm(&racer.host, &name).apply(&decision(4), NOW).await.unwrap();
    assert_eq!(outcome, Outcome::Applied { units: 4, clamped: false });
    let mut both = with_replicas(before, 4);
    both["Labels"]["racer"] = json!("1");
    assert_eq!(spec(&host, &name), both);

    // Who is overtaken twice gives up, and has changed nothing.
    let racer = Racer::start(&host, &name, 2);
    let error = swarm(&racer.host, &name).apply(&decision(5), NOW).await.unwrap_err();
    assert_eq!(error.code(), "conflict", "{error}");
    both["Labels"]["racer"] = json!("2");
    assert_eq!(spec(&host, &name), both);
    docker(&host, &["service", "rm", &name]);
}

#[tokio::test]
async fn services_that_are_not_there_or_have_no_replicas_are_told_apart() {
    let Some(host) = kit::docker() else { return };
    let name = kit::unique("svc");
    let error = swarm(&host, &name).observe(NOW).await.unwrap_err();
    assert_eq!(error.code(), "not-found", "{error}");
    docker(
        &host,
        &[
            "service",
            "create",
            "--detach",
            "--quiet",
            "--no-resolve-image",
            "--name",
            &name,
            "--mode",
            "global",
            "prescale-test",
        ],
    );
    let error = swarm(&host, &name).apply(&decision(2), NOW).await.unwrap_err();
    assert_eq!(error.code(), "invalid", "{error}");
    docker(&host, &["service", "rm", &name]);
}
