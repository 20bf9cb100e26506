//! What people want to know of a load: its cycles, trend, spikes and quiet hours. Rule: pure; each finding says how far it
//! can be relied on, in [0, 1], and what is not there is not reported.

use std::collections::BTreeMap;

use prescale_domain::{OpeningHours, Series, Span, Timestamp, Zone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// At most this much before the end is looked at.
pub const LOOKED_AT: Span = Span::from_minutes(30 * 24 * 60);
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A cycle is reported only if its means differ by more than this share of the mean (their standard deviation) ...
const CYCLE_MIN: f64 = 0.10;
/// ... and this reliably.
const DAILY_CONFIDENCE: f64 = 0.7;
/// There are few weeks.
const WEEKLY_CONFIDENCE: f64 = 0.8;
/// Days and weeks that a cycle must have been seen.
const DAYS_MIN: usize = 3;
const WEEKS_MIN: usize = 2;
/// Above this many standard deviations beyond the usual a value is part of a spike.
const SPIKE_SIGMAS: f64 = 2.0;
/// Share of normal values that are.
const SPIKES_BY_CHANCE: f64 = 0.022_75;
const SPIKES_SHOWN: usize = 20;
/// A change over what was looked at by less is no trend.
const TREND_MIN: f64 = 0.10;
/// Standard deviation of daily means around the trend, as a share of the mean, above which a load is volatile.
const VOLATILE: f64 = 0.35;
/// Hours below this share of the mean are quiet.
const QUIET: f64 = 0.5;
/// Business hours have at least this multiple of the load of the others.
const BUSINESS_MIN: f64 = 1.2;

/// What was found in the last 30 days of a load. Hours of the day are those of the zone that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Patterns {
    /// What was looked at: `[from, until)`.
    pub from: Timestamp,
    pub until: Timestamp,
    /// Windows with a value.
    pub windows: usize,
    pub daily: Option<Cycle>,
    pub weekly: Option<Cycle>,
    pub trend: Option<Trend>,
    pub spikes: Option<Spikes>,
    /// Candidates for maintenance, the quietest first.
    pub low_traffic: Vec<QuietHours>,
    pub business_hours: Option<BusinessHours>,
    /// Load in the opening hours that were asked for, as a multiple of that at all other times.
    pub open_ratio: Option<f64>,
}

/// A cycle that repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cycle {
    pub period_hours: u32,
    /// Reliability of its means: `1 − 1/F`, the intraclass correlation ICC(1,k) of Shrout & Fleiss 1979; 0 for noise.
    pub confidence: f64,
    /// Standard deviation of its means as a share of the mean.
    pub strength: f64,
    /// Means of each hour of the day (24) or day of the week (7, Monday first), as multiples of the mean.
    pub profile: Vec<f64>,
    /// Index of the highest and of the lowest of them.
    pub peak: usize,
    pub trough: usize,
}

/// Where a load is heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Increasing,
    Decreasing,
    Stable,
    /// Days differ much, without a direction.
    Volatile,
}

/// The trend over days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trend {
    pub direction: Direction,
    /// Change in a day as a share of the mean: the slope of Theil (1950) and Sen (1968) through the daily means.
    pub change_per_day: f64,
    pub days: usize,
    /// `1 − p` of the test of Mann (1945) and Kendall for a rise or fall; for a load without one, `p`.
    pub reliability: f64,
}

/// Times when the load was more than two standard deviations above the usual for the hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spikes {
    pub count: usize,
    pub per_day: f64,
    /// Mean over all spikes.
    pub mean_duration: Span,
    pub mean_sigmas: f64,
    /// Share of the windows in spikes that noise alone would not explain, were it normal.
    pub reliability: f64,
    /// The largest, newest first, at most 20.
    pub largest: Vec<Spike>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spike {
    pub start: Timestamp,
    pub duration: Span,
    /// Highest load, and how far it was above the usual, in standard deviations.
    pub peak: f64,
    pub sigmas: f64,
    /// Mean of the quarter of an hour before it, as a multiple of the usual: above 1 where it had announced itself.
    pub before: Option<f64>,
}

