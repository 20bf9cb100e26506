//! Stands for a model that this build doesn't know, where one is asked for all the same. Rule: it says so, whatever is asked.

use super::{Forecaster, Lesson, ModelKind, seal};
use crate::error::{ForecastCrateError, Result};
use crate::past::Request;
use crate::rows::Rows;

/// A model that can't be fitted.
#[derive(Clone, Copy, Debug)]
pub struct Unbuilt(pub ModelKind);

impl Unbuilt {
    fn refused<T>(self) -> Result<T> {
        Err(ForecastCrateError::NotBuilt { model: self.0.to_string() })
    }
}

impl Forecaster for Unbuilt {
    fn kind(&self) -> ModelKind {
        self.0
    }

    fn fit(&mut self, _: &Lesson<'_>) -> Result<()> {
        self.refused()
    }

    fn update(&mut self, _: &Lesson<'_>) -> Result<()> {
        self.refused()
    }

    fn predict(&self, _: &Request<'_>) -> Result<Rows> {
        self.refused()
    }

    fn save(&self) -> Vec<u8> {
        seal(self.0, 0, &())
    }
}
