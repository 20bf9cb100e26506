//! The encoder-decoder LSTM over all services together (Hochreiter & Schmidhuber 1997; pinball loss as in Wen et al.
//! 2017, "A multi-horizon quantile recurrent forecaster"; the mean of the weights as in Polyak & Juditsky 1992). Rules: level-free inputs, so that a shift of the level does not
//! break it; an untrained network forecasts the level; the same seed gives the same bytes.

mod calendar;
mod covariates;
mod device;
mod inputs;
mod kernel;
mod network;
mod product;
mod source;
#[cfg(any(test, feature = "gpu"))]
mod tensors;
#[cfg(test)]
mod tests;
mod train;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use prescale_domain::{ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::residual::at_level;
use super::{Forecaster, Lesson, ModelKind, seal, unseal};
use crate::error::{ForecastCrateError, Result};
use crate::past::{Past, Request};
use crate::rows::Rows;

use covariates::Gauge;
pub use device::TrainingDevice;
use inputs::{Scale, View};
use network::{Batch, Layout, Room};

const VERSION: u32 = 2;
/// Forecasts that are run together.
const SIDE_BY_SIDE: usize = 24;

/// Size and effort. Effort is counted in samples, so that a training ends at the same place on every machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LstmSettings {
    /// Width of the hidden states.
    pub hidden: usize,
    /// Samples of a step.
    pub batch: usize,
    /// Samples of a training from scratch, of one that starts from a trained model, and of an update.
    pub fit_samples: usize,
    pub refit_samples: usize,
    pub update_samples: usize,
    /// Highest learning rates of the three.
    pub fit_rate: f64,
    pub refit_rate: f64,
    pub update_rate: f64,
    /// Threads of a training; its result is the same with any number.
    #[serde(skip, default = "one")]
    pub threads: usize,
    /// What a training runs on.
    #[serde(skip)]
    pub device: TrainingDevice,
}

fn one() -> usize {
    1
}

impl Default for LstmSettings {
    fn default() -> Self {
        Self {
            hidden: 32,
            batch: 64,
            fit_samples: 64_000,
            refit_samples: 16_000,
            update_samples: 512,
            fit_rate: 3e-3,
            refit_rate: 1e-3,
            update_rate: 1e-4,
            threads: 1,
            device: TrainingDevice::Cpu,
        }
    }
}

