//! A straight line through the newest replica counts. Rule: as the algorithm of the autoscaler computes it.

use prescale_domain::{Span, Timestamp};

/// The model `Linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    pub look_ahead: Span,
    /// Counts kept from one sync to the next; a sync has its own as well.
    pub history_size: usize,
}

impl Linear {
    /// Of the example `simple-linear`.
    pub fn example() -> Self {
        Self { look_ahead: Span::from_secs(10), history_size: 6 }
    }

    /// Replicas at `now` + `look_ahead` on the least-squares line; below zero is zero.
    pub fn predict(&self, now: Timestamp, history: &[(Timestamp, u32)]) -> u32 {
        let [first, _, ..] = history else { return history.first().map_or(0, |(_, replicas)| *replicas) };
        let count = history.len() as f64;
        let seconds = |moment: Timestamp| moment.since(first.0).seconds();
        let mean_x = history.iter().map(|(moment, _)| seconds(*moment)).sum::<f64>() / count;
        let mean_y = history.iter().map(|(_, replicas)| f64::from(*replicas)).sum::<f64>() / count;
        let (mut xy, mut xx) = (0.0, 0.0);
        for (moment, replicas) in history {
            let x = seconds(*moment) - mean_x;
            xy += x * (f64::from(*replicas) - mean_y);
            xx += x * x;
        }
        let slope = if xx > 0.0 { xy / xx } else { 0.0 };
        super::holt_winters::ceil(mean_y + slope * (seconds(now + self.look_ahead) - mean_x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn predict(counts: &[u32], look_ahead: i64, expected: u32) {
        let moment = |index: usize| Timestamp::from_millis(index as i64 * 15_000);
        let history: Vec<_> = counts.iter().enumerate().map(|(index, count)| (moment(index), *count)).collect();
        let linear = Linear { look_ahead: Span::from_secs(look_ahead), history_size: 6 };
        assert_eq!(linear.predict(moment(counts.len().saturating_sub(1)), &history), expected);
    }

    #[test]
    fn the_line_is_read_at_the_look_ahead_and_rounded_up() {
        predict(&[2, 4, 6, 8], 15, 10);
        // 8 + 10 / 15 · 2
        predict(&[2, 4, 6, 8], 10, 10);
        predict(&[2, 4, 6, 8], 7, 9);
        // Slope 0.8 by 15 s around 2.5 at 22.5 s: 2.5 + 0.8 · 2.5 = 4.5.
        predict(&[1, 2, 4, 3], 15, 5);
        predict(&[9, 6, 3, 0], 15, 0);
        predict(&[7], 15, 7);
        predict(&[], 15, 0);
    }
}
