//! How much likelier a burst is for the time that a pool has held out. Rule: a factor on the pool's own rate, learnt over all
//! pools together, since each alone has too few bursts to tell its youth from its age.
//!
//! Recorded pools that have just come back are struck ten times as often as those that have lasted for hours: spells with
//! units are short or very long. A rate alone, an average over time, calls the first ones safe and the second ones risky.

use prescale_domain::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where one age ends and the next begins.
const AGES: [Span; 4] =
    [Span::from_minutes(15), Span::from_minutes(60), Span::from_minutes(240), Span::from_minutes(12 * 60)];
/// What is believed before anything is seen, and what that is worth in bursts.
const PRIOR: [f64; 5] = [3.0, 1.5, 0.8, 0.5, 0.4];
const PRIOR_BURSTS: f64 = 2.0;
/// What is kept of all with each burst: how pools age is no fast-moving thing.
const KEPT: f64 = 0.995;

/// By age, bursts that were seen, and those that the pools' rates without regard to age made one expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Ageing {
    seen: [f64; 5],
    expected: [f64; 5],
}

impl Ageing {
    /// A pool with a rate of so many bursts an hour lived on from one age to another without any.
    pub(super) fn live(&mut self, from: Span, to: Span, burst_per_hour: f64) {
        let mut begin = Span::from_millis(0);
        for (index, expected) in self.expected.iter_mut().enumerate() {
            let end = AGES.get(index).copied().unwrap_or(to.max(begin));
            let within = to.min(end).millis() - from.max(begin).millis();
            *expected += burst_per_hour * within.max(0) as f64 / 3.6e6;
            begin = end;
        }
    }

    /// A pool of that age was struck.
    pub(super) fn strike(&mut self, age: Span) {
        self.seen.iter_mut().chain(&mut self.expected).for_each(|sum| *sum *= KEPT);
        self.seen[index_of(age)] += 1.0;
    }

    /// By what a pool's rate is to be multiplied at that age.
    pub(super) fn factor(&self, age: Span) -> f64 {
        let index = index_of(age);
        (PRIOR[index] * PRIOR_BURSTS + self.seen[index]) / (PRIOR_BURSTS + self.expected[index])
    }
}

fn index_of(age: Span) -> usize {
    AGES.iter().take_while(|end| age >= **end).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_at_the_age_at_which_it_was_lived() {
        let mut ageing = Ageing::default();
        ageing.live(Span::from_minutes(10), Span::from_minutes(90), 2.0);
        let hours = [5.0, 45.0, 30.0, 0.0, 0.0].map(|minutes| 2.0 * minutes / 60.0);
        for (found, wanted) in ageing.expected.iter().zip(hours) {
            assert!((found - wanted).abs() < 1e-12, "{:?}", ageing.expected);
        }
        ageing.live(Span::from_minutes(600), Span::from_minutes(900), 1.0);
        assert!((ageing.expected[3] - 2.0).abs() < 1e-12 && (ageing.expected[4] - 3.0).abs() < 1e-12);
    }

    #[test]
    fn what_dies_young_is_safe_when_it_is_old() {
        let mut ageing = Ageing::default();
        for _ in 0..50 {
            // Nine of ten last ten minutes, the tenth a day.
            for _ in 0..9 {
                ageing.live(Span::default(), Span::from_minutes(10), 0.4);
                ageing.strike(Span::from_minutes(10));
            }
            ageing.live(Span::default(), Span::from_minutes(1440), 0.4);
            ageing.strike(Span::from_minutes(1440));
        }
        let (young, old) = (ageing.factor(Span::default()), ageing.factor(Span::from_minutes(800)));
        assert!(young > 8.0 && old < 0.3, "{young} and {old}");
    }
}
