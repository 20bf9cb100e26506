//! One model in the shadow of the one that serves, scored on the same windows. Rule: what is bet on a block of forecasts
//! is fixed before the first of them is made, and a block ends before the next begins, so that the test keeps its promise
//! although forecasts overlap.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_domain::{ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::sequential::{BettingTest, Scale};

use super::job::TrainingKind;
use super::settings::TrialSettings;
use super::state::{Lineage, read_bytes, write_bytes};

/// Forecasts are made for this share of the horizon in each block; the rest of it is waited for.
const BLOCK_SHARE: usize = 3;
/// The e-value from which a challenger is not superseded.
const LEADS: f64 = 2.0;

/// Who is in the shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// A newly trained model: it is promoted if it is better.
    Challenger,
    /// The model that served before: it comes back if it is better.
    Former,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The model in the shadow is better.
    Shadow,
    /// The model that serves is better.
    Serving,
    /// Neither by the deadline.
    Neither,
}

/// A trial under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) role: Role,
    /// What the training was for that the newer of the two came from, and its number.
    pub(super) kind: TrainingKind,
    pub(super) job: u64,
    pub(super) started: Timestamp,
    pub(super) deadline: Timestamp,
    /// The model in the shadow.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub(super) model: Arc<Vec<u8>>,
    /// Where it comes from.
    pub(super) lineage: Option<Lineage>,
    alpha: f64,
    /// Evidence that the model in the shadow is better, and that the one that serves is.
    shadow: BettingTest,
    serving: BettingTest,
    scale: Scale,
    block: Option<Block>,
    /// Sums of the relative differences, and blocks that came live.
    difference: f64,
    blocks: u64,
}

/// Losses of the forecasts whose origins are in `[start, start + length)`: of the one that serves, and in the shadow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    start: Timestamp,
    sums: BTreeMap<ServiceName, (f64, f64)>,
}

/// Steps of origins in a block, and until the next begins.
pub(super) fn block_steps(horizon_steps: usize) -> (usize, usize) {
    let origins = (horizon_steps / BLOCK_SHARE).max(1);
    (origins, origins + horizon_steps)
}

/// The difference of two losses as a share of their mean, in [−2, 2]; above 0 where the first is larger.
pub(super) fn relative(first: f64, second: f64) -> Option<f64> {
    let both = first + second;
    (both.is_finite() && both > 0.0).then(|| 2.0 * (first - second) / both)
}

impl Trial {
    pub(super) fn of(self, lineage: Option<Lineage>) -> Self {
        Self { lineage, ..self }
    }

    pub(super) fn new(
        role: Role,
        kind: TrainingKind,
        job: u64,
        now: Timestamp,
        model: Arc<Vec<u8>>,
        settings: &TrialSettings,
    ) -> Self {
        let length = match role {
            Role::Challenger => settings.deadline,
            Role::Former => settings.watch,
        };
        Self {
            role,
            kind,
            job,
            started: now,
            deadline: now + length,
            model,
            lineage: None,
            alpha: settings.alpha,
            shadow: BettingTest::default(),
            serving: BettingTest::default(),
            scale: Scale::default(),
            block: None,
            difference: 0.0,
            blocks: 0,
        }
    }

    /// Takes relative differences of blocks of the past that the model in the shadow was not trained on. The one that
    /// serves may have been: that makes it look better than it is, so this counts for the shadow alone.
    pub(super) fn replay(&mut self, differences: &[f64]) {
        for difference in differences {
            let difference = self.scale.apply(*difference);
            self.shadow.add(difference);
        }
    }

    /// Takes the losses of both models for one window, of the forecast that was made at `origin`.
    pub(super) fn take(
        &mut self,
        service: &ServiceName,
        origin: Timestamp,
        (serving, shadow): (f64, f64),
        (step, horizon_steps): (Span, usize),
    ) {
        let Some(block) = &mut self.block else { return };
        let length = Span::from_millis(step.millis() * block_steps(horizon_steps).0 as i64);
        if origin >= block.start && origin < block.start + length {
            let own = block.sums.entry(service.clone()).or_default();
            own.0 += serving;
            own.1 += shadow;
        }
    }

    /// Time has come to the window that starts at `window`, whose outcomes have not been taken yet: ends the block whose
    /// outcomes are complete, and begins the next.
    pub(super) fn advance(&mut self, window: Timestamp, step: Span, horizon_steps: usize) {
        let cycle = Span::from_millis(step.millis() * block_steps(horizon_steps).1 as i64);
        if self.block.as_ref().is_some_and(|block| window < block.start + cycle) {
            return;
        }
        if let Some(block) = self.block.replace(Block { start: window, sums: BTreeMap::new() }) {
            // Each service counts the same, whatever its load.
            let each: Vec<f64> =
                block.sums.values().filter_map(|(serving, shadow)| relative(*serving, *shadow)).collect();
            if !each.is_empty() {
                let mean = each.iter().sum::<f64>() / each.len() as f64;
                let difference = self.scale.apply(mean);
                self.shadow.add(difference);
                self.serving.add(-difference);
                self.difference += mean;
                self.blocks += 1;
            }
        }
    }

    /// Whether it is over, at `now`.
    pub(super) fn verdict(&self, now: Timestamp) -> Option<Verdict> {
        if self.shadow.rejects(self.alpha) {
            Some(Verdict::Shadow)
        } else if self.serving.rejects(self.alpha) {
            Some(Verdict::Serving)
        } else {
            (now >= self.deadline).then_some(Verdict::Neither)
        }
    }

    /// Whether there is some evidence for the model in the shadow.
    pub(super) fn leads(&self) -> bool {
        self.shadow.e_value() >= LEADS
    }

    /// The evidence so far, as part of a sentence.
    pub(super) fn evidence(&self) -> String {
        let live = match self.blocks {
            0 => "no live block yet".to_owned(),
            blocks => format!(
                "{blocks} live blocks with {:.1} % lower loss in the shadow",
                100.0 * self.difference / blocks as f64
            ),
        };
        format!(
            "e-value {:.1} for the model in the shadow (of {} blocks), {:.1} for the one that serves, needs {:.0}; {live}",
            self.shadow.e_value(),
            self.shadow.count(),
            self.serving.e_value(),
            1.0 / self.alpha
        )
    }
}
