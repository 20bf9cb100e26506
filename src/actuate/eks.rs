//! EKS managed node groups. Rule: a group is all on-demand or all spot, so a spot-first target is two groups with one wish;
//! one update of a group at a time, followed to its end; only sizes are written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eks::Client;
use aws_sdk_eks::types::{Nodegroup, NodegroupScalingConfig, NodegroupStatus, UpdateStatus};
use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp};
use prescale_telemetry::actuate::{CloudCall, LaunchRefused};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws::{Account, Connections, Place};
use crate::aws_error::from_sdk;
use crate::eks_drain::{Drains, EksDrainSettings, Emptied};
use crate::error::refuse_unless_act;
use crate::split::{Sizes, split};
use crate::target::Bounds;
use crate::{ActuateError, Actuator, Failure};

/// One or two managed node groups of a cluster, as configured. Credentials, and what is not set here, come from the standard
/// AWS environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EksSettings {
    pub cluster: String,
    /// The group of on-demand nodes, or the only one.
    pub nodegroup: String,
    /// A group of spot nodes beside it.
    #[serde(default)]
    pub spot_nodegroup: Option<String>,
    /// Bounds of both groups together; each group's own bounds hold as well.
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// With a spot group: nodes that are on-demand before any is spot, and percent of those above that are on-demand too.
    #[serde(default)]
    pub on_demand_base: u32,
    #[serde(default)]
    pub on_demand_percent_above_base: u32,
    /// What of a group is written.
    #[serde(default)]
    pub writes: EksWrites,
    /// Nodes are emptied through the cluster's own API before they go. Without it EKS takes which it likes, budgets or not.
    #[serde(default)]
    pub drain: Option<EksDrainSettings>,
    /// Another endpoint than the region's.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    #[serde(default)]
    pub region: Option<String>,
    /// Limit of one call with all its attempts, and of one attempt.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    #[serde(default = "default_attempt_timeout")]
    pub attempt_timeout: Span,
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// Mode `act` may be replayed against this target on the event clock: never for a group that serves anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

/// What of a node group is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EksWrites {
    /// Its desired size: where no cluster autoscaler runs.
    #[default]
    Desired,
    /// Its minimum, as a floor under what a cluster autoscaler decides.
    Floor,
}

fn default_timeout() -> Span {
    Span::from_secs(10)
}

fn default_attempt_timeout() -> Span {
    Span::from_secs(3)
}

fn default_max_attempts() -> u32 {
    3
}

impl EksSettings {
    /// A group with everything else at its default.
    pub fn new(cluster: &str, nodegroup: &str, min: u32, max: u32) -> Self {
        Self {
            cluster: cluster.to_owned(),
            nodegroup: nodegroup.to_owned(),
            spot_nodegroup: None,
            min,
            max,
            price_usd_hour: None,
            on_demand_base: 0,
            on_demand_percent_above_base: 0,
            writes: EksWrites::default(),
            drain: None,
            endpoint_url: None,
            region: None,
            timeout: default_timeout(),
            attempt_timeout: default_attempt_timeout(),
            max_attempts: default_max_attempts(),
            allow_replay: false,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let Self { min, max, price_usd_hour, allow_replay, .. } = *self;
        Bounds { min, max, price_usd_hour, allow_replay }
    }

    pub(crate) fn describe(&self) -> String {
        let Self { cluster, nodegroup, spot_nodegroup, .. } = self;
        match spot_nodegroup {
            Some(spot) => format!("node groups `{nodegroup}` and `{spot}` of `{cluster}`"),
            None => format!("node group `{nodegroup}` of `{cluster}`"),
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.cluster.trim().is_empty() {
            faults.push("cluster is empty".to_owned());
        }
        if self.nodegroup.trim().is_empty() {
            faults.push("nodegroup is empty".to_owned());
        }
        if self.spot_nodegroup.as_ref() == Some(&self.nodegroup) {
            faults.push(format!("spot_nodegroup `{}` is nodegroup as well", self.nodegroup));
        }
        if self.spot_nodegroup.is_none() && (self.on_demand_base, self.on_demand_percent_above_base) != (0, 0) {
            faults.push(
                "on_demand_base and on_demand_percent_above_base have no effect without spot_nodegroup".to_owned(),
            );
        }
        if self.on_demand_percent_above_base > 100 {
            faults.push(format!("on_demand_percent_above_base {} exceeds 100", self.on_demand_percent_above_base));
        }
        if self.drain.is_some() && self.writes == EksWrites::Floor {
            faults.push("drain has no effect where writes = \"floor\": nothing goes by that".to_owned());
        }
        faults.extend(self.drain.iter().flat_map(EksDrainSettings::faults).map(|fault| format!("drain.{fault}")));
        if self.attempt_timeout.millis() <= 0 {
            faults.push(format!("attempt_timeout {} is not above 0s", self.attempt_timeout));
        }
        if self.timeout < self.attempt_timeout {
            faults.push(format!("timeout {} is below attempt_timeout {}", self.timeout, self.attempt_timeout));
        }
        if self.max_attempts == 0 {
            faults.push("max_attempts 0 is below 1".to_owned());
        }
        faults
    }

    fn place(&self) -> Place {
        Place {
            endpoint_url: self.endpoint_url.clone(),
            region: self.region.clone(),
            timeout: self.timeout,
            attempt_timeout: self.attempt_timeout,
            max_attempts: self.max_attempts,
        }
    }
}

/// Node groups with one wish. Clones are the same.
#[derive(Clone, Debug)]
pub struct EksNodegroups {
    settings: Arc<EksSettings>,
    account: Arc<Account>,
    /// Updates that have not ended, by group.
    updates: Arc<Mutex<BTreeMap<String, String>>>,
    trouble: Arc<Mutex<BTreeMap<String, String>>>,
    drains: Option<Arc<Drains>>,
}

/// What of a node group matters here.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    sizes: Sizes,
    busy: bool,
    /// The Auto Scaling groups that it is made of.
    scaling_groups: Vec<String>,
}

impl EksNodegroups {
    /// The groups, in an account that they share with the other targets of `connections`.
    pub fn new(settings: EksSettings, connections: &Connections) -> Self {
        let account = connections.account(settings.place());
        let drains = settings.drain.as_ref().map(|drain| Arc::new(Drains::new(drain, &settings.describe())));
        Self { settings: Arc::new(settings), account, updates: Arc::default(), trouble: Arc::default(), drains }
    }

