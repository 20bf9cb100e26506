//! Schedules and change freezes: what is known ahead by the clock. Rule: configuration and results only; `decide` reads the
//! times and finds what is active.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ServiceName, Span, Timestamp};

/// Of the shipped schedules: the longer the rule, the weaker.
pub const BUSINESS_HOURS_PRIORITY: i32 = 10;
pub const WEEKEND_PRIORITY: i32 = 10;
pub const MAINTENANCE_PRIORITY: i32 = 20;

/// One schedule, as configured: when it begins, how long it lasts, and what it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    pub name: String,
    /// The services that it concerns; empty = all.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    /// Cron expression of five fields, such as `0 8 * * MON-FRI`; either this or `at`.
    #[serde(default)]
    pub cron: Option<String>,
    /// Days and time of day, such as `Mon-Fri 08:00` or `Sat,Sun 22:00`.
    #[serde(default)]
    pub at: Option<String>,
    /// The IANA zone whose clocks count.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The highest of the active schedules wins; among equals the one with the larger capacity.
    #[serde(default)]
    pub priority: i32,
    /// `None` = until the next schedule of the same priority that has no duration either.
    #[serde(default)]
    pub duration: Option<Span>,
    pub action: ScheduleAction,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// What a schedule does with the capacity that the other rules ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleAction {
    /// Exactly so many units.
    ScaleTo(u32),
    /// At least so many.
    Min(u32),
    /// At most so many.
    Max(u32),
    /// So many more than are needed, or fewer.
    Delta(i32),
}

/// A schedule that is active, as a decision sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduledAction {
    pub name: String,
    pub priority: i32,
    pub action: ScheduleAction,
    pub since: Timestamp,
    /// `None` = until another takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A time in which capacity is not to change, as configured: once (`from`, `to`) or again and again (`cron` or `at`, with a
/// `duration`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeSettings {
    pub name: String,
    /// The services that it concerns; empty = all.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    #[serde(default)]
    pub from: Option<Timestamp>,
    #[serde(default)]
    pub to: Option<Timestamp>,
    #[serde(default)]
    pub cron: Option<String>,
    #[serde(default)]
    pub at: Option<String>,
    #[serde(default)]
    pub duration: Option<Span>,
    #[serde(default = "utc")]
    pub time_zone: String,
    #[serde(default)]
    pub blocks: Blocks,
}

/// What a change freeze blocks. The scale-out of an emergency passes either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Blocks {
    /// Every change.
    #[default]
    Changes,
    /// Scale-in alone.
    ScaleIn,
}

/// A change freeze that is in force, as a decision sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Freeze {
    pub name: String,
    pub until: Timestamp,
    pub blocks: Blocks,
}

impl ScheduleSettings {
    /// Monday to Friday, 08:00 to 18:00 UTC: 8 units, at other times 4.
    pub fn business_hours() -> Vec<Self> {
        vec![
            Self::example("business-hours-open", "Mon-Fri 08:00", BUSINESS_HOURS_PRIORITY, None, 8),
            Self::example("business-hours-close", "Mon-Fri 18:00", BUSINESS_HOURS_PRIORITY, None, 4),
        ]
    }

    /// From Friday 22:00 UTC 2 units, from Monday 08:00 6.
    pub fn weekend() -> Vec<Self> {
        vec![
            Self::example("weekend-begin", "Fri 22:00", WEEKEND_PRIORITY, None, 2),
            Self::example("weekend-end", "Mon 08:00", WEEKEND_PRIORITY, None, 6),
        ]
    }

    /// Sunday 02:00 UTC, for 120 minutes: 1 unit.
    pub fn maintenance() -> Vec<Self> {
        let duration = Some(Span::from_minutes(120));
        vec![Self::example("maintenance", "Sun 02:00", MAINTENANCE_PRIORITY, duration, 1)]
    }

    fn example(name: &str, at: &str, priority: i32, duration: Option<Span>, units: u32) -> Self {
        Self {
            name: name.to_owned(),
            services: Vec::new(),
            cron: None,
            at: Some(at.to_owned()),
            time_zone: utc(),
            priority,
            duration,
            action: ScheduleAction::ScaleTo(units),
        }
    }
}

impl ScheduleAction {
    /// Units after it, where the other rules ask for `units` and the need alone for `need`; a delta from an unknown need
    /// says nothing.
    pub fn applied(self, units: u32, need: Option<u32>) -> u32 {
        match (self, need) {
            (Self::ScaleTo(exactly), _) => exactly,
            (Self::Min(least), _) => units.max(least),
            (Self::Max(most), _) => units.min(most),
            (Self::Delta(delta), Some(need)) if delta >= 0 => units.max(need.saturating_add_signed(delta)),
            (Self::Delta(delta), Some(need)) => units.min(need.saturating_add_signed(delta)),
            (Self::Delta(_), None) => units,
        }
    }
}
