//! What the online loop is told. Rule: strict; every length of time has a unit.

use prescale_domain::{DEFAULT_QUANTILES, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::{ModelKind, TrainingDevice};

/// Settings of forecasting and training, for all services together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineSettings {
    /// Windows that are forecast.
    pub horizon_steps: u32,
    /// Width of a window; the same as `features.step`.
    pub step: Span,
    /// Quantiles that are forecast, ascending, with 0.5 among them.
    pub levels: Vec<f64>,
    /// Models whose mix serves.
    pub models: Vec<ModelKind>,
    /// History that a service needs before the LSTM is trained for it.
    pub min_history: Span,
    /// History that a training looks at, at most.
    pub train_history: Span,
    /// Time between full trainings; while the history is shorter, its length.
    pub refit_every: Span,
    /// From the start of a training to its effect, on the event clock.
    pub training_delay: Span,
    /// Time between small updates from the replay buffer.
    pub update_every: Span,
    pub drift: DriftSettings,
    pub trial: TrialSettings,
    pub budget: BudgetSettings,
    /// What the LSTM is trained on.
    pub device: TrainingDevice,
    /// Seed of everything random.
    pub seed: u64,
}

/// When the error of the served model counts as having grown (Page–Hinkley on the error in widths of the forecast).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DriftSettings {
    /// Growth of the mean error that is tolerated, in widths.
    pub delta: f64,
    /// Cumulated growth that raises the alarm, in widths.
    pub threshold: f64,
    /// Outcomes before the first alarm.
    pub warm_up: u64,
    /// Probability of a false alarm of ADWIN on the same error, at each look; 0 switches it off.
    pub adwin_delta: f64,
    /// Whether the load itself is watched, hour by hour, by the test of Kolmogorov and Smirnov.
    pub inputs: bool,
    /// Least time between a full training and one that drift asks for.
    pub cooldown: Span,
}

/// When a newly trained model replaces the one that serves, and when it is taken back. Both are scored on the same windows;
/// the test may be looked at after each of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrialSettings {
    /// Probability that a model that is no better replaces another, at any time of the trial.
    pub alpha: f64,
    /// A challenger that has not proved better by then is dropped.
    pub deadline: Span,
    /// How long a promoted model is watched: its predecessor comes back if that proves better.
    pub watch: Span,
}

/// How much a training may cost, in windows looked at: the only bound, so that it ends at the same place every time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetSettings {
    /// The first training, from scratch.
    pub first_samples: u32,
    /// Later full trainings, which start from the serving model.
    pub refit_samples: u32,
    /// A small update.
    pub update_samples: u32,
}

impl Default for OnlineSettings {
    fn default() -> Self {
        Self {
            horizon_steps: 30,
            step: Span::from_minutes(1),
            levels: DEFAULT_QUANTILES.to_vec(),
            models: ModelKind::DEFAULT.to_vec(),
            min_history: Span::from_minutes(12 * 60),
            train_history: Span::from_minutes(21 * 24 * 60),
            refit_every: Span::from_minutes(24 * 60),
            training_delay: Span::from_minutes(10),
            update_every: Span::from_minutes(60),
            drift: DriftSettings::default(),
            trial: TrialSettings::default(),
            budget: BudgetSettings::default(),
            device: TrainingDevice::Cpu,
            seed: 1,
        }
    }
}

impl Default for DriftSettings {
    fn default() -> Self {
        Self {
            delta: 0.15,
            threshold: 40.0,
            warm_up: 240,
            adwin_delta: 1e-5,
            inputs: true,
            cooldown: Span::from_minutes(6 * 60),
        }
    }
}

impl Default for TrialSettings {
    fn default() -> Self {
        Self { alpha: 0.05, deadline: Span::from_minutes(24 * 60), watch: Span::from_minutes(48 * 60) }
    }
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { first_samples: 48_000, refit_samples: 12_000, update_samples: 512 }
    }
}

/// A setting out of bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// Its place below the settings, such as `drift.delta`.
    pub name: &'static str,
    pub value: String,
    pub expected: &'static str,
}

impl OnlineSettings {
    /// All settings that are out of bounds.
    pub fn faults(&self) -> Vec<SettingFault> {
        let inside = self.levels.iter().all(|level| *level > 0.0 && *level < 1.0);
        let levels_are_sound = inside && self.levels.is_sorted_by(|a, b| a < b) && self.levels.contains(&0.5);
        let step_is_sound = self.step.millis() >= 1000 && 86_400_000 % self.step.millis() == 0;
        let (drift, trial, budget) = (&self.drift, &self.trial, &self.budget);
        let at_least_a_step = |name, span: Span| (span >= self.step, name, span.to_string(), "at least one step");
        let at_least_one = |name, samples: u32| (samples >= 1, name, samples.to_string(), "at least 1");
        let checks = [
            ((1..=1440).contains(&self.horizon_steps), "horizon_steps", self.horizon_steps.to_string(), "1 to 1440"),
            (step_is_sound, "step", self.step.to_string(), "at least 1s and a divisor of 1d"),
            (
                levels_are_sound,
                "levels",
                format!("{:?}", self.levels),
                "ascending, each in (0, 1), with 0.5 among them",
            ),
            (!self.models.is_empty(), "models", "empty".to_owned(), "at least one model"),
            // The one that not every build has.
            (
                self.models.iter().all(|kind| kind.is_built()),
                "models",
                ModelKind::Prophet.to_string(),
                "others, or a build with `--features prophet`",
            ),
            at_least_a_step("min_history", self.min_history),
            at_least_a_step("train_history", self.train_history),
            at_least_a_step("refit_every", self.refit_every),
            at_least_a_step("update_every", self.update_every),
            (drift.delta.is_finite() && drift.delta >= 0.0, "drift.delta", drift.delta.to_string(), "0 or more"),
            (
                drift.threshold.is_finite() && drift.threshold > 0.0,
                "drift.threshold",
                drift.threshold.to_string(),
                "above 0",
            ),
            (
                (0.0..1.0).contains(&drift.adwin_delta),
                "drift.adwin_delta",
                drift.adwin_delta.to_string(),
                "0 or more and below 1",
            ),
            (trial.alpha > 0.0 && trial.alpha < 1.0, "trial.alpha", trial.alpha.to_string(), "above 0 and below 1"),
            at_least_a_step("trial.deadline", trial.deadline),
            at_least_a_step("trial.watch", trial.watch),
            at_least_one("budget.first_samples", budget.first_samples),
            at_least_one("budget.refit_samples", budget.refit_samples),
            at_least_one("budget.update_samples", budget.update_samples),
            (self.device.is_built(), "device", "gpu".to_owned(), "\"cpu\", or a build with `--features gpu`"),
        ];
        let wrong = checks.into_iter().filter(|(sound, ..)| !sound);
        wrong.map(|(_, name, value, expected)| SettingFault { name, value, expected }).collect()
    }

    /// Windows ahead that are forecast.
    pub fn horizon(&self) -> usize {
        self.horizon_steps as usize
    }

    pub(crate) fn uses(&self, kind: ModelKind) -> bool {
        self.models.contains(&kind)
    }
}
