//! Which request goes on where not all may. Rule: pure; time is passed in; what is admitted is accounted for to the hit.
//!
//! One bucket of credit for a service. Credit comes with time where a rate is advised, and else with each request, as much of
//! it as the advised share. A class may draw the bucket down to its own floor only, the lowest class least far: as long as
//! there is credit above its floor a class does not notice those below it, and credit between two floors is kept for the
//! higher class. So no arrival rates have to be estimated, the error of the admitted share over any run of requests is
//! bounded by the depth of the bucket, and lower classes are the first to be throttled.
//!
//! Where exactly above its floor a class is refused moves from request to request, by a hash of how many there were: a fixed
//! place would admit every second of two callers that take turns, which is always the same one.

#[cfg(test)]
mod tests;

use prescale_domain::{Span, Timestamp};

use crate::Admission;

/// Hits between the floors of two classes, at least.
const GAP_HITS: f64 = 8.0;
/// The same as time at the advised rate: with four classes a bucket holds a second.
const GAP_SECONDS: f64 = 0.25;
/// By how many hits the place of refusal moves; less than a gap, so that the order of the classes stays.
const MOVES_HITS: f64 = 4.0;
/// More hits in one request count as so many: it would lock out all others for as long.
const HITS_MAX: u64 = 1_000_000;

/// Nobody is told to wait for longer: the advice will be another by then.
const WAIT_MAX: Span = Span::from_minutes(60);

/// The credit of one service.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// How many classes share it.
    classes: usize,
    level: f64,
    /// Until when credit has come by time; `None` = not by time before.
    filled: Option<Timestamp>,
    /// How many requests were asked about.
    asked: u64,
}

/// What is said of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    pub admitted: bool,
    /// Hits that the class could still have now.
    pub remaining: u64,
    /// When to try again; `None` = admitted, or not known.
    pub retry_after: Option<Span>,
}

impl Limiter {
    /// A bucket in which the lowest class has nothing to draw yet.
    pub fn new(classes: usize) -> Self {
        let classes = classes.max(1);
        Self { classes, level: GAP_HITS * (classes - 1) as f64, filled: None, asked: 0 }
    }

    /// Whether a request of a class (0 = the highest) goes on, counted with its hits; without any it is only asked.
    pub fn ask(&mut self, now: Timestamp, advised: Admission, class: usize, hits: u64) -> Verdict {
        let class = class.min(self.classes - 1);
        let hits = hits.min(HITS_MAX) as f64;
        let gap = advised.rate.map_or(GAP_HITS, |rate| GAP_HITS.max(rate * GAP_SECONDS));
        match advised.rate {
            Some(rate) => self.fill(now, rate, gap * self.classes as f64),
            None => {
                self.filled = None;
                // Only what was saved up at a rate, or given back, is above it.
                self.level = self.level.min(gap * self.classes as f64);
                self.level += advised.share.clamp(0.0, 1.0) * hits;
            }
        }
        let floor = gap * class as f64;
        let needed = floor + 1.0 + MOVES_HITS * fraction(self.asked);
        let admitted = self.level >= needed;
        if hits > 0.0 {
            self.asked = self.asked.wrapping_add(1);
            if admitted {
                self.level -= hits;
            }
        }
        let lacks = needed - self.level;
        let retry_after = advised.rate.filter(|rate| !admitted && *rate > 0.0).map(|rate| {
            let millis = (lacks / rate * 1000.0).ceil();
            Span::from_millis(millis as i64).min(WAIT_MAX)
        });
        let remaining = if admitted { (self.level - floor).max(0.0) as u64 } else { 0 };
        Verdict { admitted, remaining, retry_after }
    }

    /// Returns the hits of an admitted request that did not go on, for another reason.
    pub fn give_back(&mut self, hits: u64) {
        self.level += hits.min(HITS_MAX) as f64;
    }

    fn fill(&mut self, now: Timestamp, rate: f64, depth: f64) {
        // A clock that was set back gives nothing, and nothing twice.
        let since = self.filled.map_or(Span::ZERO, |filled| now.since(filled));
        self.level = (self.level + rate * since.seconds()).min(depth);
        self.filled = Some(self.filled.map_or(now, |filled| filled.max(now)));
    }
}

/// A number in [0, 1) for each count, spread evenly: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn fraction(count: u64) -> f64 {
    let mut mixed = count.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}
