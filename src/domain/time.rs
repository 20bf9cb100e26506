//! Event and wall time as milliseconds since the Unix epoch, UTC. Rule: a length and a moment are different types.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A moment: milliseconds since 1970-01-01T00:00:00Z. Serialised as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A length of time in milliseconds, never negative where a configuration names it. Serialised as `"30s"`, `"5m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

/// A text that is not a moment.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not an RFC 3339 time such as 2026-11-23T08:00:00Z")]
pub struct TimeError(String);

/// A text that is not a length of time.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a duration: write a number and one of ms, s, m, h, d, such as \"30s\"")]
pub struct SpanError(String);

/// The first and the last second that RFC 3339 can write.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_000;

impl Timestamp {
    pub const MIN: Self = Self(i64::MIN);
    /// The watermark after the end of all input.
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The start of the window of width `step`, aligned to the epoch, that holds this moment.
    #[inline]
    pub fn floor_to(self, step: Span) -> Self {
        if step.0 <= 0 { self } else { Self(self.0.div_euclid(step.0).saturating_mul(step.0)) }
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[inline]
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0).max(0))
    }

    /// Whether it is [`Timestamp::MIN`], also after that was written as text.
    pub const fn is_beginning(self) -> bool {
        self.0 <= FIRST
    }

    /// RFC 3339 in UTC, with milliseconds only where there are any. [`Timestamp::MIN`] and [`Timestamp::MAX`] and all
    /// others outside the years that RFC 3339 can write are clamped to its first and last second.
    pub fn to_rfc3339(self) -> String {
        self.text().as_str().to_owned()
    }

    fn writable(self) -> i64 {
        self.0.clamp(FIRST, LAST)
    }

    fn text(self) -> Text {
        let clamped = self.writable();
        let (year, month, day) = civil(clamped.div_euclid(DAY_MILLIS));
        let within = clamped.rem_euclid(DAY_MILLIS).unsigned_abs();
        let mut text = Text { bytes: *b"0000-00-00T00:00:00.000Z", length: 24 };
        text.two_digits(0, year / 100);
        text.two_digits(2, year % 100);
        text.two_digits(5, month);
        text.two_digits(8, day);
        text.two_digits(11, within / 3_600_000);
        text.two_digits(14, within / 60_000 % 60);
        text.two_digits(17, within / 1000 % 60);
        // Also those that are clamped to a whole second say that they had some.
        if self.0.rem_euclid(1000) == 0 {
            text.bytes[19] = b'Z';
            text.length = 20;
        } else {
            let millis = within % 1000;
            text.two_digits(20, millis / 10);
            text.bytes[22] = b'0' + (millis % 10) as u8;
        }
        text
    }
}

const DAY_MILLIS: i64 = 86_400_000;

/// Year, month and day of so many days after 1970-01-01 in the Gregorian calendar, from the year 1 on, by years that begin in
/// March (Hinnant, chrono-Compatible Low-Level Date Algorithms, 2013).
fn civil(days: i64) -> (u64, u64, u64) {
    /// Days from 0000-03-01, the first of a year that ends with its leap day, to 1970-01-01.
    const EPOCH: i64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = (days + EPOCH).unsigned_abs();
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    // Of four years the last has a day more, of a hundred not, of four hundred again.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days, and so have the next five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + next, month, day)
}

/// A short text on the stack. A decision's record has some fifty moments and lengths, and its id is a hash of that record:
/// the general way of formatting took a tenth of the time of a decision.
#[derive(Default)]
struct Text {
    bytes: [u8; 24],
    length: usize,
}

impl Text {
    fn push(&mut self, text: &[u8]) {
        if let Some(free) = self.bytes.get_mut(self.length..self.length + text.len()) {
            free.copy_from_slice(text);
            self.length += text.len();
        }
    }

    fn two_digits(&mut self, at: usize, number: u64) {
        self.bytes[at] = b'0' + (number / 10) as u8;
        self.bytes[at + 1] = b'0' + (number % 10) as u8;
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self(time.timestamp_millis()))
            .map_err(|_| TimeError(text.to_owned()))
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;

    #[inline]
    fn add(self, length: Span) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;

