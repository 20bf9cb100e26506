//! EKS clusters and managed node groups (REST and JSON). Rule: a node group owns a real Auto Scaling group of the account, so
//! that both services tell the same sizes; a change has an id and an end, and one is made at a time.

use prescale_domain::Timestamp;
use serde_json::{Map, Value, json};

use super::answer::Refusal;
use super::autoscaling::GroupRequest;
use super::form::Form;
use super::group::{Launches, Mixed, Override, Tag, Template};
use super::instance::Lifecycle;
use super::world::{Happening, World};

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    active_at: Timestamp,
    created: Timestamp,
    version: String,
    role: String,
    subnets: Vec<String>,
    groups: std::collections::BTreeMap<String, Nodegroup>,
}

#[derive(Clone, Debug)]
struct Nodegroup {
    group: String,
    created: Timestamp,
    modified: Timestamp,
    status: &'static str,
    spot: bool,
    kinds: Vec<String>,
    subnets: Vec<String>,
    role: String,
    labels: Map<String, Value>,
    tags: Map<String, Value>,
    updates: Vec<Update>,
}

#[derive(Clone, Debug)]
struct Update {
    id: String,
    status: &'static str,
    created: Timestamp,
    params: Vec<(&'static str, String)>,
    ends_at: Timestamp,
}

impl World {
    /// The body of the answer to one call.
    pub(super) fn eks(
        &mut self,
        operation: &str,
        path: &[String],
        query: &Form,
        input: &Value,
    ) -> Result<Value, Refusal> {
        let part = |index: usize| path.get(index).map(String::as_str).unwrap_or_default();
        let (cluster, second) = (part(1), part(3));
        match operation {
            "CreateCluster" => self.create_cluster(input),
            "DescribeCluster" => self.describe_cluster(cluster),
            "CreateNodegroup" => self.create_nodegroup(cluster, input),
            "ListNodegroups" => {
                let names: Vec<String> = self.cluster(cluster)?.groups.keys().cloned().collect();
                list("nodegroups", names, query)
            }
            "DescribeNodegroup" => self.describe_nodegroup(cluster, second),
            "UpdateNodegroupConfig" => self.update_nodegroup(cluster, second, input),
            "ListUpdates" => {
                let name = query.get("nodegroupName");
                let updates = match name {
                    Some(name) => self.nodegroup(cluster, name)?.updates.iter().map(|one| one.id.clone()).collect(),
                    None => self.cluster(cluster).map(|_| Vec::new())?,
                };
                list("updateIds", updates, query)
            }
            "DescribeUpdate" => {
                let name = query.get("nodegroupName").unwrap_or_default();
                let known = self.nodegroup(cluster, name)?.updates.iter().find(|one| one.id == second);
                let missing = || not_found(format!("No update found for ID: {second}"));
                known.map(|one| json!({"update": one.body()})).ok_or_else(missing)
            }
            _ => Err(Refusal::new(404, "UnknownOperationException", "")),
        }
    }

    fn cluster(&self, name: &str) -> Result<&Cluster, Refusal> {
        self.clusters.get(name).ok_or_else(|| not_found(format!("No cluster found for name: {name}.")))
    }

    fn nodegroup(&self, cluster: &str, name: &str) -> Result<&Nodegroup, Refusal> {
        let known = self.cluster(cluster)?.groups.get(name);
        known.ok_or_else(|| not_found(format!("No node group found for name: {name}.")))
    }

    fn create_cluster(&mut self, input: &Value) -> Result<Value, Refusal> {
        let name = text(input, "name").ok_or_else(|| invalid("name is required"))?;
        if self.clusters.contains_key(&name) {
            let message = format!("Cluster already exists with name: {name}");
            return Err(Refusal::new(409, "ResourceInUseException", message));
        }
        let subnets = texts(input.pointer("/resourcesVpcConfig/subnetIds"));
        let cluster = Cluster {
            active_at: self.now + self.settings.eks_create,
            created: self.now,
            version: text(input, "version").unwrap_or_else(|| "1.34".to_owned()),
            role: text(input, "roleArn").unwrap_or_default(),
            subnets,
            groups: std::collections::BTreeMap::new(),
        };
        self.plan(cluster.active_at, Happening::Cluster(name.clone()));
        self.clusters.insert(name.clone(), cluster);
        self.describe_cluster(&name)
    }

