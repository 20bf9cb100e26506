//! A token bucket. Rule: full at the start, never fuller, and a call that finds less than one token is refused and takes none.

use prescale_domain::Timestamp;

/// How many calls may come at once, and how many a second in the long run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub burst: f64,
    pub per_second: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Timestamp) -> Self {
        Self { rate, tokens: rate.burst, at: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        let refill = now.since(self.at).seconds() * self.rate.per_second;
        self.at = self.at.max(now);
        self.tokens = (self.tokens + refill).min(self.rate.burst);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::{Span, Timestamp};

    use super::*;

    #[test]
    fn a_burst_is_granted_and_then_the_rate() {
        let start = Timestamp::from_millis(0);
        let mut bucket = Bucket::new(Rate { burst: 3.0, per_second: 2.0 }, start);
        let at = |millis| start + Span::from_millis(millis);
        let granted: Vec<bool> = [0, 0, 0, 0, 499, 500, 999, 1000, 1000].map(|m| bucket.take(at(m))).to_vec();
        assert_eq!(granted, [true, true, true, false, false, true, false, true, false]);
        // An hour of rest fills it to its size and no further; time does not run backwards.
        let granted: Vec<bool> = [3_600_000, 0, 0, 0].map(|m| bucket.take(at(m))).to_vec();
        assert_eq!(granted, [true, true, true, false]);
    }
}
