//! A fleet of fixed size that carries the highest load of the history. Rule: sized before the scored part, not in it.

use super::{Autoscaler, Contender, Course, Fixed, Knobs};
use crate::arena::Bout;

/// Units that carry the highest of the loads seen so far; at least 1.
pub fn static_peak(history: impl IntoIterator<Item = f64>, unit_capacity: f64) -> u32 {
    let peak = history.into_iter().fold(0.0, f64::max);
    ((peak / unit_capacity).ceil() as u32).max(1)
}

pub(super) struct Entry(u32);

impl Entry {
    pub(super) fn new(course: &Course) -> Self {
        Self(static_peak(course.training.load.iter().copied(), course.bout.unit_capacity))
    }
}

impl Contender for Entry {
    fn enter<'a>(&'a self, bout: &'a Bout, _: Knobs) -> Box<dyn Autoscaler + 'a> {
        Box::new(Fixed(self.0.min(bout.fleet.max)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_load_seen_is_carried() {
        assert_eq!(static_peak([3.0, 7.1, 5.0], 0.5), 15);
        assert_eq!(static_peak([], 0.5), 1);
    }
}
