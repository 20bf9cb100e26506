//! A group whose capacity is split, seen and changed. Rule: outside, units are those that are wanted; what is on top of them, and
//! which of them are spot, stays between the plan and the group.

use prescale_domain::{Decision, Outcome, SplitUnit, Timestamp};

use crate::ActuateError;
use crate::aws_asg::AwsAsg;
use crate::aws_group::{Group, Member};
use crate::aws_mix::{OnTop, Steps, steps};
use crate::aws_spot::{Capacity, SplitSettings};

/// What is kept from one call to the next.
#[derive(Debug, Default)]
pub(crate) struct SplitState {
    /// As last seen.
    pub(crate) capacity: Option<Capacity>,
    /// As last applied; `None` = nothing was, since the start.
    on_top: Option<OnTop>,
}

impl AwsAsg {
    /// Takes note of what the group is made of; the units that are wanted of it.
    pub(crate) async fn observe_split(&self, group: &Group, spot: &SplitSettings, now: Timestamp) -> u32 {
        self.account.survey(&self.settings.describe(), now).await;
        let capacity = {
            let pools = self.account.pools.lock().await;
            let unit = |member: &Member| SplitUnit {
                id: member.id.clone(),
                pool: member.pool.clone(),
                is_spot: pools.spot.get(&member.id).copied(),
                weight: member.weight,
                in_service: member.serves,
            };
            Capacity {
                settings: spot.clone(),
                zones: group.zones.clone(),
                units: group.live().map(unit).collect(),
                prices: pools.prices_in(&group.zones, spot),
                refused: self.refuses_spot(),
                annotations: group.annotations.clone(),
            }
        };
        let mut held = self.held();
        held.capacity = Some(capacity);
        group.desired - on_top(&held, group.desired)
    }

    /// Whether the group is to replace units under notice by itself.
    fn rebalances(&self) -> bool {
        self.settings.spot.as_ref().is_some_and(|spot| spot.capacity_rebalance)
    }

    /// Makes the group what is planned for `wanted` units, which are within all bounds.
    pub(crate) async fn apply_split(
        &self,
        group: Group,
        decision: &Decision,
        wanted: u32,
    ) -> Result<Outcome, ActuateError> {
        let remembered = self.held().on_top;
        let before = on_top(&self.held(), group.desired);
        let most = self.settings.max.min(group.max).max(wanted);
        let least = self.settings.min.max(group.min).min(wanted);
        let Some(described) = &group.mixed else {
            let reason = format!(
                "the group has no mixed instances policy; give it one with its launch template and these instance types as \
                 overrides: {} (aws autoscaling update-auto-scaling-group --auto-scaling-group-name {} \
                 --mixed-instances-policy …)",
                self.types(),
                self.settings.group
            );
            return Ok(Outcome::Held { units: group.desired - before, reason });
        };
        let steps = match decision.split.as_deref() {
            Some(split) => {
                let pools = self.account.pools.lock().await;
                // What is planned with is that somebody heeds notices: here it is said who does.
                let mut split = split.clone();
                split.plan.aws.capacity_rebalance &= self.rebalances();
                steps(&group, described, &pools.spot, &split, (wanted, least, most), remembered)
            }
            // Without a plan what is on top stays there.
            None => {
                let total = wanted.saturating_add(before).min(most);
                Steps { units: wanted, total, policy: None, rebalances: None, ends: Vec::new() }
            }
        };
        let is_done = steps.policy.is_none() && steps.rebalances.is_none() && steps.ends.is_empty();
        if is_done && steps.total == group.desired {
            let units = steps.total - steps.units;
            self.held().on_top = Some(OnTop { total: steps.total, units, before: units });
            self.prepare(&group, decision, steps.total).await?;
            return Ok(Outcome::Unchanged { units: steps.units });
        }
        let launches = steps.total > group.desired || steps.ends.iter().any(|end| !end.with_place);
        let ends = steps.total < group.desired || !steps.ends.is_empty();
        if let Some(reason) = self.forbidden(&group, launches, ends).await? {
            return Ok(Outcome::Held { units: group.desired - before, reason: reason.to_owned() });
        }
        let units = steps.units;
        let becomes = self.carry_out(group, steps, before).await?;
        let total = becomes.desired;
        self.account.changed(&self.settings.group, Some(becomes.clone())).await;
        self.prepare(&becomes, decision, total).await?;
        Ok(Outcome::Applied { units, clamped: units != decision.desired })
    }

    /// Writes first and ends instances then; what the group is after that.
    async fn carry_out(&self, mut group: Group, steps: Steps, before: u32) -> Result<Group, ActuateError> {
        let Steps { units, total, policy, rebalances, ends } = steps;
        let on_top = total - units;
        // Until the answers are there nobody knows what the group is.
        self.account.changed(&self.settings.group, None).await;
        if policy.is_some() || rebalances.is_some() || total != group.desired {
            self.held().on_top = Some(OnTop { total, units: on_top, before });
        }
        if policy.is_some() || rebalances.is_some() {
            let desired = (total != group.desired).then(|| self.count(total)).transpose()?;
            let call = self.client().await?.update_auto_scaling_group();
            let call = call.auto_scaling_group_name(&self.settings.group).set_desired_capacity(desired);
            let call = call.set_mixed_instances_policy(policy.clone()).set_capacity_rebalance(rebalances);
            self.call("set mixed instances policy", "UpdateAutoScalingGroup", call.send()).await?;
        } else if total != group.desired {
            self.set_desired(total).await?;
        }
        group.desired = total;
        group.mixed = policy.or(group.mixed);
        group.rebalances = rebalances.unwrap_or(group.rebalances);
        let mut known = OnTop { total, units: on_top, before: on_top };
        self.held().on_top = Some(known);
        for end in ends {
            match self.end(&end.id, end.with_place).await {
                Ok(()) if end.with_place => {
                    group.desired -= end.weight;
                    known.total = group.desired;
                    known.units -= end.weight;
                    known.before = known.units;
                    self.held().on_top = Some(known);
                }
                // It is gone already, as it should be.
                Ok(()) | Err(ActuateError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            if let Some(member) = group.members.iter_mut().find(|member| member.id == end.id) {
                (member.leaves, member.serves) = (true, false);
            }
        }
        Ok(group)
    }

    /// Types that are configured, for a reader.
    fn types(&self) -> String {
        let types = self.settings.spot.iter().flat_map(|spot| &spot.types);
        types.map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", ")
    }
}

/// How much of a desired capacity is on top of what is wanted, as far as that is known.
fn on_top(held: &SplitState, desired: u32) -> u32 {
    held.on_top.map_or(0, |known| known.of(desired))
}
