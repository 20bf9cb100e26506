//! A fleet of fixed size that carries the highest load of the history. Rule: sized before the scored part, not in it.

/// Units that carry the highest of the loads seen so far; at least 1.
pub fn static_peak(history: impl IntoIterator<Item = f64>, unit_capacity: f64) -> u32 {
    let peak = history.into_iter().fold(0.0, f64::max);
    ((peak / unit_capacity).ceil() as u32).max(1)
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
