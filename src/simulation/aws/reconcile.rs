//! What a group does about the difference between what it has and what it wants. Rule: by its own doing it has between its
//! minimum and its maximum; only rebalancing and a refresh may go beyond, for a time, as AWS documents.

use super::group::Group;
use super::instance::{Instance, Lifecycle};
use super::world::{Happening, World};

/// Capacity of a group, in its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) on_demand: u32,
    pub(super) spot: u32,
}

impl Held {
    pub(super) fn total(self) -> u32 {
        self.on_demand.saturating_add(self.spot)
    }
}

const DIFFERENCE: &str = "a difference between desired and actual capacity";

impl World {
    pub(super) fn reconcile(&mut self, name: &str) {
        if let Some(group) = self.groups.get_mut(name) {
            group.woken_at = None;
        }
        if self.groups.get(name).is_some_and(|group| group.deleting) {
            self.take_down(name);
            return;
        }
        self.replace_unhealthy(name);
        self.refresh(name);
        self.rebalance(name);
        self.scale_out(name);
        self.scale_in(name);
        self.fill_warm_pool(name);
    }

    fn take_down(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        if group.members.is_empty() {
            self.groups.remove(name);
            return;
        }
        for number in group.members.clone() {
            self.terminate(number, "a user request to delete the group");
        }
    }

    /// What a group has: an instance whose replacement is on its way or there counts no more.
    pub(super) fn held(&self, group: &Group) -> Held {
        let mut held = Held::default();
        for instance in self.members(group).filter(|one| one.lifecycle.is_live() && !self.is_superseded(one)) {
            let part = if instance.is_spot() { &mut held.spot } else { &mut held.on_demand };
            *part += instance.weight;
        }
        held
    }

    fn is_superseded(&self, instance: &Instance) -> bool {
        let live = |number: u64| self.instances.get(&number).is_some_and(|one| one.lifecycle.is_live());
        instance.replacement.is_some_and(live)
    }

    fn replace_unhealthy(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        if group.suspends("ReplaceUnhealthy") || group.suspends("Terminate") {
            return;
        }
        let ill =
            self.members(group).filter(|one| !one.healthy && (one.lifecycle.is_live() || one.lifecycle.is_warm()));
        for number in ill.map(|one| one.number).collect::<Vec<_>>() {
            self.terminate(number, "an EC2 health check indicating it has been terminated or stopped");
        }
    }

    fn scale_out(&mut self, name: &str) {
        let Some(group) = self.groups.get(name).cloned() else { return };
        if group.suspends("Launch") {
            return;
        }
        for spot in [false, true] {
            loop {
                let held = self.held(&group_now(self, &group));
                let wanted = group.mix().on_demand(group.desired);
                let lacks = held.total() < group.desired
                    && if spot { held.on_demand >= wanted } else { held.on_demand < wanted };
                if !lacks {
                    break;
                }
                if !self.launch_one(&group_now(self, &group), spot) {
                    break;
                }
            }
        }
        // Where on-demand is lacking, the spot share is still launched.
        loop {
            let now = group_now(self, &group);
            let held = self.held(&now);
            let spot_wanted = group.desired - group.mix().on_demand(group.desired);
            if held.total() >= group.desired || held.spot >= spot_wanted || !self.launch_quietly(&now) {
                break;
            }
        }
    }

    /// One more instance, from the warm pool where it has one.
    fn launch_one(&mut self, group: &Group, spot: bool) -> bool {
        let warm = self.members(group).find(|one| one.lifecycle.is_prepared() && one.healthy).map(|one| one.number);
        if let (false, Some(number)) = (spot, warm) {
            self.start_warm(group, number, DIFFERENCE);
            return true;
        }
        match self.place(group, spot, &group.zones) {
            Some(place) => self.launch(group, &place, false, DIFFERENCE).is_some(),
            None => {
                self.fail_launch(group, spot);
                false
            }
        }
    }

