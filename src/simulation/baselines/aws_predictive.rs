//! Predictive scaling of AWS beside its target tracking: the larger of both. Rule: the model is closed, so that the result
//! is bracketed: three simple forecasters of which the best counts, and one that knows the highest load of each hour.
//!
//! Source: docs.aws.amazon.com, predictive scaling: how it works; API `PredictiveScalingConfiguration`. Every 6 hours it
//! forecasts the load of the next 48 by the hour, from 1 to 14 days; capacity is there `SchedulingBufferTime` (300 s) before
//! the hour, and it never scales in.

use prescale_domain::{Span, Timestamp};

use super::aws_target_tracking::{Flight as Tracking, TargetTrackingSettings};
use super::{Autoscaler, Contender, Course, Knobs, units_for};
use crate::arena::{Bout, Demand, Tick};

const HOUR: Span = Span::from_minutes(60);
const REFRESH: Span = Span::from_minutes(6 * 60);
const BUFFER: Span = Span::from_secs(300);
/// Newest data at a forecast: the delay of a minute's metric.
const METRIC_DELAY: Span = Span::from_secs(60);
const DAY: i64 = 24;
const WEEK: i64 = 7 * DAY;
const LONGEST: i64 = 14 * DAY;

/// How an hour is forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HourlyForecast {
    /// The same hour of the newest day that has been.
    Day,
    /// The same hour of the newest week that has been; of the newest day before there is one.
    Week,
    /// The mean of the same hour of up to 14 days.
    SameHour,
    /// The highest load that the hour will have.
    Clairvoyant,
}

/// Loads by the hour.
#[derive(Clone, Debug, PartialEq)]
pub struct AwsPredictive {
    first: i64,
    means: Vec<f64>,
    highest: Vec<f64>,
}

impl AwsPredictive {
    /// From the load of training and scored part; only whole hours count.
    pub fn new(training: &Demand, live: &Demand) -> Self {
        let known = if training.load.is_empty() { live } else { training };
        let first = hour(known.start + Span::from_millis(HOUR.millis() - 1));
        let hours = (hour(live.end()) - first).max(0);
        let (mut means, mut highest) = (Vec::new(), Vec::new());
        for index in 0..hours {
            let start = Timestamp::from_millis((first + index) * HOUR.millis());
            let (mut sum, mut most, mut count) = (0.0, 0.0_f64, 0_u32);
            // Every minute, whatever the step, so that an hour that lies in both parts is as good as others.
            for minute in 0..60 {
                let moment = start + Span::from_minutes(minute);
                let demand = if moment < live.start { training } else { live };
                let load = demand.at(moment);
                (sum, most, count) = (sum + load, most.max(load), count + 1);
            }
            means.push(sum / f64::from(count));
            highest.push(most);
        }
        Self { first, means, highest }
    }

    /// The load that was forecast for the hour of `moment` at the newest forecast before `now`; `None` with less than a day
    /// of data.
    pub fn load(&self, now: Timestamp, moment: Timestamp, forecast: HourlyForecast) -> Option<f64> {
        let made = now.floor_to(REFRESH);
        // Hours before this one are complete.
        let known = hour(made - METRIC_DELAY);
        let wanted = hour(moment);
        let newest = |period: i64| {
            let ago = (wanted - known).div_euclid(period) + 1;
            self.mean(wanted - ago * period)
        };
        if forecast == HourlyForecast::Clairvoyant {
            return usize::try_from(wanted - self.first).ok().and_then(|index| self.highest.get(index)).copied();
        }
        if known - self.first < DAY {
            return None;
        }
        match forecast {
            HourlyForecast::Day => newest(DAY),
            HourlyForecast::Week => newest(WEEK).or_else(|| newest(DAY)),
            HourlyForecast::SameHour | HourlyForecast::Clairvoyant => {
                let days = (wanted - known).div_euclid(DAY) + 1;
                let same = (days..).map(|days| wanted - days * DAY).take_while(|hour| *hour >= known - LONGEST);
                let (mut sum, mut count) = (0.0, 0_u32);
                for load in same.map_while(|hour| self.mean(hour)) {
                    (sum, count) = (sum + load, count + 1);
                }
                (count > 0).then(|| sum / f64::from(count))
            }
        }
    }

