//! What followed the same minute of earlier hours, where the load stood to its level as it does now. Rule: the distribution is
//! that of what was seen, so that a burst that comes with the clock (a cron job, a feed, a batch) is expected at its minute
//! and nowhere else, and one that is under way is expected to go on as earlier ones did.
//!
//! Analogues (Lorenz 1969) chosen as nearest neighbours in state (Yakowitz 1987), within one phase of the cycle.

use std::collections::BTreeSet;

use prescale_domain::{ServiceName, Span};
use serde::{Deserialize, Serialize};

use super::{DAY, Forecaster, Lesson, ModelKind, seal, unseal};
use crate::error::{ForecastCrateError, Result};
use crate::past::{Past, Request};
use crate::rows::Rows;

const VERSION: u32 = 1;
const HOUR: Span = Span::from_minutes(60);
/// Fewest windows of a cycle.
const PHASES_MIN: usize = 4;
/// Cycles that are looked back: three days of hours.
const CYCLES: usize = 72;
/// Fewest cycles that say something.
const CYCLES_MIN: usize = 8;
/// Moments that are as near as the one at this rank, or nearer than the usual spread, count nearly in full.
const NEAREST: usize = 8;
/// Parts of a cycle that the recent level and the calm level are the medians of.
const RECENT_PART: usize = 12;
const CALM_PART: usize = 2;
/// How far the recent level may be from the calm one: beyond that it is a burst.
const BURST: f64 = 1.3;
/// The level of a moment counts as this share of the usual one at least: in a gap there is none.
const GAP: f64 = 0.05;
/// Nothing beyond this multiple of the last day's highest load is forecast.
const HIGHEST: f64 = 3.0;
/// The share of the level that is added to loads, so that a ratio to almost nothing stays finite.
const SMALL: f64 = 0.02;

/// Quantiles of what followed in earlier cycles.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Analog {
    services: BTreeSet<ServiceName>,
}

/// Where the load stood at one moment.
#[derive(Clone, Copy)]
struct State {
    /// Of the time around, without bursts; in the unit of the load, above 0.
    level: f64,
    newest: f64,
}

impl State {
    /// Log of the newest load over the level.
    fn place(&self) -> f64 {
        (self.newest / self.level + SMALL).ln()
    }
}

impl Analog {
    /// Reads what `save` wrote.
    ///
    /// # Errors
    /// Bytes of another format or version.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        unseal(ModelKind::Analog, VERSION, bytes)
    }

    fn too_short(past: Past<'_>) -> ForecastCrateError {
        let needed = CYCLES_MIN * cycle(past);
        ForecastCrateError::TooShort { model: ModelKind::Analog.to_string(), found: past.known(), needed }
    }
}

impl Forecaster for Analog {
    fn kind(&self) -> ModelKind {
        ModelKind::Analog
    }

    fn fit(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let pasts = lesson.histories.iter().map(|(service, series)| (service, Past::before(series, lesson.end)));
        let long = pasts.clone().filter(|(_, past)| past.values.len() > CYCLES_MIN * cycle(*past));
        let services: BTreeSet<ServiceName> = long.map(|(service, _)| service.clone()).collect();
        if services.is_empty() {
            let longest = pasts.map(|(_, past)| past).max_by_key(|past| past.values.len());
            return Err(
                longest.map_or(ForecastCrateError::NotFitted { model: self.kind().to_string() }, Self::too_short)
            );
        }
        self.services = services;
        Ok(())
    }

    fn update(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        self.fit(lesson)
    }

    fn predict(&self, request: &Request<'_>) -> Result<Rows> {
        if !self.services.contains(request.service) {
            let (model, service) = (self.kind().to_string(), request.service.to_string());
            return Err(ForecastCrateError::UnknownService { model, service });
        }
        let rows = quantiles(request.past, request.horizon_steps, request.levels);
        rows.filter(Rows::is_sound).ok_or_else(|| Self::too_short(request.past))
    }

    fn save(&self) -> Vec<u8> {
        seal(self.kind(), VERSION, self)
    }
}

/// Windows of a cycle: an hour's where the step fits into it several times, else a day's.
fn cycle(past: Past<'_>) -> usize {
    let step = past.step.millis().max(1);
    let of = |length: Span| (length.millis() % step == 0).then(|| past.steps(length));
    of(HOUR).filter(|steps| *steps >= PHASES_MIN).unwrap_or_else(|| past.steps(DAY))
}

