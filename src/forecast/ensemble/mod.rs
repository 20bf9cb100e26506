//! The mix of the experts of one service, per lead and quantile. Rules: a pure state machine; weights follow from forecasts
//! that were made before their outcome came; quantiles never cross; an expert without a sound forecast is left out.

mod aggregate;
mod group;
mod lanes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use prescale_domain::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::models::ModelKind;
use crate::models::lags::{between, leads};
use crate::rows::Rows;

pub use aggregate::{Bernstein, Learner, Mixer};
use group::{Group, Room};
use lanes::{LANES, Lane};

/// The name of the mix in results.
pub const ENSEMBLE: &str = "ensemble";

/// Experts that are asked by default: those that cost microseconds, and the trees.
pub const EXPERTS: [ModelKind; 9] = [
    ModelKind::Naive,
    ModelKind::Ses,
    ModelKind::Holt,
    ModelKind::ProfileHolt,
    ModelKind::DayNaive,
    ModelKind::DayLevel,
    ModelKind::Regression,
    ModelKind::Analog,
    ModelKind::Boosted,
];

/// Rows of quantiles by step ahead, by expert.
pub type Said = BTreeMap<ModelKind, Rows>;

/// How weights are learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnsembleSettings {
    pub experts: Vec<ModelKind>,
    /// Half-lives of the learners against the best expert, and against the best convex combination.
    pub half_lives: Vec<Span>,
    pub half_lives_gradient: Vec<Span>,
    /// Factor on the learning rate of these.
    pub rate: f64,
    /// Half-life of the learner that weighs the others.
    pub half_life_top: Span,
}

impl Default for EnsembleSettings {
    fn default() -> Self {
        let hours = |hours: i64| Span::from_minutes(60 * hours);
        Self {
            experts: EXPERTS.to_vec(),
            // Chosen on the days before each test of `docs/forecasting.md`.
            half_lives: vec![hours(24)],
            half_lives_gradient: vec![hours(24), hours(168)],
            rate: 1.0,
            half_life_top: hours(168),
        }
    }
}

/// What the experts said of one window, waiting for its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Waiting {
    target: Timestamp,
    /// `[level][expert]`, NaN where there was none.
    #[serde(with = "crate::hex")]
    said: Vec<f32>,
}

/// The mix of one service; by default of no experts at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    experts: Vec<ModelKind>,
    levels: Vec<f64>,
    step: Span,
    /// Steps ahead whose outcomes are learnt from, ascending.
    leads: Vec<usize>,
    /// `[lead][part of the levels]`.
    #[serde(with = "group")]
    mixers: Vec<Vec<Group>>,
    /// By lead.
    waiting: Vec<VecDeque<Waiting>>,
}

impl Ensemble {
    /// Equal weights. `levels` ascend, each in (0, 1).
    pub fn new(settings: &EnsembleSettings, levels: &[f64], step: Span, horizon_steps: usize) -> Self {
        let leads = leads(step, horizon_steps);
        let outcomes = |half_life: &Span| Some(half_life.steps_up(step).max(1) as f64);
        let learner = |gradient: bool| {
            move |half_life: &Span| Learner { half_life: outcomes(half_life), gradient, rate: settings.rate }
        };
        let learners: Vec<Learner> = settings
            .half_lives
            .iter()
            .map(learner(false))
            .chain(settings.half_lives_gradient.iter().map(learner(true)))
            .collect();
        let top = Learner { half_life: outcomes(&settings.half_life_top), gradient: false, rate: 1.0 };
        let count = settings.experts.len();
        let row: Vec<Mixer> = levels.iter().map(|level| Mixer::new(*level, &learners, top, count)).collect();
        Self {
            experts: settings.experts.clone(),
            levels: levels.to_vec(),
            step,
            mixers: vec![Group::all(&row); leads.len()],
            waiting: vec![VecDeque::new(); leads.len()],
            leads,
        }
    }

    /// The experts whose rows are asked for.
    pub fn experts(&self) -> &[ModelKind] {
        &self.experts
    }

    /// Steps ahead whose outcomes are learnt from, ascending.
    pub fn leads(&self) -> &[usize] {
        &self.leads
    }

    /// Weights of the experts at a lead and a level; `None` where there is no such lead or level.
    pub fn weights(&self, lead: usize, level: f64) -> Option<BTreeMap<ModelKind, f64>> {
        let place = self.leads.iter().position(|l| *l == lead)?;
        let quantile = self.levels.iter().position(|l| *l == level)?;
        let weights = self.mixers[place].get(quantile / LANES)?.weights().iter().map(|lane| lane[quantile % LANES]);
        Some(self.experts.iter().copied().zip(weights).collect())
    }

