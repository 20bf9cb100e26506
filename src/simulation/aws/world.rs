//! The state of an account, and what happens in it by itself. Rule: happenings come in the order of their times, and of their
//! planning where those are equal, so that it does not matter how often time is moved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use prescale_actuate::FleetSettings;
use prescale_domain::{Span, Timestamp};

use super::eks::Cluster;
use super::group::{Activity, Group};
use super::instance::Instance;
use super::pools::Shortage;
use super::settings::AwsSettings;
use super::sqs::Queue;
use crate::market::{Market, MarketError};

/// AWS keeps them for six weeks; that many are enough for any test.
const ACTIVITIES_MAX: usize = 1000;

/// What happens at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// A group looks at what it has and wants.
    Reconcile(String),
    /// An instance's state changes.
    Step(u64),
    /// The spot market's word about an instance.
    Recommended(u64),
    Noticed(u64),
    Lost(u64),
    /// A group learns that an instance has ended.
    Missed(u64),
    /// EC2 no longer tells of an instance.
    Forgotten(u64),
    /// A change of a node group, or its making, comes to its end: cluster, node group.
    Nodegroup(String, String),
    Cluster(String),
}

/// Launches and ends since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub launched: u64,
    pub ended: u64,
    /// Instances that were told of their loss while they served or started.
    pub noticed: u64,
    /// Of those that ended: taken by the spot market, before anybody replaced them.
    pub interrupted: u64,
    /// Launches that found no capacity.
    pub refused: u64,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) settings: Arc<AwsSettings>,
    pub(super) now: Timestamp,
    pub(super) market: Market,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) instances: BTreeMap<u64, Instance>,
    pub(super) numbers: BTreeMap<String, u64>,
    pub(super) activities: BTreeMap<String, VecDeque<Activity>>,
    /// Launch template → instance type.
    pub(super) templates: BTreeMap<String, String>,
    pub(super) clusters: BTreeMap<String, Cluster>,
    pub(super) queues: BTreeMap<String, Queue>,
    pub(super) shortages: Vec<Shortage>,
    pub(super) tally: Tally,
    agenda: BTreeSet<(Timestamp, u64, Happening)>,
    planned: u64,
    ids: u64,
}

impl World {
    pub(super) fn new(settings: AwsSettings) -> Result<Self, MarketError> {
        let market = Market::new(&settings.market(), settings.start, settings.end, settings.seed)?;
        let queues = settings.event_queue.iter().map(|name| (name.clone(), Queue::new(settings.start))).collect();
        Ok(Self {
            now: settings.start,
            market,
            groups: BTreeMap::new(),
            instances: BTreeMap::new(),
            numbers: BTreeMap::new(),
            activities: BTreeMap::new(),
            templates: settings.templates.clone(),
            clusters: BTreeMap::new(),
            queues,
            shortages: Vec::new(),
            tally: Tally::default(),
            agenda: BTreeSet::new(),
            planned: 0,
            ids: 0,
            settings: Arc::new(settings),
        })
    }

    pub(super) fn plan(&mut self, at: Timestamp, happening: Happening) {
        self.agenda.insert((at, self.planned, happening));
        self.planned += 1;
    }

    /// The group of that name looks at itself after its reaction time.
    pub(super) fn wake(&mut self, group: &str) {
        let at = self.now + self.settings.reaction;
        let Some(known) = self.groups.get_mut(group).filter(|known| known.woken_at != Some(at)) else { return };
        known.woken_at = Some(at);
        self.plan(at, Happening::Reconcile(group.to_owned()));
    }

    /// The next happening up to `until`, if there is one.
    pub(super) fn step(&mut self, until: Timestamp) -> bool {
        if self.agenda.first().is_none_or(|(at, ..)| *at > until) {
            self.now = self.now.max(until);
            return false;
        }
        let Some((at, _, happening)) = self.agenda.pop_first() else { return false };
        self.now = self.now.max(at);
        match happening {
            Happening::Reconcile(group) => self.reconcile(&group),
            Happening::Step(number) => self.step_instance(number),
            Happening::Recommended(number) => self.recommended(number),
            Happening::Noticed(number) => self.noticed(number),
            Happening::Lost(number) => self.lost(number),
            Happening::Missed(number) => self.missed(number),
            Happening::Forgotten(number) => self.forget(number),
            Happening::Nodegroup(cluster, name) => self.step_nodegroup(&cluster, &name),
            Happening::Cluster(name) => self.step_cluster(&name),
        }
        true
    }

    /// Request → in service of the instance of that number.
    pub(super) fn latency(&self, number: u64) -> Span {
        let settings = FleetSettings {
            provisioning_latency: self.settings.launch_latency,
            provisioning_latency_p90: self.settings.launch_latency_p90,
            seed: self.settings.seed,
            ..FleetSettings::default()
        };
        settings.latency_of(number)
    }

    /// Hexadecimal digits that nobody had before.
    fn fresh(&mut self) -> String {
        self.ids += 1;
        digits(self.settings.seed, self.ids)
    }

    pub(super) fn uuid(&mut self) -> String {
        uuid(&self.fresh())
    }

    /// An id such as `i-0123456789abcdef0`.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}-{}", &self.fresh()[..17])
    }

    pub(super) fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.settings.region, self.settings.account)
    }

    pub(super) fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.get(self.numbers.get(id)?)
    }

    /// The instances of a group, oldest first.
    pub(super) fn members<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Instance> {
        group.members.iter().filter_map(|number| self.instances.get(number))
    }

    /// A new activity of a group; returns its id.
    pub(super) fn begin_activity(
        &mut self,
        group: &str,
        description: String,
        cause: String,
        details: String,
    ) -> String {
        let id = self.uuid();
        let activity = Activity {
            id: id.clone(),
            description,
            cause,
            start: self.now,
            end: None,
            status: "InProgress",
            progress: 0,
            details,
            message: None,
        };
        let all = self.activities.entry(group.to_owned()).or_default();
        all.push_back(activity);
        if all.len() > ACTIVITIES_MAX {
            all.pop_front();
        }
        id
    }

    pub(super) fn mark_activity(&mut self, group: &str, id: &str, status: &'static str, progress: u8) {
        let now = self.now;
        let all = self.activities.get_mut(group);
        let Some(activity) = all.and_then(|all| all.iter_mut().rev().find(|one| one.id == id)) else { return };
        (activity.status, activity.progress) = (status, progress);
        if matches!(status, "Successful" | "Failed" | "Cancelled") {
            activity.end = Some(now);
            if let Some(group) = self.groups.get_mut(group) {
                group.settled_at = Some(now);
            }
        }
    }

    pub(super) fn activity(&self, group: &str, id: &str) -> Option<&Activity> {
        self.activities.get(group)?.iter().rev().find(|one| one.id == id)
    }
}

/// The id of the request of that number. Not of the same row as other ids, so that a look changes nobody's name.
pub(super) fn request_id(seed: u64, number: usize) -> String {
    uuid(&digits(!seed, number as u64))
}

fn uuid(digits: &str) -> String {
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Not secret, only different and the same for the same seed.
fn digits(seed: u64, number: u64) -> String {
    // SplitMix64 (Steele, Lea and Flood 2014).
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let high = mix(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    format!("{high:016x}{:016x}", mix(high.wrapping_add(number)))
}
