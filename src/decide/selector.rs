//! Which policy for which service: a contextual bandit behind a gate. Rule: the default serves until what was learnt has
//! been shown to be better, by a bound and on episodes that it has not learnt from; learning again closes the gate again.
//!
//! LinUCB with one linear model an arm (Li, Chu, Langford and Schapire, A contextual-bandit approach to personalized news
//! article recommendation, WWW 2010, algorithm 1): ridge regression of the reward on the context; while training the arm
//! with the highest upper confidence bound is tried, in service the one with the highest mean is chosen. It knows no
//! chance: the same episodes in the same order give the same selector.

mod context;

use serde::{Deserialize, Serialize};

pub use context::{FEATURES, context};

use crate::experiment::Moments;
use crate::experiment::effect::t_quantile;

/// Contexts are clipped to this; their numbers are meant to be about 1.
const CONTEXT_MAX: f64 = 3.0;

/// A selector, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectorSettings {
    /// Off unless somebody says so.
    pub enabled: bool,
    /// Names of the policies to choose from.
    pub arms: Vec<String>,
    /// Index of the one that serves where the selector does not.
    pub default_arm: usize,
    /// Names of the context's numbers.
    pub features: Vec<String>,
    /// Weight of the prior "every reward is 0", in episodes.
    pub ridge: f64,
    /// Standard deviations that are added while training.
    pub exploration: f64,
    /// Probability that a selector which is no better passes the gate.
    pub alpha: f64,
    /// It must be better by more than this, in the unit of the reward.
    pub gain_min: f64,
    /// Episodes that it must be examined on at least.
    pub episodes_min: u64,
}

/// What has been learnt, and how it did when examined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selector {
    settings: SelectorSettings,
    arms: Vec<Arm>,
    /// Reward of the choice less that of the default, by episode of the examination.
    gains: Moments,
}

/// The regression of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Arm {
    /// Inverse of ridge · I + Σ x xᵀ, row by row.
    inverse: Vec<f64>,
    /// Σ reward · x
    weighted: Vec<f64>,
    episodes: u64,
}

/// What is chosen, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    pub arm: usize,
    pub name: String,
    /// `selected`, or why the default serves: `selector-off`, `selector-unproven`, `context-invalid`.
    pub code: String,
}

/// Whether the selector may serve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    pub open: bool,
    /// Mean gain over the default and its lower bound; `None` while there are too few episodes.
    pub gain: Option<f64>,
    pub gain_low: Option<f64>,
    pub episodes: u64,
}

/// One decision of the past of a policy that chose at random: for judging a selector on what has really happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    pub context: Vec<f64>,
    pub arm: usize,
    /// Probability with which it was chosen.
    pub propensity: f64,
    pub reward: f64,
}

impl SelectorSettings {
    /// Sensible numbers for these arms and features; off.
    pub fn new(arms: &[&str], default_arm: usize, features: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            enabled: false,
            arms: owned(arms),
            default_arm,
            features: owned(features),
            ridge: 1.0,
            exploration: 1.0,
            alpha: 0.05,
            gain_min: 0.0,
            episodes_min: 30,
        }
    }

    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (count, default) = (self.arms.len(), self.default_arm);
        if default >= count {
            faults.push(format!("selector: default_arm {default} is not one of {count} arms"));
        }
        if self.features.is_empty() || self.features.len() > 64 {
            faults.push(format!("selector: {} features, expected 1 to 64", self.features.len()));
        }
        for (name, value) in [("ridge", self.ridge), ("exploration", self.exploration)] {
            if !(value > 0.0 && value.is_finite()) {
                faults.push(format!("selector: {name} {value} is not positive"));
            }
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            faults.push(format!("selector: alpha {} is not between 0 and 0.5", self.alpha));
        }
        faults
    }
}