/// `None` where fewer than [`CYCLES_MIN`] earlier moments are known.
fn quantiles(past: Past<'_>, horizon_steps: usize, levels: &[f64]) -> Option<Rows> {
    let cycle = cycle(past);
    let newest = past.values.len().checked_sub(1)?;
    let mut room = Vec::with_capacity(cycle);
    let now = state(past, newest, cycle, &mut room)?;
    let origins = (1..=CYCLES).map_while(|back| Some((back * cycle, newest.checked_sub(back * cycle)?)));
    let mut known: Vec<(usize, usize, State)> = Vec::with_capacity(CYCLES);
    known.extend(origins.filter_map(|(back, at)| Some((back, at, state(past, at, cycle, &mut room)?))));
    if known.len() < CYCLES_MIN {
        return None;
    }
    room.clear();
    room.extend(known.iter().map(|(.., then)| then.level));
    let least = GAP * middle(&mut room)?;
    known.iter_mut().for_each(|(.., then)| then.level = then.level.max(least));
    let now = State { level: now.level.max(least), ..now };
    let highest = HIGHEST * past.highest(past.steps(DAY));
    let weights = weights(now.place(), &known, &mut room);
    let small = SMALL * now.level;
    let mut rows = Rows::new(levels.len(), horizon_steps);
    let mut followed: Vec<(f64, f64)> = Vec::with_capacity(known.len());
    for k in 1..=horizon_steps {
        followed.clear();
        // What has not been seen yet is no outcome.
        let seen = known.iter().zip(&weights).filter(|((back, ..), _)| *back >= k);
        followed.extend(seen.filter_map(|((_, at, then), weight)| {
            let value = past.at((at + k) as isize).filter(|value| value.is_finite() && *value >= 0.0)?;
            Some((value / then.level + SMALL, *weight))
        }));
        followed.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        if followed.is_empty() {
            return None;
        }
        rows.extend(weighted(&followed, levels).map(|ratio| (ratio * now.level - small).clamp(0.0, highest)));
    }
    rows.sort();
    Some(rows)
}

/// Where the load stood at index `at`; `None` where it, or all before it, is unknown.
fn state(past: Past<'_>, at: usize, cycle: usize, room: &mut Vec<f64>) -> Option<State> {
    let value = past.at(at as isize).filter(|value| value.is_finite() && *value >= 0.0)?;
    let mut median = |part: usize| {
        let from = (at + 1).saturating_sub((cycle / part).max(1));
        room.clear();
        let known = past.values[from..=at].iter().flatten().copied();
        room.extend(known.filter(|value| value.is_finite() && *value >= 0.0));
        middle(room)
    };
    let (calm, recent) = (median(CALM_PART)?, median(RECENT_PART)?);
    // Where all is calm there may be nothing at all: then the newest load is what there is.
    let level = recent.clamp(calm / BURST, calm * BURST).max(SMALL * value).max(1e-9);
    Some(State { level, newest: value })
}

/// How much each of the earlier moments counts: nearly in full as long as it is as near as the eighth nearest or within twice
/// the usual spread, falling with the fourth power of the distance beyond that.
fn weights(place: f64, known: &[(usize, usize, State)], room: &mut Vec<f64>) -> Vec<f64> {
    let places: Vec<f64> = known.iter().map(|(.., then)| then.place()).collect();
    let distances: Vec<f64> = places.iter().map(|then| (then - place).abs()).collect();
    room.clear();
    room.extend(&distances);
    let (_, nearest, _) = room.select_nth_unstable_by(NEAREST.min(distances.len()) - 1, f64::total_cmp);
    let nearest = *nearest;
    room.clear();
    room.extend(places.iter().map(|then| then.abs()));
    let usual = middle(room).unwrap_or(0.0);
    let width = nearest.max(2.0 * usual).max(1e-6);
    distances.iter().map(|distance| (1.0 + (distance / width).powi(2)).powi(-2)).collect()
}

/// The middle one, or the higher of the two in the middle; `None` of none. The order changes.
fn middle(values: &mut [f64]) -> Option<f64> {
    let half = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(half, f64::total_cmp).1)
}

/// Quantiles of ascending values with weights, which lie in the middle of theirs; linear between neighbours.
fn weighted<'a>(values: &'a [(f64, f64)], levels: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let (mut next, mut before, mut place) = (0, f64::NEG_INFINITY, 0.0);
    levels.iter().map(move |level| {
        let wanted = level * total;
        // `before` = the middle of the value before the next one, `place` = the weight of all before it.
        while let Some((_, weight)) = values.get(next)
            && place + 0.5 * weight < wanted
        {
            before = place + 0.5 * weight;
            place += weight;
            next += 1;
        }
        let Some((high, weight)) = values.get(next) else { return values.last().map_or(0.0, |(value, _)| *value) };
        match next.checked_sub(1).and_then(|last| values.get(last)) {
            Some((low, _)) => low + (high - low) * (wanted - before) / (place + 0.5 * weight - before),
            None => *high,
        }
    })
}

