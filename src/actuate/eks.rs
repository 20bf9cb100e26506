//! EKS managed node groups. Rule: a group is all on-demand or all spot, so a spot-first target is two groups with one wish;
//! one update of a group at a time, followed to its end; only sizes are written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eks::Client;
use aws_sdk_eks::types::{Nodegroup, NodegroupScalingConfig, NodegroupStatus, UpdateStatus};
use prescale_domain::{Decision, Outcome, TargetState, Timestamp, is_spot_annotation};
use prescale_telemetry::actuate::LaunchRefused;

use crate::aws::{Account, Connections};
use crate::aws_group::Group as ScalingGroup;
use crate::aws_mix::OnTop;
use crate::aws_spot::Capacity;
use crate::aws_trouble::lacks_spot;
use crate::eks_drain::{Drains, Emptied};
use crate::eks_settings::{EksSettings, EksWrites};
use crate::eks_split::{Aim, EksSplitState};
use crate::error::refuse_unless_act;
use crate::split::{Sizes, split};
use crate::{ActuateError, Actuator, Failure};

/// Node groups with one wish. Clones are the same.
#[derive(Clone, Debug)]
pub struct EksNodegroups {
    pub(crate) settings: Arc<EksSettings>,
    pub(crate) account: Arc<Account>,
    /// Updates that have not ended, by group.
    updates: Arc<Mutex<BTreeMap<String, String>>>,
    trouble: Arc<Mutex<BTreeMap<String, String>>>,
    drains: Option<Arc<Drains>>,
    /// Of groups whose split is planned.
    held: Arc<Mutex<EksSplitState>>,
}

/// What of a node group matters here.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    name: String,
    pub(crate) sizes: Sizes,
    busy: bool,
    /// The Auto Scaling groups that it is made of.
    pub(crate) scaling_groups: Vec<String>,
    /// Those of its tags that say something of spot.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl EksNodegroups {
    /// The groups, in an account that they share with the other targets of `connections`.
    pub fn new(settings: EksSettings, connections: &Connections) -> Self {
        let account = connections.account(settings.place());
        let drains = settings.drain.as_ref().map(|drain| Arc::new(Drains::new(drain, &settings.describe())));
        Self {
            settings: Arc::new(settings),
            account,
            updates: Arc::default(),
            trouble: Arc::default(),
            drains,
            held: Arc::default(),
        }
    }

    /// What the groups are made of, where their split is planned.
    pub(crate) fn capacity(&self) -> Option<Capacity> {
        self.split_state().capacity.clone()
    }

    pub(crate) fn split_state(&self) -> MutexGuard<'_, EksSplitState> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.account.call(&self.settings.describe(), (operation, name), call).await
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
        if self.settings.spot_nodegroup.as_deref() == Some(name) {
            self.split_state().refused = issues.iter().any(|issue| issue.message().is_some_and(lacks_spot));
        }
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

    /// The Auto Scaling groups beneath each group, as this tick's look has them where that will do; `None` where they can't be
    /// seen.
    pub(crate) async fn beneath(
        &self,
        groups: &[Group],
        now: Timestamp,
        seen_will_do: bool,
    ) -> Option<Vec<Vec<ScalingGroup>>> {
        // All are known before the first is looked at, so that one look is enough.
        groups.iter().flat_map(|group| &group.scaling_groups).for_each(|name| self.account.register(name));
        let target = self.settings.describe();
        let mut beneath = Vec::with_capacity(groups.len());
        for group in groups {
            let mut found = Vec::with_capacity(group.scaling_groups.len());
            for name in &group.scaling_groups {
                found.push(match seen_will_do {
                    true => self.account.fresh(name, &target, now).await.ok()?,
                    false => self.account.look(name, &target, now).await.ok()?,
                });
            }
            beneath.push(found);
        }
        beneath.iter().all(|found| !found.is_empty()).then_some(beneath)
    }

    /// Of so many nodes so many are wanted, where the split is planned; what is on top of them was `before`, where that is still
    /// to change.
    fn remember(&self, nodes: u32, wanted: u32, before: Option<u32>) {
        if self.settings.spot.is_some() {
            let units = nodes.saturating_sub(wanted);
            self.split_state().on_top = Some(OnTop { total: nodes, units, before: before.unwrap_or(units) });
        }
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
        let beneath = self.beneath(&groups, now, false).await;
        let ready = beneath
            .as_ref()
            .map(|beneath| beneath.iter().flatten().map(ScalingGroup::ready).fold(0, u32::saturating_add));
        let sum = |of: fn(&Group) -> u32| groups.iter().map(of).fold(0, u32::saturating_add);
        let desired = match &self.settings.spot {
            Some(spot) => self.observe_split(&groups, beneath.as_deref(), spot, now).await,
            None => groups.iter().map(|group| self.wants(group)).fold(0, u32::saturating_add),
        };
        let min = match self.settings.writes {
            EksWrites::Desired => sum(|group| group.sizes.min),
            EksWrites::Floor => self.settings.min,
        };
        let max = Some(sum(|group| group.sizes.max));
        Ok(TargetState { desired, ready, min: Some(min), max, observed_at: now })
    }

    async fn apply(&self, decision: &Decision, now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let running = self.follow().await?;
        let groups = self.groups().await?;
        let wants: Vec<u32> = groups.iter().map(|group| self.wants(group)).collect();
        let wanted = wants.iter().copied().fold(0, u32::saturating_add);
        let wish = decision.desired.max(self.settings.min).min(self.settings.max);
        let Aim { units, shares } = match &self.settings.spot {
            Some(_) => self.aim(&groups, wish, decision, now).await,
            None => {
                let shares = self.shares(&groups, wish);
                Aim { units: shares.iter().copied().fold(0, u32::saturating_add), shares }
            }
        };
        let before = self.split_state().above(wanted);
        let outside = |nodes: u32| nodes.saturating_sub(self.split_state().above(nodes));
        if let Some(drains) = &self.drains {
            for ((group, wants), share) in groups.iter().zip(&wants).zip(&shares) {
                if share >= wants {
                    drains.release(&group.name).await;
                }
            }
        }
        if shares == wants {
            self.remember(wanted, units, None);
            return Ok(Outcome::Unchanged { units });
        }
        let is_busy = |group: &Group| group.busy || running.as_ref() == Some(&group.name);
        let mut changed = groups.iter().zip(&wants).zip(&shares).filter(|((_, wants), share)| wants != share);
        if let Some(((group, _), _)) = changed.find(|((group, _), _)| is_busy(group)) {
            let reason = format!("an update of node group `{}` is under way", group.name);
            return Ok(Outcome::Held { units: outside(wanted), reason });
        }
        self.remember(shares.iter().copied().fold(0, u32::saturating_add), units, Some(before));
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
        self.remember(reached, units, None);
        if reached == wanted && !waits.is_empty() {
            return Ok(Outcome::Held { units: outside(wanted), reason: waits.join("; ") });
        }
        let units = outside(reached);
        Ok(Outcome::Applied { units, clamped: units != decision.desired })
    }

    fn tends(&self) -> bool {
        self.settings.spot.is_some() || self.drains.as_ref().is_some_and(|drains| drains.is_busy())
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
        annotations: described
            .tags()
            .into_iter()
            .flatten()
            .filter(|(key, _)| is_spot_annotation(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}
