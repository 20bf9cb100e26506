//! How many units a pool has, and when it takes one away. Rule: a place that the pool no longer has is lost at that
//! moment, whoever holds it.

use prescale_domain::{Span, Timestamp};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use crate::seeded::{Purpose, rng};

/// Where a pool's units come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Supply {
    Generated(Hazard),
    /// A trace of how many instances could be had, or still ran: a step function, in order; the last value holds after it
    /// and the first before. One instance of the trace stands for `units` of ours.
    Recorded {
        instances: Vec<(Timestamp, f64)>,
        units: u32,
    },
}

/// Losses by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hazard {
    /// Losses by unit and hour, one independent of the other.
    pub per_hour: f64,
    /// Bursts by day that strike all pools of a zone.
    pub bursts_per_day: f64,
    /// Share of the units that a burst takes.
    pub burst_share: f64,
    /// After a burst nothing can be had for so long.
    pub outage: Span,
    /// Most units that we can have at a time; `None` = no limit is known.
    pub units_max: Option<u32>,
}

/// A supply ready to be asked.
#[derive(Clone, Debug)]
pub(super) enum SupplySeries {
    Generated {
        hazard: Hazard,
        bursts: Vec<Timestamp>,
    },
    /// Places by time.
    Recorded(Vec<(Timestamp, u32)>),
}

impl SupplySeries {
    pub(super) fn new(
        supply: &Supply,
        (start, end): (Timestamp, Timestamp),
        seed: u64,
        zone: usize,
    ) -> Result<Self, String> {
        match supply {
            Supply::Generated(hazard) => {
                let rates = [hazard.per_hour, hazard.bursts_per_day];
                if rates.iter().any(|rate| !rate.is_finite() || *rate < 0.0)
                    || !(0.0..=1.0).contains(&hazard.burst_share)
                {
                    let Hazard { per_hour, bursts_per_day, burst_share, .. } = hazard;
                    return Err(format!("losses {per_hour} an hour, bursts {bursts_per_day} a day of {burst_share}"));
                }
                Ok(Self::Generated { hazard: *hazard, bursts: bursts(hazard, start, end, seed, zone) })
            }
            Supply::Recorded { instances, units } => {
                if instances.is_empty() || !instances.is_sorted_by_key(|(moment, _)| *moment) {
                    return Err("its trace is empty or not in order".to_owned());
                }
                if let Some((moment, value)) = instances.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
                    return Err(format!("{value} instances at {moment}"));
                }
                let places = |value: f64| (value.floor() * f64::from(*units)) as u32;
                let mut changes: Vec<(Timestamp, u32)> =
                    instances.iter().map(|(moment, value)| (*moment, places(*value))).collect();
                changes.dedup_by_key(|(_, places)| *places);
                Ok(Self::Recorded(changes))
            }
        }
    }

    /// Places that there are at `moment`.
    pub(super) fn ceiling(&self, moment: Timestamp) -> u32 {
        match self {
            Self::Generated { hazard, bursts } => {
                let last = bursts.partition_point(|burst| *burst <= moment).checked_sub(1);
                let out = last.is_some_and(|last| moment < bursts[last] + hazard.outage);
                if out { 0 } else { hazard.units_max.unwrap_or(u32::MAX) }
            }
            Self::Recorded(changes) => {
                let index = changes.partition_point(|(moment_of, _)| *moment_of <= moment).saturating_sub(1);
                changes.get(index).map_or(0, |(_, places)| *places)
            }
        }
    }

    /// When the unit that holds `place` from `now` on is lost.
    pub(super) fn loss(&self, place: u32, now: Timestamp, rng: &mut ChaCha8Rng) -> Option<Timestamp> {
        match self {
            Self::Generated { hazard, bursts } => {
                let drawn: f64 = Exp1.sample(rng);
                let alone =
                    (hazard.per_hour > 0.0).then(|| now + Span::from_millis((drawn / hazard.per_hour * 3.6e6) as i64));
                let first = bursts.partition_point(|burst| *burst <= now);
                let struck = bursts[first..].iter().find(|_| rng.random::<f64>() < hazard.burst_share);
                alone.into_iter().chain(struck.copied()).min()
            }
            Self::Recorded(changes) => {
                let later = changes.partition_point(|(moment, _)| *moment <= now);
                changes[later..].iter().find(|(_, places)| *places <= place).map(|(moment, _)| *moment)
            }
        }
    }
}

fn bursts(hazard: &Hazard, start: Timestamp, end: Timestamp, seed: u64, zone: usize) -> Vec<Timestamp> {
    let mut rng = rng(seed, Purpose::Bursts, zone, start);
    let (mut moments, mut at) = (Vec::new(), start);
    if hazard.bursts_per_day <= 0.0 {
        return moments;
    }
    loop {
        let drawn: f64 = Exp1.sample(&mut rng);
        at = at + Span::from_millis(((drawn / hazard.bursts_per_day * 86_400_000.0) as i64).max(1));
        if at >= end {
            return moments;
        }
        moments.push(at);
    }
}
