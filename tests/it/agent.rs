//! `prescale agent` against a real Docker Engine and a real Kafka. Rule: what it says of a container is what the container was made
//! to do, and what it sends is what `pipelines/metrics.sql` reads.

use std::process::Command;
use std::time::Duration;

use prescale_domain::Timestamp;
use serde_json::Value;

use crate::kit::{self, OwnKafka, Running};

const WAIT: Duration = Duration::from_secs(60);

fn docker(host: &str, arguments: &[&str]) {
    let output = Command::new("docker").args(arguments).env("DOCKER_HOST", host).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn records(kafka: &str, topic: &str) -> Vec<Value> {
    kit::try_consume(kafka, topic).iter().map(kit::Record::json).collect()
}

fn values(records: &[Value], service: &str, name: &str) -> Vec<f64> {
    let of = records.iter().filter(|record| record["service"] == service && record["name"] == name);
    of.map(|record| record["value"].as_f64().unwrap()).collect()
}

#[test]
fn containers_and_their_machine_reach_the_topic_and_the_shipped_pipeline_reads_them() {
    let (Some(kafka), Some(host)) = (kit::kafka(), kit::docker()) else { return };
    let (topic, busy, idle) = (kit::unique("metrics"), kit::unique("busy"), kit::unique("idle"));
    kit::create_topic(&kafka, &topic, 2);
    // A fifth of a processor, of which one container uses all and the other nothing.
    let run = ["run", "--detach", "--rm", "--cpus", "0.2", "--memory", "64m"];
    let ours = format!("prescale.service={busy}");
    let composes = format!("com.docker.compose.service={idle}");
    docker(
        &host,
        &[&run[..], &["--label", &ours, "--name", &busy, "prescale-test", "sh", "-c", "while :; do :; done"]].concat(),
    );
    docker(
        &host,
        &[&run[..], &["--label", &composes, "--name", &format!("{idle}-1"), "prescale-test", "sleep", "600"]].concat(),
    );
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut agent = Running::start(
        &[
            "agent",
            "--brokers",
            &kafka,
            "--topic",
            &topic,
            "--interval",
            "1s",
            "--service",
            "vm",
            "--docker",
            "on",
            "--docker-host",
            &host,
        ],
        &log,
    );
    let seen = kit::wait_for("five rounds", WAIT, || {
        let seen = records(&kafka, &topic);
        (values(&seen, &busy, "cpu_utilization").len() >= 5).then_some(seen)
    });
    agent.signal("-TERM");
    assert!(agent.finish(WAIT).success(), "{}", agent.printed());
    docker(&host, &["rm", "--force", &busy, &format!("{idle}-1")]);

    // What would use all of the machine was held back by its limit, however busy others are; utilization is of that limit.
    let most = |service: &str, name: &str| values(&seen, service, name).into_iter().fold(f64::NAN, f64::max);
    let (utilization, cores) = (most(&busy, "cpu_utilization"), most(&busy, "cpu_cores"));
    assert!(cores > 0.005 && cores <= 0.4, "{seen:?}");
    let of_limit = (cores / 0.2 * 100.0).min(100.0);
    assert!((utilization - of_limit).abs() < 1.0, "{utilization} % of 0.2 are not {cores}");
    assert!(most(&idle, "cpu_utilization") < utilization, "{seen:?}");
    assert_eq!(most(&idle, "memory_total_bytes"), f64::from(64 << 20));
    assert!(most(&busy, "memory_utilization") > 0.0);
    assert!(most("vm", "memory_total_bytes") > f64::from(64 << 20));
    assert!((0.0..=100.0).contains(&most("vm", "cpu_utilization")));
    assert!(seen.iter().any(|record| record["instance"] == format!("{idle}-1")), "{seen:?}");

    let input = folder.path().join("metrics.ndjson");
    // The pipeline reads one file as one partition: in the order of time, no row is late.
    let mut seen = seen.clone();
    seen.sort_by_key(|record| record["ts"].as_str().unwrap().parse::<Timestamp>().unwrap());
    let lines: String = seen.iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(&input, lines).unwrap();
    let table = format!("metrics={}", input.display());
    let windows = kit::run(&["sql", "run", "pipelines/metrics.sql", "--input", &table, "--output", "-"]);
    assert_eq!(windows.code, Some(0), "{}", windows.stderr);
    let windows: Vec<Value> = windows.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_busy = windows.iter().filter(|window| window["service"] == *busy && window["metric"] == "cpu_utilization");
    let highest = of_busy.map(|window| window["max"].as_f64().unwrap()).fold(f64::NAN, f64::max);
    assert_eq!(highest, most(&busy, "cpu_utilization"));
}

#[test]
fn one_round_is_printed_where_that_is_asked_for() {
    let printed = kit::run(&["agent", "--stdout", "--once", "--docker", "off", "--service", "vm"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let seen: Vec<Value> = printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values(&seen, "vm", "cpu_utilization").len(), 1, "{seen:?}");
    assert!(printed.stderr.contains(&format!("1 rounds, {} records, 0 given up", seen.len())), "{}", printed.stderr);
}

#[test]
fn what_cannot_be_is_told_by_its_exit_code() {
    let nowhere = kit::run(&["agent", "--once"]);
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("--stdout"), "{}", nowhere.stderr);
    let hasty = kit::run(&["agent", "--stdout", "--once", "--docker", "off", "--interval", "10ms"]);
    assert_eq!(hasty.code, Some(3), "{}", hasty.stderr);
    let socket = "unix:///nowhere/docker.sock";
    let alone = kit::run(&["agent", "--stdout", "--once", "--docker", "on", "--docker-host", socket]);
    assert_eq!((alone.code, alone.stdout.as_str()), (Some(4), ""), "{}", alone.stderr);
    assert!(alone.stderr.contains(socket), "{}", alone.stderr);
    let help = kit::run(&["agent", "--help"]);
    assert!(help.stdout.contains("Examples:\n  prescale agent -c prescale.toml"), "{}", help.stdout);
}

#[test]
fn heavy_records_wait_for_a_broker_that_is_away_and_arrive() {
    let Some(own) = OwnKafka::start() else { return };
    kit::create_topic(&own.bootstrap(), "metrics", 1);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let brokers = own.bootstrap();
    let arguments = ["agent", "--brokers", &brokers, "--interval", "1s", "--docker", "off"];
    let mut agent = Running::start(&arguments, &log);
    let rounds = || values(&records(&own.bootstrap(), "metrics"), "host", "memory_utilization").len();
    kit::wait_for("the first rounds", WAIT, || (rounds() >= 2).then_some(()));
    own.kill();
    kit::wait_for("the agent to say so", WAIT, || agent.printed().contains("records wait for Kafka").then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(agent.ended(), None, "{}", agent.printed());
    own.bring_up();
    kit::wait_for("the broker to have them", WAIT, || agent.printed().contains("takes records again").then_some(()));
    agent.signal("-TERM");
    assert!(agent.finish(WAIT).success(), "{}", agent.printed());
    // Each round is there once, those of the outage too.
    let last = agent.printed().lines().last().unwrap().to_owned();
    let seen = records(&own.bootstrap(), "metrics");
    let rounds = values(&seen, "host", "memory_utilization").len();
    assert_eq!(last, format!("{rounds} rounds, {} records, 0 given up", seen.len()));
}
