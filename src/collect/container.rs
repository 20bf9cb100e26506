//! What an engine says of a container, as far as it matters here. Rule: pure; a field that an engine leaves out is not known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{
    ContainerCpuStats, ContainerInspectResponse, ContainerMemoryStats, ContainerStatsResponse, ContainerSummary,
    HostConfig,
};
use prescale_domain::ServiceName;

use crate::rate::CpuReading;
use crate::rows::Traffic;

/// The label that says which service a container belongs to.
pub const SERVICE_LABEL: &str = "prescale.service";
/// What Compose writes, and what a swarm does.
const OTHER_LABELS: [&str; 2] = ["com.docker.compose.service", "com.docker.swarm.service.name"];

/// Microseconds of a period where a quota names none.
const PERIOD_DEFAULT: i64 = 100_000;

/// A container as it was read. Counters are since its start.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerReading {
    pub id: Arc<str>,
    pub name: Arc<str>,
    pub service: ServiceName,
    pub image: Option<Arc<str>>,
    /// In the engine's words: another one is another run, whose counters began anew.
    pub started: Option<String>,
    /// On a clock that never jumps.
    pub at: Duration,
    pub cpu: Option<CpuReading>,
    /// Processors that it may use, where it may not use all.
    pub cpu_limit: Option<f64>,
    /// Bytes, without what the kernel would give back at once.
    pub memory_used: Option<u64>,
    /// Bytes; the machine's where the container has no limit of its own.
    pub memory_limit: Option<u64>,
    pub traffic: Traffic,
}

/// A container in a list: enough to ask for more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) id: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) service: ServiceName,
    pub(crate) image: Option<Arc<str>>,
}

impl ContainerReading {
    /// As `docker ps` shows it.
    pub(crate) fn short_id(&self) -> Arc<str> {
        self.id.get(..12).map_or_else(|| self.id.clone(), Arc::from)
    }

    pub(crate) fn new(
        listed: Listed,
        told: &ContainerInspectResponse,
        stats: &ContainerStatsResponse,
        at: Duration,
    ) -> Self {
        let Listed { id, name, service, image } = listed;
        let memory = stats.memory_stats.as_ref();
        let networks = stats.networks.as_ref();
        let sum = |of: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
            networks.map(|networks| networks.values().filter_map(of).fold(0, u64::saturating_add))
        };
        Self {
            id,
            name,
            service,
            image,
            started: told.state.as_ref().and_then(|state| state.started_at.clone()),
            at,
            cpu: stats.cpu_stats.as_ref().and_then(|cpu| cpu_reading(cpu, at)),
            cpu_limit: told.host_config.as_ref().and_then(cpu_limit),
            memory_used: memory.and_then(memory_used),
            memory_limit: memory.and_then(|memory| memory.limit).filter(|limit| *limit > 0),
            traffic: Traffic { received: sum(|of| of.rx_bytes), sent: sum(|of| of.tx_bytes) },
        }
    }
}

/// `None` for one without an id, which nothing can be asked about.
pub(crate) fn listed(summary: &ContainerSummary) -> Option<Listed> {
    let id: Arc<str> = summary.id.as_deref().filter(|id| !id.is_empty())?.into();
    let names = summary.names.iter().flatten();
    // A link has the name of another container before its own.
    let mut names = names.map(|name| name.trim_start_matches('/')).filter(|name| !name.is_empty());
    let name: Arc<str> = names.find(|name| !name.contains('/')).map_or_else(|| id.clone(), Arc::from);
    let service = ServiceName::new(service_of(summary.labels.as_ref(), &name));
    let image = summary.image.as_deref().filter(|image| !image.is_empty()).map(Arc::from);
    Some(Listed { id, name, service, image })
}

/// The service by the labels of a container: ours, else Compose's, else the swarm's, else its own name.
fn service_of<'a>(labels: Option<&'a HashMap<String, String>>, name: &'a str) -> &'a str {
    let label = |key: &&str| labels?.get(*key).map(|value| value.trim()).filter(|value| !value.is_empty());
    [SERVICE_LABEL].iter().chain(&OTHER_LABELS).find_map(label).unwrap_or(name)
}

fn cpu_reading(stats: &ContainerCpuStats, at: Duration) -> Option<CpuReading> {
    let usage = stats.cpu_usage.as_ref()?;
    // Before cgroup v2 an engine may count the processors only by telling of each.
    let listed = usage.percpu_usage.as_ref().and_then(|each| u32::try_from(each.len()).ok());
    let cpus = stats.online_cpus.filter(|cpus| *cpus > 0).or(listed).filter(|cpus| *cpus > 0)?;
    let machine_nanos = stats.system_cpu_usage.filter(|nanos| *nanos > 0);
    Some(CpuReading { used_nanos: usage.total_usage?, machine_nanos, cpus, at })
}

/// The least of what `--cpus`, a quota and a set of processors leave.
fn cpu_limit(config: &HostConfig) -> Option<f64> {
    let whole = config.nano_cpus.filter(|nanos| *nanos > 0).map(|nanos| nanos as f64 / 1e9);
    let period = config.cpu_period.filter(|period| *period > 0).unwrap_or(PERIOD_DEFAULT);
    let quota = config.cpu_quota.filter(|quota| *quota > 0).map(|quota| quota as f64 / period as f64);
    let set = config.cpuset_cpus.as_deref().and_then(cpus_in).map(f64::from);
    [whole, quota, set].into_iter().flatten().min_by(f64::total_cmp)
}

/// How many processors `0-3,6` names; `None` = none, or it is not such a list.
fn cpus_in(set: &str) -> Option<u32> {
    let mut count = 0_u32;
    for part in set.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (count > 0).then_some(count)
}

