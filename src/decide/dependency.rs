//! What a service's rise does to those that it calls. Rule: pure and online; what was learnt only ever lifts a forecast, and
//! only where it explains the callee's load.
//!
//! For each lag of up to [`DependencySettings::max_lag`] windows the callee's load is regressed on the caller's so many
//! windows before, by least squares with exponential forgetting; the lag that explains most counts.

use std::collections::VecDeque;

use prescale_domain::QuantileForecast;
use serde::{Deserialize, Serialize};

/// How a dependency is learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DependencySettings {
    /// Most windows from a caller's load to the callee's.
    pub max_lag: usize,
    /// What a window counts after so many further ones is half.
    pub half_life: f64,
    /// Windows, as they count, before anything is said.
    pub least_windows: f64,
    /// Share of the callee's variance that must be explained.
    pub least_explained: f64,
}

impl Default for DependencySettings {
    fn default() -> Self {
        Self { max_lag: 15, half_life: 720.0, least_windows: 60.0, least_explained: 0.5 }
    }
}

/// What is learnt of one caller and one callee.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DependencyLearner {
    /// The caller's last loads, newest first; `None` = not known.
    before: VecDeque<Option<f64>>,
    /// By lag.
    sums: Vec<Sums>,
}

/// Weighted sums of a regression, around a first value so that large loads lose no digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    around: Option<(f64, f64)>,
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

/// A callee's load as a caller's makes it: `base + ratio × load` so many windows before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dependency {
    /// Windows from the caller's load to the callee's.
    pub lag: usize,
    pub ratio: f64,
    pub base: f64,
    /// Share of the callee's variance that is explained.
    pub explained: f64,
}

impl DependencyLearner {
    /// A window has closed with these loads; `None` = not known.
    pub fn learn(&mut self, caller: Option<f64>, callee: Option<f64>, settings: &DependencySettings) {
        let clean = |load: Option<f64>| load.filter(|load| load.is_finite());
        self.before.push_front(clean(caller));
        self.before.truncate(settings.max_lag + 1);
        self.sums.resize(settings.max_lag + 1, Sums::default());
        let keeps = 0.5_f64.powf(1.0 / settings.half_life.max(1.0));
        for (lag, sums) in self.sums.iter_mut().enumerate() {
            let caller = self.before.get(lag).copied().flatten();
            if let (Some(x), Some(y)) = (caller, clean(callee)) {
                sums.add(x, y, keeps);
            }
        }
    }

    /// What was learnt, where it is enough to go by.
    pub fn dependency(&self, settings: &DependencySettings) -> Option<Dependency> {
        let fits = self.sums.iter().enumerate().filter_map(|(lag, sums)| sums.fit(lag, settings.least_windows));
        // Of equal ones the shorter lag.
        let best = fits.reduce(|best, next| if next.explained > best.explained + 1e-9 { next } else { best })?;
        (best.ratio > 0.0 && best.explained >= settings.least_explained).then_some(best)
    }

    /// The caller's loads, newest first: what is still on its way to the callee.
    pub fn recent(&self) -> impl Iterator<Item = Option<f64>> {
        self.before.iter().copied()
    }
}

impl Sums {
    fn add(&mut self, x: f64, y: f64, keeps: f64) {
        let (x0, y0) = *self.around.get_or_insert((x, y));
        let (x, y) = (x - x0, y - y0);
        for sum in [&mut self.n, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy, &mut self.yy] {
            *sum *= keeps;
        }
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    fn fit(&self, lag: usize, least: f64) -> Option<Dependency> {
        let (x0, y0) = self.around?;
        if self.n < least {
            return None;
        }
        let (mx, my) = (self.x / self.n, self.y / self.n);
        let (vx, vy) = (self.xx / self.n - mx * mx, self.yy / self.n - my * my);
        let cov = self.xy / self.n - mx * my;
        // A load that does not change explains nothing and can't be explained.
        let scale = |around: f64, mean: f64| (around.abs() + mean.abs()).max(1e-9);
        if vx.sqrt() <= 1e-6 * scale(x0, mx) || vy.sqrt() <= 1e-6 * scale(y0, my) || vx.is_nan() || vy.is_nan() {
            return None;
        }
        let ratio = cov / vx;
        let base = (my + y0) - ratio * (mx + x0);
        Some(Dependency { lag, ratio, base, explained: (cov * cov / (vx * vy)).min(1.0) })
    }
}

impl Dependency {
    /// The callee's load that the caller makes in the windows from the forecasts' common origin on. `recent` are the
    /// caller's loads before it, newest first, `ahead` its forecast from there on. `None` = not known.
    pub fn induced(&self, recent: &[Option<f64>], ahead: &[f64]) -> Vec<Option<f64>> {
        let caller = |window: usize| match window.checked_sub(self.lag) {
            Some(at) => ahead.get(at).copied(),
            None => recent.get(self.lag - window - 1).copied().flatten(),
        };
        (0..ahead.len() + self.lag).map(|window| Some(self.base + self.ratio * caller(window)?)).collect()
    }
}

/// Lifts a callee's forecast to what its callers make: where that is more than the median, all quantiles rise by the
/// difference. Whether anything rose.
pub fn lift(forecast: &mut QuantileForecast, induced: &[Option<f64>]) -> bool {
    let Some(median) = forecast.levels.iter().position(|level| *level >= 0.5) else { return false };
    let mut rose = false;
    for (row, induced) in forecast.values.iter_mut().zip(induced) {
        let Some(known) = row.get(median).copied() else { continue };
        let Some(more) = induced.map(|induced| induced - known).filter(|more| *more > 0.0 && more.is_finite()) else {
            continue;
        };
        row.iter_mut().for_each(|value| *value += more);
        rose = true;
    }
    rose
}

#[cfg(test)]
mod tests {
    use prescale_domain::{ServiceName, Span, Timestamp};
    use proptest::prelude::*;

