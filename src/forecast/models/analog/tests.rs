//! Bursts that come with the clock, and what the lanes make of them against the same done one by one.

use prescale_domain::{DEFAULT_QUANTILES, Series, Timestamp};
use proptest::prelude::*;

use super::*;

/// Four days of minutes at about 100. At minute 33 of an hour, in one hour of four, the load triples for six minutes.
fn bursts() -> Series {
    let value = |i: usize| {
        let (hour, minute) = (i / 60, i % 60);
        let burst = hour % 4 == 1 && (33..39).contains(&minute);
        Some(if burst { 300.0 } else { 100.0 } + (i * 7919 % 7) as f64)
    };
    let values = (0..4 * 1440).map(value).collect();
    Series { start: Timestamp::from_millis(1_699_999_200_000), step: Span::from_minutes(1), values }
}

fn at(series: &Series, index: usize) -> Rows {
    quantiles(Past::all(series).first(index + 1), 15, &DEFAULT_QUANTILES).unwrap()
}

const P75: usize = 4;
const P95: usize = 6;

#[test]
fn a_burst_with_the_clock_is_expected_at_its_minute_and_nowhere_else() {
    let series = bursts();
    // Minute 30 of an hour: of what follows only 33 to 38 may be high, as likely as it was.
    let rows = at(&series, 90 * 60 + 30);
    for (k, row) in rows.iter().enumerate() {
        let minute = 31 + k;
        assert!(row[P75 - 1] < 110.0, "{minute}: {row:?}");
        assert_eq!(row[P95] > 290.0, (33..39).contains(&minute), "{minute}: {row:?}");
    }
}

#[test]
fn a_burst_that_is_under_way_goes_on_as_earlier_ones_did() {
    let series = bursts();
    let (hour, calm) = (89, 90);
    let within = at(&series, hour * 60 + 33);
    // The medians follow the burst to its end, and nothing is expected of it after that.
    assert!(within[4][3] > 290.0 && within[5][P75] < 110.0, "{:?} {:?}", &within[4], &within[5]);
    let without = at(&series, calm * 60 + 33);
    assert!(without[0][P95] < 120.0, "{:?}", &without[0]);
}

#[test]
fn the_level_may_move() {
    let mut series = bursts();
    series.values[80 * 60..].iter_mut().flatten().for_each(|value| *value *= 5.0);
    let rows = at(&series, 90 * 60 + 30);
    assert!((480.0..560.0).contains(&rows[0][3]) && rows[3][P95] > 1400.0, "{:?} {:?}", &rows[0], &rows[3]);
}

#[test]
fn what_followed_a_gap_says_nothing() {
    let mut series = bursts();
    series.values[88 * 60 - 29..=88 * 60 + 30].iter_mut().for_each(|value| *value = Some(0.0));
    let rows = at(&series, 90 * 60 + 30);
    assert!(rows.iter().all(|row| row[7] < 400.0), "{:?}", &rows[0]);
}

#[test]
fn a_gap_ends_as_earlier_ones_did() {
    let mut series = bursts();
    for day in 0..4 {
        series.values[day * 1440 + 600..day * 1440 + 630].iter_mut().for_each(|value| *value = Some(0.0));
    }
    let rows = at(&series, 3 * 1440 + 620);
    assert!(rows[8][P95] < 20.0 && rows[9][3] < 20.0 && rows[9][P95] > 90.0, "{:?} {:?}", &rows[8], &rows[9]);
}

/// Quantiles of loads that followed moments at level 1.
#[track_caller]
fn weighted(followed: &[(f64, f64)], levels: &[f64]) -> Vec<f64> {
    let values = followed.iter().map(|(value, _)| Some(*value)).collect();
    let series = Series { start: Timestamp::from_millis(0), step: Span::from_minutes(1), values };
    let moments = followed.iter().enumerate().map(|(i, (_, weight))| Moment { at: i, level: 1.0, weight: *weight });
    let moments: Vec<Moment> = moments.collect();
    let mut found = vec![0.0; levels.len()];
    assert!(Followed::new(Past::all(&series), &moments).quantiles(0, levels, &mut found));
    found.iter().map(|ratio| ratio - SMALL).collect()
}

#[test]
fn weighted_quantiles_lie_in_the_middle_of_their_weights() {
    let near = |found: Vec<f64>, expected: &[f64]| {
        let close = found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-12);
        assert!(close && found.len() == expected.len(), "{found:?} {expected:?}");
    };
    let equal = [(4.0, 1.0), (2.0, 1.0), (3.0, 1.0), (1.0, 1.0)];
    near(weighted(&equal, &[0.01, 0.125, 0.25, 0.5, 0.875, 0.99]), &[1.0, 1.0, 1.5, 2.5, 4.0, 4.0]);
    let heavy = [(3.0, 3.0), (2.0, 1e-9), (1.0, 1.0)];
    let found = weighted(&heavy, &[0.2, 0.5, 0.9]);
    assert!((found[0] - 1.3).abs() < 0.8 && found[1] > 2.6 && (found[2] - 3.0).abs() < 1e-12, "{found:?}");
}

