//! Training: samples drawn under a seed, Adam, a mean of the weights, early stopping. Rule: nothing from `train_until` on
//! is trained on, and the newest part before it decides when to stop.

use std::collections::{BTreeMap, BTreeSet};

use prescale_domain::{CalendarEvent, ServiceName, Span};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::covariates::{self, CHANNEL_INPUTS};
use super::inputs::{
    DECODER_INPUTS, ENCODER_INPUTS, ENCODER_STEPS, Inputs, REACH, Scale, View, at, inputs, newest, target_moments,
};
use super::network::{Batch, Layout};
use super::source::Source;
use super::weights::Trained;
use super::{Fitted, LstmSettings, ServiceScale};
use crate::error::{ForecastCrateError, Result};
use crate::models::residual::quantile_of_sorted;
use crate::models::{DAY, Lesson, ModelKind};
use crate::past::Past;

/// Windows that an event kind must have covered in training for its effect to count as learnt.
const EVENT_WINDOWS_MIN: usize = 30;
/// Each window is drawn at most this often on average.
const PASSES_MAX: usize = 24;
/// Samples that decide when to stop.
const JUDGED: usize = 256;
/// Times that they are looked at, and looks without progress before the end.
const LOOKS: usize = 10;
const PATIENCE: usize = 4;
/// Weight of the older mean of the weights at each step.
const MEAN_DECAY: f32 = 0.98;
/// Share of the samples whose former days are moved to another level, and by how much at most, in units of e: so the
/// weights learn to trust former values only as far as the newest hours agree with them.
const SHIFT_SHARE: f64 = 0.25;
const SHIFT: f64 = 1.2;
/// Share of an update's samples that are from the newest day; the rest is from the whole history.
const RECENT_SHARE: f64 = 0.5;

/// How much and how boldly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub samples: usize,
    pub rate: f64,
    /// An update: recent windows are drawn more often, the last weights count.
    pub recent: bool,
}

/// A sample before it is put into a batch.
pub(super) struct Sample<'a> {
    pub inputs: Inputs,
    /// In units of the loss, NaN where unknown; empty when forecasting.
    pub targets: Vec<f32>,
    pub own: &'a ServiceScale,
}

/// The history of a service and the origins that may be drawn from it.
struct Ground<'a> {
    service: &'a ServiceName,
    past: Past<'a>,
    own: ServiceScale,
    /// Number of windows up to the origin: drawn to train from the first range, to judge from the second.
    train: std::ops::Range<usize>,
    judge: std::ops::Range<usize>,
}

