//! A fleet of fixed size that carries the load of the history but for its highest twentieth. Rule: sized before the scored
//! part, not in it.

use crate::arena::needed_units;

/// Units that carry 95 percent of the loads seen so far (nearest rank); at least 1.
pub fn static_p95(history: &[f64], unit_capacity: f64) -> u32 {
    let mut loads = history.to_vec();
    loads.sort_unstable_by(f64::total_cmp);
    let rank = (0.95 * loads.len() as f64).ceil() as usize;
    let load = rank.checked_sub(1).and_then(|index| loads.get(index)).copied().unwrap_or(0.0);
    needed_units(load, unit_capacity).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_twentieth_is_not_carried() {
        let loads: Vec<f64> = (1..=40).rev().map(f64::from).collect();
        assert_eq!(static_p95(&loads, 2.0), 19);
        assert_eq!(static_p95(&[3.0], 2.0), 2);
        assert_eq!(static_p95(&[], 2.0), 1);
    }
}
