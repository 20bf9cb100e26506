//! Windows and panes in nanoseconds, aligned to the epoch, half-open. Rule: a moment is in exactly one pane, and a pane
//! lies wholly inside or outside of any window.

/// Windows of `width` that start every `slide`. Tumbling windows slide by their width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Nanoseconds, more than 0; also the width of a pane.
    pub slide: i64,
    /// Nanoseconds, a multiple of `slide`.
    pub width: i64,
}

/// Panes up to a minute are read again as a whole.
const WHOLE: i64 = 60_000_000_000;
/// A segment is no shorter: it costs a merge of all groups, and a write.
const SEGMENT_LEAST: i64 = 10_000_000_000;
/// Most segments of a pane.
const SEGMENTS_MAX: i64 = 64;

impl Windows {
    pub fn tumble(width: i64) -> Self {
        Self { slide: width, width }
    }

    /// How far the rows of one partition in a pane are accumulated together, in nanoseconds of its watermark: a restart reads
    /// no more than that again. `None` = as far as the pane goes. What is stored of a pane is bounded by the number of
    /// segments, whatever its width.
    pub fn segment(self) -> Option<i64> {
        (self.slide > WHOLE).then(|| ((self.slide - 1) / SEGMENTS_MAX + 1).max(SEGMENT_LEAST))
    }

    /// The segment of a row in the pane that starts at `pane`, given its partition's own watermark before it, and the
    /// watermark at which that segment is over.
    pub fn segment_of(self, pane: i64, own_before: i64) -> (u32, i64) {
        let end = self.pane_end(pane);
        let Some(length) = self.segment() else { return (0, end) };
        let number = (own_before.clamp(pane, end - 1) - pane) / length;
        (u32::try_from(number).unwrap_or_default(), pane.saturating_add((number + 1) * length).min(end))
    }

    pub fn is_tumbling(self) -> bool {
        self.slide == self.width
    }

    /// The start of the pane that holds `moment`.
    pub fn pane_of(self, moment: i64) -> i64 {
        start_of(moment, self.slide)
    }

    /// The end of the pane that starts at `pane`, which is also the end of the first window that holds it.
    pub fn pane_end(self, pane: i64) -> i64 {
        end_of(pane, self.slide)
    }

    /// The end of the last window that holds the pane.
    pub fn last_end(self, pane: i64) -> i64 {
        end_of(pane, self.width)
    }

    /// The start of the first window that holds the pane.
    pub fn first_start(self, pane: i64) -> i64 {
        pane.saturating_sub(self.width - self.slide)
    }

    /// The start of the first window that is not complete at `watermark`.
    pub fn first_open(self, watermark: i64) -> i64 {
        start_of(watermark, self.slide).saturating_add(self.slide).saturating_sub(self.width)
    }

    /// The end of the window that starts at `start`.
    pub fn end_of(self, start: i64) -> i64 {
        end_of(start, self.width)
    }

    /// The last moment at or before `moment` at which a window ends.
    pub fn border(self, moment: i64) -> i64 {
        start_of(moment, self.slide)
    }
}

/// The start of the window of `width` (> 0) that holds `moment`.
pub fn start_of(moment: i64, width: i64) -> i64 {
    moment.div_euclid(width).saturating_mul(width)
}

/// The first moment after the window that starts at `start`.
pub fn end_of(start: i64, width: i64) -> i64 {
    start.saturating_add(width)
}

/// Whether a window that ends at `end` is complete at `watermark`.
pub fn is_closed(end: i64, watermark: i64) -> bool {
    watermark >= end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_moment_lies_in_its_window(moment in -1_000_000_i64..1_000_000, width in 1_i64..5_000) {
            let start = start_of(moment, width);
            prop_assert!(start <= moment && moment < end_of(start, width));
            prop_assert_eq!(start.rem_euclid(width), 0);
        }

        #[test]
        fn windows_that_hold_a_pane_are_those_from_its_first_to_its_own_start(
            moment in -100_000_i64..100_000, slide in 1_i64..500, panes in 1_i64..9,
        ) {
            let windows = Windows { slide, width: slide * panes };
            let pane = windows.pane_of(moment);
            let holding: Vec<i64> = (-20..20)
                .map(|step| pane + step * slide)
                .filter(|start| *start <= moment && moment < windows.end_of(*start))
                .collect();
            prop_assert_eq!(holding.len() as i64, panes);
            prop_assert_eq!(holding[0], windows.first_start(pane));
            prop_assert_eq!(windows.end_of(holding[0]), windows.pane_end(pane));
            prop_assert_eq!(*holding.last().unwrap(), pane);
            prop_assert_eq!(windows.end_of(pane), windows.last_end(pane));
        }

        #[test]
        fn segments_follow_each_other_and_are_few(
            seconds in 1_i64..3_000_000, pane in -5_i64..5, from in -3_000_000_i64..3_000_000, step in 0_i64..200_000,
        ) {
            const SECOND: i64 = 1_000_000_000;
            let windows = Windows::tumble(seconds * SECOND);
            let pane = pane * windows.slide;
            let (before, after) = (pane + from * SECOND, pane + (from + step) * SECOND);
            let ((first, first_end), (second, second_end)) =
                (windows.segment_of(pane, before), windows.segment_of(pane, after));
            prop_assert!(first <= second && first_end <= second_end && i64::from(second) < SEGMENTS_MAX);
            // A row after the end of a segment is in a later one, and one before it is not.
            prop_assert!(second_end > after.max(pane) || second_end == windows.pane_end(pane));
            prop_assert_eq!(first == second, first_end == second_end);
            prop_assert!(windows.segment().is_some() == (windows.slide > WHOLE));
        }

        #[test]
        fn the_first_open_window_is_the_first_that_the_watermark_has_not_passed(
            watermark in -100_000_i64..100_000, slide in 1_i64..500, panes in 1_i64..9,
        ) {
            let windows = Windows { slide, width: slide * panes };
            let first = windows.first_open(watermark);
            prop_assert!(!is_closed(windows.end_of(first), watermark));
            prop_assert!(is_closed(windows.end_of(first - slide), watermark));
        }
    }
}
