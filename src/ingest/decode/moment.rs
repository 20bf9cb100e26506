//! Times in the form in which logs mostly have them. Rule: what is accepted reads exactly as in the general reader, and
//! everything else is left to it.

use arrow::datatypes::TimeUnit;

use super::digits;

/// The minute of the time that was read last: the next one is mostly in the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Minute {
    text: [u8; 16],
    seconds: i64,
}

impl Default for Minute {
    fn default() -> Self {
        Self { text: *b"1970-01-01T00:00", seconds: 0 }
    }
}

impl Minute {
    /// `2026-11-23T08:00:00Z`, with up to nine decimals.
    pub(super) fn moment(&mut self, text: &[u8], unit: TimeUnit) -> Option<i64> {
        let (minute, rest) = text.split_first_chunk::<16>()?;
        let (second, rest) = rest.split_first_chunk::<3>()?;
        if second[0] != b':' {
            return None;
        }
        let second = two(second[1], second[2]).filter(|second| *second < 60)?;
        let nanos = match rest {
            b"Z" => 0,
            [b'.', decimals @ .., b'Z'] => fraction(decimals)?,
            _ => return None,
        };
        if *minute != self.text {
            *self = Self { text: *minute, seconds: minute_of(minute)? };
        }
        let seconds = self.seconds + second;
        Some(match unit {
            TimeUnit::Second => seconds,
            TimeUnit::Millisecond => seconds * 1_000 + nanos / 1_000_000,
            TimeUnit::Microsecond => seconds * 1_000_000 + nanos / 1_000,
            TimeUnit::Nanosecond => seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
        })
    }
}

/// Nanoseconds of one to nine decimals.
fn fraction(decimals: &[u8]) -> Option<i64> {
    if let [a, b, c] = decimals {
        let digit = |byte: &u8| Some(i64::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit < 10);
        return Some((digit(a)? * 100 + digit(b)? * 10 + digit(c)?) * 1_000_000);
    }
    if !(1..=9).contains(&decimals.len()) {
        return None;
    }
    let (first, last) = decimals.split_at(decimals.len().min(8));
    let mut padded = [b'0'; 8];
    padded[..first.len()].copy_from_slice(first);
    let (count, value) = digits::leading(padded);
    let last = match last {
        [] => 0,
        [byte, ..] => i64::from(byte.wrapping_sub(b'0')),
    };
    (count == 8 && last < 10).then(|| value as i64 * 10 + last)
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// The second, since 1970, with which a minute begins.
fn minute_of(text: &[u8; 16]) -> Option<i64> {
    let two = |at: usize| two(text[at], text[at + 1]);
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let (hour, minute) = (two(11)?, two(14)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 {
        return None;
    }
    Some(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::column::Kind;
    use super::super::slot::Slot;
    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        Minute::default().moment(text.as_bytes(), TimeUnit::Nanosecond)
    }

    #[test]
    fn times_in_the_usual_form_are_read_and_others_left() {
        assert_eq!(nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanos("1969-12-31T23:59:59.5Z"), Some(-500_000_000));
        assert_eq!(nanos("2024-02-29T12:00:00.000000001Z"), Some(1_709_208_000_000_000_001));
        for other in [
            "2023-02-29T00:00:00Z",
            "2023-01-01 00:00:00Z",
            "2023-01-01T00:00:00",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:00:60Z",
            "2023-01-01T00:00:00.Z",
            "2023-01-01T00:00:00.12xZ",
            "2023-01-01T00:00:00.1234567890Z",
            "2023-01-01T00:00:00.12345678xZ",
            "",
        ] {
            assert_eq!(nanos(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn times_are_those_of_the_general_reader(
            start in -9_000_000_000_i64..9_000_000_000,
            steps in prop::collection::vec((-100_i64..100, 0_u32..1_000_000_000, 0_usize..10), 1..5),
        ) {
            for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
                let mut minute = Minute::default();
                for (step, nanos, decimals) in &steps {
                    let time = chrono::DateTime::from_timestamp(start + step, *nanos).unwrap();
                    let mut text = time.format("%Y-%m-%dT%H:%M:%S").to_string();
                    if *decimals > 0 {
                        text.push_str(&format!(".{nanos:09}")[..=*decimals]);
                    }
                    text.push('Z');
                    let Some(Slot::Int(general)) = Kind::Timestamp(unit).text(&text) else { panic!("{text}") };
                    prop_assert_eq!(minute.moment(text.as_bytes(), unit), Some(general));
                }
            }
        }
    }
}
