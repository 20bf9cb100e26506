//! A delay that is each service's own, so that fleets do not move in lockstep. Rule: seeded by the id alone: the same today,
//! tomorrow and in a replay.

use prescale_domain::Span;

/// A delay in `[0, longest)`, evenly spread over ids.
pub fn jitter(id: &str, longest: Span) -> Span {
    let hash = blake3::hash(id.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    let longest = u128::from(longest.millis().max(0).unsigned_abs());
    let share = (u128::from(u64::from_le_bytes(bytes)) * longest) >> 64;
    Span::from_millis(i64::try_from(share).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_evenly_and_always_the_same() {
        let longest = Span::from_secs(30);
        let delays: Vec<i64> = (0..1000).map(|id| jitter(&format!("service-{id}"), longest).millis()).collect();
        assert!(delays.iter().all(|delay| (0..30_000).contains(delay)));
        for tenth in 0..10 {
            let count = delays.iter().filter(|delay| **delay / 3000 == tenth).count();
            assert!((60..=140).contains(&count), "{count} of 1000 in tenth {tenth}");
        }
        assert_eq!(jitter("checkout", longest), jitter("checkout", longest));
        assert_eq!(jitter("checkout", Span::ZERO), Span::ZERO);
        assert_eq!(jitter("checkout", Span::from_millis(-1)), Span::ZERO);
    }
}
