//! Numbers as Kubernetes writes them: without a point, in thousandths where they are not whole, and with the largest suffix
//! that loses nothing (its canonical form, apimachinery's `resource.Quantity`). Rule: what is above 0 stays above 0.

/// The canonical form of a number that is not negative, to the thousandth.
pub(super) fn quantity(value: f64) -> String {
    let least = i64::from(value > 0.0);
    // The cast holds what is too large at the largest there is.
    let thousandths = ((value * 1000.0).round() as i64).max(least);
    if thousandths % 1000 != 0 {
        return format!("{thousandths}m");
    }
    let mut whole = thousandths / 1000;
    let mut suffixes = ["k", "M", "G", "T", "P"].into_iter();
    let mut suffix = "";
    while whole != 0
        && whole % 1000 == 0
        && let Some(next) = suffixes.next()
    {
        whole /= 1000;
        suffix = next;
    }
    format!("{whole}{suffix}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_their_canonical_form() {
        let cases = [
            (0.0, "0"),
            (-3.0, "0"),
            (f64::NAN, "0"),
            (0.0001, "1m"),
            (0.1, "100m"),
            (1.0, "1"),
            (1.1, "1100m"),
            (1.5, "1500m"),
            (999.0, "999"),
            (1000.0, "1k"),
            (1500.0, "1500"),
            (1000.5, "1000500m"),
            (100_000.0, "100k"),
            (12_000_000.0, "12M"),
            (1e15, "1P"),
            (f64::INFINITY, "9223372036854775807m"),
        ];
        for (value, expected) in cases {
            assert_eq!(quantity(value), expected, "{value}");
        }
    }

    /// The value of a text, as Kubernetes reads it.
    fn read(text: &str) -> f64 {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "m" => 1e-3,
            "" => 1.0,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "P" => 1e15,
            other => panic!("{other}"),
        };
        digits.parse::<i64>().unwrap() as f64 * factor
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_the_number_to_the_thousandth(value in 0.0_f64..1e12) {
            prop_assert!((read(&quantity(value)) - value).abs() <= 0.001 + value * 1e-12);
        }
    }
}
