//! Pods off their nodes before the nodes go. Rule: only the eviction API moves a pod, so a PodDisruptionBudget holds; a node
//! that could not be emptied in time takes pods again.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::subresource::EvictParams;
use kube::core::{ObjectList, Status};
use prescale_domain::Span;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::change::manager;
use super::cluster::{Call, Cluster};
use super::reference::Place;
use crate::ActuateError;

/// A static pod, which its node alone can end.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How long, and how hard, nodes are drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainLimits {
    /// For one node, from its first pod to its last.
    pub per_node: Span,
    /// Between two attempts at pods that a budget protects, or that take their time to end.
    pub retry_every: Span,
    pub nodes_at_once: usize,
}

impl Default for DrainLimits {
    fn default() -> Self {
        Self { per_node: Span::from_minutes(5), retry_every: Span::from_secs(2), nodes_at_once: 10 }
    }
}

/// What became of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// It is closed, and nothing runs on it but what belongs to it.
    Drained { evicted: u32 },
    /// There is no such node.
    Gone,
    /// The time is over; `left` says which pods stay, and why. The node is open again if it was open before.
    Unfinished { evicted: u32, left: Vec<String> },
    /// It can't be drained at all.
    Failed(ActuateError),
}

/// Closes the nodes to new pods and evicts those that they have. The answer has them in the order of `names`.
pub async fn drain_nodes(cluster: &Cluster, names: &[String], limits: DrainLimits) -> Vec<(String, DrainOutcome)> {
    let mut left = names.iter().cloned().enumerate();
    let (mut running, mut ended) = (JoinSet::new(), Vec::with_capacity(names.len()));
    loop {
        while running.len() < limits.nodes_at_once.max(1) {
            let Some((index, name)) = left.next() else { break };
            let cluster = cluster.clone();
            running.spawn(async move {
                let outcome = Draining { cluster: &cluster, node: &name, limits }.run().await;
                (index, name, outcome)
            });
        }
        match running.join_next().await {
            Some(Ok(one)) => ended.push(one),
            // A drain neither panics nor is it cancelled while this waits for it.
            Some(Err(_)) => {}
            None => break,
        }
    }
    ended.sort_by_key(|(index, ..)| *index);
    ended.into_iter().map(|(_, name, outcome)| (name, outcome)).collect()
}

/// Lets pods onto nodes again; what could not be opened is told.
pub(crate) async fn open_nodes(cluster: &Cluster, names: &[String]) -> Vec<String> {
    let mut failed = Vec::new();
    for node in names {
        let limits = DrainLimits::default();
        match (Draining { cluster, node, limits }).close(false).await {
            Ok(()) | Err(ActuateError::NotFound(_)) => {}
            Err(error) => failed.push(format!("{node}: {error}")),
        }
    }
    failed
}

#[derive(Clone, Copy)]
struct Draining<'a> {
    cluster: &'a Cluster,
    node: &'a str,
    limits: DrainLimits,
}

