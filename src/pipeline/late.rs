//! Which rows are late. Rule: a row is late when a window that holds it was complete by its own partition's watermark
//! before the row itself, so that the verdict depends on the partition's rows and their order, and on nothing else; a row
//! counts in all its windows or in none.

use crate::window;

/// Whether a row whose first window ends at `end` is late, given its partition's watermark before it.
pub fn is_late(end: i64, watermark_before: i64) -> bool {
    window::is_closed(end, watermark_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_in_time_until_the_watermark_reaches_the_end_of_its_window() {
        assert!(!is_late(60, 59));
        assert!(is_late(60, 60));
        assert!(!is_late(60, i64::MIN));
    }
}