impl Selector {
    /// A selector that has learnt nothing; `faults` of the settings are the caller's to refuse.
    pub fn new(settings: SelectorSettings) -> Self {
        let width = settings.features.len();
        let prior = 1.0 / settings.ridge;
        let inverse = (0..width * width).map(|at| if at % (width + 1) == 0 { prior } else { 0.0 }).collect();
        let arm = Arm { inverse, weighted: vec![0.0; width], episodes: 0 };
        Self { arms: vec![arm; settings.arms.len()], settings, gains: Moments::default() }
    }

    pub fn settings(&self) -> &SelectorSettings {
        &self.settings
    }

    /// Switched on or off.
    #[must_use]
    pub fn switched(mut self, enabled: bool) -> Self {
        self.settings.enabled = enabled;
        self
    }

    /// Whether it is one that has been trained for these arms, in this order, and whose state fits its settings.
    pub fn fits(&self, arms: &[String]) -> bool {
        let width = self.settings.features.len();
        let is_whole = |arm: &Arm| arm.inverse.len() == width * width && arm.weighted.len() == width;
        self.settings.faults().is_empty()
            && self.settings.arms == arms
            && self.settings.features == FEATURES
            && self.arms.len() == arms.len()
            && self.arms.iter().all(is_whole)
    }

    /// Episodes learnt from, by arm.
    pub fn episodes(&self) -> Vec<u64> {
        self.arms.iter().map(|arm| arm.episodes).collect()
    }

    /// In training: the arm to try in this context; `None` for a context that is not one.
    pub fn explore(&self, context: &[f64]) -> Option<usize> {
        let context = self.context(context)?;
        self.best(|arm| arm.mean(&context) + self.settings.exploration * arm.spread(&context))
    }

    /// In training: what came of `arm` in this context. It closes the gate, since the selector is another one now.
    pub fn learn(&mut self, arm: usize, context: &[f64], reward: f64) {
        let Some(context) = self.context(context).filter(|_| reward.is_finite()) else { return };
        if let Some(arm) = self.arms.get_mut(arm) {
            arm.learn(&context, reward);
            self.gains = Moments::default();
        }
    }

    /// The arm that is believed to be best in this context, whatever the gate says; the default where none is better.
    pub fn believed(&self, context: &[f64]) -> Option<usize> {
        let context = self.context(context)?;
        self.best(|arm| arm.mean(&context))
    }

    /// One episode of the examination, in which both were tried: the reward of the believed arm and of the default.
    pub fn examine(&mut self, believed: f64, default: f64) {
        self.gains.add(believed - default);
    }

    /// The examination on logged decisions instead: inverse propensity scores of the believed arm less those of the default
    /// (Horvitz and Thompson 1952), whose mean is the gain without bias. A log without a propensity says nothing.
    pub fn examine_logged(&mut self, log: &[Logged]) {
        for logged in log {
            let Some(believed) = self.believed(&logged.context) else { continue };
            if logged.propensity > 0.0 && logged.propensity <= 1.0 {
                let took = |arm: usize| f64::from(u8::from(logged.arm == arm));
                let score = took(believed) - took(self.settings.default_arm);
                self.gains.add(score * logged.reward / logged.propensity);
            }
        }
    }

    /// Whether it has been shown to be better: the lower end of Student's one-sided interval of the gain.
    pub fn gate(&self) -> Gate {
        let episodes = self.gains.count();
        let enough = episodes >= self.settings.episodes_min.max(2);
        let gain = self.gains.mean().filter(|_| enough);
        let low = || {
            let error = (self.gains.variance()? / episodes as f64).sqrt();
            Some(gain? - t_quantile((episodes - 1) as f64, 1.0 - self.settings.alpha)? * error)
        };
        let gain_low = if enough { low() } else { None };
        Gate { open: gain_low.is_some_and(|low| low > self.settings.gain_min), gain, gain_low, episodes }
    }

