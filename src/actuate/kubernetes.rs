//! Kubernetes: the size of a workload or the floor under it, nodes ahead of its pods, and what else a cluster is asked for.
//! Rule: of any object the one number is written, under the field manager `prescale` and bound to the version that was seen;
//! whoever owns the object can stop that by a mark on it.

mod api_error;
mod change;
mod cluster;
mod drain;
mod lease;
mod nodes;
mod pause;
mod reference;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prescale_domain::{Decision, Outcome, TargetState, Timestamp, is_spot_annotation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::change::{Look, Purpose};
use self::reference::{Served, discover, find};
use self::workload::Workload;
use crate::error::refuse_unless_act;
use crate::target::Bounds;
use crate::{ActuateError, Actuator};

pub(crate) use cluster::Call;
pub use cluster::{Cluster, ClusterSettings};
pub(crate) use drain::open_nodes;
pub use drain::{DrainLimits, DrainOutcome, drain_nodes};
pub use lease::KubernetesLease;
pub use nodes::{AheadBy, KubernetesNodes, NodesSettings};
pub(crate) use reference::Place;
pub use reference::{ObjectRef, ObjectRefError};

/// What is set of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScaledAs {
    /// Its replicas, where nothing else scales it.
    #[default]
    Replicas,
    /// `minReplicas` of the HPA that scales it: a floor, above which the HPA goes on reacting.
    HpaFloor,
}

/// A workload of a Kubernetes cluster, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSettings {
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Anything with a scale subresource, such as "Deployment/web" or "argoproj.io/Rollout/web".
    pub workload: ObjectRef,
    #[serde(default, rename = "as")]
    pub scaled_as: ScaledAs,
    /// The HPA of a floor; one of the workload's name where it is not set.
    #[serde(default)]
    pub hpa: Option<String>,
    /// Bounds of what is asked for; those of the HPA hold as well.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// Where the cluster is.
    #[serde(default)]
    pub cluster: ClusterSettings,
    /// Mode `act` may be replayed against this target on the event clock: never for a workload that serves anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl KubernetesSettings {
    /// A workload of the namespace `default` with everything else at its default.
    pub fn new(workload: ObjectRef, min: u32, max: u32) -> Self {
        Self {
            namespace: default_namespace(),
            workload,
            scaled_as: ScaledAs::default(),
            hpa: None,
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
        match self.scaled_as {
            ScaledAs::Replicas => format!("kubernetes `{}` in `{}`", self.workload, self.namespace),
            ScaledAs::HpaFloor => format!("kubernetes hpa `{}` in `{}`", self.hpa_name(), self.namespace),
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = namespace_faults(&self.namespace);
        if self.hpa.is_some() && self.scaled_as == ScaledAs::Replicas {
            faults.push("hpa is set, but `as` is not \"hpa-floor\"".to_owned());
        }
        faults.extend(self.cluster.faults());
        faults
    }

    fn hpa_name(&self) -> &str {
        self.hpa.as_deref().unwrap_or(&self.workload.name)
    }
}

/// It becomes part of an address.
fn namespace_faults(namespace: &str) -> Vec<String> {
    let plain = !namespace.is_empty() && namespace.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if plain { Vec::new() } else { vec![format!("namespace `{namespace}` is not a name of letters, digits and `-`")] }
}

/// One workload. It connects at its first use; clones share the connection.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    settings: Arc<KubernetesSettings>,
    cluster: Cluster,
    kinds: Kinds,
    /// What the workload says of spot, as last seen; `None` = it was not.
    spot: Arc<Mutex<Option<BTreeMap<String, String>>>>,
}

impl Kubernetes {
    pub fn new(settings: KubernetesSettings) -> Self {
        let cluster = Cluster::new(settings.cluster.clone(), &settings.describe());
        Self { settings: Arc::new(settings), cluster, kinds: Kinds::default(), spot: Arc::default() }
    }

    #[cfg(test)]
    pub(crate) fn connected(settings: KubernetesSettings, config: kube::Config) -> Self {
        let cluster = Cluster::connected(settings.cluster.clone(), &settings.describe(), config);
        Self { settings: Arc::new(settings), cluster, kinds: Kinds::default(), spot: Arc::default() }
    }

    /// What the workload's annotations say of spot, as last seen; `None` = it was not.
    pub(crate) fn spot_annotations(&self) -> Option<BTreeMap<String, String>> {
        self.spot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn look(&self, purpose: Purpose) -> Result<Look, ActuateError> {
        let (cluster, settings) = (&self.cluster, &*self.settings);
        let served = &self.kinds.of(cluster, &settings.workload).await?;
        let workload = Workload { cluster, namespace: &settings.namespace, reference: &settings.workload, served };
        let look = match settings.scaled_as {
            ScaledAs::Replicas => workload.replicas(purpose).await,
            ScaledAs::HpaFloor => workload.floor(settings.hpa_name(), purpose).await,
        };
        let look = look.inspect_err(|error| self.kinds.forget_if_missing(error))?;
        let of_workload = look.marked.iter().find(|marked| marked.object == settings.workload.to_string());
        let mut spot = of_workload.map(|marked| marked.annotations.clone()).unwrap_or_default();
        spot.retain(|name, _| is_spot_annotation(name));
        *self.spot.lock().unwrap_or_else(PoisonError::into_inner) = Some(spot);
        Ok(look)
    }
}

impl Actuator for Kubernetes {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        let look = self.cluster.within("observe", self.look(Purpose::Observe)).await?;
        Ok(look.state(now))
    }

    async fn apply(&self, decision: &Decision, _now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let look = || self.look(Purpose::Change);
        self.cluster.within("apply", change::apply(&self.cluster, self.settings.bounds(), decision, look)).await
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}

/// Kinds that were looked up. They are looked up anew after something was not there: a served version may have gone.
#[derive(Clone, Debug, Default)]
struct Kinds {
    known: Arc<Mutex<Vec<(ObjectRef, Served)>>>,
}

impl Kinds {
    async fn of(&self, cluster: &Cluster, reference: &ObjectRef) -> Result<Served, ActuateError> {
        let known = self.locked().iter().find(|(known, _)| known == reference).map(|(_, served)| served.clone());
        if let Some(served) = known {
            return Ok(served);
        }
        let all = discover(cluster).await?;
        let served = find(&all, reference, |detail| cluster.failure("discover kinds", detail))?;
        self.locked().push((reference.clone(), served.clone()));
        Ok(served)
    }

    fn forget_if_missing(&self, error: &ActuateError) {
        if matches!(error, ActuateError::NotFound(_)) {
            self.locked().clear();
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<(ObjectRef, Served)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