#[cfg(test)]
mod tests {
    use prescale_domain::{DEFAULT_QUANTILES, Series, Timestamp};

    use super::*;

    /// Four days of minutes at about 100. At minute 33 of an hour, in one hour of four, the load triples for six minutes.
    fn bursts() -> Series {
        let value = |i: usize| {
            let (hour, minute) = (i / 60, i % 60);
            let burst = hour % 4 == 1 && (33..39).contains(&minute);
            Some(if burst { 300.0 } else { 100.0 } + (i * 7919 % 7) as f64)
        };
        let values = (0..4 * 1440).map(value).collect();
        Series { start: Timestamp::from_millis(1_699_999_200_000), step: Span::from_minutes(1), values }
    }

    fn at(series: &Series, index: usize) -> Rows {
        quantiles(Past::all(series).first(index + 1), 15, &DEFAULT_QUANTILES).unwrap()
    }

    const P75: usize = 4;
    const P95: usize = 6;

    #[test]
    fn a_burst_with_the_clock_is_expected_at_its_minute_and_nowhere_else() {
        let series = bursts();
        // Minute 30 of an hour: of what follows only 33 to 38 may be high, as likely as it was.
        let rows = at(&series, 90 * 60 + 30);
        for (k, row) in rows.iter().enumerate() {
            let minute = 31 + k;
            assert!(row[P75 - 1] < 110.0, "{minute}: {row:?}");
            assert_eq!(row[P95] > 290.0, (33..39).contains(&minute), "{minute}: {row:?}");
        }
    }

    #[test]
    fn a_burst_that_is_under_way_goes_on_as_earlier_ones_did() {
        let series = bursts();
        let (hour, calm) = (89, 90);
        let within = at(&series, hour * 60 + 33);
        // The medians follow the burst to its end, and nothing is expected of it after that.
        assert!(within[4][3] > 290.0 && within[5][P75] < 110.0, "{:?} {:?}", &within[4], &within[5]);
        let without = at(&series, calm * 60 + 33);
        assert!(without[0][P95] < 120.0, "{:?}", &without[0]);
    }

    #[test]
    fn the_level_may_move() {
        let mut series = bursts();
        series.values[80 * 60..].iter_mut().flatten().for_each(|value| *value *= 5.0);
        let rows = at(&series, 90 * 60 + 30);
        assert!((480.0..560.0).contains(&rows[0][3]) && rows[3][P95] > 1400.0, "{:?} {:?}", &rows[0], &rows[3]);
    }

    #[test]
    fn what_followed_a_gap_says_nothing() {
        let mut series = bursts();
        series.values[88 * 60 - 29..=88 * 60 + 30].iter_mut().for_each(|value| *value = Some(0.0));
        let rows = at(&series, 90 * 60 + 30);
        assert!(rows.iter().all(|row| row[7] < 400.0), "{:?}", &rows[0]);
    }

    #[test]
    fn a_gap_ends_as_earlier_ones_did() {
        let mut series = bursts();
        for day in 0..4 {
            series.values[day * 1440 + 600..day * 1440 + 630].iter_mut().for_each(|value| *value = Some(0.0));
        }
        let rows = at(&series, 3 * 1440 + 620);
        assert!(rows[8][P95] < 20.0 && rows[9][3] < 20.0 && rows[9][P95] > 90.0, "{:?} {:?}", &rows[8], &rows[9]);
    }

    #[test]
    fn weighted_quantiles_lie_in_the_middle_of_their_weights() {
        let equal = [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0)];
        let found: Vec<f64> = weighted(&equal, &[0.01, 0.125, 0.25, 0.5, 0.875, 0.99]).collect();
        assert_eq!(found, [1.0, 1.0, 1.5, 2.5, 4.0, 4.0]);
        let heavy = [(1.0, 1.0), (2.0, 1e-9), (3.0, 3.0)];
        let found: Vec<f64> = weighted(&heavy, &[0.2, 0.5, 0.9]).collect();
        assert!((found[0] - 1.3).abs() < 0.8 && found[1] > 2.6 && found[2] == 3.0, "{found:?}");
    }

    #[test]
    fn hours_are_the_cycle_of_minutes_and_days_that_of_hours() {
        let of = |minutes: i64| {
            let series = Series { step: Span::from_minutes(minutes), ..bursts() };
            cycle(Past::all(&series))
        };
        assert_eq!([1, 5, 15, 30, 60, 7].map(of), [60, 12, 4, 48, 24, 206]);
    }
}