    /// Nothing changes when a cluster becomes active but what is told of it.
    pub(super) fn step_cluster(&mut self, _name: &str) {}

    fn describe_cluster(&self, name: &str) -> Result<Value, Refusal> {
        let cluster = self.cluster(name)?;
        let active = self.now >= cluster.active_at;
        Ok(json!({"cluster": {
            "name": name,
            "arn": self.arn("eks", &format!("cluster/{name}")),
            "createdAt": seconds(cluster.created),
            "version": cluster.version,
            "roleArn": cluster.role,
            "resourcesVpcConfig": {"subnetIds": cluster.subnets},
            "status": if active { "ACTIVE" } else { "CREATING" },
        }}))
    }

    fn create_nodegroup(&mut self, cluster_name: &str, input: &Value) -> Result<Value, Refusal> {
        let cluster = self.cluster(cluster_name)?;
        if self.now < cluster.active_at {
            let message = format!("Cluster '{cluster_name}' is not in ACTIVE status");
            return Err(Refusal::new(400, "InvalidRequestException", message));
        }
        let name = text(input, "nodegroupName").ok_or_else(|| invalid("nodegroupName is required"))?;
        if cluster.groups.contains_key(&name) {
            let message = format!("NodeGroup already exists with name {name} and cluster name {cluster_name}");
            return Err(Refusal::new(409, "ResourceInUseException", message));
        }
        let sizes = Sizes::read(input.get("scalingConfig"))?.over((1, 2, 2));
        check(sizes)?;
        let spot = match text(input, "capacityType").as_deref() {
            None | Some("ON_DEMAND") => false,
            Some("SPOT") => true,
            Some(other) => return Err(invalid(&format!("capacityType {other} is not supported"))),
        };
        let kinds = texts(input.get("instanceTypes"));
        let kinds = if kinds.is_empty() { vec!["t3.medium".to_owned()] } else { kinds };
        let subnets = texts(input.get("subnets"));
        let subnets = if subnets.is_empty() { cluster.subnets.clone() } else { subnets };
        let group_name = format!("eks-{name}-{}", self.uuid());
        self.own_group(&group_name, (cluster_name, &name), sizes, spot, &kinds, &subnets);
        let nodegroup = Nodegroup {
            group: group_name,
            created: self.now,
            modified: self.now,
            status: "CREATING",
            spot,
            kinds,
            subnets,
            role: text(input, "nodeRole").unwrap_or_default(),
            labels: input.get("labels").and_then(Value::as_object).cloned().unwrap_or_default(),
            tags: input.get("tags").and_then(Value::as_object).cloned().unwrap_or_default(),
            updates: Vec::new(),
        };
        if let Some(cluster) = self.clusters.get_mut(cluster_name) {
            cluster.groups.insert(name.clone(), nodegroup);
        }
        self.look_again(cluster_name, &name);
        self.describe_nodegroup(cluster_name, &name)
    }

    /// The Auto Scaling group of a node group, as EKS makes it.
    fn own_group(
        &mut self,
        group: &str,
        (cluster, nodegroup): (&str, &str),
        sizes: (u32, u32, u32),
        spot: bool,
        kinds: &[String],
        subnets: &[String],
    ) {
        let template =
            Template { id: super::autoscaling::template_id(group), name: group.to_owned(), version: "1".to_owned() };
        let kind = kinds.first().cloned().unwrap_or_default();
        self.templates.insert(group.to_owned(), kind);
        let overrides =
            kinds.iter().map(|kind| Override { kind: Some(kind.clone()), weight: None, requirements: None });
        let mixed = Mixed {
            template,
            overrides: overrides.collect(),
            on_demand_strategy: "prioritized".to_owned(),
            base: 0,
            percent_above: if spot { 0 } else { 100 },
            spot_strategy: "price-capacity-optimized".to_owned(),
            spot_pools: None,
            spot_max_price: None,
        };
        let tag = |key: String, value: &str| Tag { key, value: value.to_owned(), propagate: true };
        let names: Vec<&str> = subnets.iter().map(String::as_str).collect();
        let request = GroupRequest {
            name: group.to_owned(),
            sizes,
            launches: Launches::Mixed(mixed),
            zones: self.zones_of_subnets(&names),
            subnets: subnets.join(","),
            rebalance: spot,
            tags: vec![
                tag("eks:cluster-name".to_owned(), cluster),
                tag("eks:nodegroup-name".to_owned(), nodegroup),
                tag(format!("k8s.io/cluster-autoscaler/{cluster}"), "owned"),
                tag("k8s.io/cluster-autoscaler/enabled".to_owned(), "true"),
                tag(format!("kubernetes.io/cluster/{cluster}"), "owned"),
            ],
        };
        let mut made = self.group_from(request);
        made.grace_secs = 15;
        self.groups.insert(group.to_owned(), made);
        self.wake(group);
    }

