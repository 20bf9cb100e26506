//! Stands for a model that this build doesn't know, where one is asked for all the same. Rule: it says so, whatever is asked.

use super::{Forecaster, Lesson, ModelKind, seal};
use crate::error::{ForecastCrateError, Result};
use crate::past::Request;
use crate::rows::Rows;

/// A model that can't be fitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unbuilt(pub(super) ModelKind);

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

#[cfg(test)]
mod tests {
    use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
    use std::collections::BTreeMap;

    use super::*;
    use crate::evaluate::Contender;
    use crate::past::{Past, no_covariates};

    const SAID: &str =
        "model `prophet` is not in this build; hint: build with `--features prophet`, or leave it out of the models";

    #[test]
    fn a_model_that_is_not_built_is_refused_in_the_same_words_wherever_it_is_asked_for() {
        let kind = ModelKind::Prophet;
        assert!(!kind.is_built() && !ModelKind::EACH.contains(&kind));
        let (start, step) = (Timestamp::from_millis(0), Span::from_minutes(60));
        let series = Series { start, step, values: vec![Some(1.0); 72] };
        let service = ServiceName::new("a");
        let histories = BTreeMap::from([(service.clone(), series.clone())]);
        let (levels, end) = (&DEFAULT_QUANTILES[..], series.end());
        let covariates = no_covariates();
        let lesson =
            Lesson { histories: &histories, covariates, events: &[], train_until: end, end, horizon_steps: 2, levels };
        let request =
            Request { service: &service, past: Past::all(&series), horizon_steps: 2, levels, events: &[], now: end };
        let mut model = kind.build(1);
        let refusals = [
            "prophet".parse::<ModelKind>().map(|_| ()),
            "prophet".parse::<Contender>().map(|_| ()),
            model.fit(&lesson),
            model.update(&lesson),
            model.predict(&request).map(|_| ()),
            kind.load(&model.save()).map(|_| ()),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().to_string(), SAID);
        }
    }
}