    #[inline]
    fn sub(self, length: Span) -> Self {
        Self(self.0.saturating_sub(length.0))
    }
}

impl Span {
    pub const ZERO: Self = Self(0);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    pub const fn from_minutes(minutes: i64) -> Self {
        Self(minutes.saturating_mul(60_000))
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.max(0).unsigned_abs())
    }

    /// How many whole steps it takes to cover this length, at least 0.
    pub fn steps_up(self, step: Self) -> usize {
        if step.0 <= 0 || self.0 <= 0 {
            0
        } else {
            usize::try_from((self.0 + step.0 - 1) / step.0).unwrap_or(usize::MAX)
        }
    }

    fn writable(self) -> i64 {
        self.0
    }

    /// In the largest unit that gives a whole number.
    fn text(self) -> Text {
        const UNITS: [(i64, &[u8]); 4] = [(DAY_MILLIS, b"d"), (3_600_000, b"h"), (60_000, b"m"), (1000, b"s")];
        let whole = UNITS.into_iter().find(|(size, _)| self.0 != 0 && self.0 % size == 0);
        let (size, unit): (i64, &[u8]) = whole.unwrap_or(if self.0 == 0 { (1, b"s") } else { (1, b"ms") });
        let mut text = Text::default();
        if self.0 < 0 {
            text.push(b"-");
        }
        text.number((self.0 / size).unsigned_abs());
        text.push(unit);
        text
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let fail = || SpanError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(fail)?;
        let (number, unit) = trimmed.split_at(split);
        let scale = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fail()),
        };
        let number: i64 = number.trim().parse().map_err(|_| fail())?;
        if number < 0 {
            return Err(fail());
        }
        number.checked_mul(scale).map(Self).ok_or_else(fail)
    }
}

/// As text where people read it, otherwise as the number of milliseconds that the text would be read as.
macro_rules! as_text {
    ($type:ty, $format:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(self.text().as_str())
                } else {
                    serializer.serialize_i64(self.writable())
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if !deserializer.is_human_readable() {
                    return i64::deserialize(deserializer).map(Self);
                }
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format })
            }
        }
    };
}

as_text!(Timestamp, "date-time");
as_text!(Span, "duration");

/// Where "now" comes from: the system, or the event time of a replay.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The wall clock of the machine; the only reader of it in Prescale.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp(Utc::now().timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use chrono::{SecondsFormat, TimeZone as _};

    use super::*;

    #[test]
    fn a_moment_reads_as_the_calendar_writes_it() {
        let written = |millis: i64| {
            let form = if millis.rem_euclid(1000) == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
            let millis = millis.clamp(FIRST, LAST);
            Utc.timestamp_millis_opt(millis).unwrap().to_rfc3339_opts(form, true)
        };
        // Of all years some moments each, with and without milliseconds; of the 400 years from 1970 on every day.
        let steps = (FIRST..=LAST).step_by(3_600_000 * 24 * 37 + 1_234_567);
        let whole = steps.clone().map(|millis| millis - millis.rem_euclid(1000));
        let days = (0..146_097).map(|day| day * DAY_MILLIS);
        for millis in
            steps.chain(whole).chain(days).chain([i64::MIN, FIRST - 1, -1, 0, 1, 253_402_300_799_999, i64::MAX])
        {
            let moment = Timestamp(millis);
            assert_eq!(moment.to_rfc3339(), written(millis));
            assert_eq!(serde_json::to_string(&moment).unwrap(), format!("\"{moment}\""));
        }
    }

    #[test]
    fn a_length_reads_in_the_largest_unit_that_is_whole() {
        let text = |millis: i64| Span(millis).to_string();
        assert_eq!([0, 1, 1000, 1001].map(text), ["0s", "1ms", "1s", "1001ms"]);
        assert_eq!([90_000, 60_000, 5_400_000, 7_200_000].map(text), ["90s", "1m", "90m", "2h"]);
        assert_eq!([-1, -60_000, 86_400_000].map(text), ["-1ms", "-1m", "1d"]);
        assert_eq!([i64::MAX, i64::MIN].map(text), ["9223372036854775807ms", "-9223372036854775808ms"]);
        assert_eq!(serde_json::to_string(&Span(90_000)).unwrap(), "\"90s\"");
    }
}