    fn look_again(&mut self, cluster: &str, name: &str) {
        let at = self.now + self.settings.eks_update;
        self.plan(at, Happening::Nodegroup(cluster.to_owned(), name.to_owned()));
    }

    /// Changes end, and what was being made is there once its nodes are.
    pub(super) fn step_nodegroup(&mut self, cluster: &str, name: &str) {
        let now = self.now;
        let Ok(nodegroup) = self.nodegroup(cluster, name) else { return };
        let group = self.groups.get(&nodegroup.group);
        let settled = group.is_some_and(|group| {
            let serving = self.members(group).filter(|one| one.lifecycle == Lifecycle::InService).count();
            serving >= group.desired as usize
        });
        let creating = nodegroup.status == "CREATING" && !settled;
        if let Some(nodegroup) = self.clusters.get_mut(cluster).and_then(|cluster| cluster.groups.get_mut(name)) {
            for update in nodegroup.updates.iter_mut().filter(|update| update.ends_at <= now) {
                update.status = "Successful";
            }
            let changing = nodegroup.updates.iter().any(|update| update.status == "InProgress");
            nodegroup.status = match (creating, changing) {
                (true, _) => "CREATING",
                (false, true) => "UPDATING",
                (false, false) => "ACTIVE",
            };
        }
        if creating {
            self.look_again(cluster, name);
        }
    }

    fn describe_nodegroup(&self, cluster: &str, name: &str) -> Result<Value, Refusal> {
        let nodegroup = self.nodegroup(cluster, name)?;
        let group = self.groups.get(&nodegroup.group);
        let (min, max, desired) = group.map_or((0, 0, 0), |group| (group.min, group.max, group.desired));
        let failed =
            self.activities.get(&nodegroup.group).and_then(|all| all.back()).filter(|one| one.status == "Failed");
        let issues: Vec<Value> = failed
            .map(|one| json!({"code": "AsgInstanceLaunchFailures", "message": one.message, "resourceIds": [nodegroup.group]}))
            .into_iter()
            .collect();
        Ok(json!({"nodegroup": {
            "nodegroupName": name,
            "nodegroupArn": self.arn("eks", &format!("nodegroup/{cluster}/{name}/{}", nodegroup.group)),
            "clusterName": cluster,
            "version": self.cluster(cluster)?.version,
            "createdAt": seconds(nodegroup.created),
            "modifiedAt": seconds(nodegroup.modified),
            "status": nodegroup.status,
            "capacityType": if nodegroup.spot { "SPOT" } else { "ON_DEMAND" },
            "scalingConfig": {"minSize": min, "maxSize": max, "desiredSize": desired},
            "instanceTypes": nodegroup.kinds,
            "subnets": nodegroup.subnets,
            "nodeRole": nodegroup.role,
            "labels": nodegroup.labels,
            "tags": nodegroup.tags,
            "resources": {"autoScalingGroups": [{"name": nodegroup.group}]},
            "health": {"issues": issues},
            "updateConfig": {"maxUnavailable": 1},
        }}))
    }