    fn mean(&self, hour: i64) -> Option<f64> {
        usize::try_from(hour - self.first).ok().and_then(|index| self.means.get(index)).copied()
    }
}

fn hour(moment: Timestamp) -> i64 {
    moment.millis().div_euclid(HOUR.millis())
}

pub(super) struct Entry<'a> {
    course: &'a Course,
    hours: AwsPredictive,
}

impl<'a> Entry<'a> {
    pub(super) fn new(course: &'a Course) -> Self {
        Self { course, hours: AwsPredictive::new(&course.training, &course.bout.demand) }
    }
}

struct Flight<'a> {
    tracking: Tracking<'a>,
    hours: &'a AwsPredictive,
    forecast: HourlyForecast,
    target: f64,
    unit_capacity: f64,
}

impl Contender for Entry<'_> {
    fn variants(&self) -> &'static [&'static str] {
        &["day", "week", "same-hour"]
    }

    fn bracket(&self) -> Option<&'static str> {
        Some("clairvoyant")
    }

    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        let settings = TargetTrackingSettings::ec2(knobs.target * bout.unit_capacity);
        Box::new(Flight {
            tracking: Tracking::new(&self.course.training, bout, settings),
            hours: &self.hours,
            forecast: match knobs.variant {
                "week" => HourlyForecast::Week,
                "same-hour" => HourlyForecast::SameHour,
                "clairvoyant" => HourlyForecast::Clairvoyant,
                _ => HourlyForecast::Day,
            },
            target: knobs.target,
            unit_capacity: bout.unit_capacity,
        })
    }
}

impl Autoscaler for Flight<'_> {
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let tracked = self.tracking.decide(tick);
        let moments = [tick.now, tick.now + BUFFER];
        let load = moments.into_iter().filter_map(|moment| self.hours.load(tick.now, moment, self.forecast));
        let Some(load) = load.reduce(f64::max) else { return tracked };
        let floor = units_for(load, self.target, self.unit_capacity);
        let wish = tracked.unwrap_or(tick.state.desired).max(floor);
        (wish != tick.state.desired).then_some(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * 3_600_000)
    }

    /// 15 days by the half hour: hour h of day d has 100d + h − 1 and 100d + h + 1; the last day is scored.
    fn hours() -> AwsPredictive {
        let load: Vec<f64> = (0..15 * 48)
            .map(|half| f64::from(half / 48 * 100 + half % 48 / 2) + if half % 2 == 0 { -1.0 } else { 1.0 })
            .collect();
        let step = Span::from_minutes(30);
        let training = Demand { start: at(0), step, load: load[..14 * 48].to_vec() };
        AwsPredictive::new(&training, &Demand { start: at(14 * 24), step, load: load[14 * 48..].to_vec() })
    }

    #[test]
    fn forecasts_are_made_every_six_hours_from_what_is_known_then() {
        let hours = hours();
        let load = |now, wanted, forecast| hours.load(at(now), at(wanted), forecast);
        let day = 14 * 24;
        // At 08:30 the forecast of 06:00 holds, for which 05:00 was not complete yet by a minute.
        let now = day + 8;
        assert_eq!(load(now, day + 4, HourlyForecast::Day), Some(1404.0));
        assert_eq!(load(now, day + 5, HourlyForecast::Day), Some(1305.0));
        assert_eq!(load(now, day + 9, HourlyForecast::Day), Some(1309.0));
        assert_eq!(load(now, day + 9, HourlyForecast::Week), Some(709.0));
        // 09:00 of the days 0 to 13.
        assert_eq!(load(now, day + 9, HourlyForecast::SameHour), Some(650.0 + 9.0));
        assert_eq!(load(now, day + 9, HourlyForecast::Clairvoyant), Some(1410.0));
        // The next evening is more than a day ahead.
        assert_eq!(load(now, day + 24 + 9, HourlyForecast::Day), Some(1309.0));
    }

    #[test]
    fn less_than_a_day_is_no_forecast_and_a_week_is_a_day_until_there_is_one() {
        let hours = hours();
        assert_eq!(hours.load(at(23), at(25), HourlyForecast::Day), None);
        assert_eq!(hours.load(at(30), at(33), HourlyForecast::Week), Some(9.0));
    }
}
