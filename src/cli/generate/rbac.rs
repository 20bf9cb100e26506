//! The least that a cluster must allow. Rule: exactly the verbs that the configured targets, drains and lease call through the
//! pod's own service account, each on the named objects where Kubernetes can hold it to names; a service that may not act may
//! change nothing. `tests/it/helm.rs` holds it to what a real API server lets such an account do.

use std::collections::{BTreeMap, BTreeSet};

use prescale_actuate::{
    AheadBy, ClusterSettings, EksSettings, KubernetesSettings, NodesSettings, ObjectRef, ScaledAs, TargetSettings,
};
use prescale_domain::Mode;
use serde_json::{Value, json};

use crate::config::Config;

/// Who is allowed it.
pub(super) struct Account<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
}

/// What is needed in one place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Access {
    /// `None` = of the whole cluster.
    pub(super) namespace: Option<String>,
    /// As a Role has them.
    pub(super) rules: Vec<Value>,
}

/// What RBAC calls a kind.
struct Resource {
    group: String,
    plural: String,
    namespaced: bool,
}

/// Verbs by what they are on: API group, resource, name.
type Verbs = BTreeMap<(String, String, Option<String>), BTreeSet<&'static str>>;

#[derive(Default)]
struct Needs(BTreeMap<Option<String>, Verbs>);

/// Everything that this configuration calls, the whole cluster first, then by namespace; empty = it calls no cluster as a pod.
///
/// # Errors
/// A kind whose API group is not known.
pub(super) fn needed(config: &Config) -> Result<Vec<Access>, String> {
    let mut needs = Needs::default();
    for service in &config.services {
        let acts = service.mode.unwrap_or(config.mode) == Mode::Act;
        let told = |error: String| format!("target of service `{}`: {error}", service.name);
        match &service.target {
            TargetSettings::Kubernetes(settings) if is_own(&settings.cluster) => {
                needs.workload(settings, acts).map_err(told)?;
            }
            TargetSettings::KubernetesNodes(settings) if is_own(&settings.cluster) => {
                needs.nodes(settings, acts).map_err(told)?;
            }
            TargetSettings::EksNodegroup(EksSettings { drain: Some(drain), .. })
                if acts && is_own(&drain.kubernetes) =>
            {
                needs.drain();
            }
            _ => {}
        }
    }
    if config.lease.place.starts_with("${") {
        return Err(unknown("lease.place", &config.lease.place));
    }
    if let Some(place) = config.lease.place.strip_prefix("kubernetes://").filter(|_| is_own(&config.lease.cluster)) {
        let (namespace, name) = place.split_once('/').unwrap_or(("default", place));
        needs.lease(namespace, name);
    }
    for (namespace, verbs) in &needs.0 {
        let mut names = verbs.keys().filter_map(|(_, _, name)| name.as_ref()).chain(namespace);
        if let Some(name) = names.find(|name| name.contains("${")) {
            return Err(unknown("a name in the cluster", name));
        }
    }
    Ok(needs.0.into_iter().map(|(namespace, verbs)| Access { namespace, rules: rules(verbs) }).collect())
}

/// Roles and what binds them to the account.
pub(super) fn objects(needed: &[Access], account: &Account<'_>) -> Vec<Value> {
    let Account { name, namespace: home } = account;
    let whole = format!("{home}-{name}");
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": home}]);
    let group = "rbac.authorization.k8s.io";
    let made = needed.iter().flat_map(|access| {
        let (kind, metadata) = match &access.namespace {
            None => ("ClusterRole", json!({"name": whole})),
            Some(namespace) => ("Role", json!({"name": name, "namespace": namespace})),
        };
        let reference = json!({"apiGroup": group, "kind": kind, "name": metadata["name"]});
        let version = format!("{group}/v1");
        [
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": access.rules}),
            json!({
                "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": metadata, "roleRef": reference,
                "subjects": subjects,
            }),
        ]
    });
    made.collect()
}

fn unknown(what: &str, reference: &str) -> String {
    format!(
        "{what}: what `{reference}` stands for is known in the pod alone, and a role needs it\nhint: write it into the \
         configuration"
    )
}

/// Whether the pod's own account is what a cluster is asked by.
fn is_own(cluster: &ClusterSettings) -> bool {
    cluster.kubeconfig.is_none() && cluster.context.is_none()
}

