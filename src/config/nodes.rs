//! Nodes under the pods of services, as configured.

use prescale_controller::NodesSetup;
use prescale_decide::NodeShape;
use prescale_domain::{Resources, ServiceName, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ServiceConfig};

/// Which pods a service that is nodes has on it, and what a node has for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodesConfig {
    /// Services whose units are pods on these nodes; what one takes is their `unit`.
    pub(crate) pods_of: Vec<String>,
    /// What a node has for pods: its allocatable CPU and memory, daemons included.
    pub(crate) allocatable: Resources,
    /// Most pods on a node, daemons included.
    #[serde(default)]
    pub(crate) pods_max: Option<u32>,
    /// What the daemons of a node take together, and how many they are.
    #[serde(default)]
    pub(crate) daemons: Resources,
    #[serde(default)]
    pub(crate) daemon_pods: u32,
    /// From a pod's being bound to a node until it serves.
    #[serde(default = "none")]
    pub(crate) pod_start: Span,
}

fn none() -> Span {
    Span::ZERO
}

impl NodesConfig {
    pub(crate) fn setup(&self) -> NodesSetup {
        NodesSetup {
            pods_of: self.pods_of.iter().map(|name| ServiceName::new(name)).collect(),
            shape: NodeShape {
                allocatable: self.allocatable,
                pods_max: self.pods_max,
                daemons: self.daemons,
                daemon_pods: self.daemon_pods,
            },
            pod_start: self.pod_start,
        }
    }

    /// What is wrong with it, as sentences.
    pub(super) fn faults(&self, service: &ServiceConfig, config: &Config) -> Vec<String> {
        let mut faults = Vec::new();
        if service.unit_capacity.to_bits() != 1.0_f64.to_bits() {
            faults.push(format!("its load is counted in nodes: unit_capacity {} is not 1", service.unit_capacity));
        }
        if self.pods_of.is_empty() {
            faults.push("pods_of is empty: nothing would be on the nodes".to_owned());
        }
        for name in &self.pods_of {
            match config.services.iter().find(|known| known.name == *name) {
                None => faults.push(format!("pods_of: `{name}` is no service of this configuration")),
                Some(known) if known.nodes.is_some() => faults.push(format!("pods_of: `{name}` is nodes itself")),
                Some(known) => faults.extend(self.misfit(known)),
            }
        }
        if self.pod_start < Span::ZERO {
            faults.push(format!("pod_start {} is below 0s", self.pod_start));
        }
        faults
    }

    /// Why a pod of the service would be on no node.
    fn misfit(&self, pods: &ServiceConfig) -> Option<String> {
        let left = |all: Option<f64>, taken: Option<f64>| all.map(|all| all - taken.unwrap_or(0.0));
        let (unit, node, daemons) = (pods.unit, self.allocatable, self.daemons);
        let short = [
            ("cpu_cores", unit.cpu_cores, left(node.cpu_cores, daemons.cpu_cores)),
            ("memory_mb", unit.memory_mb, left(node.memory_mb, daemons.memory_mb)),
        ];
        let counted = self.pods_max.is_some_and(|most| most <= self.daemon_pods);
        if counted {
            return Some(format!("pods_max leaves no room beside {} daemons", self.daemon_pods));
        }
        if unit.cpu_cores.is_none() && unit.memory_mb.is_none() && self.pods_max.is_none() {
            return Some(format!("nothing tells how many pods of `{}` fit: set its unit, or pods_max", pods.name));
        }
        short.into_iter().find_map(|(name, asked, left)| {
            let (asked, left) = (asked?, left?);
            (asked > left).then(|| format!("a pod of `{}` asks for {name} {asked}, a node has {left}", pods.name))
        })
    }
}
