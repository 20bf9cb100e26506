//! What of a cluster is meant by a few words. Rule: kinds and versions are what the cluster says that it serves, never what
//! this code was written with.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use kube::Resource as _;
use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};
use kube::core::{ApiResource, DynamicObject, Request};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::cluster::{Call, Cluster};
use crate::{ActuateError, Failure};

/// The whole of what a server serves, in one answer (Kubernetes 1.30).
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const DISCOVER: Call = Call { operation: "discover kinds", name: "GetDiscovery" };

/// An object with a kind and a name: `Deployment/web`, `argoproj.io/Rollout/web`, `apps/v1/Deployment/web`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// `None` = whichever group serves the kind.
    pub group: Option<String>,
    /// `None` = the one that the server prefers.
    pub version: Option<String>,
    pub kind: String,
    pub name: String,
}

/// A text that names no object.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not KIND/NAME, GROUP/KIND/NAME or GROUP/VERSION/KIND/NAME, such as \"Deployment/web\"")]
pub struct ObjectRefError(String);

/// A kind as the cluster serves it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Served {
    pub(super) api: ApiResource,
    pub(super) namespaced: bool,
    /// It has a scale subresource.
    pub(super) scales: bool,
}

/// Where the objects of a kind are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    url: String,
}

impl ObjectRef {
    pub fn new(group: Option<&str>, kind: &str, name: &str) -> Self {
        Self { group: group.map(str::to_owned), version: None, kind: kind.to_owned(), name: name.to_owned() }
    }
}

impl FromStr for ObjectRef {
    type Err = ObjectRefError;

    fn from_str(text: &str) -> Result<Self, ObjectRefError> {
        let parts: Vec<&str> = text.split('/').map(str::trim).collect();
        let fail = || ObjectRefError(text.to_owned());
        // These become parts of an address.
        let plain = |part: &&str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':'))
        };
        if !parts.iter().all(plain) {
            return Err(fail());
        }
        let (group, version, kind, name) = match parts[..] {
            [kind, name] => (None, None, kind, name),
            ["v1", kind, name] => (Some(""), Some("v1"), kind, name),
            [group, kind, name] => (Some(group), None, kind, name),
            [group, version, kind, name] => (Some(group), Some(version), kind, name),
            _ => return Err(fail()),
        };
        Ok(Self {
            group: group.map(str::to_owned),
            version: version.map(str::to_owned),
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.group, &self.version].into_iter().flatten().filter(|part| !part.is_empty()) {
            write!(f, "{part}/")?;
        }
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ObjectRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ObjectRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^/]+(/[^/]+){1,3}$" })
    }
}

impl Served {
    /// Where its objects are; cluster-scoped ones are in no namespace.
    pub(super) fn place(&self, namespace: &str) -> Place {
        let namespace = self.namespaced.then_some(namespace);
        Place { url: DynamicObject::url_path(&self.api, namespace) }
    }
}

impl Place {
    pub(crate) fn of<K>(namespace: Option<&str>) -> Self
    where
        K: kube::Resource<DynamicType = ()>,
    {
        Self { url: K::url_path(&(), namespace) }
    }

    pub(crate) fn request(&self) -> Request {
        Request::new(self.url.clone())
    }
}

/// Everything that the cluster serves, less what is in the core group.
pub(super) async fn discover(cluster: &Cluster) -> Result<APIGroupDiscoveryList, ActuateError> {
    let request = http::Request::get("/apis").header(http::header::ACCEPT, AGGREGATED).body(Vec::new());
    cluster.ask(DISCOVER, request.map_err(kube::core::request::Error::BuildRequest)).await
}

/// The kind that `reference` means. One kind may be served by several groups: then it is the one that scales.
pub(super) fn find(
    all: &APIGroupDiscoveryList,
    reference: &ObjectRef,
    failure: impl Fn(String) -> Failure,
) -> Result<Served, ActuateError> {
    // The one kind of the core group that has a size.
    if reference.kind == "ReplicationController" && reference.group.as_deref().unwrap_or_default().is_empty() {
        let api = ApiResource {
            group: String::new(),
            version: "v1".to_owned(),
            api_version: "v1".to_owned(),
            kind: reference.kind.clone(),
            plural: "replicationcontrollers".to_owned(),
        };
        return Ok(Served { api, namespaced: true, scales: true });
    }
    let mut found: Vec<Served> = all
        .items
        .iter()
        .filter_map(|group| {
            let name = group.metadata.as_ref()?.name.as_deref()?;
            if reference.group.as_deref().is_some_and(|wanted| wanted != name) {
                return None;
            }
            // In the order of the server's preference.
            group.versions.iter().find_map(|version| {
                let number = version.version.as_deref()?;
                if reference.version.as_deref().is_some_and(|wanted| wanted != number) {
                    return None;
                }
                version.resources.iter().find_map(|resource| served(name, number, resource, &reference.kind))
            })
        })
        .collect();
    if found.len() > 1 && found.iter().filter(|one| one.scales).count() == 1 {
        found.retain(|one| one.scales);
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let kind = reference.to_string();
            let kind = kind.rsplit_once('/').map_or("", |(kind, _)| kind);
            Err(ActuateError::NotFound(failure(format!("the cluster serves no {kind}"))))
        }
        _ => {
            let ObjectRef { kind, name, .. } = reference;
            let each = found.iter().map(|one| format!("`{}/{kind}/{name}`", one.api.group));
            let each = each.collect::<Vec<_>>().join(", ");
            Err(ActuateError::Invalid(failure(format!("several kinds are called {kind}: write one of {each}"))))
        }
    }
}

fn served(group: &str, version: &str, resource: &APIResourceDiscovery, kind: &str) -> Option<Served> {
    let named = resource.response_kind.as_ref()?.kind.as_deref() == Some(kind);
    let plural = resource.resource.as_deref().filter(|_| named)?;
    let api = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let scales = resource.subresources.iter().any(|part| part.subresource.as_deref() == Some("scale"));
    Some(Served { api, namespaced: resource.scope.as_deref() == Some("Namespaced"), scales })
}
