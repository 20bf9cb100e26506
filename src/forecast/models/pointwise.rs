//! Experts that know a point for each step, per service: parameters are chosen on the training part, the state is filtered
//! forward to the origin at every forecast, and the quantiles are those of the expert's own later errors.

use std::collections::BTreeMap;
use std::fmt;

use prescale_domain::{ServiceName, Span};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::residual::ResidualQuantiles;
use super::{Forecaster, Lesson, ModelKind, seal, unseal};
use crate::error::{ForecastCrateError, Result};
use crate::past::{Past, Request};
use crate::rows::Rows;

/// Parameters of one service, and the points that follow from them.
pub trait PointExpert: Clone + fmt::Debug + Send + Sync + Serialize + DeserializeOwned {
    const KIND: ModelKind;
    const VERSION: u32;
    /// Fewest known values that parameters are chosen from.
    const KNOWN_MIN: usize;
    /// Most origins that the error is measured at when it is fitted.
    const ORIGINS_MAX: usize = super::residual::ORIGINS_MAX;

    /// Fewest windows of `step` in the training part, for the message of one that is too short.
    fn needed(_step: Span) -> usize {
        Self::KNOWN_MIN
    }

    /// Parameters for a history that ends where training ends; `None` when it says too little.
    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self>;

    /// One point for each step after the end of `past`, finite and not negative; `None` when it can't say.
    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>>;
}

/// A point expert for each service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Pointwise<E: PointExpert> {
    services: BTreeMap<ServiceName, Fitted<E>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Fitted<E: PointExpert> {
    parameters: E,
    residuals: ResidualQuantiles,
}

impl<E: PointExpert> Default for Pointwise<E> {
    fn default() -> Self {
        Self { services: BTreeMap::new() }
    }
}

impl<E: PointExpert> Pointwise<E> {
    /// Reads what `save` wrote.
    ///
    /// # Errors
    /// Bytes of another format or version.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        unseal(E::KIND, E::VERSION, bytes)
    }

    fn too_short(found: usize, needed: usize) -> ForecastCrateError {
        ForecastCrateError::TooShort { model: E::KIND.to_string(), found, needed }
    }
}

impl<E: PointExpert> Forecaster for Pointwise<E> {
    fn kind(&self) -> ModelKind {
        E::KIND
    }

    fn fit(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        let mut services = BTreeMap::new();
        let (mut most, mut needed) = (0, E::KNOWN_MIN);
        for (service, series) in lesson.histories {
            let past = Past::before(series, lesson.end);
            let from = lesson.train_until.since(past.start).steps_up(past.step).min(past.values.len());
            most = most.max(past.first(from).known());
            needed = needed.max(E::needed(past.step));
            if past.known() < E::KNOWN_MIN {
                continue;
            }
            let Some(parameters) = E::choose(past.first(from), lesson.horizon_steps) else { continue };
            let (steps, levels) = (lesson.horizon_steps, lesson.levels);
            let residuals = ResidualQuantiles::measure(past, from, steps, levels, E::ORIGINS_MAX, |past| {
                parameters.points(past, steps)
            });
            services.insert(service.clone(), Fitted { parameters, residuals });
        }
        if services.is_empty() {
            return Err(Self::too_short(most, needed));
        }
        self.services = services;
        Ok(())
    }

    fn choose_again(&mut self, lesson: &Lesson<'_>) {
        for (service, fitted) in &mut self.services {
            let past = lesson.histories.get(service).map(|series| Past::before(series, lesson.end));
            let chosen = past.and_then(|past| E::choose(past, lesson.horizon_steps));
            fitted.parameters = chosen.unwrap_or_else(|| fitted.parameters.clone());
        }
    }

    fn update(&mut self, lesson: &Lesson<'_>) -> Result<()> {
        self.fit(lesson)
    }

    fn predict(&self, request: &Request<'_>) -> Result<Rows> {
        let fitted = self.services.get(request.service).ok_or_else(|| ForecastCrateError::UnknownService {
            model: self.kind().to_string(),
            service: request.service.to_string(),
        })?;
        let points = fitted
            .parameters
            .points(request.past, request.horizon_steps)
            .filter(|points| points.iter().all(|point| point.is_finite() && *point >= 0.0))
            .ok_or_else(|| Self::too_short(request.past.known(), E::KNOWN_MIN))?;
        let rows = fitted.residuals.around(&points, request.levels);
        if rows.is_sound() { Ok(rows) } else { Err(Self::too_short(request.past.known(), E::KNOWN_MIN)) }
    }

    fn save(&self) -> Vec<u8> {
        seal(E::KIND, E::VERSION, self)
    }
}
