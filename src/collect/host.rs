//! What the machine says of itself. Rule: it is asked beside the rounds; a file system that hangs costs rows, never a round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prescale_telemetry::collect::HostUnread;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, Networks, System};
use tokio::task::JoinHandle;

use crate::rows::Traffic;

/// How long a round waits for the machine's answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where Linux tells how long tasks wait for memory.
const PRESSURE: &str = "/proc/pressure/memory";

/// Interfaces that only pass on, between containers and the world, what another interface of the machine counts as well, or
/// that lead nowhere.
const INNER_INTERFACES: [&str; 9] = ["lo", "docker", "veth", "br-", "virbr", "vnet", "cni", "flannel", "cali"];

/// A machine as it was read. Counters are since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostReading {
    /// On a clock that never jumps.
    pub at: Duration,
    /// Of all processors, since the reading before; `None` in the first.
    pub cpu_percent: Option<f64>,
    /// Runnable and waiting tasks, averaged over a minute.
    pub load_one_minute: Option<f64>,
    /// Bytes that can't be had without taking them from somebody.
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
    /// Percent of the last ten seconds in which some task waited for memory (Linux, where the kernel counts that).
    pub memory_pressure: Option<f64>,
    /// Of the interfaces to the outside.
    pub traffic: Traffic,
    pub disks: Vec<DiskReading>,
}

/// A file system that can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskReading {
    pub mount: Arc<str>,
    /// Bytes.
    pub total: u64,
    pub available: u64,
}

/// Reads the machine again and again; the first reading has no CPU.
struct Meter {
    system: Option<System>,
    networks: Option<Networks>,
    disks: Option<Disks>,
    begun: Instant,
    is_first: bool,
}

impl Meter {
    fn new(begun: Instant) -> Self {
        // What the machine does not tell at all has no rows.
        Self {
            system: System::new().ok(),
            networks: Networks::new().ok(),
            disks: Disks::new().ok(),
            begun,
            is_first: true,
        }
    }

    fn read(&mut self) -> HostReading {
        let mut reading = HostReading { at: self.begun.elapsed(), ..HostReading::default() };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            reading.cpu_percent =
                (!self.is_first && !system.cpus().is_empty()).then(|| system.global_cpu_usage().into());
            let total = system.total_memory();
            if total > 0 {
                let used = total.saturating_sub(system.available_memory());
                (reading.memory_used, reading.memory_total) = (Some(used), Some(total));
            }
        }
        reading.load_one_minute = System::load_average().ok().map(|load| load.one);
        reading.memory_pressure = std::fs::read_to_string(PRESSURE).ok().as_deref().and_then(some_of_ten_seconds);
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
            // A name that is not text is none of those that only pass on.
            let each = networks.iter().map(|(name, data)| {
                (name.to_str().unwrap_or_default(), data.total_received(), data.total_transmitted())
            });
            reading.traffic = traffic(each);
        }
        if let Some(disks) = &mut self.disks {
            disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
            let found = disks.iter().filter(|disk| !disk.is_read_only()).map(|disk| {
                let mount = Arc::from(disk.mount_point().to_string_lossy());
                let reading = DiskReading { mount, total: disk.total_space(), available: disk.available_space() };
                (disk.name().to_string_lossy().into_owned(), reading)
            });
            reading.disks = each_once(found);
        }
        self.is_first = false;
        reading
    }
}

/// Of a file of the kernel's pressure stall information (Documentation/accounting/psi.rst).
fn some_of_ten_seconds(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent)
}

/// Both directions, over the interfaces to the outside; not known where there is none.
fn traffic<'a>(interfaces: impl Iterator<Item = (&'a str, u64, u64)>) -> Traffic {
    let outer = interfaces.filter(|(name, ..)| !INNER_INTERFACES.iter().any(|inner| is_inner(name, inner)));
    outer.fold(Traffic::default(), |sum, (_, received, sent)| {
        let add = |known: Option<u64>, more: u64| Some(known.unwrap_or_default().saturating_add(more));
        Traffic { received: add(sum.received, received), sent: add(sum.sent, sent) }
    })
}

/// `lo` and `lo0` are, `lora0` is not.
fn is_inner(name: &str, inner: &str) -> bool {
    name.strip_prefix(inner).is_some_and(|rest| inner != "lo" || rest.chars().all(|c| c.is_ascii_digit()))
}

