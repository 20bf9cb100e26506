//! The daily and, once two weeks are known, weekly season as Prophet has it (Taylor & Letham 2018, "Forecasting at scale";
//! the crate `augurs-prophet`, whose Stan model runs as WebAssembly), with damped Holt on what they leave: Prophet's own
//! trend knows nothing after the fit. Rule: the same history gives the same bytes.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use augurs_prophet::optimizer::{self, Data, InitialParams, OptimizeOpts, OptimizedParams};
use augurs_prophet::wasmstan::WasmstanOptimizer;
use augurs_prophet::{
    Algorithm, Optimizer, PredictionData, Prophet as Model, ProphetOptions, SeasonalityOption, TrainingData,
};
use prescale_domain::Span;
use serde::{Deserialize, Serialize};

use super::pointwise::{PointExpert, Pointwise};
use super::season::{Buckets, Seasonal};
use super::{DAY, ModelKind};
use crate::past::Past;

/// The logs are fitted on means of this width, if theirs is narrower: four to the shortest wave of the season, and each
/// pass of the search costs as much as there are means.
const WIDTH: Span = Span::from_minutes(15);
/// Waves in a day. The library's 4 are six hours at the shortest, too smooth for a day of machines: on the days before the
/// tests of three traces the error is 11 % lower with 24 (ELB 2 % higher, Google 13 % and ASG CPU 21 % lower).
const DAY_WAVES: NonZeroU32 = NonZeroU32::new(24).expect("not zero");
/// Logs that move less than this are a constant, which has no season and of which the likelihood has no maximum.
const STILL: f64 = 1e-6;
/// Steps of the search at most; it converges within some hundreds.
const STEPS_MAX: u32 = 2_000;

/// Prophet for each service.
pub type Prophet = Pointwise<Seasons>;

/// The seasons, and the smoothing of the remainder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seasons(Seasonal);

impl PointExpert for Seasons {
    const KIND: ModelKind = ModelKind::Prophet;
    const VERSION: u32 = 1;
    /// Of a step of an hour; two days are needed whatever the step.
    const KNOWN_MIN: usize = 48;

    fn needed(step: Span) -> usize {
        2 * DAY.steps_up(step).max(1)
    }

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let buckets = Buckets::of(training, WIDTH)?;
        let known = || buckets.means.iter().flatten();
        let (low, high) = known().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), log| (l.min(*log), h.max(*log)));
        let table = if high - low < STILL {
            vec![0.0; buckets.day()]
        } else {
            // A history that makes it stop must not stop us.
            catch_unwind(AssertUnwindSafe(|| season(&buckets))).ok()??
        };
        Seasonal::new(training, &buckets, table, horizon_steps).map(Self)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        self.0.points(past, horizon_steps)
    }
}

/// What the seasons add to the log in each bucket of a day or a week.
fn season(buckets: &Buckets) -> Option<Vec<f64>> {
    static STAN: OnceLock<Option<WasmstanOptimizer>> = OnceLock::new();
    // Compiled once in a process; it panics where it can't be.
    let stan = STAN.get_or_init(|| catch_unwind(WasmstanOptimizer::new).ok()).as_ref()?;
    let week = buckets.week();
    let second = |index: usize| (buckets.start.millis() + buckets.width.millis() * index as i64).div_euclid(1000);
    let (moments, logs): (Vec<i64>, Vec<f64>) =
        buckets.means.iter().enumerate().filter_map(|(index, mean)| Some((second(index), (*mean)?))).unzip();
    let data = || TrainingData::new(moments.clone(), logs.clone()).ok();
    let options = || ProphetOptions {
        yearly_seasonality: SeasonalityOption::Manual(false),
        weekly_seasonality: SeasonalityOption::Manual(week.is_some()),
        daily_seasonality: SeasonalityOption::Fourier(DAY_WAVES),
        // The quantiles are those of the later errors, and these would be drawn at random.
        uncertainty_samples: 0,
        ..ProphetOptions::default()
    };
    let mut model = Model::new(options(), InOrder(stan));
    let by = |algorithm| OptimizeOpts {
        algorithm: Some(algorithm),
        seed: Some(1),
        iter: Some(STEPS_MAX),
        ..OptimizeOpts::default()
    };
    // Newton's method where the line search of the other fails, as the original does.
    if model.fit(data()?, by(Algorithm::Lbfgs)).is_err() {
        model = Model::new(options(), InOrder(stan));
        model.fit(data()?, by(Algorithm::Newton)).ok()?;
    }
    let table = (0..week.unwrap_or(buckets.day())).map(second).collect();
    let found = model.predict(PredictionData::new(table)).ok()?;
    let mut table = found.seasonalities.get("daily")?.point.clone();
    if let Some(weekly) = found.seasonalities.get("weekly") {
        table.iter_mut().zip(&weekly.point).for_each(|(daily, weekly)| *daily += weekly);
    }
    Some(table)
}

/// Stan with the columns in the order of their values. The crate keeps the seasons in a hash map, whose order, and with it
/// that of the columns and of every sum over them, is another one in each process.
#[derive(Clone, Debug)]
struct InOrder<'a>(&'a WasmstanOptimizer);

