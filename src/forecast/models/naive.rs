//! The newest value, for ever (random walk). Rule: hard to beat a few steps ahead where noise is small; nothing to fit.

use prescale_domain::Span;
use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::pointwise::{PointExpert, Pointwise};
use crate::past::Past;

/// How far back a value may be to stand for the present.
const NEWEST: Span = Span::from_minutes(120);

/// The newest value for each service.
pub type Naive = Pointwise<NewestValue>;

/// No parameters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NewestValue;

impl PointExpert for NewestValue {
    const KIND: ModelKind = ModelKind::Naive;
    const VERSION: u32 = 1;
    const KNOWN_MIN: usize = 1;

    fn choose(_: Past<'_>, _: usize) -> Option<Self> {
        Some(Self)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        past.newest(past.steps(NEWEST)).map(|value| vec![value.max(0.0); horizon_steps])
    }
}
