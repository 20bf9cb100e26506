//! AWS Auto Scaling groups. Rule: what this tick's look has seen is what is changed, and only what Prescale owns is written:
//! desired capacity by its own call, bounds and warm pool only where that is configured, with all else as it was described.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::http::HttpResponse;
use aws_sdk_autoscaling::error::{ProvideErrorMetadata, SdkError};
use prescale_domain::{Decision, Outcome, TargetState, Timestamp, UnitView};

use crate::aws::{Account, Connections, SplitGroup};
use crate::aws_group::{Group, Member};
use crate::aws_settings::{AsgScaleIn, AsgScaleOut, AsgSettings, AsgWrites, WarmPoolSettings};
use crate::aws_split::SplitState;
use crate::aws_spot::Capacity;
use crate::aws_trouble::Trouble;
use crate::error::refuse_unless_act;
use crate::{ActuateError, Actuator, Failure};

/// One Auto Scaling group. Clones are the same.
#[derive(Clone, Debug)]
pub struct AwsAsg {
    pub(crate) settings: Arc<AsgSettings>,
    pub(crate) account: Arc<Account>,
    trouble: Arc<Mutex<Trouble>>,
    /// As last seen, where units are taken away by name.
    units: Arc<Mutex<Vec<UnitView>>>,
    /// Of a group whose capacity is split.
    pub(crate) held: Arc<Mutex<SplitState>>,
}

impl AwsAsg {
    /// The group, in an account that it shares with the other targets of `connections`.
    pub fn new(settings: AsgSettings, connections: &Connections) -> Self {
        let account = connections.account(settings.place());
        account.register(&settings.group);
        let trouble = match &settings.spot {
            Some(spot) => {
                let types = spot.types.iter().map(|one| one.name.clone()).collect();
                account.register_split(&settings.group, SplitGroup { types, is_mixed: true });
                Trouble::of_spot()
            }
            None => Trouble::default(),
        };
        Self {
            settings: Arc::new(settings),
            account,
            trouble: Arc::new(Mutex::new(trouble)),
            units: Arc::default(),
            held: Arc::default(),
        }
    }

    /// Why the group does not get what it wants, in its own words; `None` = it does, or it has not said.
    pub fn trouble(&self) -> Option<String> {
        self.shortage().text()
    }

    /// What the group is made of, where its capacity is split.
    pub(crate) fn capacity(&self) -> Option<Capacity> {
        self.held().capacity.clone()
    }

