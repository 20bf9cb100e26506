//! Time that only goes forward. Rule: how long a partition has been silent is measured with it, so that a wall clock which
//! is set forward or back lets no partition fall idle and closes no window.

use std::time::Instant;

use prescale_domain::{Clock, Timestamp};

/// Time since it was made, on a clock that nobody can set.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock(Instant);

impl SteadyClock {
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}
