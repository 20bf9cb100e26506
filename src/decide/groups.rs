//! Units that only make sense in certain numbers, and nodes under them. Rule: pure arithmetic; the smallest number that is
//! enough.

/// Members of a consumer group for a wish: the smallest divisor of the partition count that is enough, so that every member
/// has the same number of partitions and no later step rebalances the group again. More than there are partitions would be
/// idle. A wish for none is none; a topic without partitions keeps the wish.
pub fn consumers(wish: u32, partitions: u32) -> u32 {
    if wish == 0 || partitions == 0 {
        return wish;
    }
    (wish..=partitions).find(|units| partitions.is_multiple_of(*units)).unwrap_or(partitions)
}

/// What one pod asks for and what one node has for pods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PodsOnNodes {
    pub pod_cpu_cores: f64,
    pub pod_memory_mb: f64,
    pub node_cpu_cores: f64,
    pub node_memory_mb: f64,
    /// Most pods on a node, whatever they ask for.
    pub pods_per_node: u32,
}

impl PodsOnNodes {
    /// Pods of this kind that fit on one node; `None` = not one does.
    pub fn fit(&self) -> Option<u32> {
        let of = |node: f64, pod: f64| if pod > 0.0 { (node / pod + 1e-9).floor() } else { f64::INFINITY };
        let fit = of(self.node_cpu_cores, self.pod_cpu_cores).min(of(self.node_memory_mb, self.pod_memory_mb));
        let fit = (fit as u32).min(self.pods_per_node);
        (fit > 0).then_some(fit)
    }

    /// Nodes for so many pods; `None` = not one pod fits on a node.
    pub fn nodes(&self, pods: u32) -> Option<u32> {
        Some(pods.div_ceil(self.fit()?))
    }
}

/// The weight of each pool at a load balancer, in thousandths of the whole: by the units that serve, those that are still
/// warming counted by how warm they are. Together they are 1000, or all 0 where nobody serves.
pub fn weights(serving: &[f64]) -> Vec<u32> {
    let clean = |units: &f64| if units.is_finite() { units.max(0.0) } else { 0.0 };
    let total: f64 = serving.iter().map(clean).sum();
    if total <= 0.0 {
        return vec![0; serving.len()];
    }
    let exact: Vec<f64> = serving.iter().map(|units| clean(units) / total * 1000.0).collect();
    let mut weights: Vec<u32> = exact.iter().map(|exact| exact.floor() as u32).collect();
    // The rest goes to the largest remainders, the first of equals.
    let mut order: Vec<usize> = (0..exact.len()).collect();
    order.sort_by(|a, b| (exact[*b].fract()).total_cmp(&exact[*a].fract()).then(a.cmp(b)));
    let missing = 1000_u32.saturating_sub(weights.iter().sum());
    for at in order.into_iter().take(missing as usize) {
        weights[at] += 1;
    }
    weights
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

    #[test]
    fn nodes_carry_what_fits() {
        let pods = PodsOnNodes {
            pod_cpu_cores: 0.5,
            pod_memory_mb: 1000.0,
            node_cpu_cores: 3.92,
            node_memory_mb: 14_500.0,
            pods_per_node: 58,
        };
        assert_eq!((pods.fit(), pods.nodes(15), pods.nodes(0)), (Some(7), Some(3), Some(0)));
        assert_eq!(PodsOnNodes { pod_memory_mb: 20_000.0, ..pods }.nodes(1), None);
    }

    proptest! {
        #[test]
        fn consumers_are_enough_and_even(wish in 1u32..200, partitions in 1u32..200) {
            let units = consumers(wish, partitions);
            prop_assert!(partitions.is_multiple_of(units) && units <= partitions);
            prop_assert!(units >= wish.min(partitions));
            prop_assert!(consumers(wish + 1, partitions) >= units);
        }

        #[test]
        fn weights_are_a_whole(serving in prop::collection::vec(0.0f64..500.0, 1..12)) {
            let weights = weights(&serving);
            let total: u32 = weights.iter().sum();
            prop_assert_eq!(total, if serving.iter().any(|units| *units > 0.0) { 1000 } else { 0 });
            for (a, b) in serving.iter().zip(&weights).flat_map(|a| serving.iter().zip(&weights).map(move |b| (a, b))) {
                prop_assert!(a.0 > b.0 || a.1 <= b.1 || a.0 == b.0);
            }
        }
    }
}