    /// Why a group does not get what it wants, in its own words; `None` = it does, or it has not said.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        (!trouble.is_empty()).then(|| trouble.values().cloned().collect::<Vec<_>>().join("; "))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        [Some(&self.settings.nodegroup), self.settings.spot_nodegroup.as_ref()].into_iter().flatten()
    }

    fn failure(&self, operation: &'static str, detail: String) -> Failure {
        Failure { operation, target: self.settings.describe(), detail }
    }

    async fn client(&self) -> Result<&Client, ActuateError> {
        self.account.eks(&self.settings.describe()).await
    }

    async fn call<T, E>(
        &self,
        operation: &'static str,
        name: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, ActuateError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.account.turn(operation, &self.settings.describe()).await?;
        let answer = call.await.map_err(|error| from_sdk(&error, self.failure(operation, String::new())));
        CloudCall { operation: name, failure: answer.as_ref().err().map(ActuateError::code) }.emit();
        answer
    }

    async fn groups(&self) -> Result<Vec<Group>, ActuateError> {
        let mut groups = Vec::new();
        for name in self.names() {
            let call = self.client().await?.describe_nodegroup();
            let call = call.cluster_name(&self.settings.cluster).nodegroup_name(name);
            let answer = self.call("describe node group", "DescribeNodegroup", call.send()).await?;
            let described = answer.nodegroup().ok_or_else(|| {
                ActuateError::Other(self.failure("describe node group", format!("no answer for `{name}`")))
            })?;
            self.note(name, described);
            groups.push(group(name, described));
        }
        Ok(groups)
    }

    /// What AWS says of a group's health.
    fn note(&self, name: &str, described: &Nodegroup) {
        let issues = described.health().map(|health| health.issues()).unwrap_or_default();
        let said = issues.iter().map(|issue| {
            let code = issue.code().map_or("", |code| code.as_str());
            format!("{code}: {}", issue.message().unwrap_or("no reason is given"))
        });
        let text = said.collect::<Vec<_>>().join("; ");
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() {
            trouble.insert(name.to_owned(), format!("node group `{name}` is not healthy: {text}"));
        } else if described.status() == Some(&NodegroupStatus::Active) {
            trouble.remove(name);
        }
    }

