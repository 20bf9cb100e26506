//! A plain forecaster of realistic quality: the usual day, times the recent level, with quantiles from its own past
//! errors. Rule: it knows the past, the calendar, and events from the moment at which they were announced.

use std::collections::VecDeque;

use prescale_domain::{
    CalendarEvent, DEFAULT_QUANTILES, QuantileForecast, ServiceName, Span, Timestamp, calendar_features,
};

use crate::workload::MINUTE;

const DAY_MINUTES: usize = 1440;
/// Weight of the newest minute in the level.
const LEVEL_WEIGHT: f64 = 0.12;
/// Errors kept for the quantiles: two days.
const ERRORS_MAX: usize = 2 * DAY_MINUTES;
/// Errors are collected for a forecast this many minutes ahead, the usual lead time.
const ERROR_LEAD: usize = 5;
/// Minutes between new quantiles of the errors.
const OFFSETS_EVERY: usize = 15;

/// Seasonal profile × level.
#[derive(Clone, Debug)]
pub struct SeasonalLevel {
    service: ServiceName,
    end: Timestamp,
    /// Usual load by minute of day, and the weekend's share of it.
    profile: Vec<f64>,
    weekend: f64,
    level: f64,
    events: Vec<CalendarEvent>,
    /// Medians that were forecast for the coming minutes, `ERROR_LEAD` ahead.
    pending: VecDeque<f64>,
    /// (actual − median) / √median, newest last, and the quantiles of that at the default levels.
    errors: VecDeque<f64>,
    offsets: Vec<f64>,
    updates: usize,
}

impl SeasonalLevel {
    /// Learns from `history`, one value a minute from `start` on.
    pub fn fit(service: ServiceName, start: Timestamp, history: &[f64], events: Vec<CalendarEvent>) -> Self {
        let minute = |index: usize| start + Span::from_minutes(i64::try_from(index).unwrap_or(i64::MAX));
        let weekend = weekend_share(history.iter().enumerate().map(|(index, load)| (minute(index), *load)));
        let mut fitted = Self {
            service,
            end: start,
            profile: profile(history, start, weekend),
            weekend,
            level: 1.0,
            events,
            pending: VecDeque::new(),
            errors: VecDeque::new(),
            offsets: vec![0.0; DEFAULT_QUANTILES.len()],
            updates: 0,
        };
        // Level and errors from the last days only; the profile has seen them, which flatters the errors a little.
        let skipped = history.len().saturating_sub(ERRORS_MAX);
        fitted.end = minute(skipped);
        history[skipped..].iter().for_each(|load| fitted.update(*load));
        fitted
    }

    /// End of the last window seen.
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// One more minute.
    pub fn update(&mut self, load: f64) {
        if self.pending.len() >= ERROR_LEAD
            && let Some(median) = self.pending.pop_front()
        {
            self.errors.push_back((load - median) / median.max(1e-6).sqrt());
            if self.errors.len() > ERRORS_MAX {
                self.errors.pop_front();
            }
        }
        let usual = self.usual(self.end, self.end).max(1e-6);
        self.level += LEVEL_WEIGHT * ((load / usual).clamp(0.1, 10.0) - self.level);
        self.end = self.end + MINUTE;
        let ahead = self.end + Span::from_minutes(ERROR_LEAD as i64 - 1);
        self.pending.push_back(self.usual(ahead, self.end) * self.level);
        self.updates += 1;
        if self.updates.is_multiple_of(OFFSETS_EVERY) {
            self.offsets = quantiles(&self.errors);
        }
    }

    /// Quantiles for `steps` minutes.
    pub fn forecast(&self, steps: usize) -> QuantileForecast {
        let values = (0..steps)
            .map(|step| {
                let moment = self.end + Span::from_minutes(i64::try_from(step).unwrap_or(i64::MAX));
                let median = self.usual(moment, self.end) * self.level;
                self.offsets.iter().map(|offset| (median + offset * median.sqrt()).max(0.0)).collect()
            })
            .collect();
        QuantileForecast {
            service: self.service.clone(),
            origin: self.end - MINUTE,
            step: MINUTE,
            model: "seasonal-level".to_owned(),
            reason: "champion".to_owned(),
            levels: DEFAULT_QUANTILES.to_vec(),
            values,
        }
    }

    /// The usual load at `moment`, lifted by the events known at `now`.
    fn usual(&self, moment: Timestamp, now: Timestamp) -> f64 {
        let base = self.profile[minute_of_day(moment)] * weekend_factor(moment, self.weekend);
        let covering = self.events.iter().filter(|event| event.covers(&self.service, moment, now));
        base * covering.filter_map(|event| event.expected_uplift).product::<f64>()
    }
}

/// Empirical quantiles at the default levels.
fn quantiles(errors: &VecDeque<f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = errors.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |level: f64| {
        let index = (level * sorted.len() as f64).ceil() as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    DEFAULT_QUANTILES.iter().map(|level| at(*level)).collect()
}

/// Median over the days of each minute of the day, smoothed over half an hour; days at the weekend are scaled up.
fn profile(history: &[f64], start: Timestamp, weekend: f64) -> Vec<f64> {
    let mut by_minute = vec![Vec::new(); DAY_MINUTES];
    for (index, load) in history.iter().enumerate() {
        let moment = start + Span::from_minutes(i64::try_from(index).unwrap_or(i64::MAX));
        by_minute[minute_of_day(moment)].push(load / weekend_factor(moment, weekend));
    }
    let medians: Vec<f64> = by_minute.into_iter().map(median).collect();
    (0..DAY_MINUTES)
        .map(|minute| {
            let around = (0..31).map(|offset| medians[(minute + DAY_MINUTES + offset - 15) % DAY_MINUTES]);
            around.sum::<f64>() / 31.0
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn weekend_share(history: impl Iterator<Item = (Timestamp, f64)>) -> f64 {
    let (mut sums, mut counts) = ([0.0; 2], [0.0; 2]);
    for (moment, load) in history {
        let day = usize::from(is_weekend(moment));
        sums[day] += load;
        counts[day] += 1.0;
    }
    if counts.contains(&0.0) || sums[0] <= 0.0 { 1.0 } else { (sums[1] / counts[1]) / (sums[0] / counts[0]) }
}

fn weekend_factor(moment: Timestamp, weekend: f64) -> f64 {
    if is_weekend(moment) { weekend.max(0.05) } else { 1.0 }
}

fn is_weekend(moment: Timestamp) -> bool {
    calendar_features(moment, Span::ZERO)[6] > 0.0
}

fn minute_of_day(moment: Timestamp) -> usize {
    usize::try_from(moment.millis().rem_euclid(86_400_000) / MINUTE.millis()).unwrap_or(0)
}