impl Needs {
    fn add(&mut self, namespace: Option<&str>, of: (&str, &str), name: Option<&str>, verbs: &[&'static str]) {
        let place = self.0.entry(namespace.map(str::to_owned)).or_default();
        let (group, resource) = of;
        place.entry((group.to_owned(), resource.to_owned(), name.map(str::to_owned))).or_default().extend(verbs);
    }

    fn workload(&mut self, settings: &KubernetesSettings, acts: bool) -> Result<(), String> {
        let KubernetesSettings { namespace, workload, scaled_as, .. } = settings;
        let floor = *scaled_as == ScaledAs::HpaFloor;
        // Of a floor, for what its owner says of spot, and the marks by which he stops a change.
        self.sized(namespace, workload, !floor, acts && !floor)?;
        if floor {
            let hpa = settings.hpa.as_deref().unwrap_or(&workload.name);
            self.add(Some(namespace), ("autoscaling", "horizontalpodautoscalers"), Some(hpa), read_and(acts));
        }
        if acts {
            // Which of them scales the workload is in their specification, not in their names.
            self.add(Some(namespace), ("keda.sh", "scaledobjects"), None, &["list"]);
        }
        Ok(())
    }

    /// A workload is read, and its size read and set.
    fn sized(&mut self, namespace: &str, object: &ObjectRef, scale: bool, set: bool) -> Result<(), String> {
        let Resource { group, plural, namespaced } = resource(object)?;
        let namespace = namespaced.then_some(namespace);
        let name = Some(object.name.as_str());
        self.add(namespace, (group.as_str(), plural.as_str()), name, &["get"]);
        if scale {
            self.add(namespace, (group.as_str(), format!("{plural}/scale").as_str()), name, read_and(set));
        }
        Ok(())
    }

    fn nodes(&mut self, settings: &NodesSettings, acts: bool) -> Result<(), String> {
        let NodesSettings { ahead_by, name, namespace, workload, .. } = settings;
        match ahead_by {
            AheadBy::CapacityBuffer => {
                let of = ("autoscaling.x-k8s.io", "capacitybuffers");
                self.add(Some(namespace), of, Some(name), read_and(acts));
            }
            // It is read as a whole, and a static pool has a scale.
            AheadBy::NodePool => {
                self.add(None, ("karpenter.sh", "nodepools"), Some(name), &["get"]);
                if acts {
                    self.add(None, ("karpenter.sh", "nodepools/scale"), Some(name), &["patch"]);
                }
            }
            AheadBy::PlaceholderPods => {
                self.sized(namespace, &ObjectRef::new(Some("apps"), "Deployment", name), true, acts)?;
            }
        }
        workload.iter().try_for_each(|workload| self.sized(namespace, workload, true, false))
    }

    /// Which nodes and pods is known only when it comes to it.
    fn drain(&mut self) {
        self.add(None, ("", "nodes"), None, &["get", "list", "patch"]);
        self.add(None, ("", "pods"), None, &["list"]);
        self.add(None, ("", "pods/eviction"), None, &["create"]);
    }

    fn lease(&mut self, namespace: &str, name: &str) {
        let of = ("coordination.k8s.io", "leases");
        self.add(Some(namespace), of, Some(name), &["get", "update"]);
        // What is not there yet has no name to be held to.
        self.add(Some(namespace), of, None, &["create"]);
    }
}

fn read_and(written: bool) -> &'static [&'static str] {
    if written { &["get", "patch"] } else { &["get"] }
}

/// Names with the same verbs on the same resource share a rule.
fn rules(verbs: Verbs) -> Vec<Value> {
    let mut merged: BTreeMap<(String, String, bool, BTreeSet<&str>), Vec<String>> = BTreeMap::new();
    for ((group, resource, name), verbs) in verbs {
        merged.entry((group, resource, name.is_some(), verbs)).or_default().extend(name);
    }
    let rule = |((group, resource, named, verbs), names): (_, Vec<String>)| {
        let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
        if named {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    merged.into_iter().map(rule).collect()
}

fn resource(object: &ObjectRef) -> Result<Resource, String> {
    let kind = object.kind.as_str();
    let known = match kind {
        "ReplicationController" => Some(""),
        "Deployment" | "StatefulSet" | "ReplicaSet" => Some("apps"),
        "Rollout" => Some("argoproj.io"),
        "NodePool" => Some("karpenter.sh"),
        _ => None,
    };
    let Some(group) = object.group.as_deref().or(known) else {
        return Err(format!(
            "which API group `{kind}` is of is not known here\nhint: write it as GROUP/{object}, such as \
             \"example.com/{object}\""
        ));
    };
    let namespaced = (group, kind) != ("karpenter.sh", "NodePool");
    Ok(Resource { group: group.to_owned(), plural: plural(kind), namespaced })
}

/// As Kubernetes' own clients make the name of a resource out of its kind where nobody tells it.
fn plural(kind: &str) -> String {
    let singular = kind.to_ascii_lowercase();
    if singular.ends_with("endpoints") {
        singular
    } else if singular.ends_with('s') {
        singular + "es"
    } else if let Some(stem) = singular.strip_suffix('y') {
        format!("{stem}ies")
    } else {
        singular + "s"
    }
}