    /// In service: the believed arm if the selector is on and the gate is open, otherwise the default. `None` only where
    /// the settings name no default.
    pub fn choose(&self, context: &[f64]) -> Option<Choice> {
        let default = self.settings.default_arm;
        let (arm, code) = if !self.settings.enabled {
            (default, "selector-off")
        } else if !self.gate().open {
            (default, "selector-unproven")
        } else {
            self.believed(context).map_or((default, "context-invalid"), |arm| (arm, "selected"))
        };
        let name = self.settings.arms.get(arm)?.clone();
        Some(Choice { arm, name, code: code.to_owned() })
    }

    /// The context, clipped; `None` if it has another width or something that is no number.
    fn context(&self, context: &[f64]) -> Option<Vec<f64>> {
        let sound = context.len() == self.settings.features.len() && context.iter().all(|value| value.is_finite());
        sound.then(|| context.iter().map(|value| value.clamp(-CONTEXT_MAX, CONTEXT_MAX)).collect())
    }

    /// The arm with the highest score; of equals the default, then the first.
    fn best(&self, score: impl Fn(&Arm) -> f64) -> Option<usize> {
        let default = self.settings.default_arm;
        let mut best = (default, score(self.arms.get(default)?));
        for (index, arm) in self.arms.iter().enumerate() {
            let found = score(arm);
            if found > best.1 {
                best = (index, found);
            }
        }
        Some(best.0)
    }
}

impl Arm {
    /// (A⁻¹ b)ᵀ x
    fn mean(&self, context: &[f64]) -> f64 {
        dot(&self.times(context), &self.weighted)
    }

    /// √(xᵀ A⁻¹ x)
    fn spread(&self, context: &[f64]) -> f64 {
        dot(&self.times(context), context).max(0.0).sqrt()
    }

    /// Sherman and Morrison: (A + x xᵀ)⁻¹ = A⁻¹ − A⁻¹ x xᵀ A⁻¹ / (1 + xᵀ A⁻¹ x).
    fn learn(&mut self, context: &[f64], reward: f64) {
        let times = self.times(context);
        let scale = 1.0 + dot(&times, context);
        let width = context.len();
        for (row, cells) in self.inverse.chunks_mut(width.max(1)).enumerate() {
            for (column, cell) in cells.iter_mut().enumerate() {
                *cell -= times[row] * times[column] / scale;
            }
        }
        for (sum, value) in self.weighted.iter_mut().zip(context) {
            *sum += reward * value;
        }
        self.episodes += 1;
    }

    /// A⁻¹ x
    fn times(&self, context: &[f64]) -> Vec<f64> {
        self.inverse.chunks(context.len().max(1)).map(|row| dot(row, context)).collect()
    }
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    const ARMS: [&str; 3] = ["risk-budget", "buffered", "ceiling"];

    /// Bursty services (second number > 0) do better with arm 1, calm ones with the default, none with arm 2.
    fn reward(rng: &mut ChaCha8Rng, arm: usize, context: &[f64]) -> f64 {
        let noise: f64 = StandardNormal.sample(rng);
        let mean = match arm {
            0 => 0.0,
            1 => context[1],
            _ => -1.0,
        };
        mean + 0.5 * noise
    }

    fn any_context(rng: &mut ChaCha8Rng) -> [f64; 2] {
        [1.0, rng.random_range(-1.0..1.0)]
    }

    fn trained(seed: u64, useful: bool) -> (Selector, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let settings = SelectorSettings { enabled: true, ..SelectorSettings::new(&ARMS, 0, &["one", "burst"]) };
        let mut selector = Selector::new(settings);
        for _ in 0..300 {
            let context = any_context(&mut rng);
            let arm = selector.explore(&context).unwrap();
            let reward = reward(&mut rng, if useful { arm } else { 0 }, &context);
            selector.learn(arm, &context, reward);
        }
        (selector, rng)
    }

    fn examine(selector: &mut Selector, rng: &mut ChaCha8Rng, useful: bool) {
        for _ in 0..200 {
            let context = any_context(rng);
            let believed = selector.believed(&context).unwrap();
            let chosen = reward(rng, if useful { believed } else { 0 }, &context);
            let default = reward(rng, 0, &context);
            selector.examine(chosen, default);
        }
    }