    fn update_nodegroup(&mut self, cluster: &str, name: &str, input: &Value) -> Result<Value, Refusal> {
        let nodegroup = self.nodegroup(cluster, name)?;
        if nodegroup.status != "ACTIVE" {
            let message = "Nodegroup cannot be updated as it is currently not in Active State";
            return Err(Refusal::new(409, "ResourceInUseException", message));
        }
        let group_name = nodegroup.group.clone();
        let group = self.group(&group_name)?;
        let asked = Sizes::read(input.get("scalingConfig"))?;
        let sizes = asked.over((group.min, group.max, group.desired));
        check(sizes)?;
        let labels = input.pointer("/labels/addOrUpdateLabels").and_then(Value::as_object).cloned();
        let removed = texts(input.pointer("/labels/removeLabels"));
        let mut params = asked.params();
        if let Some(labels) = &labels {
            params.push(("LabelsToAdd", Value::Object(labels.clone()).to_string()));
        }
        if !removed.is_empty() {
            params.push(("LabelsToRemove", json!(removed).to_string()));
        }
        let update = Update {
            id: self.uuid(),
            status: "InProgress",
            created: self.now,
            params,
            ends_at: self.now + self.settings.eks_update,
        };
        let (min, max, desired) = sizes;
        if let Some(group) = self.groups.get_mut(&group_name) {
            (group.min, group.max) = (min, max);
        }
        self.set_desired(&group_name, desired, "a user request update of the node group, which set group");
        let (now, body) = (self.now, update.body());
        if let Some(nodegroup) = self.clusters.get_mut(cluster).and_then(|cluster| cluster.groups.get_mut(name)) {
            nodegroup.labels.extend(labels.unwrap_or_default());
            nodegroup.labels.retain(|key, _| !removed.contains(key));
            nodegroup.status = "UPDATING";
            nodegroup.modified = now;
            nodegroup.updates.push(update);
        }
        self.look_again(cluster, name);
        Ok(json!({"update": body}))
    }
}

impl Update {
    fn body(&self) -> Value {
        let params: Vec<Value> =
            self.params.iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
        json!({
            "id": self.id,
            "status": self.status,
            "type": "ConfigUpdate",
            "params": params,
            "createdAt": seconds(self.created),
            "errors": [],
        })
    }
}

/// Sizes that a call names.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    min: Option<u32>,
    max: Option<u32>,
    desired: Option<u32>,
}

impl Sizes {
    fn read(config: Option<&Value>) -> Result<Self, Refusal> {
        let size = |name: &str| match config.and_then(|config| config.get(name)) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let size = value.as_u64().and_then(|size| u32::try_from(size).ok());
                size.map(Some).ok_or_else(|| invalid(&format!("{name} {value} is not valid")))
            }
        };
        Ok(Self { min: size("minSize")?, max: size("maxSize")?, desired: size("desiredSize")? })
    }

    fn over(self, (min, max, desired): (u32, u32, u32)) -> (u32, u32, u32) {
        (self.min.unwrap_or(min), self.max.unwrap_or(max), self.desired.unwrap_or(desired))
    }

    fn params(self) -> Vec<(&'static str, String)> {
        let all = [("MinSize", self.min), ("MaxSize", self.max), ("DesiredSize", self.desired)];
        all.into_iter().filter_map(|(name, size)| Some((name, size?.to_string()))).collect()
    }
}

fn check((min, max, desired): (u32, u32, u32)) -> Result<(), Refusal> {
    if max == 0 {
        return Err(invalid("maxSize must be greater than or equal to 1"));
    }
    if min > max {
        return Err(invalid(&format!("Minimum capacity {min} can't be greater than maximum size {max}")));
    }
    if min > desired {
        return Err(invalid(&format!("Minimum capacity {min} can't be greater than desired size {desired}")));
    }
    if desired > max {
        return Err(invalid("desiredSize can't be greater than maxSize"));
    }
    Ok(())
}

fn list(name: &str, all: Vec<String>, query: &Form) -> Result<Value, Refusal> {
    let size = query.count("maxResults")?.unwrap_or(100).clamp(1, 100) as usize;
    let start = match query.get("nextToken") {
        None => 0,
        Some(token) => token.parse::<usize>().map_err(|_| invalid("nextToken is not valid"))?,
    };
    let next = start.saturating_add(size);
    let token = (next < all.len()).then(|| next.to_string());
    let shown: Vec<String> = all.into_iter().skip(start).take(size).collect();
    Ok(json!({name: shown, "nextToken": token}))
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(400, "InvalidParameterException", message)
}

fn not_found(message: String) -> Refusal {
    Refusal::new(404, "ResourceNotFoundException", message)
}

fn text(input: &Value, name: &str) -> Option<String> {
    input.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn seconds(moment: Timestamp) -> f64 {
    moment.millis() as f64 / 1000.0
}
