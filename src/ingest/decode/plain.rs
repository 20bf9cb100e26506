//! The quick way through a JSON record: flat and without escapes. Rule: what it accepts it reads
//! exactly as the general reader does; at anything else it gives up, and the general reader has the record from the
//! beginning.

use arrow::datatypes::TimeUnit;

use super::column::Kind;
use super::slot::Slot;

/// A place in a record.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte behind blanks, which must be one of two; whether it is the first.
    pub(super) fn either(&mut self, first: u8, second: u8) -> Option<bool> {
        self.skip_blanks();
        let found = self.peek()?;
        self.at += 1;
        (found == first || found == second).then_some(found == first)
    }

    /// The next byte behind blanks, which must be `wanted`.
    pub(super) fn expect(&mut self, wanted: u8) -> Option<()> {
        self.either(wanted, wanted).map(drop)
    }

    /// Whether `name`, which has nothing to escape, stands here in quotes; then it is passed.
    pub(super) fn pass_name(&mut self, name: &str) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        let there = rest.len() > name.len() + 1
            && rest[0] == b'"'
            && &rest[1..=name.len()] == name.as_bytes()
            && rest[name.len() + 1] == b'"';
        self.at += if there { name.len() + 2 } else { 0 };
        there
    }

    /// A text in quotes without escapes.
    pub(super) fn plain_text(&mut self) -> Option<&'a str> {
        if self.peek()? != b'"' {
            return None;
        }
        let from = self.at + 1;
        let length = plain_length(&self.text.as_bytes()[from..])?;
        self.at = from + length + 1;
        self.text.get(from..from + length)
    }

    /// Nothing but blanks is left.
    pub(super) fn at_end(&mut self) -> Option<()> {
        self.skip_blanks();
        self.peek().is_none().then_some(())
    }

    pub(super) fn blanks(&mut self) {
        self.skip_blanks();
    }

    /// A value for a column of `kind`.
    pub(super) fn value(&mut self, kind: Kind) -> Option<Slot<'a>> {
        self.skip_blanks();
        match self.peek()? {
            b'"' => {
                let text = self.plain_text()?;
                match kind {
                    Kind::Text => Some(Slot::Text(text)),
                    Kind::Timestamp(unit) => moment(text, unit).or_else(|| kind.text(text)),
                    kind => kind.text(text),
                }
            }
            b'n' => self.word("null").map(|()| Slot::Null),
            b't' if kind == Kind::Bool => self.word("true").map(|()| Slot::Bool(true)),
            b'f' if kind == Kind::Bool => self.word("false").map(|()| Slot::Bool(false)),
            b'-' | b'0'..=b'9' => self.number(kind),
            _ => None,
        }
    }

    /// Passes a value of a field that is no column.
    pub(super) fn pass_value(&mut self) -> Option<()> {
        self.skip_blanks();
        match self.peek()? {
            b'"' => self.plain_text().map(drop),
            b'n' => self.word("null"),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'-' | b'0'..=b'9' => self.scan_number().map(drop),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        there.then_some(())
    }

    fn number(&mut self, kind: Kind) -> Option<Slot<'a>> {
        const INTEGER_DIGITS_MAX: usize = 18;
        const EXACT_DIGITS_MAX: usize = 15;
        let from = self.at;
        let Number { negative, mantissa, digits, decimals, exponent } = self.scan_number()?;
        if decimals == 0 && !exponent {
            // The general reader has −0 as a floating-point number.
            let left = digits > INTEGER_DIGITS_MAX || (negative && mantissa == 0);
            let value = i128::from(mantissa);
            return if left { None } else { kind.integer(if negative { -value } else { value }) };
        }
        if exponent || digits > EXACT_DIGITS_MAX {
            let value: f64 = self.text.get(from..self.at)?.parse().ok()?;
            return if value.is_finite() { kind.float(value) } else { None };
        }
        // Both are exact in f64, so that their quotient is rounded once, as by the general reader (Clinger 1990).
        let value = mantissa as f64 / POWERS.get(decimals)?;
        kind.float(if negative { -value } else { value })
    }

    /// Passes a number as JSON writes it.
    fn scan_number(&mut self) -> Option<Number> {
        let bytes = self.text.as_bytes();
        let negative = bytes[self.at] == b'-';
        let from = self.at + usize::from(negative);
        let (mut mantissa, mut at) = (0_u64, from);
        let mut pass_digits = |at: &mut usize| {
            let begin = *at;
            while let Some(digit) = bytes.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
                // Wraps where there are more digits than anybody asks the mantissa for.
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                *at += 1;
            }
            *at - begin
        };
        let whole = pass_digits(&mut at);
        if whole == 0 || (whole > 1 && bytes[from] == b'0') {
            return None;
        }
        let mut decimals = 0;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            decimals = pass_digits(&mut at);
            if decimals == 0 {
                return None;
            }
        }
        let exponent = matches!(bytes.get(at), Some(b'e' | b'E'));
        if exponent {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            if pass_digits(&mut at) == 0 {
                return None;
            }
        }
        self.at = at;
        Some(Number { negative, mantissa, digits: whole + decimals, decimals, exponent })
    }
}