/// Trains from scratch, or from `start`.
pub(super) fn train(
    settings: &LstmSettings,
    seed: u64,
    lesson: &Lesson<'_>,
    start: Option<&Fitted>,
    effort: Effort,
) -> Result<Fitted> {
    let horizon_steps = lesson.horizon_steps;
    let mut grounds = grounds(lesson, start, effort)?;
    let channels = match start {
        // An update sees too little to learn what a new one means.
        Some(start) if effort.recent => start.channels.clone(),
        _ => covariates::channels(grounds.iter().map(|ground| ground.past)),
    };
    for ground in &mut grounds {
        let known = start.and_then(|start| start.scales.get(ground.service)).filter(|_| effort.recent);
        ground.own.gauges = match known {
            Some(known) => known.gauges.clone(),
            None => covariates::gauges(ground.past, &channels),
        };
    }
    let event_kinds = learnable_kinds(lesson, &grounds);
    let event_kinds = match start {
        // An update sees too little to forget a kind.
        Some(start) if effort.recent => event_kinds.union(&start.event_kinds).cloned().collect(),
        _ => event_kinds,
    };
    let events = usable_events(lesson.events, &event_kinds);
    let layout = Layout {
        encoder_inputs: ENCODER_INPUTS + CHANNEL_INPUTS * channels.len(),
        decoder_inputs: DECODER_INPUTS,
        hidden: settings.hidden,
        services: grounds.len(),
        levels: lesson.levels.to_vec(),
    };
    let knows_as_much = |start: &&Fitted| {
        grounds.iter().all(|ground| {
            let cycles = |scale: &Scale| (scale.days, scale.weeks, scale.months);
            let measured = |own: &ServiceScale| own.gauges.iter().map(Option::is_some).collect::<Vec<_>>();
            let seen = |own: &ServiceScale| (own.index, cycles(&own.scale), measured(own));
            start.scales.get(ground.service).map(seen) == Some(seen(&ground.own))
        })
    };
    let is_alike =
        |start: &&Fitted| (&start.layout, start.horizon_steps, &start.channels) == (&layout, horizon_steps, &channels);
    let same = start.filter(is_alike).filter(knows_as_much);
    // Weights of inputs that were never seen are worth nothing: then from scratch, with the effort that takes.
    let mut effort = match same {
        None if !effort.recent => Effort { samples: settings.fit_samples, rate: settings.fit_rate, recent: false },
        _ => effort,
    };
    let windows: usize = grounds.iter().map(|ground| ground.train.len()).sum();
    effort.samples = effort.samples.min(PASSES_MAX * windows);
    let weights = match same {
        Some(start) => start.weights.clone(),
        None => layout.initial(seed, &spread(&grounds[0], lesson)),
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let school = School { settings, effort, layout: &layout, grounds: &grounds, events: &events, horizon_steps };
    let weights = school.run(Source::open(settings)?, weights, &mut random)?;
    let trained_on =
        grounds.iter().map(|ground| ground.past.end().since(ground.past.start)).max().unwrap_or(Span::ZERO);
    let scales = grounds.into_iter().map(|ground| (ground.service.clone(), ground.own)).collect::<BTreeMap<_, _>>();
    Ok(Fitted { layout, horizon_steps, scales, event_kinds, channels, trained_on, weights })
}

fn grounds<'a>(lesson: &Lesson<'a>, start: Option<&Fitted>, effort: Effort) -> Result<Vec<Ground<'a>>> {
    let horizon_steps = lesson.horizon_steps;
    let mut grounds = Vec::new();
    let mut longest = 0;
    for (service, series) in lesson.histories {
        let past = Past::before(series, lesson.train_until.min(lesson.end)).with_those_of(service, lesson.covariates);
        longest = longest.max(past.values.len());
        let count = past.values.len();
        let judged = (count / 8).min(past.steps(DAY));
        let last = count.saturating_sub(horizon_steps);
        let split = last.saturating_sub(judged);
        // The first hour has too little before it.
        let first = past.steps(Span::from_minutes(60)).min(split);
        // A judged origin shares no target with those trained on.
        let train = first..split.saturating_sub(horizon_steps).max(first);
        let known = start.and_then(|start| start.scales.get(service)).filter(|_| effort.recent);
        let scale = match known {
            Some(known) => Some(known.scale.clone()),
            None => Scale::measure(past, horizon_steps),
        };
        if let Some(scale) = scale
            && train.len() >= horizon_steps
        {
            let own = ServiceScale { index: grounds.len(), scale, gauges: Vec::new() };
            grounds.push(Ground { service, past, own, train, judge: split..last });
        }
    }
    if grounds.is_empty() {
        let needed = 4 * horizon_steps + 60;
        return Err(ForecastCrateError::TooShort { model: ModelKind::Lstm.to_string(), found: longest, needed });
    }
    Ok(grounds)
}

/// Kinds of events that covered enough windows of the grounds after they were known.
fn learnable_kinds(lesson: &Lesson<'_>, grounds: &[Ground<'_>]) -> BTreeSet<String> {
    let mut windows: BTreeMap<&str, usize> = BTreeMap::new();
    for event in lesson.events {
        for ground in grounds {
            let from = event.start.max(event.known_at).max(ground.past.start);
            let to = event.end.min(ground.past.moment(ground.train.end));
            if to > from && event.covers(ground.service, from, from.max(event.known_at)) {
                *windows.entry(&event.kind).or_default() += to.since(from).steps_up(ground.past.step);
            }
        }
    }
    windows.into_iter().filter(|(_, count)| *count >= EVENT_WINDOWS_MIN).map(|(kind, _)| kind.to_owned()).collect()
}

/// The events whose kind the weights know.
pub(super) fn usable_events(events: &[CalendarEvent], kinds: &BTreeSet<String>) -> Vec<CalendarEvent> {
    events.iter().filter(|event| kinds.contains(&event.kind)).cloned().collect()
}

