//! Random numbers by place instead of by order. Rule: the same seed, stream and position give the same numbers, whoever
//! asked before.

use prescale_domain::Timestamp;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What a number is for; purposes never share numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Count = 1,
    Correlated = 2,
    Day = 3,
    Happenings = 4,
    Requests = 5,
    Rounding = 6,
    Arrivals = 7,
    Works = 8,
    Launches = 9,
    Prices = 10,
    Bursts = 11,
    Fates = 12,
    ProfileCount = 13,
    ProfileWander = 14,
    ProfileEvents = 15,
    ProfileRecords = 16,
    Faults = 17,
}

/// The generator for one purpose, service and moment.
pub(crate) fn rng(seed: u64, purpose: Purpose, service: usize, moment: Timestamp) -> ChaCha8Rng {
    let mut state = seed;
    for part in [purpose as u64, service as u64, moment.millis().cast_unsigned()] {
        state = mix(state ^ mix(part));
    }
    ChaCha8Rng::seed_from_u64(state)
}

/// A standard normal number.
pub(crate) fn normal(seed: u64, purpose: Purpose, service: usize, moment: Timestamp) -> f64 {
    StandardNormal.sample(&mut rng(seed, purpose, service, moment))
}

/// SplitMix64 (Steele, Lea and Flood 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