/// The model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lstm {
    settings: LstmSettings,
    seed: u64,
    fitted: Option<Fitted>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fitted {
    layout: Layout,
    horizon_steps: usize,
    scales: BTreeMap<ServiceName, ServiceScale>,
    /// Kinds of events that covered enough training windows for the weights to know their effect.
    event_kinds: BTreeSet<String>,
    /// Covariates that the encoder sees, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    channels: Vec<String>,
    /// Length of the longest training history.
    trained_on: Span,
    #[serde(with = "crate::hex")]
    weights: Vec<f32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ServiceScale {
    index: usize,
    scale: Scale,
    /// What it has for each channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gauges: Vec<Option<Gauge>>,
}

impl Lstm {
    /// An unfitted model that draws all its chance from `seed`.
    pub fn new(settings: LstmSettings, seed: u64) -> Self {
        Self { settings, seed, fitted: None }
    }

    /// Reads what `save` wrote.
    ///
    /// # Errors
    /// Bytes of another format or version, or weights that don't fit their layout.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let model: Self = unseal(ModelKind::Lstm, VERSION, bytes)?;
        if let Some(fitted) = &model.fitted {
            let (found, expected) = (fitted.weights.len(), fitted.layout.count());
            if found != expected || fitted.layout.levels.is_empty() || fitted.layout.levels.len() > 64 {
                return Err(ForecastCrateError::Format(format!("{found} weights, the layout needs {expected}")));
            }
            let shape = (fitted.layout.encoder_inputs, fitted.layout.decoder_inputs);
            let channels = fitted.channels.len();
            let encoder_inputs = inputs::ENCODER_INPUTS + covariates::CHANNEL_INPUTS * channels;
            if shape != (encoder_inputs, inputs::DECODER_INPUTS) || channels > covariates::CHANNELS_MAX {
                return Err(ForecastCrateError::Format(format!("the layout is of {shape:?} inputs")));
            }
            let fits =
                |own: &ServiceScale| own.gauges.len() == channels && own.gauges.iter().flatten().all(Gauge::is_sound);
            if !fitted.scales.values().all(fits) {
                return Err(ForecastCrateError::Format(format!("covariates that are not of {channels} channels")));
            }
            if let Some(own) = fitted.scales.values().find(|own| own.index >= fitted.layout.services) {
                return Err(ForecastCrateError::Format(format!("service {} of {}", own.index, fitted.layout.services)));
            }
            if fitted.weights.iter().any(|weight| !weight.is_finite()) {
                return Err(ForecastCrateError::Format("a weight is not finite".into()));
            }
        }
        Ok(model)
    }

    /// The same weights with other effort and chance.
    pub fn reseeded(&self, settings: LstmSettings, seed: u64) -> Self {
        let settings = LstmSettings { hidden: self.settings.hidden, ..settings };
        Self { settings, seed, fitted: self.fitted.clone() }
    }

    /// Trains on everything again, starting from the present weights.
    ///
    /// # Errors
    /// As [`Forecaster::fit`].
    pub fn refit(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let effort =
            train::Effort { samples: self.settings.refit_samples, rate: self.settings.refit_rate, recent: false };
        self.train(lesson, true, effort)
    }

    /// Whether `service` was trained on.
    pub fn knows(&self, service: &ServiceName) -> bool {
        self.fitted.as_ref().is_some_and(|fitted| fitted.scales.contains_key(service))
    }

    /// Whether events of this kind covered enough of the training for their effect to be in the weights.
    pub fn has_learnt(&self, kind: &str) -> bool {
        self.fitted.as_ref().is_some_and(|fitted| fitted.event_kinds.contains(kind))
    }

    /// Length of the longest history that it was trained on.
    pub fn trained_on(&self) -> Span {
        self.fitted.as_ref().map_or(Span::ZERO, |fitted| fitted.trained_on)
    }

    fn train(&mut self, lesson: &Lesson<'_>, warm: bool, effort: train::Effort) -> Result<()> {
        let from = if warm { self.fitted.as_ref() } else { None };
        self.fitted = Some(train::train(&self.settings, self.seed, lesson, from, effort)?);
        Ok(())
    }
}

