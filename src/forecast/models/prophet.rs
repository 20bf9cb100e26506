//! Prophet's daily and, once two weeks are known, weekly season (Taylor & Letham 2018; `augurs-prophet`, its posterior
//! maximised by Stan in WebAssembly), with damped Holt on what they leave. Rule: Prophet's own trend is dropped: it only
//! knows the moment of the fit, and after a shift that is what makes its forecasts many times worse.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use augurs_prophet::optimizer::OptimizeOpts;
use augurs_prophet::wasmstan::WasmstanOptimizer;
use augurs_prophet::{PredictionData, Prophet as Additive, ProphetOptions, SeasonalityOption, TrainingData};
use prescale_domain::Span;
use serde::{Deserialize, Serialize};

use super::ModelKind;
use super::pointwise::{PointExpert, Pointwise};
use super::season::{Buckets, Seasonal};
use crate::past::Past;

/// It is fitted on means of this width: its day has four waves.
const WIDTH: Span = Span::from_minutes(15);
/// Seed of Stan, which draws nothing from it when it starts from Prophet's own guess.
const SEED: u32 = 1;
/// The table keeps this many of the logs' decimals: sums differ in the last bits, since the crate's maps have no order.
const DECIMALS: f64 = 1e4;

/// Prophet for each service.
pub type Prophet = Pointwise<Waves>;

/// The seasons of a day and a week, and the smoothing of the remainder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Waves(Seasonal);

impl PointExpert for Waves {
    const KIND: ModelKind = ModelKind::Prophet;
    const VERSION: u32 = 1;
    /// Of a step of an hour; two days are needed whatever the step.
    const KNOWN_MIN: usize = 48;

    fn choose(training: Past<'_>, horizon_steps: usize) -> Option<Self> {
        let buckets = Buckets::of(training, WIDTH)?;
        // The optimizer, the runtime and their checks are not ours; a history that makes them stop must not stop us.
        let table = catch_unwind(AssertUnwindSafe(|| season(&buckets))).ok()??;
        Seasonal::new(training, &buckets, table, horizon_steps).map(Self)
    }

    fn points(&self, past: Past<'_>, horizon_steps: usize) -> Option<Vec<f64>> {
        self.0.points(past, horizon_steps)
    }
}

/// What the seasons add to the log in each bucket of a day, or of a week where two are known.
fn season(buckets: &Buckets) -> Option<Vec<f64>> {
    // Compiling the module takes longer than a fit.
    static OPTIMIZER: OnceLock<WasmstanOptimizer> = OnceLock::new();
    let optimizer = OPTIMIZER.get_or_init(WasmstanOptimizer::new);
    let second = |index: usize| (buckets.start.millis() + buckets.width.millis() * index as i64).div_euclid(1_000);
    let known = buckets.means.iter().enumerate().filter_map(|(index, mean)| Some((second(index), (*mean)?)));
    let (moments, logs): (Vec<i64>, Vec<f64>) = known.unzip();
    let options = ProphetOptions {
        daily_seasonality: SeasonalityOption::Manual(true),
        weekly_seasonality: SeasonalityOption::Manual(buckets.week().is_some()),
        yearly_seasonality: SeasonalityOption::Manual(false),
        uncertainty_samples: 0,
        ..ProphetOptions::default()
    };
    let mut model = Additive::new(options, optimizer);
    let fit = OptimizeOpts { seed: Some(SEED), ..OptimizeOpts::default() };
    model.fit(TrainingData::new(moments, logs).ok()?, fit).ok()?;
    let count = buckets.week().unwrap_or(buckets.day());
    let cycle = PredictionData::new((0..count).map(second).collect());
    let added = model.predict(cycle).ok()?.additive.point;
    Some(added.into_iter().map(|log| (log * DECIMALS).round() / DECIMALS).collect())
}