/// Logarithmic distances between neighbouring quantiles of the load around its level: where the head starts.
fn spread(ground: &Ground<'_>, lesson: &Lesson<'_>) -> Vec<f64> {
    let scale = &ground.own.scale;
    let lead = lesson.horizon_steps.div_ceil(2);
    let stride = (ground.train.len() / 500).max(1);
    let mut logs: Vec<f64> = ground
        .train
        .clone()
        .step_by(stride)
        .filter_map(|origin| {
            let level = scale.level(ground.past.first(origin))?;
            let value = at(ground.past, (origin + lead - 1) as isize)?;
            Some(((value + scale.offset) / (level + scale.offset)).ln())
        })
        .collect();
    logs.sort_by(f64::total_cmp);
    let quantiles: Vec<f64> = lesson.levels.iter().map(|level| quantile_of_sorted(&logs, *level)).collect();
    let middle = quantiles.len() / 2;
    (0..quantiles.len())
        .map(|q| {
            let other = if q < middle { q + 1 } else { q.saturating_sub(1) };
            (quantiles[q] - quantiles[other.min(quantiles.len() - 1)]).abs()
        })
        .collect()
}

/// A drawn origin.
#[derive(Clone, Copy)]
struct Pick<'a> {
    ground: &'a Ground<'a>,
    origin: usize,
    shift: f64,
}

struct School<'a> {
    settings: &'a LstmSettings,
    effort: Effort,
    layout: &'a Layout,
    grounds: &'a [Ground<'a>],
    events: &'a [CalendarEvent],
    horizon_steps: usize,
}

