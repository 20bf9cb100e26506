//! Which units go, and how. Rule: the order is the same for the same units; a unit that serves is given time to finish.

use prescale_domain::{Drain, ScaleInSettings, Timestamp, UnitView, VictimWeights};

#[cfg(test)]
mod tests;

/// A unit that may go, and how much speaks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Victim<'a> {
    pub unit: &'a UnitView,
    pub score: f64,
}

/// What to do with a unit that is being drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// It still works, and there is time: look again at this moment at the latest.
    Wait(Timestamp),
    /// Close its connections: it should have been idle by now.
    Close,
    /// It is idle.
    Remove,
    /// Its time is up; so many jobs or requests, as far as is known, are cut off.
    RemoveBusy(Option<u32>),
}

/// The `count` units that go first, the first of all first: by score, then the oldest, then by id. Protected ones never go.
pub fn victims<'a>(units: &'a [UnitView], count: usize, now: Timestamp, weights: &VictimWeights) -> Vec<Victim<'a>> {
    let age = |unit: &UnitView| now.since(unit.started_at).seconds();
    let oldest = units.iter().map(age).fold(0.0, f64::max);
    let dearest =
        units.iter().filter_map(|unit| unit.price_usd_hour).filter(|price| price.is_finite()).fold(0.0, f64::max);
    let share =
        |part: f64, whole: f64| if whole > 0.0 && part.is_finite() { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
    let score = |unit: &UnitView| {
        let flag = |flag: bool| if flag { 1.0 } else { 0.0 };
        weights.idle * flag(unit.in_flight == Some(0))
            + weights.degraded * flag(unit.degraded)
            + weights.oldest * share(age(unit), oldest)
            + weights.price * share(unit.price_usd_hour.unwrap_or(0.0), dearest)
            + weights.spot_risk * share(unit.spot_risk.unwrap_or(0.0), 1.0)
    };
    let free = units.iter().filter(|unit| !unit.protected);
    let mut found: Vec<Victim> = free.map(|unit| Victim { unit, score: score(unit) }).collect();
    found.sort_by(|a, b| {
        let by_age = a.unit.started_at.cmp(&b.unit.started_at);
        b.score.total_cmp(&a.score).then(by_age).then_with(|| a.unit.id.cmp(&b.unit.id))
    });
    found.truncate(count);
    found
}

/// How the victims go, all at the same time from `now` on.
pub fn drain_plan(victims: &[Victim], now: Timestamp, settings: &ScaleInSettings) -> Vec<Drain> {
    let close_at = now + settings.drain_idle_wait.min(settings.drain_limit);
    let remove_at = now + settings.drain_limit;
    let drain =
        |victim: &Victim| Drain { unit: victim.unit.id.clone(), score: victim.score, from: now, close_at, remove_at };
    victims.iter().map(drain).collect()
}

/// What to do at `now` with a unit that is being drained and serves `in_flight`.
pub fn drain_step(drain: &Drain, now: Timestamp, in_flight: Option<u32>) -> DrainStep {
    match in_flight {
        Some(0) => DrainStep::Remove,
        busy if now >= drain.remove_at => DrainStep::RemoveBusy(busy),
        _ if now >= drain.close_at => DrainStep::Close,
        _ => DrainStep::Wait(drain.close_at),
    }
}

/// Whether a unit that was asked for at `asked_at` should have begun to start by `now`: ask again, or elsewhere.
pub fn start_is_overdue(asked_at: Timestamp, now: Timestamp, settings: &ScaleInSettings) -> bool {
    now.since(asked_at) > settings.start_limit
}

/// The fewest units that can go on with what is in flight, where `unit_concurrency` of it fit one unit; `None` = nothing is
/// known to be in flight.
pub fn busy_units(in_flight: Option<f64>, unit_concurrency: Option<f64>) -> Option<u32> {
    let in_flight = in_flight.filter(|count| count.is_finite() && *count > 0.0)?;
    let concurrency = unit_concurrency.filter(|count| count.is_finite() && *count > 0.0);
    // Where it is not known how much fits, one unit at least is busy. The cast saturates.
    Some(concurrency.map_or(1, |concurrency| (in_flight / concurrency).ceil() as u32).max(1))
}
