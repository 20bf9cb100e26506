//! Units that only make sense in certain numbers. Rule: pure arithmetic; the smallest number that is enough.

/// Members of a consumer group for a wish: the smallest divisor of the partition count that is enough, so that every member
/// has the same number of partitions and no later step rebalances the group again. More than there are partitions would be
/// idle. A wish for none is none; a topic without partitions keeps the wish.
pub fn consumers(wish: u32, partitions: u32) -> u32 {
    if wish == 0 || partitions == 0 {
        return wish;
    }
    (wish..=partitions).find(|units| partitions.is_multiple_of(*units)).unwrap_or(partitions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_consumer_group_jumps_to_a_divisor() {
        let groups: Vec<u32> = [0, 1, 2, 3, 4, 5, 7, 12, 13].into_iter().map(|wish| consumers(wish, 12)).collect();
        assert_eq!(groups, [0, 1, 2, 3, 4, 6, 12, 12, 12]);
        assert_eq!((consumers(3, 7), consumers(5, 0)), (7, 5));
    }

    proptest! {
        #[test]
        fn consumers_are_enough_and_even(wish in 1u32..200, partitions in 1u32..200) {
            let units = consumers(wish, partitions);
            prop_assert!(partitions.is_multiple_of(units) && units <= partitions);
            prop_assert!(units >= wish.min(partitions));
            prop_assert!(consumers(wish + 1, partitions) >= units);
        }
    }
}
