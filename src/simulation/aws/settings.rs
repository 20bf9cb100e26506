//! What an account is made of. Rule: every number that AWS does not publish is a setting, with a default and its source.

use std::collections::BTreeMap;

use prescale_domain::{Span, Timestamp};

use super::bucket::Rate;
use crate::market::{Hazard, MarketSettings, PoolSettings, Prices, Supply};

/// An account in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct AwsSettings {
    pub account: String,
    pub region: String,
    /// Letters of the region's zones.
    pub zones: Vec<String>,
    /// From when to when spot prices and losses are known.
    pub start: Timestamp,
    pub end: Timestamp,
    pub seed: u64,
    /// Request → instance in service without hooks: median and 90th percentile of a log-normal distribution.
    pub launch_latency: Span,
    pub launch_latency_p90: Span,
    /// From a stopped instance of a warm pool to one in service; one that runs takes a tenth of it.
    pub warm_start: Span,
    /// From `Terminating` to `Terminated`.
    pub termination: Span,
    /// From a change of a group to what the group does about it.
    pub reaction: Span,
    /// Between two tries to launch where capacity was lacking.
    pub retry: Span,
    /// From the end of an instance that nobody of the group asked for to the group's knowing of it.
    pub health_check: Span,
    /// How long a change of a node group takes, and a cluster to be made.
    pub eks_update: Span,
    pub eks_create: Span,
    /// How long an answer takes.
    pub answer: Span,
    /// One bucket for all operations of a service.
    pub autoscaling_rate: Rate,
    pub ec2_rate: Rate,
    pub eks_rate: Rate,
    /// Spot pools; where it names none, one by type and zone is made.
    pub market: MarketSettings,
    /// Launch templates and their instance types that are there from the start.
    pub templates: BTreeMap<String, String>,
    /// Name of a queue that gets all events of EC2 and Auto Scaling, as a rule of EventBridge would send them.
    pub event_queue: Option<String>,
}

/// A type of instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceType {
    pub name: &'static str,
    pub vcpus: u32,
    pub memory_mib: u32,
    /// On demand, Linux, Ireland.
    pub price_usd_hour: f64,
}

/// A small selection, sizes as AWS documents them, prices as listed in 2025.
pub const CATALOGUE: [InstanceType; 12] = [
    InstanceType { name: "m5.large", vcpus: 2, memory_mib: 8192, price_usd_hour: 0.107 },
    InstanceType { name: "m5.xlarge", vcpus: 4, memory_mib: 16_384, price_usd_hour: 0.214 },
    InstanceType { name: "m5a.large", vcpus: 2, memory_mib: 8192, price_usd_hour: 0.096 },
    InstanceType { name: "m6i.large", vcpus: 2, memory_mib: 8192, price_usd_hour: 0.107 },
    InstanceType { name: "m6i.xlarge", vcpus: 4, memory_mib: 16_384, price_usd_hour: 0.214 },
    InstanceType { name: "m7i.large", vcpus: 2, memory_mib: 8192, price_usd_hour: 0.1124 },
    InstanceType { name: "c5.large", vcpus: 2, memory_mib: 4096, price_usd_hour: 0.096 },
    InstanceType { name: "c5.xlarge", vcpus: 4, memory_mib: 8192, price_usd_hour: 0.192 },
    InstanceType { name: "c6i.large", vcpus: 2, memory_mib: 4096, price_usd_hour: 0.0912 },
    InstanceType { name: "r5.large", vcpus: 2, memory_mib: 16_384, price_usd_hour: 0.141 },
    InstanceType { name: "r6i.large", vcpus: 2, memory_mib: 16_384, price_usd_hour: 0.141 },
    InstanceType { name: "t3.medium", vcpus: 2, memory_mib: 4096, price_usd_hour: 0.0456 },
];

/// The type of that name.
pub(super) fn instance_type(name: &str) -> Option<&'static InstanceType> {
    CATALOGUE.iter().find(|known| known.name == name)
}

impl Default for AwsSettings {
    /// Three zones of Ireland for a week from 2026-01-01. Latencies as of `FleetSettings`; the rates are guesses: AWS
    /// publishes none for Auto Scaling and EKS, and 100 with 20 a second for describes of EC2.
    fn default() -> Self {
        let start = Timestamp::from_millis(1_767_225_600_000);
        Self {
            account: "123456789012".to_owned(),
            region: "eu-west-1".to_owned(),
            zones: ["a", "b", "c"].map(str::to_owned).to_vec(),
            start,
            end: start + Span::from_minutes(7 * 24 * 60),
            seed: 1,
            launch_latency: Span::from_secs(150),
            launch_latency_p90: Span::from_secs(180),
            warm_start: Span::from_secs(40),
            termination: Span::from_secs(30),
            reaction: Span::from_secs(1),
            retry: Span::from_secs(60),
            health_check: Span::from_secs(30),
            eks_update: Span::from_secs(30),
            eks_create: Span::from_minutes(9),
            answer: Span::from_millis(20),
            autoscaling_rate: Rate { burst: 100.0, per_second: 10.0 },
            ec2_rate: Rate { burst: 100.0, per_second: 20.0 },
            eks_rate: Rate { burst: 50.0, per_second: 10.0 },
            market: MarketSettings::default(),
            templates: BTreeMap::from([("default".to_owned(), "m5.large".to_owned())]),
            event_queue: Some("events".to_owned()),
        }
    }
}

impl AwsSettings {
    /// Full names of the zones.
    pub fn zone_names(&self) -> Vec<String> {
        self.zones.iter().map(|letter| format!("{}{letter}", self.region)).collect()
    }

    /// The same, with spot pools by type and zone that lose units by chance, one independent of the other.
    #[must_use]
    pub fn with_losses(mut self, per_unit_and_hour: f64) -> Self {
        self.market = self.market();
        for pool in &mut self.market.pools {
            if let Supply::Generated(hazard) = &mut pool.supply {
                hazard.per_hour = per_unit_and_hour;
            }
        }
        self
    }

    /// The market with its pools: those that are set, or one by type and zone at 30 % of the on-demand price.
    pub(super) fn market(&self) -> MarketSettings {
        let mut market = self.market.clone();
        if market.pools.is_empty() {
            for known in &CATALOGUE {
                market.pools.extend(self.zone_names().into_iter().map(|zone| pool(known, zone)));
            }
        }
        market
    }
}

fn pool(known: &InstanceType, zone: String) -> PoolSettings {
    let prices = Prices::Generated {
        mean_usd_hour: known.price_usd_hour * 0.3,
        cap_usd_hour: known.price_usd_hour,
        spread: 0.2,
        reversion: Span::from_minutes(12 * 60),
    };
    let hazard =
        Hazard { per_hour: 0.0, bursts_per_day: 0.0, burst_share: 0.0, outage: Span::ZERO, units_max: Some(1000) };
    PoolSettings { instance_type: known.name.to_owned(), zone, prices, supply: Supply::Generated(hazard) }
}