    fn launch_quietly(&mut self, group: &Group) -> bool {
        let place = self.place(group, true, &group.zones);
        place.is_some_and(|place| self.launch(group, &place, false, DIFFERENCE).is_some())
    }

    /// Tells that there was no capacity, and tries again later.
    pub(super) fn fail_launch(&mut self, group: &Group, spot: bool) {
        let message = self.no_capacity(group, spot);
        let cause = self.cause(group, "an instance was started in response to", DIFFERENCE);
        let id = self.begin_activity(&group.name, "Launching a new EC2 instance".to_owned(), cause, "{}".to_owned());
        self.mark_activity(&group.name, &id, "Failed", 100);
        let all = self.activities.get_mut(&group.name);
        if let Some(activity) = all.and_then(|all| all.iter_mut().rev().find(|one| one.id == id)) {
            activity.message = Some(message);
        }
        self.tally.refused += 1;
        self.tell_lifecycle("EC2 Instance Launch Unsuccessful", &group.name, "");
        // One next try, however many launches fail in this one.
        let (now, at) = (self.now, self.now + self.settings.retry);
        let Some(group) = self.groups.get_mut(&group.name).filter(|group| group.retry_at.is_none_or(|at| at <= now))
        else {
            return;
        };
        group.retry_at = Some(at);
        let name = group.name.clone();
        self.plan(at, Happening::Reconcile(name));
    }

    fn scale_in(&mut self, name: &str) {
        let Some(group) = self.groups.get(name).cloned() else { return };
        if group.suspends("Terminate") {
            return;
        }
        loop {
            let now = group_now(self, &group);
            let held = self.held(&now);
            let Some(victim) = self.victim(&now, held) else { break };
            let (number, weight, serving) = (victim.number, victim.weight, victim.lifecycle == Lifecycle::InService);
            if held.total() < group.desired.saturating_add(weight) {
                break;
            }
            let reuse = group.warm_pool.as_ref().is_some_and(|pool| pool.reuse == Some(true) && !pool.deleting);
            if reuse && serving && !victim.is_spot() {
                self.return_to_pool(number);
            } else {
                self.terminate(number, DIFFERENCE);
            }
        }
    }

    /// Whom scale-in takes next: of the purchase option that there is too much of, in the zone with the most instances, by the
    /// group's termination policy.
    fn victim<'a>(&'a self, group: &'a Group, held: Held) -> Option<&'a Instance> {
        let free =
            || self.members(group).filter(|one| one.lifecycle.is_live() && !one.protected && !self.is_superseded(one));
        let from_spot = held.on_demand <= group.mix().on_demand(group.desired);
        let option = if free().any(|one| one.is_spot() == from_spot) { from_spot } else { !from_spot };
        let count = |zone: &str| self.members(group).filter(|one| one.lifecycle.is_live() && one.zone == zone).count();
        let most = free().filter(|one| one.is_spot() == option).map(|one| count(&one.zone)).max()?;
        let mut fit = free().filter(|one| one.is_spot() == option && count(&one.zone) == most);
        match group.termination_policies.first().map(String::as_str) {
            Some("NewestInstance") => fit.last(),
            // Of the same template all are, so that the oldest goes.
            _ => fit.next(),
        }
    }

