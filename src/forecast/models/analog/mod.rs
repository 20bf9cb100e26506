//! What followed the same minute of earlier hours, where the load stood to its level as it does now. Rule: the distribution is
//! that of what was seen, so that a burst that comes with the clock (a cron job, a feed, a batch) is expected at its minute
//! and nowhere else, and one that is under way is expected to go on as earlier ones did.
//!
//! Analogues (Lorenz 1969) chosen as nearest neighbours in state (Yakowitz 1987), within one phase of the cycle.

mod lanes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use prescale_domain::{ServiceName, Span};
use serde::{Deserialize, Serialize};

use super::{DAY, Forecaster, Lesson, ModelKind, seal, unseal};
use crate::error::{ForecastCrateError, Result};
use crate::past::{Past, Request};
use crate::rows::Rows;

use lanes::{Followed, LANES, Medians, Moment, SMALL};

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
    let moments: Vec<usize> = (0..=CYCLES).map_while(|back| newest.checked_sub(back * cycle)).collect();
    let mut states = states(past, &moments, cycle).into_iter();
    let now = states.next()??;
    let mut known: Vec<(usize, State)> = Vec::with_capacity(CYCLES);
    known.extend(moments[1..].iter().zip(states).filter_map(|(at, then)| Some((*at, then?))));
    if known.len() < CYCLES_MIN {
        return None;
    }
    let mut room: Vec<f64> = known.iter().map(|(_, then)| then.level).collect();
    let least = GAP * middle(&mut room)?;
    known.iter_mut().for_each(|(_, then)| then.level = then.level.max(least));
    let now = State { level: now.level.max(least), ..now };
    let highest = HIGHEST * past.highest(past.steps(DAY));
    let weights = weights(now.place(), &known, &mut room);
    let moment = |((at, then), weight): (&(usize, State), f64)| Moment { at: *at, level: then.level, weight };
    let moments: Vec<Moment> = known.iter().zip(weights).map(moment).collect();
    let mut followed = Followed::new(past, &moments);
    let mut rows = Rows::zeros(levels.len(), horizon_steps);
    let parts = rows.values_mut().chunks_mut((LANES * levels.len()).max(1));
    for (first, part) in (1..).step_by(LANES).zip(parts) {
        if !followed.quantiles(first, levels, part) {
            return None;
        }
    }
    let small = SMALL * now.level;
    let values = rows.values_mut().iter_mut();
    values.for_each(|value| *value = (*value * now.level - small).clamp(0.0, highest));
    rows.sort();
    Some(rows)
}

/// Where the load stood at each of `moments`; `None` where it is unknown.
fn states(past: Past<'_>, moments: &[usize], cycle: usize) -> Vec<Option<State>> {
    let (recent, calm) = ((cycle / RECENT_PART).max(1), (cycle / CALM_PART).max(1));
    let mut medians = Medians::default();
    let mut states = Vec::with_capacity(moments.len());
    for moments in moments.chunks(LANES) {
        let levels = medians.of(past, moments, recent, calm);
        states.extend(moments.iter().zip(levels).map(|(at, (recent, calm))| {
            let newest = past.at(*at as isize).filter(|value| value.is_finite() && *value >= 0.0)?;
            // Where all is calm there may be nothing at all: then the newest load is what there is.
            let level = recent.clamp(calm / BURST, calm * BURST).max(SMALL * newest).max(1e-9);
            Some(State { level, newest })
        }));
    }
    states
}

/// How much each of the earlier moments counts: nearly in full as long as it is as near as the eighth nearest or within twice
/// the usual spread, falling with the fourth power of the distance beyond that.
fn weights(place: f64, known: &[(usize, State)], room: &mut Vec<f64>) -> Vec<f64> {
    let places: Vec<f64> = known.iter().map(|(_, then)| then.place()).collect();
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
