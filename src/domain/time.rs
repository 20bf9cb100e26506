//! Event and wall time as milliseconds since the Unix epoch, UTC. Rule: a length and a moment are different types.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use chrono::{DateTime, Datelike as _, TimeZone, Timelike as _, Utc};
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

/// The first second that RFC 3339 can write.
const FIRST: i64 = -62_135_596_800_000;

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

    fn text(self) -> Text {
        const LAST: i64 = 253_402_300_799_000;
        let mut text = Text::default();
        let Some(time) = Utc.timestamp_millis_opt(self.0.clamp(FIRST, LAST)).single() else { return text };
        text.number(time.year().unsigned_abs().into(), 4);
        for (sign, number) in
            [("-", time.month()), ("-", time.day()), ("T", time.hour()), (":", time.minute()), (":", time.second())]
        {
            text.push(sign);
            text.number(number.into(), 2);
        }
        if self.0.rem_euclid(1000) != 0 {
            text.push(".");
            text.number(time.timestamp_subsec_millis().into(), 3);
        }
        text.push("Z");
        text
    }
}

/// A short text on the stack. A decision's record has some fifty moments and lengths, and its id is a hash of that record:
/// the general way of formatting took a tenth of the time of a decision.
#[derive(Default)]
struct Text {
    bytes: [u8; 24],
    length: usize,
}

impl Text {
    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if let Some(free) = self.bytes.get_mut(self.length) {
                *free = byte;
                self.length += 1;
            }
        }
    }

    /// In at least so many digits.
    fn number(&mut self, mut number: u64, width: usize) {
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        while number > 0 || digits.len() - first < width.min(digits.len()) {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.push(std::str::from_utf8(&digits[first..]).unwrap_or_default());
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

    /// In the largest unit that gives a whole number.
    fn text(self) -> Text {
        const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let whole = UNITS.into_iter().find(|(size, _)| self.0 != 0 && self.0 % size == 0);
        let (size, unit) = whole.unwrap_or(if self.0 == 0 { (1, "s") } else { (1, "ms") });
        let mut text = Text::default();
        if self.0 < 0 {
            text.push("-");
        }
        text.number((self.0 / size).unsigned_abs(), 1);
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

macro_rules! as_text {
    ($type:ty, $format:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text().as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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

    use chrono::SecondsFormat;

    use super::*;

    #[test]
    fn a_moment_reads_as_the_calendar_writes_it() {
        let written = |millis: i64| {
            let form = if millis.rem_euclid(1000) == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
            let millis = millis.clamp(FIRST, 253_402_300_799_000);
            Utc.timestamp_millis_opt(millis).unwrap().to_rfc3339_opts(form, true)
        };
        // Of all years some moments each, with and without milliseconds.
        let steps = (FIRST..=253_402_300_799_000).step_by(3_600_000 * 24 * 37 + 1_234_567);
        let whole = steps.clone().map(|millis| millis - millis.rem_euclid(1000));
        for millis in steps.chain(whole).chain([i64::MIN, FIRST - 1, -1, 0, 1, 253_402_300_799_999, i64::MAX]) {
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