/// What was passed; `mantissa` has the digits up to the exponent where there is none and they are few enough.
struct Number {
    negative: bool,
    mantissa: u64,
    digits: usize,
    decimals: usize,
    exponent: bool,
}

const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// The bytes up to the closing quote; `None` where an escape, a control character or the end comes first. Eight at a time:
/// a byte below n, or equal to a byte, leaves its highest bit (Warren, Hacker's Delight, 6-1).
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let equal = |word: u64, byte: u8| {
        let zeroed = word ^ (ONES * u64::from(byte));
        zeroed.wrapping_sub(ONES) & !zeroed & HIGH
    };
    let (words, _) = bytes.as_chunks::<8>();
    let mut from = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        if (equal(word, b'"') | equal(word, b'\\') | below) != 0 {
            break;
        }
        from += 8;
    }
    let length = from + bytes[from..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
    (bytes[length] == b'"').then_some(length)
}

/// Whether a field's name reads the same within quotes.
pub(super) fn is_plain(name: &str) -> bool {
    !name.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
}

/// `2026-11-23T08:00:00Z`, with up to nine decimals; other forms are left to Arrow's reader.
fn moment<'a>(text: &str, unit: TimeUnit) -> Option<Slot<'a>> {
    let bytes = text.as_bytes();
    let (clock, rest) = bytes.split_at_checked(19)?;
    let two = |at: usize| -> Option<i64> {
        let (tens, ones) = (clock[at].wrapping_sub(b'0'), clock[at + 1].wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| clock[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut nanos = 0_i64;
    match rest {
        b"Z" => {}
        [b'.', decimals @ .., b'Z'] if (1..=9).contains(&decimals.len()) => {
            for decimal in decimals {
                let digit = decimal.wrapping_sub(b'0');
                if digit > 9 {
                    return None;
                }
                nanos = nanos * 10 + i64::from(digit);
            }
            nanos *= 10_i64.pow(9 - u32::try_from(decimals.len()).ok()?);
        }
        _ => return None,
    }
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    let value = match unit {
        TimeUnit::Second => seconds,
        TimeUnit::Millisecond => seconds * 1_000 + nanos / 1_000_000,
        TimeUnit::Microsecond => seconds * 1_000_000 + nanos / 1_000,
        TimeUnit::Nanosecond => seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?,
    };
    Some(Slot::Int(value))
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

    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        match moment(text, TimeUnit::Nanosecond)? {
            Slot::Int(value) => Some(value),
            _ => None,
        }
    }

    #[test]
    fn times_in_the_usual_form_are_read_and_others_left() {
        assert_eq!(nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanos("1969-12-31T23:59:59.5Z"), Some(-500_000_000));
        assert_eq!(nanos("2024-02-29T12:00:00.000000001Z"), Some(1_709_208_000_000_000_001));
        for other in ["2023-02-29T00:00:00Z", "2023-01-01 00:00:00Z", "2023-01-01T00:00:00", "2023-01-01T24:00:00Z", ""]
        {
            assert_eq!(nanos(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn times_are_those_of_the_general_reader(
            seconds in -9_000_000_000_i64..9_000_000_000, nanos in 0_u32..1_000_000_000, decimals in 0_usize..10,
        ) {
            let time = chrono::DateTime::from_timestamp(seconds, nanos).unwrap();
            let mut text = time.format("%Y-%m-%dT%H:%M:%S").to_string();
            if decimals > 0 {
                text.push_str(&format!(".{nanos:09}")[..=decimals]);
            }
            text.push('Z');
            for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
                let (Some(Slot::Int(quick)), Some(Slot::Int(general))) =
                    (moment(&text, unit), Kind::Timestamp(unit).text(&text)) else { panic!("{text} was not read") };
                prop_assert_eq!(quick, general);
            }
        }

        #[test]
        fn a_plain_text_ends_at_its_quote(text in "[ -~é\u{1f600}]{0,40}") {
            let bytes = text.as_bytes();
            let first = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(plain_length(bytes), first.filter(|at| bytes[*at] == b'"'));
        }
    }
}
