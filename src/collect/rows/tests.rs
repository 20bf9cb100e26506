//! Readings in, records out: as text, since that is what a pipeline reads.

use super::*;
use crate::host::DiskReading;
use crate::rate::CpuReading;

const SECOND: u64 = 1_000_000_000;

fn round() -> Round {
    Round { ts: Timestamp::from_millis(1_795_780_800_250), host: Some("vm-3".into()) }
}

fn container(seconds: u64) -> ContainerReading {
    let at = Duration::from_secs(seconds);
    // A tenth of a processor of the machine's two, of which it may have half of one.
    let cpu = CpuReading {
        used_nanos: 5 * SECOND + seconds * SECOND / 10,
        machine_nanos: Some(900 * SECOND + seconds * 2 * SECOND),
        cpus: 2,
        at,
    };
    ContainerReading {
        id: "0123456789abcdef".into(),
        name: "shop-web-1".into(),
        service: "web".into(),
        image: Some("shop:3".into()),
        started: Some("2026-11-27T11:00:00Z".to_owned()),
        at,
        cpu: Some(cpu),
        cpu_limit: Some(0.5),
        memory_used: Some(16 << 20),
        memory_limit: Some(64 << 20),
        traffic: Traffic { received: Some(1000 * seconds), sent: Some(10 * seconds) },
    }
}

fn lines(records: &[MetricRecord]) -> String {
    records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
}

#[test]
fn a_container_is_records_of_its_service() {
    let records = of_container(&round(), Some(&container(10)), &container(20));
    let head = r#"{"ts":"2026-11-27T12:00:00.250Z","service":"web","instance":"shop-web-1","name":"#;
    let tail = r#","labels":{"container":"0123456789ab","host":"vm-3","image":"shop:3","source":"docker"}}"#;
    let values = [
        ("cpu_utilization", "20.0"),
        ("cpu_cores", "0.1"),
        ("memory_utilization", "25.0"),
        ("memory_used_bytes", "16777216.0"),
        ("memory_total_bytes", "67108864.0"),
        ("network_received_bytes_per_second", "1000.0"),
        ("network_sent_bytes_per_second", "10.0"),
    ];
    let expected: String =
        values.iter().map(|(name, value)| format!("{head}\"{name}\",\"value\":{value}{tail}\n")).collect();
    assert_eq!(lines(&records), expected);
}

fn names(records: &[MetricRecord]) -> Vec<&'static str> {
    records.iter().map(|record| record.name).collect()
}

#[test]
fn what_needs_a_reading_before_waits_for_one_of_the_same_run() {
    let known = ["memory_utilization", "memory_used_bytes", "memory_total_bytes"];
    let now = container(20);
    assert_eq!(names(&of_container(&round(), None, &now)), known);
    let another_run = ContainerReading { started: Some("2026-11-27T11:59:00Z".to_owned()), ..container(10) };
    assert_eq!(names(&of_container(&round(), Some(&another_run), &now)), known);
    let another = ContainerReading { id: "fedcba9876543210".into(), ..container(10) };
    assert_eq!(names(&of_container(&round(), Some(&another), &now)), known);
    // A counter that fell is another run, whatever the engine says of its start.
    let before = container(10);
    let fell = ContainerReading {
        cpu: now.cpu.map(|cpu| CpuReading { used_nanos: 0, ..cpu }),
        traffic: Traffic { received: Some(0), sent: now.traffic.sent },
        ..now.clone()
    };
    let records = of_container(&round(), Some(&before), &fell);
    assert_eq!(names(&records), [&known[..], &["network_sent_bytes_per_second"]].concat());
}

#[test]
fn what_is_not_known_has_no_row() {
    let bare = ContainerReading {
        cpu: None,
        memory_used: None,
        memory_limit: None,
        traffic: Traffic::default(),
        image: None,
        ..container(20)
    };
    assert_eq!(of_container(&round(), Some(&bare), &bare), []);
    let used_only = ContainerReading { memory_limit: None, ..container(20) };
    assert_eq!(names(&of_container(&round(), None, &used_only)), ["memory_used_bytes"]);
}

#[test]
fn without_a_limit_all_processors_are_the_whole() {
    let free = |seconds| ContainerReading { cpu_limit: None, ..container(seconds) };
    let records = of_container(&round(), Some(&free(10)), &free(20));
    assert_eq!((records[0].name, records[0].value), ("cpu_utilization", 5.0));
    // A limit above what the machine has is none.
    let vast = |seconds| ContainerReading { cpu_limit: Some(64.0), ..container(seconds) };
    assert_eq!(of_container(&round(), Some(&vast(10)), &vast(20))[0].value, 5.0);
}

#[test]
fn a_machine_is_records_of_the_service_that_it_is_told() {
    let before = HostReading {
        at: Duration::from_secs(1),
        traffic: Traffic { received: Some(100), sent: Some(100) },
        ..HostReading::default()
    };
    let now = HostReading {
        at: Duration::from_secs(11),
        cpu_percent: Some(12.34567),
        load_one_minute: Some(0.5),
        memory_used: Some(3 << 30),
        memory_total: Some(4 << 30),
        memory_pressure: Some(0.25),
        traffic: Traffic { received: Some(1100), sent: None },
        disks: vec![DiskReading { mount: "/".into(), total: 1000, available: 250 }],
    };
    let records = of_host(&round(), &"shop".into(), Some(&before), &now);
    let told: Vec<_> = records.iter().map(|record| (record.name, record.value)).collect();
    let expected = [
        ("cpu_utilization", 12.346),
        ("system_load", 0.5),
        ("memory_utilization", 75.0),
        ("memory_used_bytes", (3_u64 << 30) as f64),
        ("memory_total_bytes", (4_u64 << 30) as f64),
        ("memory_pressure", 0.25),
        ("network_received_bytes_per_second", 100.0),
        ("disk_utilization", 75.0),
        ("disk_used_bytes", 750.0),
    ];
    assert_eq!(told, expected);
    let last = r#"{"ts":"2026-11-27T12:00:00.250Z","service":"shop","instance":"vm-3","name":"disk_used_bytes","value":750.0,"labels":{"host":"vm-3","mount":"/","source":"host"}}"#;
    assert_eq!(serde_json::to_string(&records[8]).unwrap(), last);
    assert!(!records[6].labels.contains_key("mount"));
}
