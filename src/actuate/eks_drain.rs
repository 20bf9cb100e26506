//! Nodes of a node group are emptied before they go: EKS cuts a group to its size whatever disruption budgets say. Rule: pods
//! leave through the eviction API, then exactly the emptied nodes are taken; those that are needed after all take pods again,
//! and what could not be emptied in time stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Node;
use kube::core::ObjectList;
use kube::core::params::ListParams;
use prescale_domain::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::kubernetes::{Call, Cluster, ClusterSettings, DrainLimits, DrainOutcome, Place, drain_nodes, open_nodes};
use crate::{ActuateError, Failure};

/// The label by which EKS tells whose a node is.
const NODEGROUP: &str = "eks.amazonaws.com/nodegroup";

/// How nodes are emptied, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EksDrainSettings {
    /// How the cluster's own API is reached.
    pub kubernetes: ClusterSettings,
    /// For one node, from its first pod to its last; what takes longer stays.
    pub per_node: Span,
    pub nodes_at_once: usize,
}

impl Default for EksDrainSettings {
    fn default() -> Self {
        let DrainLimits { per_node, nodes_at_once, .. } = DrainLimits::default();
        Self { kubernetes: ClusterSettings::default(), per_node, nodes_at_once }
    }
}

impl EksDrainSettings {
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.kubernetes.faults();
        if self.per_node.millis() <= 0 {
            faults.push(format!("per_node {} is not above 0s", self.per_node));
        }
        if self.nodes_at_once == 0 {
            faults.push("nodes_at_once 0 is below 1".to_owned());
        }
        faults
    }
}

/// How far a group's nodes are.
#[derive(Debug)]
pub(crate) enum Emptied {
    /// So many are being emptied.
    UnderWay(usize),
    /// Instances that nothing runs on any more, and why others are not among them.
    Ready { instances: Vec<String>, left: Vec<String> },
}

/// Drains of a target's groups, each beside the loop.
#[derive(Debug)]
pub(crate) struct Drains {
    cluster: Cluster,
    limits: DrainLimits,
    running: Mutex<BTreeMap<String, Drain>>,
    /// Instances that were ended: their nodes are there for a while.
    taken: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct Drain {
    /// Instances by node.
    instances: BTreeMap<String, String>,
    task: JoinHandle<Vec<(String, DrainOutcome)>>,
}

impl Drains {
    pub(crate) fn new(settings: &EksDrainSettings, target: &str) -> Self {
        let EksDrainSettings { kubernetes, per_node, nodes_at_once } = settings.clone();
        let limits = DrainLimits { per_node, nodes_at_once, ..DrainLimits::default() };
        Self { cluster: Cluster::new(kubernetes, target), limits, running: Mutex::default(), taken: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Drain>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a drain goes on, or waits for somebody to take what it has emptied.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running().is_empty()
    }

    /// The drain of a group, taken out where it has ended; `Err` = so many nodes are on their way.
    fn ended(&self, group: &str) -> Result<Option<Drain>, usize> {
        let mut running = self.running();
        match running.get(group) {
            Some(drain) if !drain.task.is_finished() => Err(drain.instances.len()),
            _ => Ok(running.remove(group)),
        }
    }

    /// Has `count` nodes of a group emptied: begins it, or says how far it is.
    pub(crate) async fn empty(&self, group: &str, count: usize, target: &str) -> Result<Emptied, ActuateError> {
        match self.ended(group) {
            Err(nodes) => return Ok(Emptied::UnderWay(nodes)),
            Ok(Some(drain)) => return Ok(self.result(drain, count).await),
            Ok(None) => {}
        }
        let instances = self.candidates(group, count).await?;
        if instances.is_empty() {
            let detail = format!("no node of the cluster has the label {NODEGROUP}={group} and an instance");
            return Err(ActuateError::NotFound(Failure { operation: "find nodes", target: target.to_owned(), detail }));
        }
        let (cluster, names, limits) =
            (self.cluster.clone(), instances.keys().cloned().collect::<Vec<_>>(), self.limits);
        let nodes = names.len();
        let task = tokio::spawn(async move { drain_nodes(&cluster, &names, limits).await });
        self.running().insert(group.to_owned(), Drain { instances, task });
        Ok(Emptied::UnderWay(nodes))
    }

    /// An instance was ended. One that was not, though it is empty, is closed and so the first to go next time.
    pub(crate) fn took(&self, instance: String) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(instance);
    }

    /// Nothing of a group is to go any more: what was emptied takes pods again, once the drain has ended.
    pub(crate) async fn release(&self, group: &str) {
        if let Ok(Some(drain)) = self.ended(group) {
            // None is to go.
            self.result(drain, 0).await;
        }
    }

    /// What a drain has emptied, at most so many; the others take pods again.
    async fn result(&self, drain: Drain, count: usize) -> Emptied {
        // A drain neither panics nor is it cancelled.
        let outcomes = drain.task.await.unwrap_or_default();
        let (mut instances, mut open, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for (node, outcome) in outcomes {
            match outcome {
                DrainOutcome::Drained { .. } | DrainOutcome::Gone => match drain.instances.get(&node) {
                    Some(instance) if instances.len() < count => instances.push(instance.clone()),
                    _ => open.push(node),
                },
                DrainOutcome::Unfinished { left: pods, .. } => left.push(format!("{node}: {}", pods.join(", "))),
                DrainOutcome::Failed(error) => left.push(format!("{node}: {error}")),
            }
        }
        left.extend(open_nodes(&self.cluster, &open).await);
        Emptied::Ready { instances, left }
    }

    /// Nodes of a group that go first, and their instances: those that do not serve, those that are closed already, the
    /// oldest.
    async fn candidates(&self, group: &str, count: usize) -> Result<BTreeMap<String, String>, ActuateError> {
        const CALL: Call = Call { operation: "list nodes", name: "ListNodes" };
        let of_group = ListParams::default().labels(&format!("{NODEGROUP}={group}"));
        let nodes: ObjectList<Node> = self.cluster.ask(CALL, Place::of::<Node>(None).request().list(&of_group)).await?;
        let mut nodes: Vec<Node> = nodes.items;
        nodes.sort_by_cached_key(|node| {
            let closed = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
            let born = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (serves(node), !closed, born, node.metadata.name.clone())
        });
        let known: Vec<_> =
            nodes.iter().filter_map(|node| Some((node.metadata.name.clone()?, instance(node)?))).collect();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whose nodes are gone need not be remembered.
        taken.retain(|instance| known.iter().any(|(_, known)| known == instance));
        Ok(known.into_iter().filter(|(_, instance)| !taken.contains(instance)).take(count).collect())
    }
}

fn serves(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// `aws:///eu-west-1a/i-0123` is the instance `i-0123`.
fn instance(node: &Node) -> Option<String> {
    let id = node.spec.as_ref()?.provider_id.as_ref()?.rsplit('/').next()?;
    id.starts_with("i-").then(|| id.to_owned())
}
