//! From notices to replacements and drains. Rule: the replacement is asked for first; a unit that is only recommended to be
//! replaced goes when its replacement serves, one that is sure to be lost goes with it or when its time is up. Never more
//! units than the maximum and the excess for rebalancing; only what is lost anyway may bring them below the minimum.

use std::collections::BTreeMap;

use prescale_domain::{SPOT_NOTICE, Span, SpotNotice, SpotNoticeKind, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds of the reaction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoticeSettings {
    /// Units beyond the maximum while units are being replaced; AWS goes up to a tenth beyond it.
    pub excess_max: u32,
    /// A drain takes so long at most: it begins that long before the loss at the latest.
    pub drain_limit: Span,
    /// A recommendation that could not be followed for so long is a false alarm.
    pub recommendation_expires: Span,
    /// A unit that is still there so long after it should have been lost was not taken.
    pub interruption_expires: Span,
    /// A replacement that has not shown up after this is asked for again.
    pub ask_again: Span,
    /// A notice of a unit that nobody knows is kept for so long: it may have been launched a moment ago.
    pub unknown_expires: Span,
}

/// A unit of the target, as it is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveUnit {
    pub id: String,
    /// It serves; otherwise it starts.
    pub in_service: bool,
    /// The unit that it was launched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// What a step looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeInput {
    pub at: Timestamp,
    /// What came in since the last step, in any order.
    pub notices: Vec<SpotNotice>,
    /// All units that start or serve; those that are drained are not among them.
    pub units: Vec<LiveUnit>,
    /// Units that are wanted.
    pub desired: u32,
    pub min: u32,
    pub max: u32,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeAction {
    /// Launch a unit for this one, in another pool where there is one.
    Replace { instance: String },
    /// Keep this replacement from being a victim of scale-in until the unit that it is for is gone.
    Protect { instance: String },
    /// The unit that it was for is gone.
    Release { instance: String },
    /// Take it out of service and let it finish, by then at the latest.
    Drain { instance: String, by: Option<Timestamp> },
    /// Nothing was done.
    Pass { instance: String, because: Passed },
}

/// Why a notice leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Passed {
    /// The same was told before, or something surer.
    Duplicate,
    /// No such unit came up.
    Unknown,
    /// A recommendation that could not be followed and was not borne out.
    FalseAlarm,
    /// A unit that should have been lost and was not.
    NotTaken,
    /// The unit went by itself, or was lost.
    Gone,
}

/// Units under notice; state between steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Notices {
    pub settings: NoticeSettings,
    noticed: BTreeMap<String, Noticed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Noticed {
    kind: SpotNoticeKind,
    at: Timestamp,
    lost_at: Option<Timestamp>,
    /// It was among the units once.
    seen: bool,
    /// When a replacement was asked for last.
    asked_at: Option<Timestamp>,
    /// Its replacement, once that is known.
    replacement: Option<String>,
    drained: bool,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self {
            excess_max: 10,
            drain_limit: Span::from_secs(60),
            recommendation_expires: Span::from_minutes(30),
            interruption_expires: Span::from_minutes(5),
            ask_again: Span::from_minutes(3),
            unknown_expires: Span::from_minutes(10),
        }
    }
}

impl Notices {
    pub fn new(settings: NoticeSettings) -> Self {
        Self { settings, noticed: BTreeMap::new() }
    }

    /// Whether a unit is under notice: a plan should not count on it.
    pub fn is_noticed(&self, instance: &str) -> bool {
        self.noticed.contains_key(instance)
    }

    /// Whether such a notice of a unit, or a surer one, was told before.
    pub fn knows(&self, instance: &str, kind: SpotNoticeKind) -> bool {
        self.noticed.get(instance).is_some_and(|noticed| noticed.kind >= kind)
    }

    /// Units that were to be drained and are not gone yet.
    pub fn drained(&self) -> impl Iterator<Item = &str> {
        self.noticed.iter().filter(|(_, noticed)| noticed.drained).map(|(instance, _)| instance.as_str())
    }

    /// One look at the target.
    pub fn step(&mut self, input: &NoticeInput) -> Vec<NoticeAction> {
        let mut actions = Vec::new();
        let units: BTreeMap<&str, &LiveUnit> = input.units.iter().map(|unit| (unit.id.as_str(), unit)).collect();
        // In one order whatever order they came in: the surest first, of those the earliest.
        let mut fresh: Vec<&SpotNotice> = input.notices.iter().collect();
        fresh.sort_by(|a, b| {
            let key = |notice: &SpotNotice| (std::cmp::Reverse(notice.kind), notice.lost_at, notice.at);
            key(a).cmp(&key(b)).then_with(|| a.instance.cmp(&b.instance))
        });
        for notice in fresh {
            actions.extend(self.take(notice));
        }
        self.look(input, &units, &mut actions);
        self.replace(input, &units, &mut actions);
        self.drain(input, &units, &mut actions);
        actions
    }

    fn take(&mut self, notice: &SpotNotice) -> Option<NoticeAction> {
        let lost_at = match notice.kind {
            SpotNoticeKind::Interruption => Some(notice.lost_at.unwrap_or(notice.at + SPOT_NOTICE)),
            SpotNoticeKind::Rebalance => None,
        };
        match self.noticed.get_mut(&notice.instance) {
            Some(known) if known.kind >= notice.kind => {
                // Told twice, the earlier moment counts.
                known.lost_at = known.lost_at.min(lost_at).or(known.lost_at);
                Some(NoticeAction::Pass { instance: notice.instance.clone(), because: Passed::Duplicate })
            }
            Some(known) => {
                (known.kind, known.at, known.lost_at) = (notice.kind, notice.at, lost_at);
                None
            }
            None => {
                let noticed = Noticed {
                    kind: notice.kind,
                    at: notice.at,
                    lost_at,
                    seen: false,
                    asked_at: None,
                    replacement: None,
                    drained: false,
                };
                self.noticed.insert(notice.instance.clone(), noticed);
                None
            }
        }
    }

