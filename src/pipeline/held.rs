//! How much memory the state of a pipeline takes, and what follows. Rule: counted as it changes; no figure needs a walk
//! over all groups.

use std::ops::AddAssign;

use crate::watermark::PartitionTime;

/// What open windows hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Of group keys and accumulators, as they say.
    pub bytes: u64,
    /// A group counts once in each pane and partition.
    pub groups: u64,
    pub panes: usize,
    /// The starts of the first and the last pane, in nanoseconds.
    pub range: Option<(i64, i64)>,
}

/// What a limit asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Light,
    /// Above half of it: what is ahead has to wait.
    Heavy,
    Over,
}

impl Held {
    /// Counts `groups` groups that take so many bytes.
    pub(crate) fn add(&mut self, bytes: usize, groups: usize) {
        self.bytes += bytes as u64;
        self.groups += groups as u64;
    }

    pub(crate) fn load(&self, limit: Option<u64>) -> Load {
        match limit {
            Some(limit) if self.bytes > limit => Load::Over,
            Some(limit) if self.bytes > limit / 2 => Load::Heavy,
            _ => Load::Light,
        }
    }
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.groups += other.groups;
        self.panes += other.panes;
        let starts = self.range.into_iter().chain(other.range);
        self.range = starts.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    }
}

/// The partitions that are more than `slide` ahead of the slowest, by their place; none while the slowest one has nothing to
/// read, since it would be waited for in vain. `at_end` tells that of each.
pub(crate) fn ahead(partitions: &[(PartitionTime, bool)], slide: i64) -> Vec<usize> {
    let active = partitions.iter().filter(|(time, _)| !time.excluded);
    let Some((slowest, at_end)) = active.min_by_key(|(time, at_end)| (time.watermark, !at_end)) else {
        return Vec::new();
    };
    if *at_end {
        return Vec::new();
    }
    let is_ahead = |time: &PartitionTime| time.watermark.saturating_sub(slowest.watermark) > slide;
    (0..).zip(partitions).filter(|(_, (time, _))| is_ahead(time)).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(watermark: i64, excluded: bool, at_end: bool) -> (PartitionTime, bool) {
        (PartitionTime { watermark, excluded }, at_end)
    }

    #[test]
    fn what_is_more_than_a_slide_ahead_waits() {
        let all = [partition(5, false, false), partition(15, false, false), partition(16, false, false)];
        assert_eq!(ahead(&all, 10), [2]);
        let unstarted = [partition(i64::MIN, false, false), partition(1, false, true)];
        assert_eq!(ahead(&unstarted, 10), [1]);
    }

    #[test]
    fn nothing_waits_for_a_partition_that_brings_nothing() {
        assert_eq!(ahead(&[partition(5, false, true), partition(99, false, false)], 10), [] as [usize; 0]);
        assert_eq!(ahead(&[partition(5, true, false), partition(99, false, false)], 10), [] as [usize; 0]);
        assert_eq!(ahead(&[], 10), [] as [usize; 0]);
    }

    #[test]
    fn half_of_the_limit_is_heavy() {
        let held = |bytes| Held { bytes, ..Held::default() };
        assert_eq!(held(u64::MAX).load(None), Load::Light);
        assert_eq!(
            [50, 51, 100, 101].map(|bytes| held(bytes).load(Some(100))),
            [Load::Light, Load::Heavy, Load::Heavy, Load::Over]
        );
    }
}
