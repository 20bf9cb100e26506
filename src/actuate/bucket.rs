//! A token bucket: how often one may ask. Rule: pure; time is told, and never runs backwards.

use prescale_domain::{Span, Timestamp};

/// How often a cloud's API may be called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// Calls at once.
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

/// A bucket that is full at first and fills up again at a steady rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Timestamp) -> Self {
        Self { rate, tokens: rate.burst, at: now }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<(), Span> {
        let passed = now.since(self.at).seconds().max(0.0);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate.per_second).min(self.rate.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - self.tokens) / self.rate.per_second;
        Err(Span::from_millis((missing * 1000.0).ceil() as i64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { burst: 5.0, per_second: 2.0 };

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Timestamp::from_millis(1_000);
        let mut bucket = Bucket::new(RATE, start);
        let passed = (0..9).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(passed, 5);
        assert_eq!(bucket.take(start), Err(Span::from_millis(500)));
        assert_eq!(bucket.take(start + Span::from_millis(500)), Ok(()));
        assert_eq!(bucket.take(start + Span::from_millis(500)), Err(Span::from_millis(500)));
        // A clock that goes back fills nothing.
        assert!(bucket.take(start).is_err());
    }

    proptest! {
        /// In no stretch of time pass more than a burst and what flows in.
        #[test]
        fn no_stretch_passes_more_than_it_may(steps in prop::collection::vec(0i64..3000, 1..80)) {
            let mut now = Timestamp::from_millis(0);
            let mut bucket = Bucket::new(RATE, now);
            let mut passed = Vec::new();
            for step in steps {
                now = now + Span::from_millis(step);
                if bucket.take(now).is_ok() {
                    passed.push(now);
                }
            }
            for (at, from) in passed.iter().enumerate() {
                for (count, until) in passed[at..].iter().enumerate() {
                    let most = RATE.burst + until.since(*from).seconds() * RATE.per_second;
                    prop_assert!((count + 1) as f64 <= most + 1e-6);
                }
            }
        }

        /// Who waits as long as was said gets through.
        #[test]
        fn waiting_helps(taken in 0usize..20, pause in 0i64..4000) {
            let start = Timestamp::from_millis(0);
            let mut bucket = Bucket::new(RATE, start);
            for _ in 0..taken {
                bucket.take(start).ok();
            }
            let now = start + Span::from_millis(pause);
            if let Err(wait) = bucket.take(now) {
                prop_assert_eq!(bucket.take(now + wait), Ok(()));
            }
        }
    }
}