    use super::*;

    /// A load that wanders, the same for the same seed.
    fn wander(seed: u64) -> impl FnMut() -> f64 {
        let (mut state, mut level) = (seed | 1, 500.0);
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            level = f64::clamp(level + (state >> 33) as f64 / f64::from(u32::MAX >> 1) * 80.0 - 40.0, 10.0, 2000.0);
            level
        }
    }

    fn learnt(lag: usize, ratio: f64, noise: f64, windows: usize, seed: u64) -> Option<Dependency> {
        let (mut caller, mut other) = (wander(seed), wander(seed ^ 0x5555));
        let loads: Vec<f64> = (0..windows).map(|_| caller()).collect();
        let mut learner = DependencyLearner::default();
        let settings = DependencySettings::default();
        for (at, load) in loads.iter().enumerate() {
            let callee = at.checked_sub(lag).map(|before| 20.0 + ratio * loads[before] + noise * (other() - 500.0));
            learner.learn(Some(*load), callee, &settings);
        }
        learner.dependency(&settings)
    }

    #[test]
    fn lag_and_ratio_are_found_and_chance_is_not() {
        for lag in [0, 1, 4, 15] {
            let found = learnt(lag, 2.5, 0.05, 400, 7).unwrap();
            assert_eq!(found.lag, lag);
            assert!((found.ratio - 2.5).abs() < 0.15 && found.explained > 0.9, "{found:?}");
        }
        assert_eq!(learnt(3, 0.0, 1.0, 4000, 7), None);
        // Too few windows, and a caller that never changes.
        assert_eq!(learnt(3, 2.5, 0.0, 50, 7), None);
        let mut still = DependencyLearner::default();
        (0..500).for_each(|at| still.learn(Some(9.0), Some(f64::from(at)), &DependencySettings::default()));
        assert_eq!(still.dependency(&DependencySettings::default()), None);
    }

    #[test]
    fn a_rise_of_the_caller_reaches_the_callee_after_the_lag() {
        let dependency = Dependency { lag: 2, ratio: 3.0, base: 10.0, explained: 0.9 };
        let induced = dependency.induced(&[Some(5.0), None], &[7.0, 8.0]);
        assert_eq!(induced, [None, Some(25.0), Some(31.0), Some(34.0)]);
        let mut forecast = QuantileForecast {
            service: ServiceName::new("backend"),
            origin: Timestamp::from_millis(0),
            step: Span::from_minutes(1),
            model: "holt".to_owned(),
            reason: "champion".to_owned(),
            levels: vec![0.1, 0.5, 0.9],
            values: vec![vec![10.0, 20.0, 30.0]; 3],
        };
        assert!(lift(&mut forecast, &induced));
        assert_eq!(forecast.values, [vec![10.0, 20.0, 30.0], vec![15.0, 25.0, 35.0], vec![21.0, 31.0, 41.0]]);
        assert!(!lift(&mut forecast, &induced));
        assert_eq!(forecast.validate(), Ok(()));
    }

    proptest! {
        /// A forecast only ever rises, stays ordered, and gaps are no zeros.
        #[test]
        fn a_lifted_forecast_is_a_forecast(
            rows in prop::collection::vec(prop::array::uniform3(0.0f64..100.0), 1..20),
            induced in prop::collection::vec(prop::option::of(-50.0f64..200.0), 0..25),
        ) {
            let ordered = |mut row: [f64; 3]| { row.sort_by(f64::total_cmp); row.to_vec() };
            let mut forecast = QuantileForecast {
                service: ServiceName::new("backend"),
                origin: Timestamp::from_millis(0),
                step: Span::from_minutes(1),
                model: String::new(),
                reason: String::new(),
                levels: vec![0.1, 0.5, 0.9],
                values: rows.into_iter().map(ordered).collect(),
            };
            let before = forecast.clone();
            lift(&mut forecast, &induced);
            prop_assert_eq!(forecast.validate(), Ok(()));
            for (at, (after, before)) in forecast.values.iter().zip(&before.values).enumerate() {
                prop_assert!(after.iter().zip(before).all(|(after, before)| after >= before));
                if let Some(Some(load)) = induced.get(at) {
                    prop_assert!(after[1] >= *load - 1e-9);
                }
            }
        }
    }
}
