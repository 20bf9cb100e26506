//! How much memory the state of a pipeline takes. Rule: counted as it changes; no figure needs a walk over all groups.

use std::ops::AddAssign;

/// What open windows hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub panes: usize,
    /// Of group keys and accumulators, as they tell it.
    pub bytes: usize,
    /// A group counts once in each pane and partition.
    pub groups: usize,
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        self.panes += other.panes;
        self.bytes += other.bytes;
        self.groups += other.groups;
    }
}
