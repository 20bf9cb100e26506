//! Sequences sorted and weighed side by side, one in each lane of a vector. Rule: what a lane gives does not depend on its
//! neighbours, nor on how wide the machine's vectors are.
#![allow(clippy::needless_range_loop, reason = "a lane is a place in many arrays at once")]

use std::array::from_fn;

use crate::past::Past;

/// Sequences at once.
pub(super) const LANES: usize = 8;
type Lane = [f64; LANES];

/// One of each sequence, within a line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Row(Lane);

/// Bits of a key that say which moment it is of. The load's own precision is far below what they take from the ratio.
const RANK: u64 = 0x7f;
/// Most moments: the last rank says that there is none.
pub(super) const MOMENTS_MAX: usize = RANK as usize;
/// Above all keys, with the rank of no moment.
const NONE: f64 = f64::MAX;
/// The share of the level that is added to loads, so that a ratio to almost nothing stays finite.
pub(super) const SMALL: f64 = 0.02;

/// Sorts each lane, by exchanges that depend on the number of `rows` only (Batcher 1968; Knuth, 5.2.2, algorithm M). None is
/// NaN.
#[inline(always)]
fn sort(rows: &mut [Row]) {
    let count = rows.len();
    let half = count.next_power_of_two() / 2;
    let mut part = half;
    while part > 0 {
        let (mut whole, mut offset, mut apart) = (half, 0, part);
        loop {
            for start in (offset..count.saturating_sub(apart)).step_by(2 * part) {
                let end = (start + part).min(count - apart);
                // Runs are never longer than they are apart.
                let (lows, highs) = rows[start..end + apart].split_at_mut(apart);
                for (low, high) in lows.iter_mut().zip(highs) {
                    let (a, b) = (low.0, high.0);
                    // Of bits: of a choice between values a masked store is made, which takes several times as long.
                    let change: [u64; LANES] =
                        from_fn(|lane| if a[lane] < b[lane] { 0 } else { a[lane].to_bits() ^ b[lane].to_bits() });
                    low.0 = from_fn(|lane| f64::from_bits(a[lane].to_bits() ^ change[lane]));
                    high.0 = from_fn(|lane| f64::from_bits(b[lane].to_bits() ^ change[lane]));
                }
            }
            if whole == part {
                break;
            }
            apart = whole - part;
            whole /= 2;
            offset = part;
        }
        part /= 2;
    }
}

/// Medians of the windows before some moments, side by side.
#[derive(Debug, Default)]
pub(super) struct Medians {
    windows: Vec<Row>,
    newest: Vec<Row>,
}

impl Medians {
    /// Of each of the first [`LANES`] of `moments`: the medians of the `recent` windows up to it, and of the `calm` ones, which
    /// are no fewer. A gap, and what is no load, does not count; infinite where nothing does.
    pub(super) fn of(&mut self, past: Past<'_>, moments: &[usize], recent: usize, calm: usize) -> [(f64, f64); LANES] {
        // Newest first; what does not count lies behind all that does.
        self.windows.clear();
        self.windows.resize(calm, Row([f64::INFINITY; LANES]));
        let (mut recent_count, mut calm_count) = ([0_usize; LANES], [0_usize; LANES]);
        for (lane, at) in moments.iter().take(LANES).enumerate() {
            let to = past.values.len().min(at + 1);
            let before = past.values[to.saturating_sub(calm)..to].iter().rev();
            for (back, (window, value)) in self.windows.iter_mut().zip(before).enumerate() {
                let value = value.unwrap_or(f64::NAN);
                let counts = is_load(value);
                window.0[lane] = if counts { value } else { f64::INFINITY };
                recent_count[lane] += usize::from(counts && back < recent);
                calm_count[lane] += usize::from(counts);
            }
        }
        self.newest.clear();
        self.newest.extend(&self.windows[..recent.min(calm)]);
        sort_wide(&mut self.newest);
        sort_wide(&mut self.windows);
        let middle =
            |rows: &[Row], count: usize, lane: usize| rows.get(count / 2).map_or(f64::INFINITY, |row| row.0[lane]);
        from_fn(|lane| (middle(&self.newest, recent_count[lane], lane), middle(&self.windows, calm_count[lane], lane)))
    }
}

#[inline(always)]
fn is_load(value: f64) -> bool {
    (0.0..f64::INFINITY).contains(&value)
}

fn sort_wide(rows: &mut [Row]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { sort_avx2(rows) };
        return;
    }
    sort(rows);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sort_avx2(rows: &mut [Row]) {
    sort(rows);
}

/// A moment of the past: its window, the level around it, above 0, and how much it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub at: usize,
    pub level: f64,
    pub weight: f64,
}

/// What followed some moments, several steps ahead side by side.
#[derive(Debug)]
pub(super) struct Followed<'a> {
    past: Past<'a>,
    moments: &'a [Moment],
    /// By rank, 0 where there is no moment.
    weights: [f64; MOMENTS_MAX + 1],
    /// Load over level, plus [`SMALL`], by moment.
    ratios: Vec<Row>,
    /// Ratios with the ranks of their moments in the last bits, ascending.
    keys: Vec<Row>,
    /// The weight of all before each key and of half of itself.
    middles: Vec<Row>,
}