    /// Asks what became of updates; the group whose update goes on, where there is one.
    async fn follow(&self) -> Result<Option<String>, ActuateError> {
        let updates = self.updates.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut running = None;
        for (name, id) in updates {
            let call = self.client().await?.describe_update().name(&self.settings.cluster);
            let call = call.nodegroup_name(&name).update_id(&id);
            let answer = match self.call("describe update", "DescribeUpdate", call.send()).await {
                Ok(answer) => answer,
                // An update that nobody knows any more does not go on.
                Err(ActuateError::NotFound(_)) => {
                    self.updates.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let update = answer.update();
            let status = update.and_then(|update| update.status());
            if status == Some(&UpdateStatus::InProgress) {
                running = Some(name);
                continue;
            }
            self.updates.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            if matches!(status, Some(UpdateStatus::Failed | UpdateStatus::Cancelled)) {
                let errors = update.map(|update| update.errors()).unwrap_or_default().iter();
                let said = errors.map(|error| {
                    let code = error.error_code().map_or("", |code| code.as_str());
                    format!("{code}: {}", error.error_message().unwrap_or("no reason is given"))
                });
                let said = said.collect::<Vec<_>>().join("; ");
                let text = format!("update `{id}` of node group `{name}` did not succeed: {said}");
                LaunchRefused { text: &text }.emit();
                self.trouble.lock().unwrap_or_else(PoisonError::into_inner).insert(name, text);
            }
        }
        Ok(running)
    }

    /// Writes one group's size.
    async fn update(&self, group: &Group, size: u32, decision: &Decision) -> Result<(), ActuateError> {
        const OPERATION: &str = "update node group";
        let count = i32::try_from(size)
            .map_err(|_| ActuateError::Invalid(self.failure(OPERATION, format!("{size} nodes exceed {}", i32::MAX))))?;
        let name = group.name.as_str();
        let sizes = NodegroupScalingConfig::builder();
        let sizes = match self.settings.writes {
            EksWrites::Desired => sizes.desired_size(count),
            // EKS takes no floor above what is desired.
            EksWrites::Floor if size > group.sizes.desired => sizes.min_size(count).desired_size(count),
            EksWrites::Floor => sizes.min_size(count),
        };
        let token = format!("{}-{name}-{size}", decision.id.0.rsplit('#').next().unwrap_or_default());
        let call = self.client().await?.update_nodegroup_config().cluster_name(&self.settings.cluster);
        let call = call.nodegroup_name(name).scaling_config(sizes.build()).client_request_token(token);
        let answer = self.call(OPERATION, "UpdateNodegroupConfig", call.send()).await?;
        if let Some(id) = answer.update().and_then(|update| update.id()) {
            let mut updates = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
            updates.insert(name.to_owned(), id.to_owned());
        }
        Ok(())
    }

    /// Takes up to `count` nodes that are empty, and has them emptied first; how many are gone, or what is waited for.
    async fn shrink(&self, drains: &Drains, group: &Group, count: u32) -> Result<Result<u32, String>, ActuateError> {
        let target = self.settings.describe();
        let (instances, left) = match drains.empty(&group.name, count as usize, &target).await? {
            Emptied::UnderWay(nodes) => {
                return Ok(Err(format!("{nodes} nodes of `{}` are emptied before they go", group.name)));
            }
            Emptied::Ready { instances, left } => (instances, left),
        };
        let mut gone = 0;
        for instance in instances {
            let client = self.account.autoscaling(&target).await?;
            let call = client.terminate_instance_in_auto_scaling_group().instance_id(&instance);
            let call = call.should_decrement_desired_capacity(true);
            self.call("terminate instance", "TerminateInstanceInAutoScalingGroup", call.send()).await?;
            drains.took(instance);
            gone += 1;
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("drain of {}", group.name);
        if left.is_empty() {
            trouble.remove(&key);
        } else {
            trouble.insert(key, format!("nodes of `{}` could not be emptied: {}", group.name, left.join("; ")));
        }
        if gone == 0 {
            return Ok(Err(format!("no node of `{}` could be emptied: {}", group.name, left.join("; "))));
        }
        Ok(Ok(gone))
    }

    /// Nodes in service, by the Auto Scaling groups beneath; `None` where those can't be seen.
    async fn ready(&self, groups: &[Group], now: Timestamp) -> Option<u32> {
        let names: Vec<&String> = groups.iter().flat_map(|group| &group.scaling_groups).collect();
        // All are known before the first is looked at, so that one look is enough.
        names.iter().for_each(|name| self.account.register(name));
        let mut ready = 0_u32;
        for name in names {
            let group = self.account.look(name, &self.settings.describe(), now).await.ok()?;
            ready = ready.saturating_add(group.ready());
        }
        groups.iter().all(|group| !group.scaling_groups.is_empty()).then_some(ready)
    }

    fn wants(&self, group: &Group) -> u32 {
        match self.settings.writes {
            EksWrites::Desired => group.sizes.desired,
            EksWrites::Floor => group.sizes.min,
        }
    }

    /// The sizes that the groups get of a wish.
    fn shares(&self, groups: &[Group], wish: u32) -> Vec<u32> {
        // A floor is not held to itself, and may lie anywhere below the maximum.
        let sizes: Vec<Sizes> = groups
            .iter()
            .map(|group| match self.settings.writes {
                EksWrites::Desired => group.sizes,
                EksWrites::Floor => Sizes { min: 0, ..group.sizes },
            })
            .collect();
        split(wish, self.settings.on_demand_base, self.settings.on_demand_percent_above_base, &sizes)
    }
}

impl Actuator for EksNodegroups {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        self.follow().await?;
        let groups = self.groups().await?;
        let ready = self.ready(&groups, now).await;
        let sum = |of: fn(&Group) -> u32| groups.iter().map(of).fold(0, u32::saturating_add);
        let desired = groups.iter().map(|group| self.wants(group)).fold(0, u32::saturating_add);
        let min = match self.settings.writes {
            EksWrites::Desired => sum(|group| group.sizes.min),
            EksWrites::Floor => self.settings.min,
        };
        let max = Some(sum(|group| group.sizes.max));
        Ok(TargetState { desired, ready, min: Some(min), max, observed_at: now })
    }

    async fn apply(&self, decision: &Decision, _now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let running = self.follow().await?;
        let groups = self.groups().await?;
        let wants: Vec<u32> = groups.iter().map(|group| self.wants(group)).collect();
        let wanted = wants.iter().copied().fold(0, u32::saturating_add);
        let wish = decision.desired.max(self.settings.min).min(self.settings.max);
        let shares = self.shares(&groups, wish);
        let units = shares.iter().copied().fold(0, u32::saturating_add);
        if let Some(drains) = &self.drains {
            for ((group, wants), share) in groups.iter().zip(&wants).zip(&shares) {
                if share >= wants {
                    drains.release(&group.name).await;
                }
            }
        }
        if shares == wants {
            return Ok(Outcome::Unchanged { units });
        }
        let busy = groups.iter().find(|group| group.busy).map(|group| group.name.clone()).or(running);
        if let Some(name) = busy {
            let reason = format!("an update of node group `{name}` is under way");
            return Ok(Outcome::Held { units: wanted, reason });
        }
        // What is added comes first, so that there are never fewer nodes than either state has.
        let mut changes: Vec<_> =
            groups.iter().zip(&wants).zip(&shares).filter(|((_, wants), share)| wants != share).collect();
        changes.sort_by_key(|((_, wants), share)| *share < *wants);
        let (mut reached, mut waits) = (wanted, Vec::new());
        for ((group, wants), share) in changes {
            match &self.drains {
                Some(drains) if share < wants => match self.shrink(drains, group, wants - share).await? {
                    Ok(gone) => reached = reached.saturating_sub(gone),
                    Err(why) => waits.push(why),
                },
                _ => {
                    self.update(group, *share, decision).await?;
                    reached = reached.saturating_sub(*wants).saturating_add(*share);
                }
            }
        }
        if reached == wanted && !waits.is_empty() {
            return Ok(Outcome::Held { units: wanted, reason: waits.join("; ") });
        }
        Ok(Outcome::Applied { units: reached, clamped: reached != decision.desired })
    }

    fn tends(&self) -> bool {
        self.drains.as_ref().is_some_and(|drains| drains.is_busy())
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}

fn group(name: &str, described: &Nodegroup) -> Group {
    // EKS has no negative sizes; the SDK's type would allow them.
    let units = |count: Option<i32>| u32::try_from(count.unwrap_or_default()).unwrap_or_default();
    let sizes = described.scaling_config();
    let resources = described.resources().map(|resources| resources.auto_scaling_groups()).unwrap_or_default();
    Group {
        name: name.to_owned(),
        sizes: Sizes {
            min: units(sizes.and_then(|sizes| sizes.min_size())),
            desired: units(sizes.and_then(|sizes| sizes.desired_size())),
            max: units(sizes.and_then(|sizes| sizes.max_size())),
        },
        busy: matches!(
            described.status(),
            Some(NodegroupStatus::Creating | NodegroupStatus::Updating | NodegroupStatus::Deleting)
        ),
        scaling_groups: resources.iter().filter_map(|group| group.name()).map(str::to_owned).collect(),
    }
}