    /// Units as last seen, where they are taken away by name.
    pub(crate) fn units(&self) -> Vec<UnitView> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What speaks for taking a member away, as far as the group tells.
    fn view(&self, member: &Member, now: Timestamp) -> UnitView {
        UnitView {
            id: member.id.clone(),
            started_at: now,
            in_flight: None,
            degraded: !member.serves,
            price_usd_hour: self.settings.price_usd_hour,
            spot_risk: None,
            protected: member.protected,
        }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, SplitState> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn refuses_spot(&self) -> bool {
        self.shortage().refuses_spot()
    }

    fn shortage(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the account's clock is that of the data.
    pub(crate) fn follows_event_time(&self) -> bool {
        self.account.follows_event_time()
    }

    pub(crate) async fn client(&self) -> Result<&Client, ActuateError> {
        self.account.autoscaling(&self.settings.describe()).await
    }

    /// One call, in its turn; `operation` is ours, `name` is AWS's.
    pub(crate) async fn call<T, E>(
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

    pub(crate) fn failure(&self, operation: &'static str, detail: String) -> Failure {
        Failure { operation, target: self.settings.describe(), detail }
    }

    /// Asks why the group is short of what it wants, where it has been so for a while.
    async fn follow(&self, group: &Group, now: Timestamp) {
        let short = group.ready() < group.desired;
        if !self.shortage().asks(short, now) {
            return;
        }
        let Ok(client) = self.client().await else { return };
        let call = client.describe_scaling_activities().auto_scaling_group_name(&self.settings.group).max_records(10);
        let Ok(answer) = self.call("describe activities", "DescribeScalingActivities", call.send()).await else {
            // The group itself was seen: that this was not is no reason to know less of it.
            return;
        };
        self.shortage().told(answer.activities(), &self.settings.group);
    }

    /// A change that is not this target's to make now, and why.
    pub(crate) async fn forbidden(
        &self,
        group: &Group,
        launches: bool,
        ends: bool,
    ) -> Result<Option<&'static str>, ActuateError> {
        if launches && group.suspends("Launch") {
            return Ok(Some("the group's process Launch is suspended"));
        }
        if !ends {
            return Ok(None);
        }
        if group.suspends("Terminate") {
            return Ok(Some("the group's process Terminate is suspended"));
        }
        let call = self.client().await?.describe_instance_refreshes();
        let call = call.auto_scaling_group_name(&self.settings.group).max_records(1);
        match self.call("describe instance refreshes", "DescribeInstanceRefreshes", call.send()).await {
            Ok(answer) => {
                let running = answer.instance_refreshes().iter().filter_map(|refresh| refresh.status()).any(|status| {
                    ["Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking"].contains(&status.as_str())
                });
                Ok(running.then_some("an instance refresh of the group is under way"))
            }
            // Of a service that does not know the operation nothing is refreshed either.
            Err(ActuateError::Other(_) | ActuateError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn set_desired(&self, units: u32) -> Result<(), ActuateError> {
        let call = self.client().await?.set_desired_capacity();
        let call = call.auto_scaling_group_name(&self.settings.group).desired_capacity(self.count(units)?);
        self.call(SET, "SetDesiredCapacity", call.honor_cooldown(false).send()).await.map(drop)
    }

    /// Bounds alone: what an update does not name stays as it is.
    async fn set_bounds(&self, min: u32, max: Option<u32>) -> Result<(), ActuateError> {
        let call = self.client().await?.update_auto_scaling_group();
        let call = call.auto_scaling_group_name(&self.settings.group).min_size(self.count(min)?);
        let max = max.map(|max| self.count(max)).transpose()?;
        self.call("set bounds", "UpdateAutoScalingGroup", call.set_max_size(max).send()).await.map(drop)
    }

    pub(crate) fn count(&self, units: u32) -> Result<i32, ActuateError> {
        let detail = || format!("{units} units exceed {}", i32::MAX);
        i32::try_from(units).map_err(|_| ActuateError::Invalid(self.failure(SET, detail())))
    }

    /// Takes away `victims`, each with its place in desired capacity.
    async fn terminate(&self, victims: &[String]) -> Result<(), ActuateError> {
        for victim in victims {
            self.end(victim, true).await?;
        }
        Ok(())
    }

    /// Takes an instance away, with its place in desired capacity or to be replaced.
    pub(crate) async fn end(&self, id: &str, with_place: bool) -> Result<(), ActuateError> {
        let call = self.client().await?.terminate_instance_in_auto_scaling_group();
        let call = call.instance_id(id).should_decrement_desired_capacity(with_place);
        self.call("terminate instance", "TerminateInstanceInAutoScalingGroup", call.send()).await.map(drop)
    }

    /// Launches into the zones with the fewest instances; what can't be had there the group goes on trying for.
    async fn launch(&self, group: &Group, more: u32, decision: &Decision) -> Result<(), ActuateError> {
        for (number, (zone, units)) in launches(group, more).into_iter().enumerate() {
            let token = format!("{}-{number}", decision.id.0.rsplit('#').next().unwrap_or_default());
            let call = self.client().await?.launch_instances().auto_scaling_group_name(&self.settings.group);
            let call = call.requested_capacity(self.count(units)?).client_token(token);
            let call = call.set_availability_zones(zone.map(|zone| vec![zone]));
            let call = call.retry_strategy(aws_sdk_autoscaling::types::RetryStrategy::RetryWithGroupConfiguration);
            self.call("launch instances", "LaunchInstances", call.send()).await?;
        }
        Ok(())
    }

    /// Brings the warm pool to the size that the forecast asks for.
    pub(crate) async fn prepare(&self, group: &Group, decision: &Decision, units: u32) -> Result<(), ActuateError> {
        let (Some(settings), Some(pool)) = (self.settings.warm_pool, &group.warm_pool) else { return Ok(()) };
        let wanted = prepared(&settings, decision, units, group.max);
        let known = pool.max_group_prepared_capacity().and_then(|capacity| u32::try_from(capacity).ok());
        // A pool that is a little too large costs less than one that is changed all the time.
        if known.is_some_and(|known| known >= wanted && known - wanted <= known / 10) {
            return Ok(());
        }
        let call = self.client().await?.put_warm_pool().auto_scaling_group_name(&self.settings.group);
        let call = call.max_group_prepared_capacity(self.count(wanted)?).set_min_size(pool.min_size());
        let call = call.set_pool_state(pool.pool_state().cloned());
        let call = call.set_instance_reuse_policy(pool.instance_reuse_policy().cloned());
        self.call("size warm pool", "PutWarmPool", call.send()).await.map(drop)
    }

    /// Makes the group want `units`; what it wants then.
    async fn change(&self, group: &Group, units: u32, decision: &Decision) -> Result<Group, ActuateError> {
        let becomes = Group { desired: units, ..group.clone() };
        if self.settings.writes == AsgWrites::Floor {
            self.set_bounds(units, None).await?;
            return Ok(Group { min: units, desired: group.desired.max(units), ..group.clone() });
        }
        let victims = match self.settings.scale_in {
            AsgScaleIn::Targeted if units < group.desired => victims(group, group.desired - units, &decision.victims),
            _ => Vec::new(),
        };
        if self.settings.scale_out == AsgScaleOut::LaunchInstances && units > group.desired {
            self.launch(group, units - group.desired, decision).await?;
        } else if victims.is_empty() {
            self.set_desired(units).await?;
        } else {
            self.terminate(&victims).await?;
        }
        Ok(becomes)
    }
}

const SET: &str = "set desired capacity";

impl Actuator for AwsAsg {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        let group = self.account.look(&self.settings.group, &self.settings.describe(), now).await?;
        self.follow(&group, now).await;
        if self.settings.scale_in == AsgScaleIn::Targeted {
            let units = group.live().map(|member| self.view(member, now)).collect();
            *self.units.lock().unwrap_or_else(PoisonError::into_inner) = units;
        }
        let (desired, min) = match self.settings.writes {
            AsgWrites::Floor => (group.min, self.settings.min),
            AsgWrites::Desired => (group.desired, group.min),
            AsgWrites::DesiredAndBounds => (group.desired, self.settings.min),
        };
        let max = match self.settings.writes {
            AsgWrites::DesiredAndBounds => self.settings.max,
            _ => group.max,
        };
        let desired = match &self.settings.spot {
            Some(spot) => self.observe_split(&group, spot, now).await,
            None => desired,
        };
        Ok(TargetState { desired, ready: Some(group.ready()), min: Some(min), max: Some(max), observed_at: now })
    }

    async fn apply(&self, decision: &Decision, now: Timestamp) -> Result<Outcome, ActuateError> {
        let target = self.describe();
        refuse_unless_act(decision, target.clone())?;
        let AsgSettings { min, max, writes, group: name, .. } = &*self.settings;
        let mut group = self.account.fresh(name, &target, now).await?;
        if *writes == AsgWrites::DesiredAndBounds && (group.min, group.max) != (*min, *max) {
            self.account.changed(name, None).await;
            self.set_bounds(*min, Some(*max)).await?;
            (group.min, group.max) = (*min, *max);
            group.desired = group.desired.max(*min).min(*max);
            self.account.changed(name, Some(group.clone())).await;
        }
        // The group's bounds have the last word: AWS refuses what lies outside them. A floor is not held to itself.
        let floor = if *writes == AsgWrites::Floor { 0 } else { group.min };
        let units = decision.desired.max(*min).min(*max).max(floor).min(group.max);
        if self.settings.spot.is_some() {
            return self.apply_split(group, decision, units).await;
        }
        let wants = if *writes == AsgWrites::Floor { group.min } else { group.desired };
        if units == wants {
            self.prepare(&group, decision, units).await?;
            return Ok(Outcome::Unchanged { units });
        }
        if let Some(reason) = self.forbidden(&group, units > group.desired, units < group.desired).await? {
            return Ok(Outcome::Held { units: wants, reason: reason.to_owned() });
        }
        // Until the answer is there nobody knows what the group wants.
        self.account.changed(name, None).await;
        let becomes = self.change(&group, units, decision).await?;
        self.account.changed(name, Some(becomes.clone())).await;
        self.prepare(&becomes, decision, units).await?;
        Ok(Outcome::Applied { units, clamped: units != decision.desired })
    }

    fn tends(&self) -> bool {
        let AsgSettings { warm_pool, writes, spot, .. } = &*self.settings;
        warm_pool.is_some() || spot.is_some() || *writes == AsgWrites::DesiredAndBounds
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}

/// Units that are to be prepared, those in service included.
fn prepared(settings: &WarmPoolSettings, decision: &Decision, units: u32, group_max: u32) -> u32 {
    let inputs = &decision.inputs;
    let rise = inputs.circumstances.outlook.and_then(|outlook| outlook.rise).map_or(0.0, |rise| rise.load);
    let ahead = inputs.forecast.iter().flat_map(|forecast| forecast.upper.iter().copied()).fold(rise, f64::max);
    let needed = (ahead / inputs.settings.unit_capacity).max(f64::from(units));
    let wanted = (needed * (1.0 + settings.reserve)).ceil();
    // Saturates; what is not a number becomes 0, and what is wanted now is prepared in any case.
    (wanted as u32).max(units).min(settings.max.unwrap_or(u32::MAX).max(units)).min(group_max)
}

/// Instances that weigh `units` together, or none where there are no such: those that serve nobody first, then those of the
/// zone that has the most left, so that zones stay even, and there the one that comes first in `ranked`.
fn victims(group: &Group, units: u32, ranked: &[String]) -> Vec<String> {
    let mut left: Vec<_> = group.members.iter().filter(|member| !member.leaves).collect();
    let (mut chosen, mut weight) = (Vec::new(), 0);
    while weight < units {
        let crowd = |zone: &str| left.iter().filter(|member| member.pool.zone == zone).count();
        let candidates = left.iter().enumerate().filter(|(_, m)| !m.protected && weight + m.weight <= units);
        let rank =
            |at: usize, id: &String| Reverse((ranked.iter().position(|other| other == id).unwrap_or(ranked.len()), at));
        let Some((at, _)) = candidates.max_by_key(|(at, m)| (!m.serves, crowd(&m.pool.zone), rank(*at, &m.id))) else {
            return Vec::new();
        };
        let victim = left.remove(at);
        weight += victim.weight;
        chosen.push(victim.id.clone());
    }
    chosen
}

/// Most units in one `LaunchInstances`.
const LAUNCHED_AT_ONCE: u32 = 100;

/// How many units in which zone: the emptiest is filled first. A group of one zone needs none named.
fn launches(group: &Group, more: u32) -> Vec<(Option<String>, u32)> {
    let zones: Vec<Option<String>> = match group.zones.as_slice() {
        [] | [_] => vec![None],
        zones => zones.iter().cloned().map(Some).collect(),
    };
    let there = |zone: &Option<String>| {
        let in_zone = group.members.iter().filter(|member| zone.as_ref().is_none_or(|zone| member.pool.zone == *zone));
        in_zone.filter(|member| !member.leaves).map(|member| member.weight).sum::<u32>()
    };
    let mut filled: Vec<(u32, u32)> = zones.iter().map(|zone| (there(zone), 0)).collect();
    for _ in 0..more {
        if let Some(zone) = filled.iter_mut().min_by_key(|(there, more)| there + more) {
            zone.1 += 1;
        }
    }
    let mut launches = Vec::new();
    for (zone, (_, mut more)) in zones.into_iter().zip(filled) {
        while more > 0 {
            launches.push((zone.clone(), more.min(LAUNCHED_AT_ONCE)));
            more -= more.min(LAUNCHED_AT_ONCE);
        }
    }
    launches
}

#[cfg(test)]
mod tests {
    use prescale_domain::PoolId;

    use super::*;

    fn member(id: &str, zone: &str, serves: bool, protected: bool) -> Member {
        Member { id: id.to_owned(), pool: PoolId::new("m5.large", zone), serves, leaves: false, protected, weight: 1 }
    }

    #[test]
    fn zones_stay_even_and_in_each_the_worst_goes_first() {
        let members = vec![
            member("i-1", "a", true, false),
            member("i-2", "a", true, false),
            member("i-3", "a", true, true),
            member("i-4", "b", true, false),
            member("i-5", "b", true, false),
            member("i-6", "b", false, false),
        ];
        let group = Group { members, ..Group::default() };
        let ranked = ["i-3", "i-5", "i-2", "i-1"].map(str::to_owned);
        // The one that serves nobody; then of the fuller zone the one that is ranked first and not protected; then of either.
        assert_eq!(victims(&group, 2, &ranked), ["i-6", "i-2"]);
        assert_eq!(victims(&group, 3, &ranked), ["i-6", "i-2", "i-5"]);
        assert_eq!(victims(&group, 2, &[]), ["i-6", "i-1"]);
    }
}