/// Each file system once, by the shortest of its mount points.
fn each_once(found: impl Iterator<Item = (String, DiskReading)>) -> Vec<DiskReading> {
    let mut by_device: BTreeMap<(String, u64), DiskReading> = BTreeMap::new();
    for (device, disk) in found.filter(|(_, disk)| disk.total > 0) {
        let known = by_device.entry((device, disk.total)).or_insert_with(|| disk.clone());
        if (disk.mount.len(), &disk.mount) < (known.mount.len(), &known.mount) {
            *known = disk;
        }
    }
    let mut disks: Vec<_> = by_device.into_values().collect();
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    disks
}

/// The machine, read on a thread of its own: what hangs there is not waited for, and not asked twice.
pub(crate) struct Host {
    meter: Option<Meter>,
    busy: Option<JoinHandle<(Meter, HostReading)>>,
}

impl Host {
    /// `begun` is where the readings' clock starts.
    pub(crate) fn new(begun: Instant) -> Self {
        Self { meter: Some(Meter::new(begun)), busy: None }
    }

    /// The machine's name, where it has one.
    pub(crate) fn name() -> Option<Arc<str>> {
        System::host_name().ok().filter(|name| !name.is_empty()).map(Arc::from)
    }

    /// `None` = the machine has not answered in time, or no longer can.
    pub(crate) async fn read(&mut self) -> Option<HostReading> {
        let mut busy = match (self.busy.take(), self.meter.take()) {
            (Some(busy), _) => busy,
            (None, Some(mut meter)) => tokio::task::spawn_blocking(move || {
                let reading = meter.read();
                (meter, reading)
            }),
            (None, None) => return None,
        };
        match tokio::time::timeout(PATIENCE, &mut busy).await {
            Ok(Ok((meter, reading))) => {
                self.meter = Some(meter);
                Some(reading)
            }
            Ok(Err(error)) => {
                HostUnread { error: &error.to_string() }.emit();
                None
            }
            Err(_) => {
                self.busy = Some(busy);
                HostUnread { error: "it does not answer; does a file system hang?" }.emit();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_counted_where_it_leaves_the_machine() {
        let all =
            [("lo", 9, 9), ("eth0", 100, 10), ("docker0", 50, 5), ("veth12ab", 50, 5), ("lora0", 1, 2), ("lo0", 7, 7)];
        assert_eq!(traffic(all.into_iter()), Traffic { received: Some(101), sent: Some(12) });
        assert_eq!(traffic([("lo", 9, 9)].into_iter()), Traffic::default());
    }

    #[test]
    fn what_tasks_waited_for_memory_is_read_as_the_kernel_writes_it() {
        let text =
            "some avg10=1.53 avg60=0.20 avg300=0.05 total=123\nfull avg10=0.70 avg60=0.10 avg300=0.01 total=45\n";
        assert_eq!(some_of_ten_seconds(text), Some(1.53));
        for unclear in ["", "full avg10=0.70", "some avg60=0.20", "some avg10=?", "some avg10=130.00"] {
            assert_eq!(some_of_ten_seconds(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn a_file_system_with_two_mounts_is_one() {
        let disk = |device: &str, mount: &str, total| {
            (device.to_owned(), DiskReading { mount: mount.into(), total, available: 1 })
        };
        let found = [
            disk("/dev/vda1", "/etc/hosts", 10),
            disk("/dev/vda1", "/srv", 10),
            disk("/dev/vdb", "/data", 20),
            disk("none", "/proc", 0),
        ];
        let mounts: Vec<_> = each_once(found.into_iter()).into_iter().map(|disk| disk.mount.to_string()).collect();
        assert_eq!(mounts, ["/data", "/srv"]);
    }

    #[tokio::test]
    async fn this_machine_is_read() {
        let mut host = Host::new(Instant::now());
        let first = host.read().await.unwrap();
        assert_eq!(first.cpu_percent, None, "there is nothing to compare the first reading with");
        tokio::time::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL * 2).await;
        let second = host.read().await.unwrap();
        assert!(second.at > first.at);
        let cpu = second.cpu_percent.unwrap();
        assert!((0.0..=100.0).contains(&cpu), "{cpu}");
        let (used, total) = second.memory_used.zip(second.memory_total).unwrap();
        assert!(0 < used && used <= total, "{used} of {total} bytes");
        // This very process is not larger than its machine, and the kernel's own word is the same.
        let told = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib = told.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")).unwrap();
        assert_eq!(total, kib.trim().parse::<u64>().unwrap() * 1024);
        assert!(second.load_one_minute.unwrap() >= 0.0);
        assert!(second.disks.iter().all(|disk| disk.available <= disk.total), "{:?}", second.disks);
    }
}