#[test]
fn hours_are_the_cycle_of_minutes_and_days_that_of_hours() {
    let of = |minutes: i64| {
        let series = Series { step: Span::from_minutes(minutes), ..bursts() };
        cycle(Past::all(&series))
    };
    assert_eq!([1, 5, 15, 30, 60, 7].map(of), [60, 12, 4, 48, 24, 206]);
}

/// What [`quantiles`] gives, moment by moment and step by step.
mod plain {
    use super::*;

    pub(super) fn quantiles(past: Past<'_>, horizon_steps: usize, levels: &[f64]) -> Option<Vec<Vec<f64>>> {
        let cycle = cycle(past);
        let newest = past.values.len().checked_sub(1)?;
        let now = state(past, newest, cycle)?;
        let origins = (1..=CYCLES).filter_map(|back| newest.checked_sub(back * cycle));
        let mut known: Vec<(usize, State)> = origins.filter_map(|at| Some((at, state(past, at, cycle)?))).collect();
        if known.len() < CYCLES_MIN {
            return None;
        }
        let least = GAP * middle(&mut known.iter().map(|(_, then)| then.level).collect::<Vec<f64>>())?;
        known.iter_mut().for_each(|(_, then)| then.level = then.level.max(least));
        let now = State { level: now.level.max(least), ..now };
        let highest = HIGHEST * past.highest(past.steps(DAY));
        let weights = weights(now.place(), &known, &mut Vec::new());
        let row = |k: usize| {
            let mut followed: Vec<(f64, f64)> = Vec::new();
            for ((at, then), weight) in known.iter().zip(&weights) {
                let value = past.at((at + k) as isize).filter(|value| value.is_finite() && *value >= 0.0);
                followed.extend(value.map(|value| (value / then.level + SMALL, *weight)));
            }
            // In the order of the moments where they are the same to 45 bits.
            followed.sort_by_key(|(ratio, _)| ratio.to_bits() >> 7);
            let ratios = (!followed.is_empty()).then(|| weighted(&followed, levels))?;
            let loads = ratios.iter().map(|ratio| (ratio * now.level - SMALL * now.level).clamp(0.0, highest));
            let mut loads: Vec<f64> = loads.collect();
            loads.sort_by(f64::total_cmp);
            Some(loads)
        };
        (1..=horizon_steps).map(row).collect()
    }

    fn state(past: Past<'_>, at: usize, cycle: usize) -> Option<State> {
        let newest = past.at(at as isize).filter(|value| value.is_finite() && *value >= 0.0)?;
        let median = |part: usize| {
            let values = past.values[(at + 1).saturating_sub((cycle / part).max(1))..=at].iter().flatten().copied();
            middle(&mut values.filter(|value| value.is_finite() && *value >= 0.0).collect::<Vec<f64>>())
        };
        let (calm, recent) = (median(CALM_PART)?, median(RECENT_PART)?);
        let level = recent.clamp(calm / BURST, calm * BURST).max(SMALL * newest).max(1e-9);
        Some(State { level, newest })
    }

    fn weighted(values: &[(f64, f64)], levels: &[f64]) -> Vec<f64> {
        let total: f64 = values.iter().map(|(_, weight)| weight).sum();
        let quantile = |level: &f64| {
            let (mut before, mut place) = (None, 0.0);
            for (value, weight) in values {
                let middle = place + 0.5 * weight;
                if middle >= level * total {
                    let Some((low, below)) = before else { return *value };
                    return low + (value - low) * (level * total - below) / (middle - below);
                }
                before = Some((*value, middle));
                place += weight;
            }
            values[values.len() - 1].0
        };
        levels.iter().map(quantile).collect()
    }
}

/// Loads drawn from `seed`: whole numbers and others, with gaps, quiet windows, and what is no load.
fn drawn(seed: u64, length: usize) -> Vec<Option<f64>> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1_u64 << 31) as f64
    };
    let one = |_| match (100.0 * draw()) as u32 {
        0..=1 => None,
        2..=3 => Some(0.0),
        4 => Some([f64::NAN, -1.0, f64::INFINITY, 1e12][(4.0 * draw()) as usize]),
        5..=50 => Some((40.0 * draw()).floor()),
        _ => Some(1e3 * draw()),
    };
    (0..length).map(one).collect()
}

proptest! {
    #[test]
    fn side_by_side_is_one_by_one(
        seed in any::<u64>(),
        // Cycles of 4, 12 and 60 windows, and of a day where the step does not divide the hour.
        (minutes, length) in prop_oneof![
            Just(15_i64).prop_flat_map(|minutes| (Just(minutes), 1..400_usize)),
            Just(5).prop_flat_map(|minutes| (Just(minutes), 1..1_200_usize)),
            Just(1).prop_flat_map(|minutes| (Just(minutes), 400..5_000_usize)),
            Just(7).prop_flat_map(|minutes| (Just(minutes), 1_400..5_000_usize)),
        ],
        horizon_steps in 0..70_usize,
    ) {
        let series = Series {
            start: Timestamp::from_millis(0),
            step: Span::from_minutes(minutes),
            values: drawn(seed, length),
        };
        let past = Past::all(&series);
        let found = quantiles(past, horizon_steps, &DEFAULT_QUANTILES).map(Vec::from);
        prop_assert_eq!(found, plain::quantiles(past, horizon_steps, &DEFAULT_QUANTILES));
    }
}
