//! How an instance comes and goes: hooks, the warm pool, the spot market. Rule: every instance that was launched is in
//! exactly one state until it has ended, and it ends once.

use prescale_domain::{Span, Timestamp};
use serde_json::json;

use super::group::Group;
use super::instance::{Instance, Lifecycle, Wait};
use super::pools::Place;
use super::world::{Happening, World};

pub(super) const LAUNCHING: &str = "autoscaling:EC2_INSTANCE_LAUNCHING";
pub(super) const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// From `Proceed` to the state after it.
const PROCEED: Span = Span::from_secs(2);

/// AWS: 48 hours, or a hundred heartbeats where that is shorter.
pub(super) const HOOK_LIMIT: Span = Span::from_minutes(48 * 60);

/// EC2 tells of an instance that has ended for about an hour.
const REMEMBERED: Span = Span::from_minutes(60);

impl World {
    /// Launches an instance; `cause` ends the activity's cause.
    pub(super) fn launch(&mut self, group: &Group, place: &Place, warm: bool, cause: &str) -> Option<u64> {
        let number = self.tally.launched;
        let tenancy = match place.pool {
            Some(pool) => Some(self.market.launch_in(pool, number, self.now)?),
            None => None,
        };
        self.tally.launched += 1;
        let id = self.id("i");
        let cause = self.cause(group, "an instance was started in response to", cause);
        let details = json!({"Subnet ID": group.subnets, "Availability Zone": place.zone}).to_string();
        let what =
            if warm { "Launching a new EC2 instance into warm pool: " } else { "Launching a new EC2 instance: " };
        let activity = self.begin_activity(&group.name, format!("{what}{id}"), cause, details);
        self.mark_activity(&group.name, &activity, "PreInService", 30);
        let latency = self.latency(number);
        let due = self.now + latency;
        for (moment, happening) in [
            (tenancy.and_then(|one| one.recommended_at), Happening::Recommended(number)),
            (tenancy.and_then(|one| one.noticed_at), Happening::Noticed(number)),
            (tenancy.and_then(|one| one.lost_at), Happening::Lost(number)),
            (Some(due), Happening::Step(number)),
        ] {
            if let Some(moment) = moment {
                self.plan(moment, happening);
            }
        }
        let instance = Instance {
            number,
            id: id.clone(),
            group: group.name.clone(),
            kind: place.candidate.kind.clone(),
            zone: place.zone.clone(),
            tenancy,
            weight: place.candidate.weight,
            launched_at: self.now,
            lifecycle: if warm { Lifecycle::WarmedPending } else { Lifecycle::Pending },
            due: Some(due),
            waits: Vec::new(),
            protected: group.protect_new,
            healthy: true,
            at_risk: false,
            replacement: None,
            replaces: None,
            activity: Some(activity),
            ended_at: None,
        };
        self.instances.insert(number, instance);
        self.numbers.insert(id, number);
        if let Some(group) = self.groups.get_mut(&group.name) {
            group.members.insert(number);
        }
        Some(number)
    }

    /// Why an activity was begun.
    pub(super) fn cause(&self, group: &Group, what: &str, why: &str) -> String {
        let second = self.now;
        format!("{}At {second} {what} {why}.", group.reason)
    }