    /// Which units are there, and what has expired.
    fn look(&mut self, input: &NoticeInput, units: &BTreeMap<&str, &LiveUnit>, actions: &mut Vec<NoticeAction>) {
        let (settings, at) = (self.settings, input.at);
        for unit in &input.units {
            if let Some(noticed) = unit.replaces.as_ref().and_then(|old| self.noticed.get_mut(old))
                && noticed.replacement.is_none()
            {
                noticed.replacement = Some(unit.id.clone());
                noticed.asked_at = noticed.asked_at.or(Some(at));
                actions.push(NoticeAction::Protect { instance: unit.id.clone() });
            }
        }
        self.noticed.retain(|instance, noticed| {
            let is_there = units.contains_key(instance.as_str());
            noticed.seen |= is_there;
            // A replacement that never came, or is gone itself, is asked for again.
            let came = noticed.replacement.as_ref().map(|id| units.contains_key(id.as_str()));
            let overdue = noticed.asked_at.is_some_and(|asked| at >= asked + settings.ask_again);
            if came == Some(false) || (came.is_none() && overdue) {
                (noticed.replacement, noticed.asked_at) = (None, None);
            }
            let over = |since: Timestamp, limit: Span| at >= since + limit;
            let because = if !is_there && noticed.seen {
                Passed::Gone
            } else if !is_there && over(noticed.at, settings.unknown_expires) {
                Passed::Unknown
            } else if is_there && noticed.lost_at.is_some_and(|lost| over(lost, settings.interruption_expires)) {
                Passed::NotTaken
            } else if is_there
                && noticed.kind == SpotNoticeKind::Rebalance
                && noticed.replacement.is_none()
                && over(noticed.at, settings.recommendation_expires)
            {
                Passed::FalseAlarm
            } else {
                return true;
            };
            actions.extend(noticed.replacement.take().map(|instance| NoticeAction::Release { instance }));
            actions.push(NoticeAction::Pass { instance: instance.clone(), because });
            false
        });
    }

    /// Replacements, the surest losses first, as far as there is room.
    fn replace(&mut self, input: &NoticeInput, units: &BTreeMap<&str, &LiveUnit>, actions: &mut Vec<NoticeAction>) {
        let asked_only = |noticed: &Noticed| noticed.asked_at.is_some() && noticed.replacement.is_none();
        let on_the_way = self.noticed.values().filter(|noticed| asked_only(noticed)).count();
        let mut alive = input.units.len() + on_the_way;
        // Those that are going to be lost count until they are gone; what stays are the others.
        let leaving = |noticed: &&Noticed| noticed.seen && !noticed.drained;
        let mut staying = alive.saturating_sub(self.noticed.values().filter(leaving).count());
        let most = (input.max as usize).saturating_add(self.settings.excess_max as usize);
        let mut open: Vec<(&String, &mut Noticed)> = self
            .noticed
            .iter_mut()
            .filter(|(instance, noticed)| noticed.asked_at.is_none() && units.contains_key(instance.as_str()))
            .collect();
        open.sort_by_key(|(_, noticed)| (std::cmp::Reverse(noticed.kind), noticed.lost_at, noticed.at));
        for (instance, noticed) in open {
            if alive < most && staying < input.desired.min(input.max) as usize {
                noticed.asked_at = Some(input.at);
                (alive, staying) = (alive + 1, staying + 1);
                actions.push(NoticeAction::Replace { instance: instance.clone() });
            }
        }
    }

    /// Drains: with the replacement in service, or where none is wanted; at the latest when time is up.
    fn drain(&mut self, input: &NoticeInput, units: &BTreeMap<&str, &LiveUnit>, actions: &mut Vec<NoticeAction>) {
        let mut serving = input.units.iter().filter(|unit| unit.in_service).count();
        let stays = |unit: &&LiveUnit| unit.in_service && !self.noticed.contains_key(&unit.id);
        let staying = input.units.iter().filter(stays).count();
        let limit = self.settings.drain_limit;
        let mut order: Vec<(&String, &mut Noticed)> = self.noticed.iter_mut().collect();
        order.sort_by_key(|(_, noticed)| (std::cmp::Reverse(noticed.kind), noticed.lost_at, noticed.at));
        for (instance, noticed) in order {
            let Some(unit) = units.get(instance.as_str()).filter(|_| !noticed.drained) else { continue };
            let replacement = noticed.replacement.as_ref().and_then(|id| units.get(id.as_str()));
            let replaced = replacement.is_some_and(|unit| unit.in_service);
            let unwanted = noticed.replacement.is_none() && staying >= input.desired as usize;
            let time_is_up = noticed.lost_at.is_some_and(|lost| input.at + limit >= lost);
            let after = serving.saturating_sub(usize::from(unit.in_service));
            let keeps_minimum = !unit.in_service || after >= input.min as usize;
            if time_is_up || ((replaced || unwanted) && keeps_minimum) {
                noticed.drained = true;
                serving = after;
                actions.push(NoticeAction::Drain { instance: instance.clone(), by: noticed.lost_at });
            }
        }
    }
}