    /// Quantiles by step ahead, from what the experts `said` at one origin; finite, not negative, ordered. `None` when no
    /// expert has a sound forecast.
    pub fn combine(&self, said: &Said) -> Option<Rows> {
        let (steps, levels) = (said.values().map(Rows::len).max()?, self.levels.len());
        let sound = |rows: &&Rows| rows.len() == steps && (rows.width() == levels || steps == 0) && rows.is_sound();
        // Without those that have nothing sound to say.
        let experts = self.experts.iter().enumerate();
        let said: Vec<(usize, &Rows)> =
            experts.filter_map(|(e, kind)| Some((e, said.get(kind).filter(sound)?))).collect();
        if said.is_empty() {
            return None;
        }
        let (mut mixed, mut values) = (Rows::new(levels, steps), Vec::with_capacity(said.len()));
        // `[lead][part of the levels][expert]`.
        let parts = levels.div_ceil(LANES);
        let mut weights: Vec<Lane> = Vec::with_capacity(self.mixers.len() * parts * said.len());
        for group in self.mixers.iter().flatten() {
            weights.extend(said.iter().map(|(e, _)| group.weights().get(*e).copied().unwrap_or_default()));
        }
        for k in 0..steps {
            let (below, above, share) = between(&self.leads, k + 1);
            for part in 0..parts {
                let of = |lead: usize| &weights[(lead * parts + part) * said.len()..][..said.len()];
                values.clear();
                values.extend(said.iter().map(|(_, rows)| lane_of(&rows[k][part * LANES..])));
                let lane = lanes::mix(&values, of(below), of(above), share);
                mixed.extend(lane.into_iter().take(levels - part * LANES));
            }
        }
        // Rearrangement (Chernozhukov, Fernández-Val & Galichon 2010) never adds to the loss.
        mixed.sort();
        Some(mixed)
    }

    /// Keeps what the experts `said` at `origin` until the outcomes come. Origins ascend.
    pub fn expect(&mut self, origin: Timestamp, said: &Said) {
        let rows: Vec<Option<&Rows>> = self.experts.iter().map(|kind| said.get(kind)).collect();
        for (lead, waiting) in self.leads.iter().zip(&mut self.waiting) {
            let target = origin + Span::from_millis(self.step.millis().saturating_mul(*lead as i64));
            if waiting.back().is_some_and(|last| last.target >= target) {
                continue;
            }
            let count = self.experts.len();
            let mut row = vec![f32::NAN; self.levels.len() * count];
            for (e, rows) in rows.iter().enumerate() {
                let Some(own) = rows.and_then(|rows| rows.get(lead - 1)) else { continue };
                for (place, value) in row.iter_mut().skip(e).step_by(count).zip(own) {
                    *place = *value as f32;
                }
            }
            waiting.push_back(Waiting { target, said: row });
        }
    }

    /// Learns from the value of the window at `start`; `None` = gap. Windows come in order of time.
    pub fn observe(&mut self, start: Timestamp, value: Option<f64>) {
        let mut room = Room::default();
        for (mixers, waiting) in self.mixers.iter_mut().zip(&mut self.waiting) {
            while waiting.front().is_some_and(|first| first.target < start) {
                waiting.pop_front();
            }
            let Some(due) = waiting.pop_front_if(|first| first.target == start) else { continue };
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let mut said = due.said.as_slice();
            for group in mixers {
                let (own, others) = said.split_at_checked(group.len() * self.experts.len()).unwrap_or((said, &[]));
                group.observe(own, value, &mut room);
                said = others;
            }
        }
    }

    /// Another model says what `kind` says from now on: it begins where the best expert stands.
    pub fn renew(&mut self, kind: ModelKind) {
        if let Some(place) = self.experts.iter().position(|own| *own == kind) {
            self.mixers.iter_mut().flatten().for_each(|group| group.renew(place));
        }
    }
}

/// The first of `values`, one in each lane; 0 where there are none.
#[inline(always)]
fn lane_of(values: &[f64]) -> Lane {
    if let Some(lane) = values.first_chunk() {
        return *lane;
    }
    let mut lane = [0.0; LANES];
    lane[..values.len()].copy_from_slice(values);
    lane
}
