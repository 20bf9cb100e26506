//! Provisioning latency, learnt from observations of a target. Rule: first asked for, first in service; what could have
//! happened at any time between two observations counts as the later one, so that the latency is never flattered.

use std::collections::VecDeque;

use prescale_domain::{Span, TargetState, Timestamp};
use serde::{Deserialize, Serialize};

/// Latencies that are kept.
const KEPT: usize = 200;
/// Latencies after which they count instead of the configuration.
const ENOUGH: usize = 8;
/// Units that have not come after this are given up; they were cancelled, or their start failed.
const GIVEN_UP: Span = Span::from_minutes(120);

/// What was seen of one target, or of one of its zones or images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeadLearner {
    /// Units that were asked for and are not in service yet, oldest first.
    pending: VecDeque<(Timestamp, u32)>,
    last: Option<Seen>,
    /// Milliseconds, oldest first.
    latencies: VecDeque<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    desired: u32,
    ready: u32,
}

/// Quantiles of what was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learnt {
    pub median: Span,
    pub p90: Span,
    pub units: usize,
}

impl LeadLearner {
    /// Takes in an observation; one that does not say how many units are in service tells nothing.
    pub fn observe(&mut self, state: &TargetState) {
        let Some(ready) = state.ready else { return };
        let now = state.observed_at;
        let seen = Seen { desired: state.desired, ready };
        let Some(last) = self.last.replace(seen) else { return };
        self.pending.retain(|(asked, _)| now.since(*asked) <= GIVEN_UP);
        self.arrive(now, ready.saturating_sub(last.ready));
        if seen.desired > last.desired {
            self.pending.push_back((now, seen.desired - last.desired));
        } else {
            // What is cancelled is the newest of what has not come.
            self.cancel(last.desired - seen.desired);
        }
        // Never more on the way than are missing, whatever replaced what.
        let missing = seen.desired.saturating_sub(ready);
        let pending: u32 = self.pending.iter().map(|(_, units)| *units).sum();
        self.cancel(pending.saturating_sub(missing));
    }

    /// Notes that `units` are wanted from now on, at the moment at which they were asked for and not only when that is seen.
    pub fn asked(&mut self, now: Timestamp, units: u32) {
        let Some(last) = &mut self.last else { return };
        let before = std::mem::replace(&mut last.desired, units);
        if units > before {
            self.pending.push_back((now, units - before));
        } else {
            self.cancel(before - units);
        }
    }

    /// `None` until enough units have come.
    pub fn learnt(&self) -> Option<Learnt> {
        if self.latencies.len() < ENOUGH {
            return None;
        }
        let mut sorted: Vec<i64> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let at = |level: f64| {
            let index = (level * sorted.len() as f64).ceil() as usize;
            Span::from_millis(sorted[index.clamp(1, sorted.len()) - 1])
        };
        Some(Learnt { median: at(0.5), p90: at(0.9), units: sorted.len() })
    }

    fn arrive(&mut self, now: Timestamp, mut units: u32) {
        while units > 0 {
            let Some((asked, waiting)) = self.pending.front_mut() else { return };
            let came = units.min(*waiting);
            let latency = now.since(*asked).millis();
            *waiting -= came;
            units -= came;
            if *waiting == 0 {
                self.pending.pop_front();
            }
            for _ in 0..came.min(KEPT as u32) {
                self.latencies.push_back(latency);
            }
            while self.latencies.len() > KEPT {
                self.latencies.pop_front();
            }
        }
    }

    fn cancel(&mut self, mut units: u32) {
        while units > 0 {
            let Some((_, waiting)) = self.pending.back_mut() else { return };
            let gone = units.min(*waiting);
            *waiting -= gone;
            units -= gone;
            if *waiting == 0 {
                self.pending.pop_back();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(seconds: i64, desired: u32, ready: u32) -> TargetState {
        let observed_at = Timestamp::from_millis(seconds * 1000);
        TargetState { desired, ready: Some(ready), min: None, max: None, observed_at }
    }

    #[test]
    fn latencies_are_from_request_to_service_in_order() {
        let mut learner = LeadLearner::default();
        learner.observe(&state(0, 2, 2));
        for round in 0..10 {
            let from = round * 1000;
            learner.asked(Timestamp::from_millis(from * 1000), 4);
            learner.observe(&state(from + 60, 4, 2));
            learner.observe(&state(from + 100, 4, 3));
            learner.observe(&state(from + 160, 4, 4));
            learner.observe(&state(from + 500, 2, 2));
        }
        let learnt = learner.learnt().unwrap();
        assert_eq!((learnt.median, learnt.p90, learnt.units), (Span::from_secs(100), Span::from_secs(160), 20));
    }

    #[test]
    fn what_was_cancelled_did_not_take_for_ever() {
        let mut learner = LeadLearner::default();
        learner.observe(&state(0, 2, 2));
        learner.observe(&state(10, 8, 2));
        learner.observe(&state(20, 2, 2));
        learner.observe(&state(1000, 10, 2));
        learner.observe(&state(1100, 10, 10));
        assert_eq!(learner.learnt().unwrap().p90, Span::from_secs(100));
    }

    #[test]
    fn a_few_units_are_not_enough() {
        let mut learner = LeadLearner::default();
        learner.observe(&state(0, 1, 1));
        learner.observe(&state(10, 5, 1));
        learner.observe(&state(110, 5, 5));
        assert_eq!(learner.learnt(), None);
    }

    proptest! {
        #[test]
        fn any_observations_give_sound_quantiles(
            seen in prop::collection::vec((0i64..300, 0u32..50, prop::option::of(0u32..60)), 0..80),
        ) {
            let mut learner = LeadLearner::default();
            let mut now = 0;
            for (pause, desired, ready) in seen {
                now += pause;
                learner.observe(&TargetState { ready, ..state(now, desired, 0) });
            }
            if let Some(learnt) = learner.learnt() {
                prop_assert!(learnt.median <= learnt.p90 && learnt.p90 <= GIVEN_UP && learnt.median >= Span::ZERO);
            }
            let json = serde_json::to_string(&learner).unwrap();
            prop_assert_eq!(serde_json::from_str::<LeadLearner>(&json).unwrap(), learner);
        }
    }
}
