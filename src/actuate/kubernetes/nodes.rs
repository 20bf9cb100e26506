//! Nodes ahead of pods: capacity that is there before the pods that will need it. Rule: what is kept free is what the plan
//! wants less what the workload asks for already, so it melts away while the pods arrive.

use std::sync::Arc;

use kube::core::DynamicObject;
use prescale_domain::{Decision, Outcome, TargetState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::change::{self, Field, Look, Number, number_at, read, value_at};
use super::pause::Marked;
use super::workload::Workload;
use super::{Cluster, ClusterSettings, Kinds, ObjectRef, default_namespace, namespace_faults};
use crate::error::refuse_unless_act;
use crate::target::Bounds;
use crate::{ActuateError, Actuator};

/// By what nodes come before their pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AheadBy {
    /// `spec.replicas` of a CapacityBuffer, for which Karpenter or Cluster Autoscaler keeps room. Units are pods.
    CapacityBuffer,
    /// The size of a static Karpenter NodePool. Units are nodes.
    NodePool,
    /// Replicas of a Deployment of pods that do nothing and give way to any other. Units are pods.
    PlaceholderPods,
}

/// Nodes of a Kubernetes cluster, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodesSettings {
    pub ahead_by: AheadBy,
    /// Of the buffer, the pool, or the Deployment of placeholders, which are made by whoever owns them.
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Whose pods are planned for, such as "Deployment/web"; not of a node pool.
    #[serde(default)]
    pub workload: Option<ObjectRef>,
    /// Bounds of what is asked for, those pods included.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// Where the cluster is.
    #[serde(default)]
    pub cluster: ClusterSettings,
    /// Mode `act` may be replayed against this target on the event clock: never for nodes that serve anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