/// As `docker stats` shows it: without file pages that nobody has looked at for a while.
fn memory_used(stats: &ContainerMemoryStats) -> Option<u64> {
    let usage = stats.usage?;
    let of = |key: &str| stats.stats.as_ref()?.get(key).copied();
    let idle = of("total_inactive_file").or_else(|| of("inactive_file")).filter(|idle| *idle < usage);
    Some(usage - idle.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(labels: serde_json::Value, names: &[&str]) -> ContainerSummary {
        serde_json::from_value(json!({"Id": "0123456789abcdef", "Names": names, "Image": "shop:3", "Labels": labels}))
            .unwrap()
    }

    #[track_caller]
    fn service(labels: serde_json::Value, expected: &str) {
        assert_eq!(listed(&summary(labels, &["/shop-web-1"])).unwrap().service.as_str(), expected);
    }

    #[test]
    fn a_service_is_named_by_our_label_then_by_composes_then_by_the_swarms_then_by_the_container() {
        let all = json!({SERVICE_LABEL: "checkout", "com.docker.compose.service": "web", "com.docker.swarm.service.name": "s"});
        service(all, "checkout");
        service(json!({"com.docker.compose.service": "web", "com.docker.swarm.service.name": "s"}), "web");
        service(json!({"com.docker.swarm.service.name": "shop_web"}), "shop_web");
        service(json!({}), "shop-web-1");
        service(json!({SERVICE_LABEL: " ", "com.docker.compose.service": "web"}), "web");
        service(json!(null), "shop-web-1");
    }

    #[test]
    fn a_name_is_the_containers_own_and_never_a_links() {
        let of = |names: &[&str]| listed(&summary(json!({}), names)).unwrap().name.to_string();
        assert_eq!(of(&["/web/db", "/db"]), "db");
        assert_eq!(of(&[]), "0123456789abcdef");
        assert_eq!(listed(&ContainerSummary::default()), None);
    }

    #[track_caller]
    fn limit(config: serde_json::Value, expected: Option<f64>) {
        assert_eq!(cpu_limit(&serde_json::from_value(config).unwrap()), expected);
    }

    #[test]
    fn processors_are_limited_in_three_ways_and_the_least_counts() {
        limit(json!({"NanoCpus": 500_000_000}), Some(0.5));
        limit(json!({"CpuQuota": 150_000, "CpuPeriod": 50_000}), Some(3.0));
        limit(json!({"CpuQuota": 150_000, "CpuPeriod": 0}), Some(1.5));
        limit(json!({"CpusetCpus": "0-3,6"}), Some(5.0));
        limit(json!({"NanoCpus": 2_000_000_000, "CpusetCpus": "1"}), Some(1.0));
        limit(json!({"NanoCpus": 0, "CpuQuota": -1, "CpusetCpus": ""}), None);
        limit(json!({"CpusetCpus": "3-1"}), None);
        limit(json!({"CpusetCpus": "0-4294967295"}), None);
        limit(json!({}), None);
    }

    /// As an engine on cgroup v2 answered, shortened.
    const ANSWER: &str = r#"{"read":"2026-11-27T12:00:00.123456789Z","preread":"0001-01-01T00:00:00Z",
        "cpu_stats":{"cpu_usage":{"total_usage":93000000,"usage_in_kernelmode":31000000,"usage_in_usermode":62000000},
            "system_cpu_usage":812340000000,"online_cpus":2,"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},
        "memory_stats":{"usage":9000000,"stats":{"anon":4000000,"inactive_file":1500000},"limit":67108864},
        "networks":{"eth0":{"rx_bytes":1000,"tx_bytes":200},"eth1":{"rx_bytes":5,"tx_bytes":1}}}"#;

    fn read(stats: &str) -> ContainerReading {
        let stats: ContainerStatsResponse = serde_json::from_str(stats).unwrap();
        let told = json!({"State": {"StartedAt": "2026-11-27T11:00:00Z"}, "HostConfig": {"NanoCpus": 500_000_000}});
        let listed = listed(&summary(json!({}), &["/web"])).unwrap();
        ContainerReading::new(listed, &serde_json::from_value(told).unwrap(), &stats, Duration::from_secs(7))
    }

    #[test]
    fn an_answer_is_read_whole() {
        let reading = read(ANSWER);
        let cpu = CpuReading {
            used_nanos: 93_000_000,
            machine_nanos: Some(812_340_000_000),
            cpus: 2,
            at: Duration::from_secs(7),
        };
        assert_eq!((reading.cpu, reading.cpu_limit), (Some(cpu), Some(0.5)));
        assert_eq!((reading.memory_used, reading.memory_limit), (Some(7_500_000), Some(67_108_864)));
        assert_eq!(reading.traffic, Traffic { received: Some(1005), sent: Some(201) });
        assert_eq!((&*reading.short_id(), &*reading.name), ("0123456789ab", "web"));
        assert_eq!(reading.started.as_deref(), Some("2026-11-27T11:00:00Z"));
    }

    #[test]
    fn what_an_answer_leaves_out_is_not_known() {
        // Of a container that has just ended, without a network.
        let reading = read(r#"{"cpu_stats":{"cpu_usage":{"total_usage":0}},"memory_stats":{}}"#);
        assert_eq!((reading.cpu, reading.memory_used, reading.memory_limit), (None, None, None));
        assert_eq!(reading.traffic, Traffic::default());
        // cgroup v1 counts processors one by one.
        let reading =
            read(r#"{"cpu_stats":{"cpu_usage":{"total_usage":5,"percpu_usage":[1,4]},"system_cpu_usage":0}}"#);
        let cpu = reading.cpu.unwrap();
        assert_eq!((cpu.cpus, cpu.machine_nanos), (2, None));
    }
}
