//! Readings to records of the `metrics` topic. Rule: pure; what is not known has no row, and each value is finite.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prescale_domain::{ServiceName, Timestamp};
use serde::Serialize;

use crate::container::ContainerReading;
use crate::host::HostReading;
use crate::rate::{Counted, cores, per_second, percent};

/// One measurement, as `schemas/metrics.avsc` has it; as JSON it is what `pipelines/metrics.sql` reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricRecord {
    /// When it was read.
    pub ts: Timestamp,
    pub service: ServiceName,
    pub instance: Option<Arc<str>>,
    pub name: &'static str,
    pub value: f64,
    pub labels: BTreeMap<&'static str, Arc<str>>,
}

/// Of a round: when, and on which machine.
#[derive(Clone, Debug)]
pub struct Round {
    pub ts: Timestamp,
    /// Name of the machine, where it has one.
    pub host: Option<Arc<str>>,
}

/// Records of one thing that is measured.
struct Rows<'a> {
    round: &'a Round,
    service: &'a ServiceName,
    instance: Option<Arc<str>>,
    labels: BTreeMap<&'static str, Arc<str>>,
    made: Vec<MetricRecord>,
}

impl<'a> Rows<'a> {
    fn new(round: &'a Round, service: &'a ServiceName, instance: Option<Arc<str>>, source: &'static str) -> Self {
        let mut labels = BTreeMap::from([("source", Arc::from(source))]);
        labels.extend(round.host.clone().map(|host| ("host", host)));
        Self { round, service, instance, labels, made: Vec::new() }
    }

    fn push(&mut self, name: &'static str, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        self.made.push(MetricRecord {
            ts: self.round.ts,
            service: self.service.clone(),
            instance: self.instance.clone(),
            name,
            value: rounded(value),
            labels: self.labels.clone(),
        });
    }

    fn push_bytes(&mut self, name: &'static str, bytes: Option<u64>) {
        self.push(name, bytes.map(|bytes| bytes as f64));
    }

    fn push_memory(&mut self, used: Option<u64>, total: Option<u64>) {
        let share = used.zip(total).and_then(|(used, total)| percent(used as f64, total as f64));
        self.push("memory_utilization", share);
        self.push_bytes("memory_used_bytes", used);
        self.push_bytes("memory_total_bytes", total);
    }

    /// Both directions, from what was counted then and now.
    fn push_network(&mut self, before: (Traffic, Duration), after: (Traffic, Duration)) {
        let rate = |of: fn(&Traffic) -> Option<u64>| {
            let total = |(traffic, at): &(Traffic, Duration)| Some(Counted { total: of(traffic)?, at: *at });
            per_second(total(&before)?, total(&after)?)
        };
        self.push("network_received_bytes_per_second", rate(|traffic| traffic.received));
        self.push("network_sent_bytes_per_second", rate(|traffic| traffic.sent));
    }
}

/// Bytes since a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received: Option<u64>,
    pub sent: Option<u64>,
}

/// To three decimals: what lies below is noise, and long in JSON.
fn rounded(value: f64) -> f64 {
    let rounded = (value * 1000.0).round() / 1000.0;
    if rounded.is_finite() { rounded } else { value }
}

/// What a machine uses, as metrics of `service`.
pub fn of_host(
    round: &Round,
    service: &ServiceName,
    before: Option<&HostReading>,
    now: &HostReading,
) -> Vec<MetricRecord> {
    let mut rows = Rows::new(round, service, round.host.clone(), "host");
    rows.push("cpu_utilization", now.cpu_percent);
    rows.push("system_load", now.load_one_minute);
    rows.push_memory(now.memory_used, now.memory_total);
    rows.push("memory_pressure", now.memory_pressure);
    if let Some(before) = before {
        rows.push_network((before.traffic, before.at), (now.traffic, now.at));
    }
    for disk in &now.disks {
        let used = disk.total.saturating_sub(disk.available);
        rows.labels.insert("mount", disk.mount.clone());
        rows.push("disk_utilization", percent(used as f64, disk.total as f64));
        rows.push_bytes("disk_used_bytes", Some(used));
    }
    rows.made
}

/// What a container uses, as metrics of its service. What is known only as a difference needs the reading before, of the same
/// run of the container.
pub fn of_container(round: &Round, before: Option<&ContainerReading>, now: &ContainerReading) -> Vec<MetricRecord> {
    let mut rows = Rows::new(round, &now.service, Some(now.name.clone()), "docker");
    rows.labels.insert("container", now.short_id());
    rows.labels.extend(now.image.clone().map(|image| ("image", image)));
    let before = before.filter(|before| before.id == now.id && before.started == now.started);
    if let Some((before, now_cpu)) = before.and_then(|before| before.cpu.zip(now.cpu)) {
        let used = cores(before, now_cpu);
        let allowed = now.cpu_limit.unwrap_or(f64::INFINITY).min(f64::from(now_cpu.cpus));
        rows.push("cpu_utilization", used.and_then(|used| percent(used, allowed)));
        rows.push("cpu_cores", used);
    }
    rows.push_memory(now.memory_used, now.memory_limit);
    if let Some(before) = before {
        rows.push_network((before.traffic, before.at), (now.traffic, now.at));
    }
    rows.made
}

#[cfg(test)]
mod tests;
