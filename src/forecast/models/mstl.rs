//! Daily and, once two weeks are known, weekly season by repeated loess (MSTL: Bandara, Hyndman & Bergmeir 2021, on STL:
//! Cleveland et al. 1990; the crate `stlrs`), with damped Holt on what they leave.

use std::panic::{AssertUnwindSafe, catch_unwind};

use prescale_domain::Span;
use serde::{Deserialize, Serialize};
use stlrs::{MstlParams, StlParams};

use super::pointwise::{PointExpert, Pointwise};
use super::season::{Buckets, Seasonal};
use super::{DAY, ModelKind};
use crate::past::Past;

/// The logs are decomposed at this width, if theirs is narrower: a day is smoother than its minutes.
const WIDTH: Span = Span::from_minutes(5);

/// MSTL for each service.
pub type Mstl = Pointwise<Decomposed>;

/// The seasons of the newest day and week, and the smoothing of the remainder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decomposed(Seasonal);

impl PointExpert for Decomposed {
    const KIND: ModelKind = ModelKind::Mstl;
    const VERSION: u32 = 1;
    /// Of a step of an hour; two days are needed whatever the step.
    const KNOWN_MIN: usize = 48;

    fn needed(step: Span) -> usize {
        2 * DAY.steps_up(step).max(1)
    }

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let buckets = Buckets::of(training, WIDTH)?;
        let periods: Vec<usize> = [Some(buckets.day()), buckets.week()].into_iter().flatten().collect();
        let logs = buckets.filled();
        // It sorts and divides what it is given; a history that makes it stop must not stop us.
        let fit = catch_unwind(AssertUnwindSafe(|| {
            let mut inner = StlParams::new();
            // A spike of an hour is not the season of its hour.
            inner.robust(true).outer_loops(ROBUST_LOOPS);
            MstlParams::new().stl_params(inner).fit(&logs, &periods)
        }));
        let decomposed = fit.ok()?.ok()?;
        let whole = *periods.last()?;
        // The newest cycle of each, at its place from the start of the buckets.
        let newest = |place: usize| {
            let each = decomposed.seasonal().iter().zip(&periods);
            each.map(|(season, period)| {
                let back = (logs.len() - 1 - place % period) % period;
                season[logs.len() - 1 - back]
            })
            .sum()
        };
        Seasonal::new(training, &buckets, (0..whole).map(newest).collect(), horizon_steps).map(Self)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        self.0.points(past, horizon_steps)
    }
}

/// Rounds of weights that fade what is far off.
const ROBUST_LOOPS: usize = 5;

#[cfg(test)]
mod tests {
    use prescale_domain::Timestamp;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    const DAY_STEPS: usize = 288;

    /// Logs of a wave by day, half as high at weekends, on a trend, without the noise.
    fn truth(index: usize) -> f64 {
        let (day, phase) = (index / DAY_STEPS, (index % DAY_STEPS) as f64 / DAY_STEPS as f64);
        let height = if day % 7 < 5 { 1.0 } else { 0.5 };
        5.0 + 0.02 * day as f64 + height * (std::f64::consts::TAU * phase).sin()
    }

    fn values(days: usize) -> Vec<Option<f64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut noise = || 0.05 * rng.sample::<f64, _>(StandardNormal);
        (0..days * DAY_STEPS).map(|index| Some((truth(index) + noise()).exp_m1())).collect()
    }

    /// Mean absolute error of the logs an hour ahead, from origins all over the last day.
    fn error(known: &Decomposed, values: &[Option<f64>]) -> f64 {
        let past = Past { start: Timestamp::from_millis(0), step: Span::from_minutes(5), values, covariates: &[] };
        let origins = (values.len() - DAY_STEPS..values.len() - 12).step_by(7);
        let misses: Vec<f64> = origins
            .map(|origin| {
                let points = known.points(past.first(origin), 12).unwrap();
                (points[11].ln_1p() - truth(origin + 11)).abs()
            })
            .collect();
        misses.iter().sum::<f64>() / misses.len() as f64
    }

    #[test]
    fn a_daily_wave_on_a_trend_is_forecast_an_hour_ahead_up_to_its_noise() {
        let values = values(6);
        let past =
            Past { start: Timestamp::from_millis(0), step: Span::from_minutes(5), values: &values, covariates: &[] };
        // Four working days are learnt from, the fifth is asked.
        let known = Decomposed::choose(past.first(4 * DAY_STEPS), 12).unwrap();
        let error = error(&known, &values[..5 * DAY_STEPS]);
        assert!(error < 0.06, "{error}");
    }

    #[test]
    fn from_two_weeks_on_a_weekend_is_known() {
        let values = values(20);
        let past =
            Past { start: Timestamp::from_millis(0), step: Span::from_minutes(5), values: &values, covariates: &[] };
        // The twentieth day is a Saturday, as two before it were.
        let known = Decomposed::choose(past.first(19 * DAY_STEPS), 12).unwrap();
        let error = error(&known, &values);
        assert!(error < 0.1, "{error}");
    }

    #[test]
    fn a_history_below_two_days_is_refused() {
        let values = values(2);
        let past =
            Past { start: Timestamp::from_millis(0), step: Span::from_minutes(5), values: &values, covariates: &[] };
        assert!(Decomposed::choose(past.first(2 * DAY_STEPS - 1), 12).is_none());
        assert!(Decomposed::choose(past, 12).is_some());
    }
}