impl Lstm {
    /// Forecasts of many services, side by side: each as [`Forecaster::predict`] gives it, to the bit, in less time.
    pub fn predict_many(&self, requests: &[Request<'_>]) -> Vec<Result<Rows>> {
        let mut calendar = Calendar::default();
        let mut results = Vec::with_capacity(requests.len());
        let (mut batch, mut room, mut samples) = (Batch::default(), Room::default(), Vec::new());
        for part in requests.chunks(SIDE_BY_SIDE) {
            samples.clear();
            let mut places = Vec::with_capacity(part.len());
            for request in part {
                places.push(self.prepare(request, &mut calendar).map(|sample| {
                    samples.push(sample);
                    samples.len() - 1
                }));
            }
            if let Some(fitted) = self.fitted.as_ref().filter(|_| !samples.is_empty()) {
                train::assemble(&mut batch, &samples);
                network::predict(&fitted.layout, &fitted.weights, &batch, &mut room);
            }
            for (place, request) in places.into_iter().zip(part) {
                results.push(place.and_then(|index| self.read(&batch, &room, index, request)));
            }
        }
        results
    }

    /// The inputs of a forecast, or why there is none.
    fn prepare(&self, request: &Request<'_>, calendar: &mut Calendar) -> Result<train::Sample<'_>> {
        let model = || self.kind().to_string();
        let fitted = self.fitted.as_ref().ok_or_else(|| ForecastCrateError::NotFitted { model: model() })?;
        let own = fitted.scales.get(request.service).ok_or_else(|| ForecastCrateError::UnknownService {
            model: model(),
            service: request.service.to_string(),
        })?;
        if request.horizon_steps > fitted.horizon_steps {
            let (found, asked) = (fitted.horizon_steps, request.horizon_steps);
            return Err(ForecastCrateError::Horizon { model: model(), found, asked });
        }
        let events = train::usable_events(request.events, &fitted.event_kinds);
        let moments = calendar.of(request.past, fitted.horizon_steps);
        let (scale, gauges, service) = (&own.scale, &*own.gauges, request.service);
        let view = View { scale, gauges, service, events: &events, moments, shift: 0.0 };
        let inputs = inputs::inputs(request.past, &view).ok_or_else(|| ForecastCrateError::TooShort {
            model: model(),
            found: 0,
            needed: 1,
        })?;
        Ok(train::Sample { inputs, targets: Vec::new(), own })
    }

    /// The quantiles that the last run left for one sample.
    fn read(&self, batch: &Batch, room: &Room, index: usize, request: &Request<'_>) -> Result<Rows> {
        let model = || self.kind().to_string();
        let fitted = self.fitted.as_ref().ok_or_else(|| ForecastCrateError::NotFitted { model: model() })?;
        let levels = &fitted.layout.levels;
        let unit = fitted.scales.get(request.service).map_or(1.0, |own| own.scale.unit);
        let mut rows = Rows::new(request.levels.len(), request.horizon_steps);
        let mut row = Vec::with_capacity(levels.len());
        for step in 0..request.horizon_steps {
            // The exponential is monotone up to its rounding only.
            let (mut least, mut sum) = (0.0_f64, 0.0);
            let rising = (0..levels.len()).map(|q| {
                let value = unit * room.quantile(&fitted.layout, batch, step, index, q);
                sum += value;
                least = least.max(value);
                least
            });
            row.clear();
            row.extend(rising);
            // A sum is finite only if all are.
            if !sum.is_finite() {
                return Err(ForecastCrateError::Diverged { model: model(), loss: sum });
            }
            if request.levels == levels {
                rows.push(row.iter().copied());
            } else {
                rows.push(request.levels.iter().map(|level| at_level(levels, &row, *level)));
            }
        }
        Ok(rows)
    }
}

/// The newest rows of the calendar: services are mostly asked about the same moments.
#[derive(Default)]
struct Calendar {
    of: Option<(Timestamp, Span, usize)>,
    rows: Vec<[f32; calendar::MOMENT_WIDTH]>,
}

impl Calendar {
    fn of(&mut self, past: Past<'_>, horizon_steps: usize) -> &[[f32; calendar::MOMENT_WIDTH]] {
        let of = Some((past.end(), past.step, horizon_steps));
        if self.of != of {
            self.rows = inputs::target_moments(past, horizon_steps);
            self.of = of;
        }
        &self.rows
    }
}

impl Forecaster for Lstm {
    fn kind(&self) -> ModelKind {
        ModelKind::Lstm
    }

    fn fit(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let effort = train::Effort { samples: self.settings.fit_samples, rate: self.settings.fit_rate, recent: false };
        self.train(lesson, false, effort)
    }

    fn update(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let effort =
            train::Effort { samples: self.settings.update_samples, rate: self.settings.update_rate, recent: true };
        self.train(lesson, true, effort)
    }

    fn predict(&self, request: &Request<'_>) -> Result<Rows> {
        self.predict_many(std::slice::from_ref(request)).pop().expect("one result for each request")
    }

    fn save(&self) -> Vec<u8> {
        seal(ModelKind::Lstm, VERSION, self)
    }
}
