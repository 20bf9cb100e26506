//! Schedules and change freezes: from their configuration to what is active, what wins and what comes. Rule: the clocks of
//! the named zone count; where they skip a time it is the first moment after the gap, where they show it twice the first.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use prescale_domain::{
    Freeze, FreezeSettings, OpeningHours, ScheduleSettings, ScheduledAction, ServiceName, Span, Timestamp, Weekday,
    Zone,
};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// What is wrong with a schedule or a change freeze.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ScheduleFault {
    #[error("{kind} {index}: it has no name")]
    Nameless { kind: &'static str, index: usize },
    #[error("{kind} `{name}`: the name is given twice")]
    Twice { kind: &'static str, name: String },
    #[error("{kind} `{name}`: {why}")]
    Wrong { kind: &'static str, name: String, why: String },
}

/// All schedules and change freezes, read and checked.
#[derive(Clone, Debug, Default)]
pub struct Timetable {
    schedules: Vec<(ScheduleSettings, Clock)>,
    freezes: Vec<(FreezeSettings, FreezeTime)>,
}

/// A schedule that will begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Upcoming {
    pub at: Timestamp,
    pub action: ScheduledAction,
}

/// When something begins again and again.
#[derive(Clone, Debug)]
struct Clock {
    cron: Cron,
    zone: Tz,
    /// The last moment that was asked for and the beginning before it: a fleet asks for the same one, service by service, and
    /// a search was a seventh of a decision.
    asked: Arc<Mutex<Option<Asked>>>,
}

/// A moment and the last beginning before it.
type Asked = (Timestamp, Option<Timestamp>);

#[derive(Clone, Debug)]
enum FreezeTime {
    Once(Timestamp, Timestamp),
    Again(Box<Clock>, Span),
}

impl Timetable {
    /// Reads schedules and freezes.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn try_new(schedules: &[ScheduleSettings], freezes: &[FreezeSettings]) -> Result<Self, Vec<ScheduleFault>> {
        let mut faults = Vec::new();
        let mut table = Self::default();
        let mut named = Names { kind: "schedule", seen: BTreeSet::new() };
        for (index, settings) in schedules.iter().enumerate() {
            match named.check(index, &settings.name).and_then(|()| named.of(&settings.name, schedule_clock(settings))) {
                Ok(clock) => table.schedules.push((settings.clone(), clock)),
                Err(fault) => faults.push(fault),
            }
        }
        let mut named = Names { kind: "freeze", seen: BTreeSet::new() };
        for (index, settings) in freezes.iter().enumerate() {
            match named.check(index, &settings.name).and_then(|()| named.of(&settings.name, freeze_time(settings))) {
                Ok(time) => table.freezes.push((settings.clone(), time)),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// The schedules that are active for `service` at `now`, by priority, then name. Of those without a duration, the last to
    /// begin ends the earlier ones of its priority.
    pub fn active(&self, service: &ServiceName, now: Timestamp) -> Vec<ScheduledAction> {
        let begun = self.schedules.iter().filter(|(settings, _)| concerns(&settings.services, service));
        let begun = begun.filter_map(|(settings, clock)| Some((settings, clock.last(now)?)));
        let begun: Vec<(&ScheduleSettings, Timestamp)> = begun.collect();
        let replaced = |settings: &ScheduleSettings, since: Timestamp| {
            let mut open = begun.iter().filter(|(other, _)| other.duration.is_none());
            open.any(|(other, later)| other.priority == settings.priority && *later > since)
        };
        let mut active: Vec<ScheduledAction> = begun
            .iter()
            .filter(|(settings, since)| match settings.duration {
                Some(duration) => now < *since + duration,
                None => !replaced(settings, *since),
            })
            .map(|(settings, since)| scheduled(settings, *since))
            .collect();
        active.sort_by(|a, b| (Reverse(a.priority), &a.name).cmp(&(Reverse(b.priority), &b.name)));
        active
    }

    /// The next beginnings for `service` in `(now, now + span]`, in time, at most `count`.
    pub fn upcoming(&self, service: &ServiceName, now: Timestamp, span: Span, count: usize) -> Vec<Upcoming> {
        let until = now + span;
        let mut found: Vec<Upcoming> = Vec::new();
        for (settings, clock) in self.schedules.iter().filter(|(settings, _)| concerns(&settings.services, service)) {
            let mut from = now;
            for _ in 0..count {
                let Some(at) = clock.next(from).filter(|at| *at <= until) else { break };
                found.push(Upcoming { at, action: scheduled(settings, at) });
                from = at;
            }
        }
        found.sort_by(|a, b| {
            (a.at, Reverse(a.action.priority), &a.action.name).cmp(&(b.at, Reverse(b.action.priority), &b.action.name))
        });
        found.truncate(count);
        found
    }

    /// The change freeze in force for `service` at `now`: one that blocks all changes before one that blocks scale-in, then
    /// the one that lasts longest.
    pub fn freeze(&self, service: &ServiceName, now: Timestamp) -> Option<Freeze> {
        let concerned = self.freezes.iter().filter(|(settings, _)| concerns(&settings.services, service));
        let in_force = concerned.filter_map(|(settings, time)| {
            let (since, until) = match time {
                FreezeTime::Once(from, to) => (*from, *to),
                FreezeTime::Again(clock, duration) => clock.last(now).map(|since| (since, since + *duration))?,
            };
            (since <= now && now < until).then(|| Freeze {
                name: settings.name.clone(),
                until,
                blocks: settings.blocks,
            })
        });
        in_force.max_by_key(|freeze| (freeze.blocks == prescale_domain::Blocks::Changes, freeze.until))
    }
}

/// The schedule that wins where the other rules ask for `units` and the need alone for `need`, and the units after it: the
/// highest priority, then the larger capacity, then the first.
pub fn winner(active: &[ScheduledAction], units: u32, need: Option<u32>) -> Option<(&ScheduledAction, u32)> {
    let highest = active.iter().map(|action| action.priority).max()?;
    let of_highest = active.iter().filter(|action| action.priority == highest);
    of_highest
        .map(|action| (action, action.action.applied(units, need)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
}

fn concerns(services: &[ServiceName], service: &ServiceName) -> bool {
    services.is_empty() || services.contains(service)
}

fn scheduled(settings: &ScheduleSettings, since: Timestamp) -> ScheduledAction {
    let until = settings.duration.map(|duration| since + duration);
    ScheduledAction { name: settings.name.clone(), priority: settings.priority, action: settings.action, since, until }
}

struct Names {
    kind: &'static str,
    seen: BTreeSet<String>,
}

impl Names {
    fn check(&mut self, index: usize, name: &str) -> Result<(), ScheduleFault> {
        if name.trim().is_empty() {
            return Err(ScheduleFault::Nameless { kind: self.kind, index });
        }
        let new = self.seen.insert(name.to_owned());
        if new { Ok(()) } else { Err(ScheduleFault::Twice { kind: self.kind, name: name.to_owned() }) }
    }

    fn of<T>(&self, name: &str, read: Result<T, String>) -> Result<T, ScheduleFault> {
        read.map_err(|why| ScheduleFault::Wrong { kind: self.kind, name: name.to_owned(), why })
    }
}

fn schedule_clock(settings: &ScheduleSettings) -> Result<Clock, String> {
    if settings.duration.is_some_and(|duration| duration <= Span::ZERO) {
        return Err("the duration is not positive: leave it out for a schedule that lasts until the next".to_owned());
    }
    Clock::read(settings.cron.as_deref(), settings.at.as_deref(), &settings.time_zone)
}

fn freeze_time(settings: &FreezeSettings) -> Result<FreezeTime, String> {
    let again = settings.cron.is_some() || settings.at.is_some();
    match (settings.from, settings.to, again) {
        (Some(from), Some(to), false) if settings.duration.is_none() => {
            if from < to {
                Ok(FreezeTime::Once(from, to))
            } else {
                Err(format!("it ends at {to}, not after {from}"))
            }
        }
        (None, None, true) => {
            let duration = settings.duration.filter(|duration| *duration > Span::ZERO);
            let duration = duration.ok_or("a freeze that comes again needs a positive duration")?;
            let clock = Clock::read(settings.cron.as_deref(), settings.at.as_deref(), &settings.time_zone)?;
            Ok(FreezeTime::Again(Box::new(clock), duration))
        }
        _ => Err("give either `from` and `to`, or `cron` or `at` with a `duration`".to_owned()),
    }
}

impl Clock {
    fn read(cron: Option<&str>, at: Option<&str>, zone: &str) -> Result<Self, String> {
        let zone = zone.parse::<Zone>().map_err(|error| error.to_string())?;
        let text = match (cron, at) {
            (Some(cron), None) => cron.to_owned(),
            (None, Some(at)) => cron_of(at)?,
            _ => return Err("give either `cron` or `at`".to_owned()),
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&text).map_err(|error| {
            let error = error.to_string();
            format!("`{text}` is no cron expression such as \"0 8 * * MON-FRI\" ({})", error.trim_end_matches('.'))
        })?;
        let clock = Self { cron, zone: zone.tz(), asked: Arc::default() };
        // 30 February never comes. Any fixed moment serves: cron expressions know no years.
        if clock.next(Timestamp::from_millis(946_684_800_000)).is_none() {
            return Err(format!("`{text}` never comes"));
        }
        Ok(clock)
    }

    /// The last beginning at or before `now`.
    fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = || self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, begun)) = asked().filter(|(moment, _)| *moment == now) {
            return begun;
        }
        let local = self.local(now);
        let begun = local.and_then(|local| self.cron.find_previous_occurrence(&local, true).ok()).map(moment);
        *asked() = Some((now, begun));
        begun
    }

    /// The first beginning after `now`.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.cron.find_next_occurrence(&self.local(now)?, false).ok().map(moment)
    }

    /// To the second: cron knows nothing smaller.
    fn local(&self, now: Timestamp) -> Option<DateTime<Tz>> {
        let utc = Utc.timestamp_opt(now.millis().div_euclid(1000), 0).single()?;
        Some(utc.with_timezone(&self.zone))
    }
}

fn moment(time: DateTime<Tz>) -> Timestamp {
    Timestamp::from_millis(time.timestamp_millis())
}

/// The cron expression of days and a time of day, such as `Mon-Fri 08:00`.
fn cron_of(at: &str) -> Result<String, String> {
    // Read as hours of business that end with the day.
    let hours = OpeningHours::parse(&format!("{at}-24:00"), Zone::UTC);
    let hours =
        hours.map_err(|_| format!("`{at}` is no days and time such as \"Mon-Fri 08:00\" or \"Sat,Sun 22:00\""))?;
    // Cron counts days from Sunday.
    let number = |day: &Weekday| ((*day as usize + 1) % 7).to_string();
    let days: Vec<String> = hours.days.iter().map(number).collect();
    Ok(format!("{} {} * * {}", hours.from_minute % 60, hours.from_minute / 60, days.join(",")))
}