impl Optimizer for InOrder<'_> {
    fn optimize(
        &self,
        init: &InitialParams,
        data: &Data,
        opts: &OptimizeOpts,
    ) -> Result<OptimizedParams, optimizer::Error> {
        // All have the same prior and the same first value, so that only their values tell them apart.
        let width = data.sigmas.len().max(1);
        let column = |index: usize| data.X.iter().skip(index).step_by(width);
        let mut order: Vec<usize> = (0..data.sigmas.len()).collect();
        order.sort_by(|a, b| {
            let differ = column(*a).zip(column(*b)).map(|(a, b)| a.total_cmp(b));
            differ.into_iter().find(|order| order.is_ne()).unwrap_or(a.cmp(b))
        });
        let mut sorted = data.clone();
        for (row, own) in sorted.X.chunks_exact_mut(width).zip(data.X.chunks_exact(width)) {
            row.iter_mut().zip(&order).for_each(|(value, from)| *value = own[*from]);
        }
        let mut found = self.0.optimize(init, &sorted, opts)?;
        let mut beta = found.beta.clone();
        for (value, to) in found.beta.iter().zip(&order) {
            if let Some(place) = beta.get_mut(*to) {
                *place = *value;
            }
        }
        found.beta = beta;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Timestamp};
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::models::{Forecaster as _, Lesson};
    use crate::past::{Request, no_covariates};

    const DAY_STEPS: usize = 288;
    const HORIZON: usize = 12;

    /// Logs of a wave by day, half as high at weekends, on a trend, without the noise.
    fn truth(index: usize) -> f64 {
        let (day, phase) = (index / DAY_STEPS, (index % DAY_STEPS) as f64 / DAY_STEPS as f64);
        let height = if day % 7 < 5 { 1.0 } else { 0.5 };
        5.0 + 0.02 * day as f64 + height * (std::f64::consts::TAU * phase).sin()
    }

    fn generated(days: usize) -> Series {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut noise = || 0.05 * rng.sample::<f64, _>(StandardNormal);
        let values = (0..days * DAY_STEPS).map(|index| Some((truth(index) + noise()).exp_m1())).collect();
        Series { start: Timestamp::from_millis(0), step: Span::from_minutes(5), values }
    }

    fn fitted(series: &Series, train_days: i64) -> crate::Result<Prophet> {
        let histories = BTreeMap::from([(ServiceName::new("a"), series.clone())]);
        let mut model = Prophet::default();
        model.fit(&Lesson {
            histories: &histories,
            covariates: no_covariates(),
            events: &[],
            train_until: series.start + Span::from_minutes(train_days * 24 * 60),
            end: series.end(),
            horizon_steps: HORIZON,
            levels: &DEFAULT_QUANTILES,
        })?;
        Ok(model)
    }

    fn ask(model: &Prophet, series: &Series, origin: usize) -> crate::rows::Rows {
        let (service, past) = (ServiceName::new("a"), Past::all(series).first(origin));
        let (levels, now) = (&DEFAULT_QUANTILES[..], past.end());
        model.predict(&Request { service: &service, past, horizon_steps: HORIZON, levels, events: &[], now }).unwrap()
    }

    #[test]
    fn a_daily_cycle_is_forecast_an_hour_ahead_up_to_its_noise() {
        let series = generated(6);
        // Four working days are learnt from, the fifth is asked.
        let known = Seasons::choose(Past::all(&series).first(4 * DAY_STEPS), HORIZON).unwrap();
        let misses: Vec<f64> = (4 * DAY_STEPS..5 * DAY_STEPS - HORIZON)
            .step_by(7)
            .map(|origin| {
                let points = known.points(Past::all(&series).first(origin), HORIZON).unwrap();
                (points[HORIZON - 1].ln_1p() - truth(origin + HORIZON - 1)).abs()
            })
            .collect();
        let error = misses.iter().sum::<f64>() / misses.len() as f64;
        assert!(error < 0.06, "{error}");
    }

    #[test]
    fn from_two_weeks_on_the_season_is_of_a_week() {
        let series = generated(14);
        let days = |days: usize| {
            let buckets = Buckets::of(Past::all(&series).first(days * DAY_STEPS), WIDTH).unwrap();
            season(&buckets).unwrap().len() / buckets.day()
        };
        assert_eq!([2, 13, 14].map(days), [1, 1, 7]);
    }

    #[test]
    fn quantiles_are_ordered_and_the_same_after_saving() {
        let series = generated(17);
        let model = fitted(&series, 15).unwrap();
        let loaded = Prophet::load(&model.save()).unwrap();
        for origin in [15 * DAY_STEPS, 16 * DAY_STEPS + 100, 17 * DAY_STEPS] {
            let rows = ask(&model, &series, origin);
            assert_eq!(rows.len(), HORIZON);
            for row in &rows {
                assert!(row.iter().all(|value| value.is_finite() && *value > 0.0) && row.is_sorted(), "{row:?}");
                assert!(row[0] < row[DEFAULT_QUANTILES.len() - 1], "{row:?}");
            }
            assert_eq!(ask(&loaded, &series, origin), rows);
        }
    }

    #[test]
    fn two_fits_are_the_same_bytes_with_both_seasons() {
        // The order of a hash map is drawn for each map; of eight, all are the same by chance once in 128.
        let series = generated(15);
        let past = Past::all(&series);
        let first = serde_json::to_vec(&Seasons::choose(past, HORIZON).unwrap()).unwrap();
        for _ in 0..7 {
            assert_eq!(serde_json::to_vec(&Seasons::choose(past, HORIZON).unwrap()).unwrap(), first);
        }
    }

    #[test]
    fn a_history_below_two_days_is_refused_with_a_reason() {
        let series = generated(2);
        let error = fitted(&series, 1).unwrap_err().to_string();
        assert!(error.contains("`prophet`") && error.contains("288 values") && error.contains("needs 576"), "{error}");
        assert!(fitted(&generated(3), 2).is_ok());
    }
}
