//! Logarithms and exponentials that forecasts take by the thousand. Rules: the same bits on every machine, whatever its
//! vectors are; quick, so without branches, tables or calls.

const HALF_ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
const ONE: u64 = 0x3ff0_0000_0000_0000;
/// 2^52: a whole number below it, or-ed into its bits, is that number more.
const TWO_52: u64 = 0x4330_0000_0000_0000;

/// `ln(1 + x)` to within 1e-14 of the larger of it and 1, for finite `x`; below 0 as 0.
#[inline(always)]
pub(crate) fn ln_1p(x: f64) -> f64 {
    ln(1.0 + if x > 0.0 { x } else { 0.0 })
}

/// `ln x` to within 1e-14 of the larger of it and 1, for finite `x` that are at least 1e-300.
#[inline(always)]
fn ln(x: f64) -> f64 {
    // x = 2^e m with m in [√½, √2), and ln m = 2 artanh((m − 1) / (m + 1)), by its series.
    let shifted = x.to_bits().wrapping_add(ONE - HALF_ROOT);
    let exponent = f64::from_bits((shifted >> 52) | TWO_52) - (f64::from_bits(TWO_52) + 1023.0);
    let m = f64::from_bits((shifted & ((1 << 52) - 1)) + HALF_ROOT);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 1.0 / 19.0;
    for k in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / k;
    }
    exponent * std::f64::consts::LN_2 + 2.0 * s * sum
}

/// `e^x` to within 1e-15 of it, for `x` up to 0: beyond that as 1, below −708 and for no number as 0.
#[inline(always)]
pub(crate) fn exp_of_negative(x: f64) -> f64 {
    // x = k ln 2 + r with |r| ≤ ½ ln 2, and e^r by its series.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let bounded = if x < 0.0 { x } else { 0.0 };
    let bounded = if bounded > -708.0 { bounded } else { -708.0 };
    let rounded = bounded * std::f64::consts::LOG2_E + ROUNDING;
    let k = rounded - ROUNDING;
    let r = (bounded - k * LN_2_HIGH) - k * LN_2_LOW;
    let mut sum = 1.0 / 6_227_020_800.0;
    for factor in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + factor;
    }
    // The low bits of `rounded` are k: adding it to the exponent of 1.
    let scale = f64::from_bits(rounded.to_bits().wrapping_shl(52).wrapping_add(ONE));
    if x >= -708.0 { sum * scale } else { 0.0 }
}

/// Appends `ln(1 + value / unit)` of each of `values` to `logs`: NaN for a gap and for what is no number.
pub(crate) fn push_logs(values: &[Option<f64>], unit: f64, logs: &mut Vec<f64>) {
    let start = logs.len();
    logs.extend(values.iter().map(|value| value.unwrap_or(f64::NAN)));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { take_logs_wide(&mut logs[start..], unit) };
        return;
    }
    take_logs(&mut logs[start..], unit);
}

/// The logarithms of `values`, in place: NaN where there was none. Numbers are at least 1e-300.
pub(crate) fn take_lns(values: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { take_lns_wide(values) };
        return;
    }
    take_lns_any(values);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn take_lns_wide(values: &mut [f64]) {
    take_lns_any(values);
}

#[inline(always)]
fn take_lns_any(values: &mut [f64]) {
    for value in values {
        // What is no finite number has no product with 0.
        *value = ln(*value) + 0.0 * *value;
    }
}

/// A log that [`push_logs`] made, unless it is a gap's.
#[inline(always)]
pub(crate) fn known(log: f64) -> Option<f64> {
    (!log.is_nan()).then_some(log)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn take_logs_wide(values: &mut [f64], unit: f64) {
    take_logs(values, unit);
}

#[inline(always)]
fn take_logs(values: &mut [f64], unit: f64) {
    for value in values {
        let log = ln_1p(*value / unit);
        // What is not finite has no product with 0.
        *value = log + 0.0 * *value;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_logarithm_and_rises(x in prop_oneof![0.0..3.0_f64, 0.0..1e9_f64, 0.0..1e300_f64], more in 0.0..1.0_f64) {
            let expected = x.ln_1p();
            prop_assert!((ln_1p(x) - expected).abs() <= 1e-14 * expected.max(1.0), "{x}: {} {expected}", ln_1p(x));
            prop_assert!(ln_1p(x + more * x) >= ln_1p(x) - 1e-14 * expected.max(1.0));
        }

        #[test]
        fn logarithms_in_place_are_those_of_each(
            values in prop::collection::vec(prop_oneof![1e-300..1e-3_f64, 1e-3..1e6_f64, Just(f64::NAN)], 0..40),
        ) {
            let mut logs = values.clone();
            take_lns(&mut logs);
            for (value, log) in values.iter().zip(&logs) {
                let expected = value.ln();
                let close = (log - expected).abs() <= 1e-14 * expected.abs().max(1.0);
                prop_assert!(close || log.is_nan() && value.is_nan(), "{value} {log} {expected}");
            }
        }

        #[test]
        fn it_is_the_exponential(x in prop_oneof![-1.0..0.0_f64, -40.0..0.0_f64, -707.9..0.0_f64]) {
            let expected = x.exp();
            prop_assert!((exp_of_negative(x) - expected).abs() <= 1e-15 * expected, "{x}: {} {expected}", exp_of_negative(x));
        }

        #[test]
        fn many_logs_are_those_of_each(
            values in prop::collection::vec(prop::option::weighted(0.8, 0.0..1e6_f64), 0..40),
            unit in 1e-9..1e3_f64,
        ) {
            let mut logs = vec![7.0];
            push_logs(&values, unit, &mut logs);
            prop_assert_eq!(logs.len(), values.len() + 1);
            for (value, log) in values.iter().zip(&logs[1..]) {
                let one = value.map_or(f64::NAN, |value| ln_1p(value / unit));
                prop_assert!(log.to_bits() == one.to_bits() || log.is_nan() && one.is_nan(), "{value:?} {log} {one}");
            }
        }
    }

    #[test]
    fn at_the_edges() {
        assert_eq!([0.0, -1.0, f64::NAN].map(ln_1p), [0.0; 3]);
        assert!(ln_1p(f64::MAX).is_finite());
        assert_eq!([0.0, 3.0, -1e4, f64::NEG_INFINITY, f64::NAN].map(exp_of_negative), [1.0, 1.0, 0.0, 0.0, 0.0]);
        let mut logs = Vec::new();
        push_logs(&[Some(f64::INFINITY), Some(f64::NAN), None, Some(-2.0)], 1.0, &mut logs);
        assert!(logs[..3].iter().all(|log| log.is_nan()) && logs[3] == 0.0, "{logs:?}");
    }
}
