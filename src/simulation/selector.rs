//! Trains the selector of policies on simulated days, and examines it on others. Rule: no day of the examination was learnt
//! from; the context knows the past of its day only.
//!
//! An episode is one service on one scored stretch. Its context says what kind of load it has been so far ([`context`]), an
//! arm is a set of policy settings, and the reward is what flying it costs and misses ([`reward`]).

use prescale_decide::selector::{FEATURES, Gate, Selector, SelectorSettings, context};
use prescale_domain::Timestamp;

use crate::arena::{Bout, Pilot, Tally};
use crate::experiment::{ExperimentSettings, Stage, simulate_prescale};

/// Windows of an hour of a stage.
const HOUR: usize = 60;

/// Between what the selector chooses.
#[derive(Clone, Debug)]
pub struct PolicyArm {
    pub name: String,
    pub settings: ExperimentSettings,
}

/// How to train.
#[derive(Clone, Debug)]
pub struct TrainingSettings {
    pub arms: Vec<PolicyArm>,
    /// Index of the arm that serves otherwise.
    pub default_arm: usize,
    /// Stages to learn from, and to be examined on after that; each has an episode for each of its services.
    pub stages: u64,
    pub exam_stages: u64,
    /// Cost of the whole time being short, in multiples of the cost of just the units needed.
    pub shortage_weight: f64,
    pub seed: u64,
}

/// What came of training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    pub selector: Selector,
    pub gate: Gate,
    /// Episodes of the examination by chosen arm.
    pub chosen: Vec<u64>,
}

/// Learns on the stages of `seed`, `seed + 1`, … and is examined on those after them. The selector that comes out is off.
pub fn train(settings: &TrainingSettings, mut stage: impl FnMut(u64) -> Stage) -> Trained {
    let names: Vec<&str> = settings.arms.iter().map(|arm| arm.name.as_str()).collect();
    let mut selector = Selector::new(SelectorSettings::new(&names, settings.default_arm, &FEATURES));
    let exams_from = settings.seed.saturating_add(settings.stages);
    for seed in settings.seed..exams_from {
        let mut flights = Flights::new(settings, stage(seed));
        for service in flights.services() {
            let Some((context, arm)) = flights.context(service).and_then(|c| selector.explore(&c).map(|arm| (c, arm)))
            else {
                continue;
            };
            if let Some(reward) = flights.reward(service, arm) {
                selector.learn(arm, &context, reward);
            }
        }
    }
    let mut chosen = vec![0; settings.arms.len()];
    for seed in exams_from..exams_from.saturating_add(settings.exam_stages) {
        let mut flights = Flights::new(settings, stage(seed));
        for service in flights.services() {
            let Some(arm) = flights.context(service).and_then(|context| selector.believed(&context)) else { continue };
            let believed = flights.reward(service, arm);
            if let Some((believed, default)) = believed.zip(flights.reward(service, settings.default_arm)) {
                selector.examine(believed, default);
                chosen[arm] += 1;
            }
        }
    }
    Trained { gate: selector.gate(), selector, chosen }
}

/// The cost as a multiple of that of just the units needed, and the share of time short by its weight; less is more.
pub fn reward(bout: &Bout, tally: &Tally, shortage_weight: f64) -> Option<f64> {
    let demand = &bout.demand;
    let needed: f64 = demand.load.iter().map(|load| (load / bout.unit_capacity).ceil().max(1.0)).sum();
    let least = needed * demand.step.seconds() / 3600.0 * bout.fleet.price_usd_hour;
    if !least.is_finite() || least <= 0.0 || tally.ticks == 0 {
        return None;
    }
    let short = tally.short_ticks as f64 / tally.ticks as f64;
    Some(-(tally.cost_usd / least + shortage_weight * short))
}

/// Desired units by time.
type Timeline = Vec<(Timestamp, u32)>;

/// What each arm would have come to on one stage; each is decided once.
struct Flights<'a> {
    settings: &'a TrainingSettings,
    stage: Stage,
    /// By arm and service.
    timelines: Vec<Option<Vec<Timeline>>>,
}

impl<'a> Flights<'a> {
    fn new(settings: &'a TrainingSettings, stage: Stage) -> Self {
        Self { timelines: vec![None; settings.arms.len()], settings, stage }
    }

    fn services(&self) -> std::ops::Range<usize> {
        0..self.stage.bouts.len()
    }

    fn context(&self, service: usize) -> Option<Vec<f64>> {
        let bout = self.stage.bouts.get(service)?;
        let lead = bout.fleet.provisioning_latency_p90 + bout.fleet.warm_up;
        context(self.stage.histories.get(service)?, HOUR, bout.unit_capacity, lead)
    }

    fn reward(&mut self, service: usize, arm: usize) -> Option<f64> {
        let policy = &self.settings.arms.get(arm)?.settings;
        let decided = self.timelines.get_mut(arm)?.get_or_insert_with(|| simulate_prescale(&self.stage, policy));
        let bout = self.stage.bouts.get(service)?;
        let tally = bout.fly(&Pilot::Timeline(decided.get(service)?));
        reward(bout, &tally, self.settings.shortage_weight)
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::Span;

    use super::*;
    use crate::experiment::tests::{experiment, fleet};
    use crate::workload::LoadSettings;

    /// Three hours of three services after a day and a quarter.
    fn stage(seed: u64) -> Stage {
        let start = "2026-03-02T00:00:00Z".parse().unwrap();
        let load = LoadSettings::demo(seed, start, Span::from_minutes(1440 + 360), Span::from_minutes(180));
        Stage::new(load, fleet(seed), 10.0)
    }

    fn arm(name: &str, quantile: f64) -> PolicyArm {
        let mut settings = experiment();
        settings.policy.quantile = quantile;
        PolicyArm { name: name.to_owned(), settings }
    }

    fn training(arms: Vec<PolicyArm>) -> TrainingSettings {
        TrainingSettings { arms, default_arm: 0, stages: 6, exam_stages: 11, shortage_weight: 20.0, seed: 1 }
    }

    #[test]
    fn a_better_policy_than_the_default_is_found_and_passes_the_gate() {
        // The median as the level to cover is short half of the time.
        let trained = train(&training(vec![arm("median", 0.5), arm("cautious", 0.99)]), stage);
        assert!(trained.gate.open, "{trained:?}");
        assert!(trained.chosen[1] > 25, "{:?}", trained.chosen);
        assert_eq!(trained.selector.choose(&[1.0; 7]).unwrap().code, "selector-off");
    }

    #[test]
    fn a_choice_between_equals_does_not_pass() {
        let trained = train(&training(vec![arm("one", 0.99), arm("other", 0.99)]), stage);
        assert!(!trained.gate.open && trained.gate.gain == Some(0.0), "{trained:?}");
    }

    #[test]
    fn the_same_seed_trains_the_same_selector() {
        let few = |seed| {
            let arms = vec![arm("median", 0.5), arm("cautious", 0.99)];
            train(&TrainingSettings { stages: 2, exam_stages: 1, seed, ..training(arms) }, stage).selector
        };
        assert_eq!(few(1), few(1));
        assert_ne!(few(1), few(2));
    }
}