    /// Takes a prepared instance out of the warm pool.
    pub(super) fn start_warm(&mut self, group: &Group, number: u64, cause: &str) {
        let Some(instance) = self.instances.get(&number) else { return };
        let id = instance.id.clone();
        let running = instance.lifecycle == Lifecycle::WarmedRunning;
        let wait = self.settings.warm_start;
        let wait = if running { Span::from_millis(wait.millis() / 10) } else { wait };
        let cause = self.cause(group, "an instance was started from the warm pool in response to", cause);
        let description = format!("Launching a new EC2 instance from warm pool: {id}");
        let activity = self.begin_activity(&group.name, description, cause, "{}".to_owned());
        self.mark_activity(&group.name, &activity, "PreInService", 30);
        self.set(number, Lifecycle::Pending, Some(wait));
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.activity = Some(activity);
        }
    }

    /// A state, and after how long the next one comes.
    fn set(&mut self, number: u64, lifecycle: Lifecycle, next: Option<Span>) {
        let due = next.map(|span| self.now + span);
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.lifecycle = lifecycle;
            instance.due = due;
        }
        if let Some(due) = due {
            self.plan(due, Happening::Step(number));
        }
    }

    /// The next state of an instance whose time has come.
    pub(super) fn step_instance(&mut self, number: u64) {
        let Some(instance) = self.instances.get(&number) else { return };
        if instance.due.is_none_or(|due| due > self.now) {
            return;
        }
        match instance.lifecycle {
            Lifecycle::Pending => {
                let waits = self.await_hooks(number, LAUNCHING, Lifecycle::PendingWait);
                if !waits {
                    self.arrive(number);
                }
            }
            Lifecycle::WarmedPending => {
                // One that comes back from serving has done its hooks.
                let back = instance.activity.is_none();
                if back || !self.await_hooks(number, LAUNCHING, Lifecycle::WarmedPendingWait) {
                    self.prepare(number);
                }
            }
            Lifecycle::PendingProceed => self.arrive(number),
            Lifecycle::WarmedPendingProceed => self.prepare(number),
            Lifecycle::PendingWait | Lifecycle::WarmedPendingWait | Lifecycle::TerminatingWait => self.time_out(number),
            Lifecycle::Terminating | Lifecycle::TerminatingProceed | Lifecycle::WarmedTerminating => self.end(number),
            _ => {}
        }
    }

    /// Waits for the hooks of a transition, if there are any.
    fn await_hooks(&mut self, number: u64, transition: &str, state: Lifecycle) -> bool {
        let Some(instance) = self.instances.get(&number) else { return false };
        let (id, name, activity) = (instance.id.clone(), instance.group.clone(), instance.activity.clone());
        let Some(group) = self.groups.get(&name).filter(|group| !group.deleting) else { return false };
        let hooks: Vec<_> = group.hooks_of(transition).into_iter().cloned().collect();
        if hooks.is_empty() {
            return false;
        }
        let mut waits = Vec::new();
        for hook in &hooks {
            let token = self.uuid();
            let heartbeat = Span::from_secs(i64::from(hook.heartbeat_secs));
            let limit = HOOK_LIMIT.min(Span::from_secs(i64::from(hook.heartbeat_secs) * 100));
            let (until, limit) = (self.now + heartbeat, self.now + limit);
            self.tell_hook(hook, &name, &id, &token, state);
            waits.push(Wait { hook: hook.name.clone(), token, until, limit });
        }
        let first = waits.iter().map(|wait| wait.until).min().unwrap_or(self.now);
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.waits = waits;
        }
        if let Some(activity) = activity {
            self.mark_activity(&name, &activity, "MidLifecycleAction", 60);
        }
        let next = first.since(self.now);
        self.set(number, state, Some(next));
        true
    }

    /// Hooks that nobody completed in time take their default.
    fn time_out(&mut self, number: u64) {
        let Some(instance) = self.instances.get(&number) else { return };
        let over = instance.waits.iter().find(|wait| wait.until <= self.now).map(|wait| wait.hook.clone());
        let Some(hook) = over else {
            let next = instance.waits.iter().map(|wait| wait.until).min();
            let state = instance.lifecycle;
            if let Some(next) = next {
                self.set(number, state, Some(next.since(self.now)));
            }
            return;
        };
        let result = self.groups.get(&instance.group).and_then(|group| group.hooks.get(&hook));
        let proceeds = result.is_some_and(|hook| hook.default_result == "CONTINUE");
        self.complete(number, &hook, proceeds);
    }

    /// A lifecycle action is done.
    pub(super) fn complete(&mut self, number: u64, hook: &str, proceeds: bool) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        instance.waits.retain(|wait| wait.hook != hook);
        let (state, done) = (instance.lifecycle, instance.waits.is_empty());
        let next = instance.waits.iter().map(|wait| wait.until).min();
        match state {
            Lifecycle::PendingWait | Lifecycle::WarmedPendingWait if !proceeds => {
                instance.waits.clear();
                self.terminate(number, "a lifecycle action was abandoned");
            }
            Lifecycle::PendingWait if done => self.set(number, Lifecycle::PendingProceed, Some(PROCEED)),
            Lifecycle::WarmedPendingWait if done => self.set(number, Lifecycle::WarmedPendingProceed, Some(PROCEED)),
            Lifecycle::TerminatingWait if done || !proceeds => {
                instance.waits.clear();
                let wait = self.settings.termination;
                self.set(number, Lifecycle::TerminatingProceed, Some(wait));
            }
            _ => {
                if let Some(next) = next {
                    self.set(number, state, Some(next.since(self.now)));
                }
            }
        }
    }

    /// Puts off the end of a wait by another heartbeat.
    pub(super) fn heartbeat(&mut self, number: u64, hook: &str, span: Span) {
        let until = self.now + span;
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if let Some(wait) = instance.waits.iter_mut().find(|wait| wait.hook == hook) {
            wait.until = until.min(wait.limit);
        }
        let (state, next) = (instance.lifecycle, instance.waits.iter().map(|wait| wait.until).min());
        if let Some(next) = next {
            self.set(number, state, Some(next.since(self.now)));
        }
    }

    fn finish_activity(&mut self, number: u64, status: &'static str) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let group = instance.group.clone();
        if let Some(activity) = instance.activity.take() {
            self.mark_activity(&group, &activity, status, 100);
        }
    }

    fn arrive(&mut self, number: u64) {
        self.set(number, Lifecycle::InService, None);
        self.finish_activity(number, "Successful");
        let Some(instance) = self.instances.get(&number) else { return };
        let (id, group, replaces) = (instance.id.clone(), instance.group.clone(), instance.replaces);
        self.tell_lifecycle("EC2 Instance Launch Successful", &group, &id);
        if let Some(old) = replaces.filter(|old| self.instances.get(old).is_some_and(|one| one.lifecycle.is_live())) {
            self.terminate(old, "an EC2 instance rebalance recommendation");
        }
        self.wake(&group);
    }

    fn prepare(&mut self, number: u64) {
        self.finish_activity(number, "Successful");
        let Some(instance) = self.instances.get(&number) else { return };
        let name = instance.group.clone();
        let pool = self.groups.get(&name).and_then(|group| group.warm_pool.as_ref());
        let state = match pool.map(|pool| pool.pool_state.as_str()) {
            Some("Running") => Lifecycle::WarmedRunning,
            Some("Hibernated") => Lifecycle::WarmedHibernated,
            _ => Lifecycle::WarmedStopped,
        };
        self.set(number, state, None);
        self.wake(&name);
    }

    /// Sends a live instance to the warm pool instead of ending it.
    pub(super) fn return_to_pool(&mut self, number: u64) {
        self.finish_activity(number, "Cancelled");
        let wait = self.settings.termination;
        self.set(number, Lifecycle::WarmedPending, Some(wait));
    }

    /// Begins to end an instance; returns the activity's id.
    pub(super) fn terminate(&mut self, number: u64, why: &str) -> Option<String> {
        let instance = self.instances.get(&number)?;
        let (id, name, from) = (instance.id.clone(), instance.group.clone(), instance.lifecycle);
        if !from.is_live() && !from.is_warm() {
            return instance.activity.clone();
        }
        let gone = instance.ended_at.is_some();
        self.finish_activity(number, "Cancelled");
        let group = self.groups.get(&name)?.clone();
        let cause = self.cause(&group, "an instance was taken out of service in response to", why);
        let activity = self.begin_activity(&name, format!("Terminating EC2 instance: {id}"), cause, "{}".to_owned());
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.activity = Some(activity.clone());
            instance.waits.clear();
        }
        let wait = if gone { Span::ZERO } else { self.settings.termination };
        if from.is_warm() {
            self.set(number, Lifecycle::WarmedTerminating, Some(wait));
        } else if gone || !self.await_hooks(number, TERMINATING, Lifecycle::TerminatingWait) {
            self.set(number, Lifecycle::Terminating, Some(wait));
            self.mark_activity(&name, &activity, "InProgress", 50);
        }
        self.wake(&name);
        Some(activity)
    }

    /// The end of an instance, for its group as well.
    fn end(&mut self, number: u64) {
        self.set(number, Lifecycle::Terminated, None);
        self.finish_activity(number, "Successful");
        self.vanish(number);
        let Some(instance) = self.instances.get(&number) else { return };
        let (id, name) = (instance.id.clone(), instance.group.clone());
        if let Some(group) = self.groups.get_mut(&name) {
            group.members.remove(&number);
            for refresh in &mut group.refreshes {
                refresh.left.remove(&number);
            }
        }
        self.tell_lifecycle("EC2 Instance Terminate Successful", &name, &id);
        self.wake(&name);
    }

    /// EC2 ends an instance; its group may not know yet.
    fn vanish(&mut self, number: u64) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if instance.ended_at.is_some() {
            return;
        }
        instance.ended_at = Some(now);
        if let Some(tenancy) = instance.tenancy {
            self.market.end(&tenancy);
        }
        self.tally.ended += 1;
        self.plan(now + REMEMBERED, Happening::Forgotten(number));
    }

    pub(super) fn forget(&mut self, number: u64) {
        let over = self.instances.get(&number).is_some_and(|one| one.lifecycle == Lifecycle::Terminated);
        if over && let Some(instance) = self.instances.remove(&number) {
            self.numbers.remove(&instance.id);
        } else if self.instances.contains_key(&number) {
            self.plan(self.now + REMEMBERED, Happening::Forgotten(number));
        }
    }

    /// EC2 ends an instance past its group, which learns of it by its health check.
    pub(super) fn end_past_group(&mut self, number: u64) {
        self.vanish(number);
        let Some(instance) = self.instances.get(&number) else { return };
        if !instance.lifecycle.is_live() && !instance.lifecycle.is_warm() {
            self.set(number, instance.lifecycle, Some(Span::ZERO));
            if let Some(instance) = self.instances.get_mut(&number)
                && instance.lifecycle == Lifecycle::TerminatingWait
            {
                instance.waits.clear();
                instance.lifecycle = Lifecycle::TerminatingProceed;
            }
            return;
        }
        let known_at: Timestamp = self.now + self.settings.health_check;
        self.plan(known_at, Happening::Missed(number));
    }

    pub(super) fn missed(&mut self, number: u64) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        let group = instance.group.clone();
        if self.groups.get(&group).is_none_or(|group| group.suspends("HealthCheck")) {
            self.plan(self.now + self.settings.health_check, Happening::Missed(number));
            return;
        }
        instance.healthy = false;
        self.wake(&group);
    }

    pub(super) fn recommended(&mut self, number: u64) {
        let Some(instance) = self.instances.get_mut(&number) else { return };
        if instance.ended_at.is_some() || instance.at_risk {
            return;
        }
        instance.at_risk = true;
        let (id, group) = (instance.id.clone(), instance.group.clone());
        self.tell_spot("EC2 Instance Rebalance Recommendation", &id, &json!({"instance-id": id}));
        self.wake(&group);
    }

    pub(super) fn noticed(&mut self, number: u64) {
        let Some(instance) = self.instances.get(&number).filter(|one| one.ended_at.is_none()) else { return };
        // Of two plans the one that its tenancy names counts.
        if instance.tenancy.and_then(|tenancy| tenancy.noticed_at).is_some_and(|at| at > self.now) {
            return;
        }
        let (id, group, live) = (instance.id.clone(), instance.group.clone(), instance.lifecycle.is_live());
        let detail = json!({"instance-id": id, "instance-action": "terminate"});
        self.tell_spot("EC2 Spot Instance Interruption Warning", &id, &detail);
        self.tally.noticed += u64::from(live);
        if live && self.groups.get(&group).is_some_and(|group| group.rebalance && !group.suspends("Terminate")) {
            self.terminate(number, "an EC2 Spot Instance interruption notice");
        }
    }

    pub(super) fn lost(&mut self, number: u64) {
        let Some(instance) = self.instances.get(&number).filter(|one| one.ended_at.is_none()) else { return };
        if instance.tenancy.and_then(|tenancy| tenancy.lost_at).is_some_and(|at| at > self.now) {
            return;
        }
        self.tally.interrupted += 1;
        self.end_past_group(number);
    }
}