impl<'a> School<'a> {
    fn run(&self, mut source: Source, weights: Vec<f32>, random: &mut ChaCha8Rng) -> Result<Vec<f32>> {
        let steps = (self.effort.samples / self.settings.batch).max(1);
        let judged = self.judged();
        let mut now = weights.clone();
        let mut mean = weights.clone();
        let mut best = (self.judge(&weights, &judged, &mut source)?, weights.clone());
        let mut trained = Trained::new(&weights);
        let (every, mut stale) = ((steps / LOOKS).max(1), 0);
        for step in 0..steps {
            let picks = self.draw(random);
            let threads = self.settings.threads;
            let found = source.gradient(self.layout, &now, threads, &picks, &|pick: &Pick<'a>| self.sample(pick))?;
            let Some((error, gradient)) = found else { continue };
            if !error.is_finite() {
                return Err(ForecastCrateError::Diverged { model: ModelKind::Lstm.to_string(), loss: error });
            }
            now = trained.step(self.rate(step, steps), gradient);
            let decay = MEAN_DECAY.min((1.0 + step as f32) / (10.0 + step as f32));
            for (mean, now) in mean.iter_mut().zip(&now) {
                *mean = decay * *mean + (1.0 - decay) * now;
            }
            if (step + 1) % every == 0 || step + 1 == steps {
                let error = self.judge(&mean, &judged, &mut source)?;
                if self.effort.recent {
                    continue;
                }
                if error < best.0 {
                    best = (error, mean.clone());
                    stale = 0;
                } else {
                    stale += 1;
                    if stale >= PATIENCE {
                        break;
                    }
                }
            }
        }
        let weights = if self.effort.recent { mean } else { best.1 };
        if weights.iter().any(|weight| !weight.is_finite()) {
            return Err(ForecastCrateError::Diverged { model: ModelKind::Lstm.to_string(), loss: f64::NAN });
        }
        Ok(weights)
    }

    /// A short rise, then half a cosine down to a fiftieth.
    fn rate(&self, step: usize, steps: usize) -> f64 {
        let rise = (steps / 20).clamp(1, 30);
        if step < rise {
            return self.effort.rate * (step + 1) as f64 / rise as f64;
        }
        let share = (step - rise) as f64 / (steps - rise).max(1) as f64;
        self.effort.rate * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * share).cos()))
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> Vec<Pick<'a>> {
        let mut picks = Vec::with_capacity(self.settings.batch);
        // Gaps may make an origin useless; then another is drawn, but not for ever.
        for _ in 0..4 * self.settings.batch {
            if picks.len() == self.settings.batch {
                break;
            }
            let ground = &self.grounds[random.random_range(0..self.grounds.len())];
            let mut range = ground.train.clone();
            if self.effort.recent {
                // Updates are small; they may learn from what a full training judges by.
                range.end = ground.judge.end.max(range.start + 1);
                if random.random_bool(RECENT_SHARE) {
                    range.start = range.start.max(range.end.saturating_sub(ground.past.steps(DAY)));
                }
            }
            if range.is_empty() {
                continue;
            }
            let origin = random.random_range(range);
            let moved = random.random_bool(SHIFT_SHARE);
            let shift = if moved { random.random_range(-SHIFT..SHIFT) } else { 0.0 };
            if newest(ground.past.first(origin), REACH).is_some() {
                picks.push(Pick { ground, origin, shift });
            }
        }
        picks
    }

    fn sample(&self, pick: &Pick<'a>) -> Option<Sample<'a>> {
        let Pick { ground, origin, shift } = *pick;
        let past = ground.past.first(origin);
        let moments = target_moments(past, self.horizon_steps);
        let (scale, gauges, service) = (&ground.own.scale, &*ground.own.gauges, ground.service);
        let inputs = inputs(past, &View { scale, gauges, service, events: self.events, moments: &moments, shift })?;
        let targets = (0..self.horizon_steps)
            .map(|k| at(ground.past, (origin + k) as isize).map_or(f32::NAN, |value| (value / scale.unit) as f32))
            .collect();
        Some(Sample { inputs, targets, own: &ground.own })
    }

    /// Samples spread evenly over what judges.
    fn judged(&self) -> Vec<Batch> {
        let each = (JUDGED / self.grounds.len()).max(8);
        let mut batches = Vec::new();
        if self.effort.recent {
            return batches;
        }
        let mut samples = Vec::new();
        for ground in self.grounds {
            let stride = (ground.judge.len() / each).max(1);
            let picks = ground.judge.clone().step_by(stride).map(|origin| Pick { ground, origin, shift: 0.0 });
            samples.extend(picks.filter_map(|pick| self.sample(&pick)));
        }
        for part in samples.chunks(self.settings.batch) {
            let mut batch = Batch::default();
            assemble(&mut batch, part);
            batches.push(batch);
        }
        batches
    }

    fn judge(&self, weights: &[f32], batches: &[Batch], source: &mut Source) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for batch in batches {
            if let Some(error) = source.loss(self.layout, weights, batch)? {
                sum += error.mean * batch.size as f64;
                count += batch.size;
            }
        }
        Ok(if count == 0 { f64::INFINITY } else { sum / count as f64 })
    }
}

/// Puts samples side by side, step by step.
pub(super) fn assemble(batch: &mut Batch, samples: &[Sample<'_>]) {
    let size = samples.len();
    let horizon = samples.first().map_or(0, |sample| sample.inputs.decoder.len());
    batch.size = size;
    batch.encoder_steps = ENCODER_STEPS;
    batch.decoder_steps = horizon;
    batch.encoder.clear();
    batch.decoder.clear();
    batch.targets.clear();
    for step in 0..ENCODER_STEPS {
        for Sample { inputs, .. } in samples {
            batch.encoder.extend_from_slice(&inputs.encoder[step]);
            let width = inputs.covariates.len() / ENCODER_STEPS;
            batch.encoder.extend_from_slice(&inputs.covariates[step * width..(step + 1) * width]);
        }
    }
    for step in 0..horizon {
        samples.iter().for_each(|sample| batch.decoder.extend_from_slice(&sample.inputs.decoder[step]));
        batch.targets.extend(samples.iter().map(|sample| sample.targets.get(step).copied().unwrap_or(f32::NAN)));
    }
    batch.services = samples.iter().map(|sample| Some(sample.own.index)).collect();
    let in_units = |s: &Sample<'_>, value: f64| (value / s.own.scale.unit) as f32;
    batch.bases = samples.iter().map(|s| in_units(s, s.inputs.level + s.own.scale.offset)).collect();
    batch.offsets = samples.iter().map(|s| in_units(s, s.own.scale.offset)).collect();
}
