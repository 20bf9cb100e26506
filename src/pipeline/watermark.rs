//! The watermark of a partition and of a query, in nanoseconds of event time. Rule: both are monotone, and neither
//! depends on how rows were batched or interleaved.

/// The watermark before any row.
pub const UNSTARTED: i64 = i64::MIN;
/// The watermark after the end of all input.
pub const ENDED: i64 = i64::MAX;

/// Walks rows of one partition in offset order: to `before` is added, for each row, the watermark as it was before it; the
/// watermark after the last row is returned. Rows advance it whether or not they are filtered or late.
pub fn advance(start: i64, proposed: &[i64], before: &mut Vec<i64>) -> i64 {
    before.reserve(proposed.len());
    let mut watermark = start;
    for &value in proposed {
        before.push(watermark);
        watermark = watermark.max(value);
    }
    watermark
}

/// What the query watermark needs to know of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionTime {
    pub watermark: i64,
    /// Nothing more will come, or nothing came for the idle time: it does not hold the query back.
    pub excluded: bool,
}

/// The query watermark: the least of the partitions that may still bring rows, never less than `previous`. Without any
/// such partition it holds.
pub fn query(previous: i64, partitions: impl IntoIterator<Item = PartitionTime>) -> i64 {
    partitions
        .into_iter()
        .filter(|partition| !partition.excluded)
        .map(|partition| partition.watermark)
        .min()
        .map_or(previous, |least| least.max(previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_sees_the_maximum_of_the_rows_before_it() {
        let mut before = Vec::new();
        let after = advance(3, &[5, 4, 9, 1], &mut before);
        assert_eq!((before, after), (vec![3, 5, 5, 9], 9));
    }

    #[test]
    fn the_slowest_partition_that_is_not_excluded_holds_the_query_back() {
        let partition = |watermark, excluded| PartitionTime { watermark, excluded };
        assert_eq!(query(0, [partition(7, false), partition(4, false), partition(1, true)]), 4);
        assert_eq!(query(5, [partition(4, false)]), 5, "monotone");
        assert_eq!(query(5, [partition(9, true)]), 5, "holds when nothing is active");
        assert_eq!(query(UNSTARTED, [partition(UNSTARTED, false), partition(9, false)]), UNSTARTED);
    }
}