/// Hours of the day with little load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuietHours {
    /// From the begin of the first to the end of the last; past midnight the second is smaller.
    pub from_hour: u32,
    pub to_hour: u32,
    /// Their load as a share of the mean.
    pub load: f64,
    /// Share of the days on which they were quiet.
    pub reliability: f64,
}

/// Hours of weekdays that have more load than the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BusinessHours {
    pub from_hour: u32,
    pub to_hour: u32,
    /// Their load as a multiple of that of all other hours, weekends included.
    pub ratio: f64,
    /// Share of the weekdays on which it was so.
    pub reliability: f64,
}

/// An hour of the history.
#[derive(Clone, Copy)]
struct Hour {
    /// Days since 1970, and hour of the day.
    day: i64,
    hour: usize,
    load: f64,
}

impl Hour {
    /// Monday = 0.
    fn weekday(self) -> usize {
        weekday(self.day)
    }
}

/// 1970-01-01 was a Thursday.
fn weekday(day: i64) -> usize {
    (day + 3).rem_euclid(7) as usize
}

/// Finds the patterns of the last 30 days of `series`; hours are those that clocks show in the zone of `opening`.
pub fn find(series: &Series, opening: &OpeningHours) -> Patterns {
    let until = series.end();
    let from = series.start.max((until - LOOKED_AT).floor_to(series.step));
    let skipped = from.since(series.start).steps_up(series.step).min(series.values.len());
    let known = |(index, value): (usize, &Option<f64>)| {
        let millis = from.millis() + index as i64 * series.step.millis();
        value.filter(|value| value.is_finite() && value.abs() < 1e150).map(|value| (millis, value))
    };
    let values: Vec<(i64, f64)> = series.values[skipped..].iter().enumerate().filter_map(known).collect();
    let mut patterns = Patterns { from, until, windows: values.len(), ..Patterns::default() };
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / values.len().max(1) as f64;
    if values.is_empty() || mean <= 0.0 || series.step.millis() <= 0 {
        return patterns;
    }
    let clock = Clock::of(opening.zone, from, until);
    let hours = hours(&values, &clock);
    let is_hourly = series.step.millis() <= HOUR_MS;
    if is_hourly {
        patterns.daily = daily(&hours);
        patterns.spikes = spikes(&values, &hours, series.step, &clock);
    }
    patterns.weekly = weekly(&hours);
    // Without a cycle there are no hours that are quieter or busier than others.
    if patterns.daily.is_some() || (is_hourly && patterns.weekly.is_some()) {
        patterns.low_traffic = quiet(&hours, mean);
        patterns.business_hours = business(&hours);
    }
    patterns.trend = trend(&hours);
    patterns.open_ratio = open_ratio(&values, opening, series.step);
    patterns
}

/// How far local clocks are ahead of UTC, hour by hour.
struct Clock {
    /// Number of the first hour since 1970, in UTC.
    first: i64,
    ahead: Vec<i64>,
}

impl Clock {
    /// From the hour before `from` to that after `until`.
    fn of(zone: Zone, from: Timestamp, until: Timestamp) -> Self {
        let first = from.millis().div_euclid(HOUR_MS) - 1;
        let last = until.millis().div_euclid(HOUR_MS) + 1;
        let ahead = (first..=last).map(|hour| zone.offset(Timestamp::from_millis(hour * HOUR_MS)).millis());
        Self { first, ahead: ahead.collect() }
    }

    /// What a clock shows at a moment, as milliseconds since 1970.
    fn local(&self, millis: i64) -> i64 {
        let index = usize::try_from(millis.div_euclid(HOUR_MS) - self.first).unwrap_or(0);
        millis + self.ahead[index.min(self.ahead.len() - 1)]
    }
}