    fn rebalance(&mut self, name: &str) {
        let Some(group) = self.groups.get(name).cloned() else { return };
        if !group.rebalance || group.suspends("Launch") {
            return;
        }
        let at_risk: Vec<u64> = self
            .members(&group)
            .filter(|one| one.at_risk && one.lifecycle == Lifecycle::InService && !self.is_superseded(one))
            .map(|one| one.number)
            .collect();
        for number in at_risk {
            let now = group_now(self, &group);
            let live: u32 = self.members(&now).filter(|one| one.lifecycle.is_live()).map(|one| one.weight).sum();
            // AWS: beyond the maximum by up to 10 % of desired capacity.
            if live >= group.max.saturating_add((group.desired / 10).max(1)) {
                break;
            }
            let Some(place) = self.place(&now, true, &group.zones) else {
                self.fail_launch(&now, true);
                break;
            };
            let why = "an EC2 instance rebalance recommendation";
            let Some(fresh) = self.launch(&now, &place, false, why) else { break };
            if let Some(old) = self.instances.get_mut(&number) {
                old.replacement = Some(fresh);
            }
            if let Some(fresh) = self.instances.get_mut(&fresh) {
                fresh.replaces = Some(number);
            }
        }
    }

    /// Keeps as many prepared instances as the pool's settings say.
    fn fill_warm_pool(&mut self, name: &str) {
        let Some(group) = self.groups.get(name).cloned() else { return };
        let Some(pool) = &group.warm_pool else { return };
        let warm: Vec<u64> = self.members(&group).filter(|one| one.lifecycle.is_warm()).map(|one| one.number).collect();
        let leaving = self.members(&group).any(|one| one.lifecycle == Lifecycle::WarmedTerminating);
        if pool.deleting {
            let empty = warm.is_empty() && !leaving;
            if let Some(group) = self.groups.get_mut(name).filter(|_| empty) {
                group.warm_pool = None;
            }
            for number in warm {
                self.terminate(number, "a user request to delete the warm pool");
            }
            return;
        }
        let in_group = self.held(&group).total().max(group.desired);
        let prepared = pool.max_prepared.unwrap_or(group.max);
        let wanted = prepared.saturating_sub(in_group).max(pool.min_size) as usize;
        for number in warm.iter().skip(wanted) {
            self.terminate(*number, "a difference between desired and actual capacity of the warm pool");
        }
        for _ in warm.len()..wanted {
            if group.suspends("Launch") {
                return;
            }
            let now = group_now(self, &group);
            let Some(place) = self.place(&now, false, &group.zones) else {
                self.fail_launch(&now, false);
                return;
            };
            self.launch(&now, &place, true, "a difference between desired and actual capacity of the warm pool");
        }
    }

    /// Replaces the next instances of a refresh, as many as may be missing at a time.
    fn refresh(&mut self, name: &str) {
        let Some(group) = self.groups.get(name).cloned() else { return };
        let Some(refresh) = group.refresh().cloned() else { return };
        let live: Vec<&Instance> = self.members(&group).filter(|one| one.lifecycle.is_live()).collect();
        let serving = live.iter().filter(|one| one.lifecycle == Lifecycle::InService).count();
        let settled = serving == live.len() && serving >= group.desired as usize;
        let ignores = refresh.protected == "Ignore";
        let left: Vec<u64> = live
            .iter()
            .filter(|one| refresh.left.contains(&one.number))
            .filter(|one| !(ignores && one.protected))
            .map(|one| one.number)
            .collect();
        let free = left.iter().filter(|number| self.instances.get(number).is_some_and(|one| !one.protected));
        let healthy = (u64::from(group.desired) * u64::from(refresh.min_healthy_percent)).div_ceil(100);
        let spare = serving.saturating_sub(usize::try_from(healthy).unwrap_or(usize::MAX)).max(1);
        let next: Vec<u64> = if settled { free.take(spare).copied().collect() } else { Vec::new() };
        let (now, over) = (self.now, settled && left.is_empty());
        if let Some(group) = self.groups.get_mut(name)
            && let Some(refresh) = group.refreshes.iter_mut().find(|one| one.is_active())
        {
            refresh.status = if over { "Successful" } else { "InProgress" };
            refresh.end = over.then_some(now);
        }
        for number in next {
            self.terminate(number, "an instance refresh");
        }
    }
}

/// The group as it is by now.
fn group_now(world: &World, group: &Group) -> Group {
    world.groups.get(&group.name).unwrap_or(group).clone()
}