impl Draining<'_> {
    async fn run(self) -> DrainOutcome {
        let was_open = match self.is_open().await {
            Ok(open) => open,
            Err(ActuateError::NotFound(_)) => return DrainOutcome::Gone,
            Err(error) => return DrainOutcome::Failed(error),
        };
        if was_open && let Err(error) = self.close(true).await {
            return DrainOutcome::Failed(error);
        }
        let outcome = self.empty().await;
        if was_open
            && matches!(outcome, DrainOutcome::Unfinished { .. } | DrainOutcome::Failed(_))
            && let Err(error) = self.close(false).await
        {
            return DrainOutcome::Failed(error);
        }
        outcome
    }

    async fn empty(self) -> DrainOutcome {
        let end = Instant::now() + self.limits.per_node.to_std();
        let mut asked = BTreeSet::new();
        loop {
            let left = match self.round(&mut asked).await {
                Ok(left) if left.is_empty() => return DrainOutcome::Drained { evicted: number(&asked) },
                Ok(left) => left,
                // The way or the server may be better next time.
                Err(
                    error @ (ActuateError::Timeout(_)
                    | ActuateError::Unreachable(_)
                    | ActuateError::Throttled(_)
                    | ActuateError::Conflict(_)
                    | ActuateError::Other(_)),
                ) => vec![error.to_string()],
                Err(error) => return DrainOutcome::Failed(error),
            };
            if Instant::now() + self.limits.retry_every.to_std() > end {
                return DrainOutcome::Unfinished { evicted: number(&asked), left };
            }
            tokio::time::sleep(self.limits.retry_every.to_std()).await;
        }
    }

    /// Asks each pod to go that was not asked yet; the answer is those that are there.
    async fn round(self, asked: &mut BTreeSet<String>) -> Result<Vec<String>, ActuateError> {
        let mut left = Vec::new();
        for pod in self.pods().await?.into_iter().filter(leaves_with_drain) {
            let meta = &pod.metadata;
            let (namespace, name) =
                (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
            let uid = meta.uid.clone().unwrap_or_default();
            let why = if meta.deletion_timestamp.is_some() || asked.contains(&uid) {
                "is ending".to_owned()
            } else {
                match self.evict(namespace, name, &uid).await {
                    Ok(()) => {
                        asked.insert(uid);
                        "is ending".to_owned()
                    }
                    Err(ActuateError::NotFound(_)) => continue,
                    // A budget allows no further pod to go, or (500) several budgets want to have their say. Or another pod
                    // bears that name: the next look tells.
                    Err(
                        ActuateError::Throttled(failure)
                        | ActuateError::Other(failure)
                        | ActuateError::Conflict(failure),
                    ) => failure.detail,
                    Err(error) => return Err(error),
                }
            };
            left.push(format!("{namespace}/{name}: {why}"));
        }
        Ok(left)
    }

    /// Of this pod only: by the time of the call another one may bear its name, on another node.
    async fn evict(self, namespace: &str, name: &str, uid: &str) -> Result<(), ActuateError> {
        const CALL: Call = Call { operation: "evict pod", name: "CreateEviction" };
        let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = EvictParams {
            delete_options: Some(DeleteParams { preconditions: Some(only), ..DeleteParams::default() }),
            post_options: PostParams { field_manager: manager(), ..PostParams::default() },
        };
        let request = Place::of::<Pod>(Some(namespace)).request().evict(name, &params);
        // The refusal of a budget looks like throttling; it is asked again in the next round.
        self.cluster.ask_once::<Status>(CALL, request).await.map(|_| ())
    }

    async fn pods(self) -> Result<ObjectList<Pod>, ActuateError> {
        const CALL: Call = Call { operation: "list pods", name: "ListPods" };
        let on_node = ListParams::default().fields(&format!("spec.nodeName={}", self.node));
        self.cluster.ask(CALL, Place::of::<Pod>(None).request().list(&on_node)).await
    }

    async fn is_open(self) -> Result<bool, ActuateError> {
        const CALL: Call = Call { operation: "read node", name: "GetNode" };
        let request = Place::of::<Node>(None).request().get(self.node, &GetParams::default());
        let node: Node = self.cluster.ask(CALL, request).await?;
        Ok(node.spec.and_then(|spec| spec.unschedulable) != Some(true))
    }

    async fn close(self, closed: bool) -> Result<(), ActuateError> {
        const CALL: Call = Call { operation: "cordon node", name: "PatchNode" };
        let patch = Patch::Merge(json!({ "spec": { "unschedulable": closed } }));
        let params = PatchParams { field_manager: manager(), ..PatchParams::default() };
        let request = Place::of::<Node>(None).request().patch(self.node, &params, &patch);
        self.cluster.ask::<IgnoredAny>(CALL, request).await.map(|_| ())
    }
}

/// What a drain moves: not what belongs to the node itself.
fn leaves_with_drain(pod: &Pod) -> bool {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let of_every_node = owners.any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    let of_this_node = pod.metadata.annotations.as_ref().is_some_and(|marks| marks.contains_key(MIRROR));
    !of_every_node && !of_this_node
}

fn number(asked: &BTreeSet<String>) -> u32 {
    u32::try_from(asked.len()).unwrap_or(u32::MAX)
}