impl<'a> Followed<'a> {
    /// Moments beyond the first [`MOMENTS_MAX`] are left out.
    pub(super) fn new(past: Past<'a>, moments: &'a [Moment]) -> Self {
        let moments = &moments[..moments.len().min(MOMENTS_MAX)];
        let mut weights = [0.0; MOMENTS_MAX + 1];
        weights.iter_mut().zip(moments).for_each(|(weight, moment)| *weight = moment.weight);
        let none = vec![Row([0.0; LANES]); moments.len()];
        Self { past, moments, weights, ratios: none.clone(), keys: none.clone(), middles: none }
    }

    /// Quantiles at `levels` of the ratios `first` steps after the moments, and at the steps that follow it: `[lane][level]`
    /// into `rows`, which has so many of both as it is long. `false` where nothing is known to have followed at one of them.
    ///
    /// Each ratio lies in the middle of its weight, and quantiles on the lines between. Ratios that are the same to 45 bits
    /// are in the order of their moments.
    pub(super) fn quantiles(&mut self, first: usize, levels: &[f64], rows: &mut [f64]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { self.quantiles_avx2(first, levels, rows) };
        }
        self.quantiles_any(first, levels, rows)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn quantiles_avx2(&mut self, first: usize, levels: &[f64], rows: &mut [f64]) -> bool {
        self.quantiles_any(first, levels, rows)
    }

    #[inline(always)]
    fn quantiles_any(&mut self, first: usize, levels: &[f64], rows: &mut [f64]) -> bool {
        self.read(first);
        sort(&mut self.keys);
        let total = self.weigh();
        for (lane, row) in rows.chunks_exact_mut(levels.len().max(1)).take(LANES).enumerate() {
            let known = self.keys.partition_point(|keys| keys.0[lane] < NONE);
            if known == 0 {
                return false;
            }
            for (own, level) in row.iter_mut().zip(levels) {
                *own = self.quantile(lane, known, level * total[lane]);
            }
        }
        true
    }

    /// Reads what followed: ratios, and their keys.
    #[inline(always)]
    fn read(&mut self, first: usize) {
        let rows = self.ratios.iter_mut().zip(&mut self.keys);
        for ((rank, moment), (ratios, keys)) in (0_u64..).zip(self.moments).zip(rows) {
            let from = moment.at.saturating_add(first).min(self.past.values.len());
            let after = &self.past.values[from..];
            // What has not been seen yet is no outcome.
            let mut loads = [f64::NAN; LANES];
            match after.first_chunk::<LANES>() {
                Some(after) => loads = after.map(|value| value.unwrap_or(f64::NAN)),
                None => loads.iter_mut().zip(after).for_each(|(own, value)| *own = value.unwrap_or(f64::NAN)),
            }
            // Infinite where it is none.
            let loads = loads.map(|load| if load >= 0.0 { load } else { f64::INFINITY });
            ratios.0 = loads.map(|load| load / moment.level + SMALL);
            ratios.0 = ratios.0.map(|ratio| if ratio < f64::MAX { ratio } else { f64::MAX });
            let ranked = ratios.0.map(|ratio| f64::from_bits((ratio.to_bits() & !RANK) | rank));
            keys.0 = from_fn(|lane| if loads[lane] < f64::INFINITY { ranked[lane] } else { NONE });
        }
    }

    /// Adds up the weights in the order of the keys; gives the sums.
    #[inline(always)]
    fn weigh(&mut self) -> Lane {
        let mut before = [0.0; LANES];
        for (key, middle) in self.keys.iter().zip(&mut self.middles) {
            let weight: Lane = key.0.map(|key| self.weights[(key.to_bits() & RANK) as usize]);
            for lane in 0..LANES {
                middle.0[lane] = before[lane] + 0.5 * weight[lane];
                before[lane] += weight[lane];
            }
        }
        before
    }

    /// The ratio below which the weight is `wanted`, of the first `known` keys of a lane.
    #[inline(always)]
    fn quantile(&self, lane: usize, known: usize, wanted: f64) -> f64 {
        let ratio = |place: usize| {
            let rank = (self.keys[place].0[lane].to_bits() & RANK) as usize;
            self.ratios.get(rank).map_or(0.0, |ratios| ratios.0[lane])
        };
        let next = self.middles[..known].partition_point(|middle| middle.0[lane] < wanted);
        if next == known {
            return ratio(known - 1);
        }
        let Some(last) = next.checked_sub(1) else { return ratio(next) };
        let (low, high) = (ratio(last), ratio(next));
        let (before, middle) = (self.middles[last].0[lane], self.middles[next].0[lane]);
        low + (high - low) * (wanted - before) / (middle - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_is_sorted_whatever_its_length() {
        // Exchanges that sort all sequences of zeros and ones sort everything (Knuth, 5.3.4): all of up to 12, some of others.
        for count in 0..=12_usize {
            for bits in 0..1_u32 << count {
                let value = |place: usize, lane: usize| f64::from((bits >> ((place + lane) % count.max(1))) & 1);
                sorts((0..count).map(|place| Row(from_fn(|lane| value(place, lane)))).collect());
            }
        }
        for count in 13..=200_usize {
            let value = |place: usize, lane: usize| ((place * 7919 + lane * 104_729 + count) % 1009) as f64;
            sorts((0..count).map(|place| Row(from_fn(|lane| value(place, lane)))).collect());
        }
    }

    #[track_caller]
    fn sorts(rows: Vec<Row>) {
        let mut sorted = rows.clone();
        sort(&mut sorted);
        for lane in 0..LANES {
            let mut expected: Vec<f64> = rows.iter().map(|row| row.0[lane]).collect();
            expected.sort_by(f64::total_cmp);
            assert!(sorted.iter().map(|row| row.0[lane]).eq(expected), "{rows:?}");
        }
    }
}
