//! Local time: the hour on the clocks of a place, and when its business is open. Rule: pure; what clocks show comes from the
//! IANA database that is compiled in, also where they are set forward or back.

use std::fmt;
use std::str::FromStr;

use chrono::{MappedLocalTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Span, Timestamp};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A zone of the IANA database, such as `Europe/Berlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

/// A text that is no hours of business.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no hours of business such as \"Mon-Fri 09:00-17:00\" or \"Sat,Sun 22:00-06:00\"")]
pub struct HoursError(String);

/// A name that is no zone.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no IANA time zone such as Europe/Berlin")]
pub struct ZoneError(String);

/// What calendar and clock show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Days since 1970-01-01.
    pub day: i64,
    pub weekday: Weekday,
    /// Minutes since midnight as the clock shows it, in `0..1440`.
    pub minute: u32,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Hours of some days of the week in which business is open, as the clocks of a zone show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpeningHours {
    pub zone: Zone,
    /// On which days they begin.
    pub days: Vec<Weekday>,
    /// Minutes since midnight: open in `[from, to)`; past midnight where `to` is not later than `from`.
    pub from_minute: u32,
    pub to_minute: u32,
}

impl Zone {
    pub const UTC: Self = Self(Tz::UTC);

    /// As libraries know it that compute with dates.
    pub fn tz(self) -> Tz {
        self.0
    }

    /// The moment at which its clocks show `local`: the first of two where they are set back, and where they skip it the
    /// moment at which they would have shown it had they not.
    pub fn moment(self, local: NaiveDateTime) -> Timestamp {
        let utc = match self.0.from_local_datetime(&local) {
            MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => time.naive_utc(),
            MappedLocalTime::None => {
                let before = self.0.offset_from_utc_datetime(&(local - TimeDelta::days(1))).fix();
                local - TimeDelta::seconds(i64::from(before.local_minus_utc()))
            }
        };
        Timestamp::from_millis(utc.and_utc().timestamp_millis())
    }

    /// How far its clocks are ahead of UTC at `moment`: what [`calendar_features`](crate::calendar_features) takes.
    pub fn offset(self, moment: Timestamp) -> Span {
        let seconds = moment.millis().div_euclid(1000);
        let utc = chrono::DateTime::from_timestamp(seconds, 0).map(|time| time.naive_utc());
        let ahead = utc.map_or(0, |utc| self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc());
        Span::from_secs(i64::from(ahead))
    }

    /// What calendar and clock show at `moment`.
    pub fn local(self, moment: Timestamp) -> LocalTime {
        let millis = moment.millis().saturating_add(self.offset(moment).millis());
        let day = millis.div_euclid(DAY_MS);
        let minute = millis.rem_euclid(DAY_MS) / MINUTE_MS;
        LocalTime { day, weekday: Weekday::of_day(day), minute: u32::try_from(minute).unwrap_or(0) }
    }
}

impl Weekday {
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// Of a number of days since 1970-01-01, a Thursday.
    pub fn of_day(day: i64) -> Self {
        Self::ALL[usize::try_from((day + 3).rem_euclid(7)).unwrap_or(0)]
    }

    /// By its first three letters in English, in any case.
    fn named(name: &str) -> Option<Self> {
        const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let place = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name.trim()))?;
        Some(Self::ALL[place])
    }

    /// The day before.
    fn before(self) -> Self {
        Self::ALL[(self as usize + 6) % 7]
    }
}

impl OpeningHours {
    /// Monday to Friday, 09:00 to 17:00.
    pub fn usual(zone: Zone) -> Self {
        Self { zone, days: Weekday::ALL[..5].to_vec(), from_minute: 9 * 60, to_minute: 17 * 60 }
    }

    /// Reads days and hours, such as `Mon-Fri 09:00-17:00`: days are names and ranges of them, separated by commas; hours that
    /// end no later than they begin go past midnight.
    ///
    /// # Errors
    /// A text of another form.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, HoursError> {
        let read = || {
            let (days, hours) = text.trim().split_once(char::is_whitespace)?;
            let (from, to) = hours.trim().split_once('-')?;
            let (from_minute, to_minute) = (minute_of(from).filter(|minute| *minute < 24 * 60)?, minute_of(to)?);
            let mut open = [false; 7];
            for range in days.split(',') {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last) = (Weekday::named(first)?, Weekday::named(last)?);
                let days = Weekday::ALL.into_iter().cycle().skip(first as usize);
                let count = (last as usize + 7 - first as usize) % 7 + 1;
                days.take(count).for_each(|day| open[day as usize] = true);
            }
            let days = Weekday::ALL.into_iter().filter(|day| open[*day as usize]).collect();
            Some(Self { zone, days, from_minute, to_minute })
        };
        read().ok_or_else(|| HoursError(text.to_owned()))
    }

    /// Whether business is open at `moment`.
    pub fn is_open(&self, moment: Timestamp) -> bool {
        let LocalTime { weekday, minute, .. } = self.zone.local(moment);
        let begins = |day| self.days.contains(&day);
        if self.from_minute < self.to_minute {
            return begins(weekday) && (self.from_minute..self.to_minute).contains(&minute);
        }
        (begins(weekday) && minute >= self.from_minute) || (begins(weekday.before()) && minute < self.to_minute)
    }

    /// The share of the window `[start, start + width)` in which it is open, by the minute.
    pub fn open_share(&self, start: Timestamp, width: Span) -> f64 {
        let minutes = width.millis().div_euclid(MINUTE_MS).max(1);
        let open = (0..minutes).filter(|minute| self.is_open(start + Span::from_minutes(*minute))).count();
        open as f64 / minutes as f64
    }
}

/// Minutes since midnight of a time such as `09:30`, up to `24:00`.
fn minute_of(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |digits: &str| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { digits.parse::<u32>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    Some(hours * 60 + minutes).filter(|minute| *minute <= 24 * 60)
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Self, ZoneError> {
        name.parse().map(Self).map_err(|_| ZoneError(name.to_owned()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use super::*;
    use crate::calendar_features;

    fn berlin() -> Zone {
        "Europe/Berlin".parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[track_caller]
    fn shows(moment: &str, weekday: Weekday, clock: &str) {
        let local = berlin().local(at(moment));
        assert_eq!(
            (local.weekday, format!("{:02}:{:02}", local.minute / 60, local.minute % 60).as_str()),
            (weekday, clock)
        );
    }

    #[test]
    fn clocks_are_set_forward_in_spring_and_back_in_autumn() {
        // 29 March 2026: after 01:59 comes 03:00.
        shows("2026-03-29T00:59:00Z", Weekday::Sun, "01:59");
        shows("2026-03-29T01:00:00Z", Weekday::Sun, "03:00");
        // 25 October 2026: after 02:59 comes 02:00.
        shows("2026-10-25T00:59:00Z", Weekday::Sun, "02:59");
        shows("2026-10-25T01:00:00Z", Weekday::Sun, "02:00");
        shows("2026-10-25T23:30:00Z", Weekday::Mon, "00:30");
    }

    #[test]
    fn clocks_that_are_set_forward_or_back_show_a_time_at_one_moment() {
        let at = |text: &str| berlin().moment(text.parse().unwrap()).to_string();
        assert_eq!(at("2026-07-01T12:00:00"), "2026-07-01T10:00:00Z");
        assert_eq!(at("2026-03-29T02:30:00"), "2026-03-29T01:30:00Z");
        assert_eq!(at("2026-10-25T02:30:00"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn features_of_the_local_clock_are_those_of_utc_at_the_same_hour() {
        for (utc, moved) in
            [("2026-01-14T09:00:00Z", "2026-01-14T08:00:00Z"), ("2026-07-15T09:00:00Z", "2026-07-15T07:00:00Z")]
        {
            let local = calendar_features(at(moved), berlin().offset(at(moved)));
            assert_eq!(local, calendar_features(at(utc), Zone::UTC.offset(at(utc))));
        }
    }

    #[test]
    fn business_opens_by_the_local_clock_on_both_sides_of_a_change() {
        let hours = OpeningHours::usual(berlin());
        // The Fridays before and the Mondays after; nine is at seven or eight in UTC.
        for (opens, closes) in [
            ("2026-03-27T08:00:00Z", "2026-03-27T16:00:00Z"),
            ("2026-03-30T07:00:00Z", "2026-03-30T15:00:00Z"),
            ("2026-10-23T07:00:00Z", "2026-10-23T15:00:00Z"),
            ("2026-10-26T08:00:00Z", "2026-10-26T16:00:00Z"),
        ] {
            let moment = Span::from_millis(1);
            assert!(!hours.is_open(at(opens) - moment) && hours.is_open(at(opens)), "{opens}");
            assert!(hours.is_open(at(closes) - moment) && !hours.is_open(at(closes)), "{closes}");
        }
        assert!(!hours.is_open(at("2026-03-29T10:00:00Z")), "a Sunday");
        assert!((hours.open_share(at("2026-03-30T06:30:00Z"), Span::from_minutes(60)) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn nights_belong_to_the_day_that_they_begin_on_however_long_they_are() {
        let night = OpeningHours {
            days: vec![Weekday::Sat],
            from_minute: 22 * 60,
            to_minute: 6 * 60,
            ..OpeningHours::usual(berlin())
        };
        let open = |from: &str, to: &str| {
            let (from, to) = (at(from), at(to));
            let minutes = to.since(from).steps_up(Span::from_minutes(1));
            (0..minutes).filter(|minute| night.is_open(from + Span::from_minutes(*minute as i64))).count()
        };
        // Eight hours on the clock: seven where one is skipped, nine where one comes twice.
        assert_eq!(open("2026-03-21T12:00:00Z", "2026-03-22T12:00:00Z"), 8 * 60);
        assert_eq!(open("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), 7 * 60);
        assert_eq!(open("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"), 9 * 60);
        assert_eq!(open("2026-10-25T12:00:00Z", "2026-10-26T12:00:00Z"), 0);
    }

    #[test]
    fn hours_of_business_are_read_as_people_write_them() {
        let hours = |text: &str| OpeningHours::parse(text, berlin()).unwrap();
        assert_eq!(hours("Mon-Fri 09:00-17:00"), OpeningHours::usual(berlin()));
        assert_eq!(hours(" FRI  08:00 - 24:00 ").days, [Weekday::Fri]);
        let night = hours("sat,sun 22:00-06:00");
        assert_eq!((night.days.as_slice(), night.from_minute, night.to_minute), (&Weekday::ALL[5..], 1320, 360));
        // Past the end of the week.
        assert_eq!(hours("Fri-Mon 00:00-24:00").days, [Weekday::Mon, Weekday::Fri, Weekday::Sat, Weekday::Sun]);
        let whole = hours("Mon-Sun 00:00-24:00");
        assert!((0..7 * 24).all(|hour| whole.is_open(at("2026-11-23T00:30:00Z") + Span::from_minutes(60 * hour))));
        for wrong in [
            "",
            "Mon-Fri",
            "09:00-17:00",
            "Mon-Fri 9-17",
            "Mon-Fri 09:00",
            "Mon-Fri 24:00-06:00",
            "Mon-Fri 09:60-17:00",
            "Mon-Fri 09:00-24:01",
            "Mon-Fri 9:00-17:00",
            "Mon-Fri +9:00-17:00",
            "Monday 09:00-17:00",
            "Mon, 09:00-17:00",
            "-Fri 09:00-17:00",
            "Mon-Fri 09:00-17:00-18:00",
        ] {
            assert_eq!(OpeningHours::parse(wrong, berlin()), Err(HoursError(wrong.to_owned())));
        }
    }

    #[test]
    fn a_name_that_is_no_zone_is_refused() {
        assert_eq!(berlin().to_string(), "Europe/Berlin");
        let error = "Europe/Bonn".parse::<Zone>().unwrap_err();
        assert_eq!(error.to_string(), "`Europe/Bonn` is no IANA time zone such as Europe/Berlin");
    }
}