fn open_ratio(values: &[(i64, f64)], opening: &OpeningHours, step: Span) -> Option<f64> {
    let (mut open, mut shut) = ((0.0, 0.0), (0.0, 0.0));
    for (millis, value) in values {
        let share = opening.open_share(Timestamp::from_millis(*millis), step);
        open = (open.0 + share * value, open.1 + share);
        shut = (shut.0 + (1.0 - share) * value, shut.1 + 1.0 - share);
    }
    (open.1 > 0.0 && shut.1 > 0.0 && shut.0 > 0.0).then(|| (open.0 / open.1) / (shut.0 / shut.1))
}

fn hours(values: &[(i64, f64)], clock: &Clock) -> Vec<Hour> {
    let mut sums: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
    for (millis, value) in values {
        let own = sums.entry(clock.local(*millis).div_euclid(HOUR_MS)).or_default();
        own.0 += value;
        own.1 += 1;
    }
    let hour = |(number, (sum, count)): (i64, (f64, u32))| Hour {
        day: number.div_euclid(24),
        hour: number.rem_euclid(24) as usize,
        load: sum / f64::from(count),
    };
    sums.into_iter().map(hour).collect()
}

/// Means by group of values that are shares of something, and how far they can be told apart.
fn groups(values: &[(usize, f64)], count: usize) -> Option<(Vec<f64>, f64)> {
    let mut sums = vec![(0.0, 0.0); count];
    for (group, value) in values {
        sums[*group].0 += value;
        sums[*group].1 += 1.0;
    }
    if sums.iter().any(|(_, n)| *n < 2.0) {
        return None;
    }
    let means: Vec<f64> = sums.iter().map(|(sum, n)| sum / n).collect();
    let n = values.len() as f64;
    let mean = values.iter().map(|(_, value)| value).sum::<f64>() / n;
    let between: f64 =
        sums.iter().zip(&means).map(|((_, n), own)| n * (own - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
    let within: f64 =
        values.iter().map(|(group, value)| (value - means[*group]).powi(2)).sum::<f64>() / (n - count as f64);
    let confidence = if between > 0.0 { (1.0 - within / between).clamp(0.0, 1.0) } else { 0.0 };
    Some((means, confidence))
}

fn cycle(period_hours: u32, (profile, confidence): (Vec<f64>, f64)) -> Cycle {
    let mean = profile.iter().sum::<f64>() / profile.len() as f64;
    let profile: Vec<f64> = profile.iter().map(|own| own / mean).collect();
    let strength = (profile.iter().map(|own| (own - 1.0).powi(2)).sum::<f64>() / profile.len() as f64).sqrt();
    let best = |sign: f64| {
        (0..profile.len()).max_by(|a, b| (sign * profile[*a]).total_cmp(&(sign * profile[*b]))).unwrap_or(0)
    };
    let (peak, trough) = (best(1.0), best(-1.0));
    Cycle { period_hours, confidence, strength, profile, peak, trough }
}

/// Each hour as a share of its day, so that days of different height can be compared.
fn daily(hours: &[Hour]) -> Option<Cycle> {
    let mut days: BTreeMap<i64, Vec<Hour>> = BTreeMap::new();
    for hour in hours {
        days.entry(hour.day).or_default().push(*hour);
    }
    let whole: Vec<&Vec<Hour>> = days.values().filter(|day| day.len() >= 20).collect();
    if whole.len() < DAYS_MIN {
        return None;
    }
    let shares = whole.iter().flat_map(|day| {
        let mean = day.iter().map(|hour| hour.load).sum::<f64>() / day.len() as f64;
        day.iter().filter(move |_| mean > 0.0).map(move |hour| (hour.hour, hour.load / mean))
    });
    let found = cycle(24, groups(&shares.collect::<Vec<_>>(), 24)?);
    (found.strength > CYCLE_MIN && found.confidence >= DAILY_CONFIDENCE).then_some(found)
}

/// Means of whole days.
fn day_means(hours: &[Hour]) -> Vec<(i64, f64)> {
    let mut days: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
    for hour in hours {
        let own = days.entry(hour.day).or_default();
        own.0 += hour.load;
        own.1 += 1;
    }
    let most = days.values().map(|(_, count)| *count).max().unwrap_or(0);
    let whole = days.into_iter().filter(|(_, (_, count))| *count * 5 >= most * 4);
    whole.map(|(day, (sum, count))| (day, sum / f64::from(count))).collect()
}

fn weekly(hours: &[Hour]) -> Option<Cycle> {
    let days = day_means(hours);
    let mut by_weekday = [0_usize; 7];
    days.iter().for_each(|(day, _)| by_weekday[weekday(*day)] += 1);
    if by_weekday.iter().any(|count| *count < WEEKS_MIN) {
        return None;
    }
    let values: Vec<(usize, f64)> = days.iter().map(|(day, load)| (weekday(*day), *load)).collect();
    let found = cycle(168, groups(&values, 7)?);
    (found.strength > CYCLE_MIN && found.confidence >= WEEKLY_CONFIDENCE).then_some(found)
}

fn trend(hours: &[Hour]) -> Option<Trend> {
    let days = day_means(hours);
    if days.len() < 2 * DAYS_MIN {
        return None;
    }
    let n = days.len() as f64;
    let mean = days.iter().map(|(_, load)| load).sum::<f64>() / n;
    let (mut slopes, mut score) = (Vec::new(), 0.0);
    for (i, (day, load)) in days.iter().enumerate() {
        for (later, other) in &days[i + 1..] {
            slopes.push((other - load) / (later - day) as f64);
            score += if other == load { 0.0 } else { (other - load).signum() };
        }
    }
    slopes.sort_by(f64::total_cmp);
    let slope = slopes.get(slopes.len() / 2).copied().unwrap_or(0.0);
    let variance = n * (n - 1.0) * (2.0 * n + 5.0) / 18.0;
    let z = (f64::abs(score) - 1.0).max(0.0) / variance.sqrt();
    let p = two_sided(z);
    let change_per_day = if mean > 0.0 { slope / mean } else { 0.0 };
    let span = (days.last()?.0 - days.first()?.0) as f64;
    let first = days.first()?.0;
    let rest = |(day, load): &(i64, f64)| load - slope * (day - first) as f64;
    let level = days.iter().map(rest).sum::<f64>() / n;
    let spread = (days.iter().map(|day| (rest(day) - level).powi(2)).sum::<f64>() / n).sqrt();
    let (direction, reliability) = if p < 0.05 && (change_per_day * span).abs() > TREND_MIN {
        (if slope > 0.0 { Direction::Increasing } else { Direction::Decreasing }, 1.0 - p)
    } else if mean > 0.0 && spread / mean > VOLATILE {
        (Direction::Volatile, 1.0 - VOLATILE * mean / spread)
    } else {
        (Direction::Stable, p)
    };
    Some(Trend { direction, change_per_day, days: days.len(), reliability })
}

/// Probability that a standard normal value is further from 0 than `z`: the bound of Abramowitz & Stegun 1964, 7.1.26.
fn two_sided(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (polynomial * (-x * x).exp()).clamp(0.0, 1.0)
}

fn spikes(values: &[(i64, f64)], hours: &[Hour], step: Span, clock: &Clock) -> Option<Spikes> {
    let mut by_hour: Vec<Vec<f64>> = vec![Vec::new(); 24];
    hours.iter().for_each(|hour| by_hour[hour.hour].push(hour.load));
    let usual: Vec<Option<f64>> = by_hour.iter_mut().map(|loads| median(loads)).collect();
    // Between two hours the usual load is in between.
    let expected = |millis: i64| {
        let place = (clock.local(millis) - HOUR_MS / 2).rem_euclid(DAY_MS);
        let (below, share) = ((place / HOUR_MS) as usize, (place % HOUR_MS) as f64 / HOUR_MS as f64);
        let (low, high) = (usual[below]?, usual[(below + 1) % 24]?);
        Some(low + share * (high - low))
    };
    let beyond: Vec<(i64, f64, f64)> =
        values.iter().filter_map(|(millis, value)| Some((*millis, *value, value - expected(*millis)?))).collect();
    let mut distances: Vec<f64> = beyond.iter().map(|(.., beyond)| beyond.abs()).collect();
    let sigma = 1.4826 * median(&mut distances)?;
    if sigma <= 0.0 || values.len() < 48 {
        return None;
    }
    let mut found: Vec<Spike> = Vec::new();
    let (mut inside, mut open) = (0_usize, false);
    for (index, (millis, value, more)) in beyond.iter().enumerate() {
        let sigmas = more / sigma;
        let follows = index > 0 && millis - beyond[index - 1].0 == step.millis();
        if sigmas <= SPIKE_SIGMAS {
            open = false;
            continue;
        }
        inside += 1;
        match found.last_mut() {
            Some(spike) if open && follows => {
                spike.duration = spike.duration + step;
                spike.peak = spike.peak.max(*value);
                spike.sigmas = spike.sigmas.max(sigmas);
            }
            _ => {
                let before = before(&beyond[..index], *millis, step);
                found.push(Spike {
                    start: Timestamp::from_millis(*millis),
                    duration: step,
                    peak: *value,
                    sigmas,
                    before,
                });
            }
        }
        open = true;
    }
    if found.is_empty() {
        return None;
    }
    let count = found.len();
    let days = values.len() as f64 * step.millis() as f64 / DAY_MS as f64;
    let by_chance = SPIKES_BY_CHANCE * values.len() as f64;
    let mean_sigmas = found.iter().map(|spike| spike.sigmas).sum::<f64>() / count as f64;
    let mean_duration = Span::from_millis(step.millis() * inside as i64 / count as i64);
    let mut largest = found;
    largest.sort_by(|a, b| b.sigmas.total_cmp(&a.sigmas));
    largest.truncate(SPIKES_SHOWN);
    largest.sort_by_key(|spike| std::cmp::Reverse(spike.start));
    let reliability = (1.0 - by_chance / inside as f64).clamp(0.0, 1.0);
    Some(Spikes { count, per_day: count as f64 / days, mean_duration, mean_sigmas, reliability, largest })
}

/// Mean of the quarter of an hour before, at least one window, as a multiple of the usual.
fn before(beyond: &[(i64, f64, f64)], start: i64, step: Span) -> Option<f64> {
    let from = start - (15 * 60_000).max(step.millis());
    let (mut load, mut usual) = (0.0, 0.0);
    for (_, value, more) in beyond.iter().rev().take_while(|(millis, ..)| *millis >= from) {
        load += value;
        usual += value - more;
    }
    (usual > 0.0).then(|| load / usual)
}

fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// Runs of quiet hours, around midnight as well.
fn quiet(hours: &[Hour], mean: f64) -> Vec<QuietHours> {
    let mut sums = [(0.0, 0_u32); 24];
    hours.iter().for_each(|hour| {
        sums[hour.hour].0 += hour.load;
        sums[hour.hour].1 += 1;
    });
    if sums.iter().any(|(_, count)| (*count as usize) < DAYS_MIN) {
        return Vec::new();
    }
    let is_quiet: Vec<bool> = sums.iter().map(|(sum, count)| sum / f64::from(*count) < QUIET * mean).collect();
    let mut found: Vec<QuietHours> = runs(&is_quiet)
        .into_iter()
        .map(|(from, length)| {
            let inside = |hour: &&Hour| (hour.hour + 24 - from) % 24 < length;
            let mut days: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
            for hour in hours.iter().filter(inside) {
                // A run past midnight belongs to the day that it begins on.
                let own = days.entry(hour.day - i64::from(hour.hour < from)).or_default();
                own.0 += hour.load;
                own.1 += 1;
            }
            let loads: Vec<f64> = days.values().map(|(sum, count)| sum / f64::from(*count)).collect();
            let count = loads.len().max(1) as f64;
            let quiet = loads.iter().filter(|load| **load < QUIET * mean).count() as f64;
            let (from_hour, to_hour) = (from as u32, ((from + length) % 24) as u32);
            QuietHours {
                from_hour,
                to_hour,
                load: loads.iter().sum::<f64>() / count / mean,
                reliability: quiet / count,
            }
        })
        .collect();
    found.sort_by(|a, b| a.load.total_cmp(&b.load));
    found
}

/// Begin and length of runs of `true` on a clock.
fn runs(hours: &[bool]) -> Vec<(usize, usize)> {
    let count = hours.len();
    let begins = (0..count).filter(|h| hours[*h] && !hours[(h + count - 1) % count]);
    begins.map(|from| (from, (0..count).take_while(|k| hours[(from + k) % count]).count())).collect()
}

fn business(hours: &[Hour]) -> Option<BusinessHours> {
    let weekdays: Vec<Hour> = hours.iter().copied().filter(|hour| hour.weekday() < 5).collect();
    let mut sums = [(0.0, 0_u32); 24];
    weekdays.iter().for_each(|hour| {
        sums[hour.hour].0 += hour.load;
        sums[hour.hour].1 += 1;
    });
    if sums.iter().any(|(_, count)| (*count as usize) < DAYS_MIN) {
        return None;
    }
    let means: Vec<f64> = sums.iter().map(|(sum, count)| sum / f64::from(*count)).collect();
    let middle =
        (means.iter().copied().fold(f64::MIN, f64::max) + means.iter().copied().fold(f64::MAX, f64::min)) / 2.0;
    let above: Vec<bool> = means.iter().map(|own| *own > middle).collect();
    // The longest run that holds noon-time hours: nightly loads are no business.
    let candidates =
        runs(&above).into_iter().filter(|(from, length)| (0..*length).any(|k| (9..17).contains(&((from + k) % 24))));
    let (from, length) = candidates.max_by_key(|(_, length)| *length).filter(|(_, length)| *length < 18)?;
    let inside = |hour: &Hour| hour.weekday() < 5 && (hour.hour + 24 - from) % 24 < length;
    let mean = |keep: &dyn Fn(&Hour) -> bool| {
        let kept: Vec<f64> = hours.iter().filter(|hour| keep(hour)).map(|hour| hour.load).collect();
        (!kept.is_empty()).then(|| kept.iter().sum::<f64>() / kept.len() as f64)
    };
    let (busy, rest) = (mean(&inside)?, mean(&|hour| !inside(hour))?);
    if rest <= 0.0 || busy < BUSINESS_MIN * rest {
        return None;
    }
    let mut days: BTreeMap<i64, [(f64, u32); 2]> = BTreeMap::new();
    for hour in &weekdays {
        let own = &mut days.entry(hour.day).or_default()[usize::from(inside(hour))];
        own.0 += hour.load;
        own.1 += 1;
    }
    let complete: Vec<&[(f64, u32); 2]> = days.values().filter(|day| day.iter().all(|(_, count)| *count > 0)).collect();
    let so =
        complete.iter().filter(|[rest, busy]| busy.0 / f64::from(busy.1) > BUSINESS_MIN * rest.0 / f64::from(rest.1));
    let reliability = so.count() as f64 / complete.len().max(1) as f64;
    Some(BusinessHours {
        from_hour: from as u32,
        to_hour: ((from + length) % 24) as u32,
        ratio: busy / rest,
        reliability,
    })
}

#[cfg(test)]
mod tests;
