//! The logarithm that loads are looked at by. Rule: the same bits on every machine, and quick: a forecast takes thousands.

/// `ln(1 + x)` to within 1e-14 of the larger of it and 1, for finite `x`; below 0 as 0.
pub(crate) fn ln_1p(x: f64) -> f64 {
    // 1 + x = 2^e m with m in [√½, √2), and ln m = 2 artanh((m − 1) / (m + 1)), by its series.
    const HALF_ROOT: u64 = 0x3fe6_a09e_667f_3bcd;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    let shifted = (1.0 + x.max(0.0)).to_bits() + (ONE - HALF_ROOT);
    let exponent = (shifted >> 52) as i64 - 1023;
    let m = f64::from_bits((shifted & ((1 << 52) - 1)) + HALF_ROOT);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 1.0 / 19.0;
    for k in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / k;
    }
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * sum
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
    }

    #[test]
    fn at_the_edges() {
        assert_eq!([0.0, -1.0, f64::NAN].map(ln_1p), [0.0; 3]);
        assert!(ln_1p(f64::MAX).is_finite());
    }
}
