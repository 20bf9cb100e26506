//! Tumbling windows in nanoseconds, aligned to the epoch, half-open. Rule: a moment is in exactly one.

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
    }
}
