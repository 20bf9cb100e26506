//! What units take and how much of it there is. Rule: what is not known limits nothing.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ServiceName;

/// Where nothing at all is configured.
pub const LIMIT_UNITS: u32 = 100;
pub const LIMIT_MEMORY_MB: f64 = 16_000.0;
pub const LIMIT_CPU_CORES: f64 = 32.0;
/// Share of every limit that only an emergency may use.
pub const EMERGENCY_RESERVE: f64 = 0.1;

/// Limits of one target or of the whole fleet, as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mbps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_gb: Option<f64>,
    /// Free addresses of the subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u32>,
    /// Units that the provider's quota allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_units: Option<u32>,
}

/// What one unit takes, or many together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mbps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_gb: Option<f64>,
    /// `None` = one for each unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<u32>,
}

/// What a service wants of what services share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    pub service: ServiceName,
    /// Units that it would have if it were alone.
    pub wish: u32,
    /// Units that it is to have before anybody has more.
    pub floor: u32,
    /// Its weight against others.
    pub criticality: f64,
    /// What one unit takes.
    pub unit: Resources,
}

/// All limits as a decision sees them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    pub target: ResourceLimits,
    pub fleet: ResourceLimits,
    /// What the other services have of the fleet's: units and resources.
    pub others: Resources,
    pub others_units: u32,
    pub unit: Resources,
    /// Share of every limit that only an emergency may use.
    pub reserve: f64,
    /// Where all services together want more than the fleet may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<Grant>,
}

/// A service's part of what is not enough for all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    pub units: u32,
    /// Units that it would have if it were alone.
    pub wish: u32,
    /// Its weight against the others.
    pub criticality: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target: ResourceLimits::default(),
            fleet: ResourceLimits::default(),
            others: Resources::default(),
            others_units: 0,
            unit: Resources::default(),
            reserve: EMERGENCY_RESERVE,
            granted: None,
        }
    }
}

/// What can run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    Units,
    Memory,
    Cpu,
    Network,
    Storage,
    Addresses,
    Quota,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitScope {
    Target,
    Fleet,
}

/// The limit that binds, in the resource's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Limited {
    pub scope: LimitScope,
    pub resource: Resource,
    pub limit: f64,
    /// Of which this service may use so much.
    pub usable: f64,
    /// Units that it leaves room for.
    pub units: u32,
}

/// What to change in the units where no further one fits: a target that can resize in place carries it out, for any other
/// it is advice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Optimization {
    /// What a unit should have less of, so that more fit; or more of, where their number is what is limited.
    pub resource: Resource,
    /// Of one unit, now and then; `None` where it is not known what a unit takes.
    pub from_per_unit: Option<f64>,
    pub to_per_unit: Option<f64>,
    /// What that is worth, in units of the present size.
    pub gain_units: f64,
}

impl ResourceLimits {
    /// Where nothing at all is configured.
    pub const DEFAULT: Self = Self {
        units: Some(LIMIT_UNITS),
        memory_mb: Some(LIMIT_MEMORY_MB),
        cpu_cores: Some(LIMIT_CPU_CORES),
        network_mbps: None,
        storage_gb: None,
        addresses: None,
        quota_units: None,
    };

    /// Itself, or the default limits where nothing is configured.
    pub fn or_default(self) -> Self {
        if self == Self::default() { Self::DEFAULT } else { self }
    }
}

impl Resource {
    /// The unit that amounts of it are in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Units | Self::Quota => "units",
            Self::Memory => "MB",
            Self::Cpu => "cores",
            Self::Network => "Mbit/s",
            Self::Storage => "GB",
            Self::Addresses => "addresses",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Units => "number of units",
            Self::Memory => "memory",
            Self::Cpu => "CPU",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::Addresses => "subnet",
            Self::Quota => "quota",
        })
    }
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target => "target",
            Self::Fleet => "fleet",
        })
    }
}