impl NodesSettings {
    /// Nodes for pods of the namespace `default` with everything else at its default.
    pub fn new(ahead_by: AheadBy, name: &str, workload: Option<ObjectRef>, min: u32, max: u32) -> Self {
        Self {
            ahead_by,
            name: name.to_owned(),
            namespace: default_namespace(),
            workload,
            min,
            max,
            price_usd_hour: None,
            cluster: ClusterSettings::default(),
            allow_replay: false,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let Self { min, max, price_usd_hour, allow_replay, .. } = *self;
        Bounds { min, max, price_usd_hour, allow_replay }
    }

    pub(crate) fn describe(&self) -> String {
        match self.ahead_by {
            AheadBy::NodePool => format!("kubernetes node pool `{}`", self.name),
            AheadBy::CapacityBuffer => format!("kubernetes capacity buffer `{}` in `{}`", self.name, self.namespace),
            AheadBy::PlaceholderPods => format!("kubernetes placeholders `{}` in `{}`", self.name, self.namespace),
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = namespace_faults(&self.namespace);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if self.name.is_empty() || !self.name.chars().all(plain) {
            faults.push(format!("name `{}` is not a name of letters, digits, `-` and `.`", self.name));
        }
        match (self.ahead_by, &self.workload) {
            (AheadBy::NodePool, Some(_)) => {
                faults.push("workload is set, but the units of a node pool are nodes, not its pods".to_owned());
            }
            (AheadBy::CapacityBuffer | AheadBy::PlaceholderPods, None) => {
                faults.push("workload is not set: what is kept free is what its pods do not ask for yet".to_owned());
            }
            _ => {}
        }
        faults.extend(self.cluster.faults());
        faults
    }

    /// What is changed; of Karpenter's and the autoscalers' kinds, in the version that the cluster serves.
    fn object(&self) -> ObjectRef {
        let (group, kind) = match self.ahead_by {
            AheadBy::CapacityBuffer => ("autoscaling.x-k8s.io", "CapacityBuffer"),
            AheadBy::NodePool => ("karpenter.sh", "NodePool"),
            AheadBy::PlaceholderPods => ("apps", "Deployment"),
        };
        ObjectRef::new(Some(group), kind, &self.name)
    }
}

/// Nodes ahead of the pods of one workload. It connects at its first use; clones share the connection.
#[derive(Clone, Debug)]
pub struct KubernetesNodes {
    settings: Arc<NodesSettings>,
    cluster: Cluster,
    kinds: Kinds,
}

/// What a workload asks for by itself.
#[derive(Clone, Debug)]
struct Pods {
    desired: u32,
    ready: Option<u32>,
    marked: Marked,
}

impl KubernetesNodes {
    pub fn new(settings: NodesSettings) -> Self {
        let cluster = Cluster::new(settings.cluster.clone(), &settings.describe());
        Self { settings: Arc::new(settings), cluster, kinds: Kinds::default() }
    }

    #[cfg(test)]
    pub(crate) fn connected(settings: NodesSettings, config: kube::Config) -> Self {
        let cluster = Cluster::connected(settings.cluster.clone(), &settings.describe(), config);
        Self { settings: Arc::new(settings), cluster, kinds: Kinds::default() }
    }

    async fn look(&self) -> Result<Look, ActuateError> {
        let look = match self.settings.ahead_by {
            AheadBy::CapacityBuffer => self.buffer().await,
            AheadBy::NodePool => self.pool().await,
            AheadBy::PlaceholderPods => self.placeholders().await,
        };
        look.inspect_err(|error| self.kinds.forget_if_missing(error))
    }

    /// Room for `spec.replicas` pods. It is there when the autoscaler has found a place for each of them.
    async fn buffer(&self) -> Result<Look, ActuateError> {
        let reference = self.settings.object();
        let place = self.kinds.of(&self.cluster, &reference).await?.place(&self.settings.namespace);
        let buffer = read(&self.cluster, &place, &reference.name).await?;
        // Of a number and a share of another workload the smaller one holds, so the number alone would say nothing.
        if value_at(&buffer, &["spec", "percentage"]).is_some() {
            return Err(self.invalid("its spec.percentage limits what replicas ask for: a buffer of a plan has none"));
        }
        let free = number_at(&buffer, &["spec", "replicas"]).unwrap_or(0);
        let there = if free == 0 || is_provisioned(&buffer) { free } else { 0 };
        let number = Number {
            place,
            name: reference.name.clone(),
            field: Field::Replicas,
            version: buffer.metadata.resource_version.clone(),
        };
        self.with_pods(free, Some(there), number, Marked::new(&reference, buffer.metadata.annotations.as_ref())).await
    }

    /// A number of nodes, whatever the pods need.
    async fn pool(&self) -> Result<Look, ActuateError> {
        let reference = self.settings.object();
        let served = self.kinds.of(&self.cluster, &reference).await?;
        let place = served.place(&self.settings.namespace);
        let pool = read(&self.cluster, &place, &reference.name).await?;
        let Some(desired) = number_at(&pool, &["spec", "replicas"]) else {
            return Err(self.invalid(
                "it is a dynamic pool, which follows the pods; a static one has spec.replicas from its beginning on",
            ));
        };
        let number = Number {
            place,
            name: reference.name.clone(),
            field: if served.scales { Field::Scale } else { Field::Replicas },
            version: pool.metadata.resource_version.clone(),
        };
        Ok(Look {
            desired,
            ready: number_at(&pool, &["status", "nodes"]),
            min: None,
            max: limit_of_nodes(&pool),
            elsewhere: 0,
            number,
            marked: vec![Marked::new(&reference, pool.metadata.annotations.as_ref())],
        })
    }

    /// Pods of no use but for the room that they take, and give up to any pod of a higher priority.
    async fn placeholders(&self) -> Result<Look, ActuateError> {
        let reference = self.settings.object();
        let served = self.kinds.of(&self.cluster, &reference).await?;
        let (cluster, namespace) = (&self.cluster, self.settings.namespace.as_str());
        let deployment = Workload { cluster, namespace, reference: &reference, served: &served };
        let (object, size) = deployment.read().await?;
        let class =
            value_at(&object, &["spec", "template", "spec", "priorityClassName"]).and_then(|name| name.as_str());
        if class.is_none_or(str::is_empty) {
            return Err(
                self.invalid("its pods have no priorityClassName: they would not give way to those of the workload")
            );
        }
        let number = Number {
            place: served.place(namespace),
            name: reference.name.clone(),
            field: Field::Scale,
            version: size.version,
        };
        let ready = deployment.ready(&object);
        self.with_pods(size.desired, ready, number, Marked::new(&reference, object.metadata.annotations.as_ref())).await
    }

    /// What is kept free, and the pods that are there already.
    async fn with_pods(
        &self,
        free: u32,
        free_ready: Option<u32>,
        number: Number,
        marked: Marked,
    ) -> Result<Look, ActuateError> {
        let pods = self.pods().await?;
        Ok(Look {
            desired: pods.desired.saturating_add(free),
            ready: pods.ready.zip(free_ready).map(|(pods, free)| pods.saturating_add(free)),
            // Nothing here makes the workload smaller.
            min: Some(pods.desired),
            max: None,
            elsewhere: pods.desired,
            number,
            marked: vec![marked, pods.marked],
        })
    }

    async fn pods(&self) -> Result<Pods, ActuateError> {
        let Some(reference) = &self.settings.workload else {
            return Err(self.invalid("no workload is set"));
        };
        let served = &self.kinds.of(&self.cluster, reference).await?;
        let workload = Workload { cluster: &self.cluster, namespace: &self.settings.namespace, reference, served };
        let (object, size) = workload.read().await?;
        Ok(Pods {
            desired: size.desired,
            ready: workload.ready(&object),
            marked: Marked::new(reference, object.metadata.annotations.as_ref()),
        })
    }

    fn invalid(&self, detail: &str) -> ActuateError {
        ActuateError::Invalid(self.cluster.failure("read object", detail.to_owned()))
    }
}

/// The autoscaler says so, and of the buffer as it is now.
fn is_provisioned(buffer: &DynamicObject) -> bool {
    let conditions = value_at(buffer, &["status", "conditions"]).and_then(|list| list.as_array());
    let Some(condition) = conditions.into_iter().flatten().find(|one| one["type"] == "Provisioning") else {
        return false;
    };
    let seen = condition.get("observedGeneration").and_then(|number| number.as_i64());
    condition["status"] == "True" && seen.is_none_or(|seen| Some(seen) == buffer.metadata.generation)
}

/// `spec.limits.nodes`, a quantity; one that is no plain number is no bound here, and the pool keeps to it by itself.
fn limit_of_nodes(pool: &DynamicObject) -> Option<u32> {
    let limit = value_at(pool, &["spec", "limits", "nodes"])?;
    let number = limit.as_u64().or_else(|| limit.as_str()?.parse().ok())?;
    u32::try_from(number).ok()
}

impl Actuator for KubernetesNodes {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        Ok(self.cluster.within("observe", self.look()).await?.state(now))
    }

    async fn apply(&self, decision: &Decision, _now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let look = || self.look();
        self.cluster.within("apply", change::apply(&self.cluster, self.settings.bounds(), decision, look)).await
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}
