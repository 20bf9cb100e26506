//! What one unit carries within the objective, learnt from latency against load. Rule: learnt only between the two ranges
//! that mislead: where units starve, latency says nothing of load; where they are saturated, the queue speaks and not the
//! unit.
//!
//! With a load x on a unit that is full at μ, latency is about s / (1 − x / μ) (M/M/1; processor sharing gives the same
//! mean), so that 1 / latency falls linearly with x. The line is fitted by Theil (1950) and Sen (1968), which a quarter of
//! outliers does not move, over the medians of bins of load; capacity is where it meets the objective.

use prescale_domain::Span;
use serde::{Deserialize, Serialize};

/// Bins by load on a unit, as powers of this from the smallest up: each 10 % wide.
const BIN: f64 = 1.1;
/// Latencies kept in each bin, and how many make it count.
const BIN_KEPT: usize = 64;
const BIN_ENOUGH: usize = 8;
/// Bins that make a line.
const BINS_ENOUGH: usize = 4;
/// A bin whose median latency is above this multiple of the objective is saturated.
const SATURATED: f64 = 2.0;
/// A bin below this share of the highest load seen on a unit starves.
const STARVING: f64 = 0.2;
/// Capacity is said no further beyond the highest load that was seen than this.
const BEYOND: f64 = 1.15;

/// What was seen of a service's units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityLearner {
    /// By the bin's number: latencies in milliseconds, newest last.
    bins: std::collections::BTreeMap<i32, Vec<f64>>,
}

impl CapacityLearner {
    /// Takes in one window: the load on each unit in service, and the latency at the objective's quantile. What is not
    /// above zero, or in which `errors` say that requests were refused, is left out.
    pub fn observe(&mut self, load_per_unit: f64, latency: Span, errors: f64) {
        let millis = latency.millis() as f64;
        if !(load_per_unit.is_finite() && load_per_unit > 0.0 && millis > 0.0 && errors < 0.01) {
            return;
        }
        let number = (load_per_unit.ln() / BIN.ln()).floor().clamp(-2000.0, 2000.0) as i32;
        let bin = self.bins.entry(number).or_default();
        bin.push(millis);
        if bin.len() > BIN_KEPT {
            bin.remove(0);
        }
    }

    /// Load that one unit carries within `objective`; `None` until there is enough between starving and saturated, or where
    /// latency does not grow with load.
    pub fn capacity(&self, objective: Span) -> Option<f64> {
        let wanted = objective.millis() as f64;
        if wanted <= 0.0 {
            return None;
        }
        let middle = |number: i32| BIN.powf(f64::from(number) + 0.5);
        let counted = self.bins.iter().filter(|(_, bin)| bin.len() >= BIN_ENOUGH);
        let points: Vec<(f64, f64)> = counted.map(|(number, bin)| (middle(*number), median(bin.clone()))).collect();
        let highest = points.iter().map(|(load, _)| *load).fold(0.0, f64::max);
        let line: Vec<(f64, f64)> = points
            .into_iter()
            .filter(|(load, latency)| *load >= STARVING * highest && *latency <= SATURATED * wanted)
            .map(|(load, latency)| (load, 1.0 / latency))
            .collect();
        if line.len() < BINS_ENOUGH {
            return None;
        }
        let pairs = line.iter().enumerate().flat_map(|(index, a)| line[index + 1..].iter().map(move |b| (a, b)));
        let slope = median(pairs.map(|(a, b)| (b.1 - a.1) / (b.0 - a.0)).collect());
        let level = median(line.iter().map(|(load, inverse)| inverse - slope * load).collect());
        let seen = line.last().map_or(0.0, |(load, _)| *load);
        if slope >= 0.0 {
            return None;
        }
        let capacity = (1.0 / wanted - level) / slope;
        (capacity > 0.0).then(|| capacity.min(seen * BEYOND))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latency of a unit that is full at 100 and serves in 10 ms, with a repeatable disturbance.
    fn latency(load: f64, turn: usize) -> Span {
        let disturbed = 1.0 + 0.1 * ((turn as f64 * 2.399).sin());
        let millis = if load < 97.0 { 10.0 / (1.0 - load / 100.0) } else { 5000.0 };
        Span::from_millis((millis * disturbed).round() as i64)
    }

    fn learnt(loads: impl Iterator<Item = f64>) -> Option<f64> {
        let mut learner = CapacityLearner::default();
        for (turn, load) in loads.enumerate() {
            learner.observe(load, latency(load, turn), 0.0);
        }
        learner.capacity(Span::from_millis(50))
    }

    #[test]
    fn capacity_is_where_latency_meets_the_objective() {
        // 10 / (1 - x / 100) = 50 at x = 80.
        let found = learnt((0..4000).map(|turn| 20.0 + 55.0 * ((turn * 37) % 1000) as f64 / 1000.0)).unwrap();
        assert!((found / 80.0 - 1.0).abs() < 0.06, "{found}");
    }

    #[test]
    fn saturated_and_starving_units_teach_nothing() {
        assert_eq!(learnt((0..4000).map(|turn| 97.0 + (turn % 30) as f64)), None);
        let starving = (0..4000).map(|turn| 0.1 + (turn % 10) as f64 / 100.0);
        // One look at a high load makes all of that starving.
        assert_eq!(learnt(starving.chain((0..20).map(|_| 60.0))), None);
    }

    #[test]
    fn nothing_is_said_far_beyond_what_was_seen() {
        let found = learnt((0..4000).map(|turn| 10.0 + 20.0 * ((turn * 37) % 1000) as f64 / 1000.0)).unwrap();
        assert!(found <= 30.0 * BEYOND * BIN, "{found}");
    }

    #[test]
    fn windows_with_errors_or_nonsense_are_left_out() {
        let mut learner = CapacityLearner::default();
        for load in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            learner.observe(load, Span::from_millis(10), 0.0);
        }
        learner.observe(10.0, Span::from_millis(10), 0.5);
        learner.observe(10.0, Span::ZERO, 0.0);
        assert_eq!(learner, CapacityLearner::default());
    }
}