    #[test]
    fn the_better_arm_of_each_context_is_learnt_and_the_bad_one_is_hardly_tried() {
        let (mut selector, mut rng) = trained(1, true);
        assert_eq!(selector.believed(&[1.0, 0.8]), Some(1));
        assert_eq!(selector.believed(&[1.0, -0.8]), Some(0));
        let episodes = selector.episodes();
        assert!(episodes[2] < 40, "{episodes:?}");
        examine(&mut selector, &mut rng, true);
        assert!(selector.gate().open, "{:?}", selector.gate());
        let choice = selector.choose(&[1.0, 0.8]).unwrap();
        assert_eq!((choice.name.as_str(), choice.code.as_str()), ("buffered", "selected"));
    }

    #[test]
    fn the_gate_refuses_a_useless_selector_as_often_as_it_promises() {
        let opened = (0..400).filter(|seed| {
            let (mut selector, mut rng) = trained(*seed, false);
            examine(&mut selector, &mut rng, false);
            selector.gate().open
        });
        let opened = opened.count();
        // 5 % of 400, two standard errors of 4.4 above.
        assert!(opened <= 29, "{opened} of 400");
    }

    #[test]
    fn it_is_off_by_default_and_serves_the_default_until_it_is_proven() {
        let (mut selector, mut rng) = trained(2, true);
        let code = |selector: &Selector| selector.choose(&[1.0, 0.9]).unwrap().code;
        assert_eq!(code(&selector), "selector-unproven");
        examine(&mut selector, &mut rng, true);
        assert_eq!(code(&selector), "selected");
        assert_eq!(selector.choose(&[1.0, f64::NAN]).unwrap().code, "context-invalid");
        assert_eq!(selector.choose(&[1.0]).unwrap().arm, 0);
        selector.learn(1, &[1.0, 0.5], 1.0);
        assert_eq!(code(&selector), "selector-unproven", "learning closes the gate");
        let off = Selector::new(SelectorSettings::new(&ARMS, 0, &["one"]));
        assert_eq!(off.choose(&[1.0]).unwrap().code, "selector-off");
    }

    #[test]
    fn a_log_of_random_choices_opens_the_gate_for_a_useful_selector() {
        let (mut selector, mut rng) = trained(3, true);
        let log: Vec<Logged> = (0..4000)
            .map(|_| {
                let context = any_context(&mut rng).to_vec();
                let arm = rng.random_range(0..ARMS.len());
                let reward = reward(&mut rng, arm, &context);
                Logged { context, arm, propensity: 1.0 / ARMS.len() as f64, reward }
            })
            .collect();
        selector.examine_logged(&log);
        let gate = selector.gate();
        // The best there is: the mean of max(0, x) for x in −1 … 1.
        assert!(gate.open && (gate.gain.unwrap() - 0.25).abs() < 0.1, "{gate:?}");
    }

    #[test]
    fn the_inverse_is_that_of_the_sum() {
        let mut arm = Selector::new(SelectorSettings::new(&["a"], 0, &["x", "y"])).arms.remove(0);
        arm.learn(&[1.0, 2.0], 1.0);
        arm.learn(&[3.0, -1.0], 2.0);
        // A = I + [[10, −1], [−1, 5]], whose inverse is [[6, 1], [1, 11]] / 65.
        let expected = [6.0 / 65.0, 1.0 / 65.0, 1.0 / 65.0, 11.0 / 65.0];
        assert!(arm.inverse.iter().zip(expected).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "{arm:?}");
    }

    #[test]
    fn wrong_settings_are_named() {
        let settings = SelectorSettings { alpha: 0.9, ridge: 0.0, ..SelectorSettings::new(&["a"], 1, &[]) };
        assert_eq!(settings.faults().len(), 4, "{:?}", settings.faults());
        assert!(SelectorSettings::new(&ARMS, 0, &["one"]).faults().is_empty());
    }
}
