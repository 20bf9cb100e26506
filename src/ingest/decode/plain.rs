//! The quick way through a JSON record: flat and without escapes. Rule: what it accepts it reads
//! exactly as the general reader does; at anything else it gives up, and the general reader has the record from the
//! beginning.

use arrow::datatypes::TimeUnit;

use super::column::Kind;
use super::digits;
use super::moment::Minute;
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

    /// Whether `lead` stands here; then it is passed. Near the end of a record it may not be seen.
    pub(super) fn pass(&mut self, lead: &Lead) -> bool {
        let Some(rest) = self.text.as_bytes().get(self.at..) else { return false };
        let (chunks, _) = rest.as_chunks::<8>();
        if chunks.len() < lead.used {
            return false;
        }
        let mut differ = 0;
        for ((chunk, word), mask) in chunks.iter().zip(&lead.words).zip(&lead.masks).take(lead.used) {
            differ |= (u64::from_le_bytes(*chunk) & mask) ^ word;
        }
        let there = differ == 0;
        self.at += if there { lead.length } else { 0 };
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

    /// A whole number of few digits; `None` = it is none, and nothing was passed.
    pub(super) fn whole(&mut self) -> Option<i64> {
        let from = self.at;
        match self.short_number()? {
            Short { negative: false, mantissa, decimals: 0 } => Some(mantissa),
            Short { negative: true, mantissa, decimals: 0 } if mantissa > 0 => Some(-mantissa),
            _ => {
                self.at = from;
                None
            }
        }
    }

    /// A number without an exponent; `None` = it is none, and nothing was passed.
    pub(super) fn decimal(&mut self) -> Option<f64> {
        let from = self.at;
        match self.short_number() {
            // The general reader may have −0 as either.
            Some(Short { negative: true, mantissa: 0, .. }) => {
                self.at = from;
                None
            }
            Some(Short { negative, mantissa, decimals }) => {
                // Both are exact in f64, so that their quotient is rounded once, as by the general reader (Clinger 1990).
                let value = mantissa as f64 / POWERS[decimals];
                Some(if negative { -value } else { value })
            }
            None => self.long_decimal(),
        }
    }

    /// Up to seven digits on either side of the point, and eight bytes behind each of the two first ones; `None` = it is
    /// anything else, and nothing was passed.
    fn short_number(&mut self) -> Option<Short> {
        let bytes = self.text.as_bytes();
        let negative = *bytes.get(self.at)? == b'-';
        let mut at = self.at + usize::from(negative);
        let (count, whole) = digits::leading(*bytes.get(at..)?.first_chunk()?);
        if count == 0 || count == 8 || (count > 1 && bytes[at] == b'0') {
            return None;
        }
        at += count;
        let mut short = Short { negative, mantissa: whole as i64, decimals: 0 };
        if bytes.get(at) == Some(&b'.') {
            let (count, part) = digits::leading(*bytes.get(at + 1..)?.first_chunk()?);
            if count == 0 || count == 8 {
                return None;
            }
            at += 1 + count;
            short = Short { mantissa: short.mantissa * TENS[count] + part as i64, decimals: count, ..short };
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            return None;
        }
        self.at = at;
        Some(short)
    }

    /// Any number with a point and without an exponent.
    fn long_decimal(&mut self) -> Option<f64> {
        let bytes = self.text.as_bytes();
        let count = |from: usize| {
            let mut at = from;
            while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
                let (count, _) = digits::leading(*chunk);
                at += count;
                if count < 8 {
                    return Some(at - from);
                }
            }
            // The record's last bytes are left to the general scan.
            None
        };
        let negative = *bytes.get(self.at)? == b'-';
        let from = self.at + usize::from(negative);
        let whole = count(from)?;
        if whole == 0 || (whole > 1 && bytes[from] == b'0') || bytes.get(from + whole) != Some(&b'.') {
            return None;
        }
        let decimals = count(from + whole + 1)?;
        let end = from + whole + 1 + decimals;
        if decimals == 0 || matches!(bytes.get(end), Some(b'e' | b'E')) {
            return None;
        }
        let value: f64 = self.text.get(self.at..end)?.parse().ok()?;
        self.at = end;
        Some(value).filter(|value| value.is_finite())
    }

    /// A time in the usual form, in quotes; `None` = it is none, and nothing was passed.
    pub(super) fn moment(&mut self, unit: TimeUnit, minute: &mut Minute) -> Option<i64> {
        let from = self.at;
        let value = self.plain_text().and_then(|text| minute.moment(text.as_bytes(), unit));
        if value.is_none() {
            self.at = from;
        }
        value
    }

    /// Passes a value of the usual form that is sound in a column of `kind`; `false` = it is anything else, and nothing was
    /// passed.
    pub(super) fn pass_plain(&mut self, kind: Kind, minute: &mut Minute) -> bool {
        let from = self.at;
        let is_sound = match kind {
            Kind::Text => self.plain_text().is_some(),
            Kind::Int64 => self.whole().is_some(),
            Kind::Int32 => self.whole().is_some_and(|value| i32::try_from(value).is_ok()),
            Kind::Float64 => self.short_number().is_some(),
            Kind::Timestamp(unit) => self.moment(unit, minute).is_some(),
            _ => false,
        };
        if !is_sound {
            self.at = from;
        }
        is_sound
    }

    /// A value for a column of `kind`.
    pub(super) fn value(&mut self, kind: Kind) -> Option<Slot<'a>> {
        self.skip_blanks();
        match self.peek()? {
            b'"' => {
                let text = self.plain_text()?;
                match kind {
                    Kind::Text => Some(Slot::Text(text)),
                    Kind::Timestamp(unit) => {
                        Minute::default().moment(text.as_bytes(), unit).map(Slot::Int).or_else(|| kind.text(text))
                    }
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

/// A number of few digits: `mantissa / 10^decimals`.
struct Short {
    negative: bool,
    mantissa: i64,
    decimals: usize,
}

const TENS: [i64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

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
/// a byte below n, or equal to a byte, leaves its highest bit, exactly in the first such byte (Warren, Hacker's Delight,
/// 6-1).
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let equal = |word: u64, byte: u8| {
        let zeroed = word ^ (ONES * u64::from(byte));
        zeroed.wrapping_sub(ONES) & !zeroed
    };
    let mut from = 0;
    while let Some(chunk) = bytes.get(from..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let below = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (equal(word, b'"') | equal(word, b'\\') | below) & HIGH;
        if found != 0 {
            let length = from + found.trailing_zeros() as usize / 8;
            return (bytes[length] == b'"').then_some(length);
        }
        from += 8;
    }
    let length = from + bytes[from..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
    (bytes[length] == b'"').then_some(length)
}

/// What stands between two values of a record where it has no blanks: `{"name":` or `,"name":`.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    /// The bytes, filled up with zeros.
    words: [u64; Self::WORDS],
    masks: [u64; Self::WORDS],
    used: usize,
    length: usize,
}

impl Lead {
    const WORDS: usize = 4;

    /// `None` where the name is long, or reads differently within quotes.
    pub(super) fn new(is_first: bool, name: &str) -> Option<Self> {
        let text = format!("{}\"{name}\":", if is_first { '{' } else { ',' });
        if text.len() > 8 * Self::WORDS || !is_plain(name) {
            return None;
        }
        let (mut words, mut masks) = ([0; Self::WORDS], [0; Self::WORDS]);
        for (index, byte) in text.bytes().enumerate() {
            words[index / 8] |= u64::from(byte) << (8 * (index % 8));
            masks[index / 8] |= 0xff << (8 * (index % 8));
        }
        Some(Self { words, masks, used: text.len().div_ceil(8), length: text.len() })
    }
}

/// Whether a field's name reads the same within quotes.
fn is_plain(name: &str) -> bool {
    !name.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_text_ends_at_its_quote(text in "[ -~é\u{1f600}]{0,40}") {
            let bytes = text.as_bytes();
            let first = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(plain_length(bytes), first.filter(|at| bytes[*at] == b'"'));
        }
    }
}
