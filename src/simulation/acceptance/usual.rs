//! A forecast as the loop makes it, after each window and from what has been seen by then: the usual day, at the level of
//! the last while, with the quantiles of its own past errors. Rule: nothing later than the window that has just closed; what
//! was forecast with is what the errors are of.

use std::collections::VecDeque;

use prescale_domain::{DEFAULT_QUANTILES, QuantileForecast, ServiceName, Span, Timestamp, calendar_features};

use super::Made;

const DAY: Span = Span::from_minutes(1440);
/// Days of a kind that the usual one is the median of.
const DAYS_MAX: usize = 14;
/// Time for which errors are kept, and the fewest windows of them that make quantiles.
const ERRORS_KEPT: Span = Span::from_minutes(2 * 1440);
const ERRORS_MIN: usize = 60;
/// Windows between new quantiles.
const QUANTILES_EVERY: usize = 15;
/// Of a load below this share of the highest, a relative error says nothing.
const FAINT: f64 = 0.01;

/// The usual working day, the usual day of a weekend, and how today compares with it.
#[derive(Clone, Debug)]
pub struct UsualDay {
    service: ServiceName,
    step: Span,
    /// Windows ahead that are forecast, and those ahead that errors are collected at: the usual lead time.
    horizon: usize,
    lead: usize,
    /// Weight of the newest window in the level.
    weight: f64,
    /// By window of the day, of working days and of weekends: the loads, newest last, and their median.
    days: [Vec<(VecDeque<f64>, f64)>; 2],
    highest: f64,
    level: f64,
    /// Medians that were forecast for the coming windows, `lead` ahead; `None` = none was.
    pending: VecDeque<Option<f64>>,
    /// (actual − median) / median, newest last, and the quantiles of that.
    errors: VecDeque<f64>,
    offsets: Vec<f64>,
    seen: usize,
}

impl UsualDay {
    pub fn new(service: ServiceName, step: Span, horizon: Span, lead: Span) -> Self {
        let slots = DAY.steps_up(step);
        let empty = || vec![(VecDeque::new(), 0.0); slots];
        Self {
            service,
            step,
            horizon: horizon.steps_up(step),
            lead: lead.steps_up(step).max(1),
            weight: 0.12,
            days: [empty(), empty()],
            highest: 0.0,
            level: 1.0,
            pending: VecDeque::new(),
            errors: VecDeque::new(),
            offsets: Vec::new(),
            seen: 0,
        }
    }

    /// With another weight of the newest window in the level.
    pub fn following(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// The window that ended at `end` has closed; what is forecast then.
    pub fn after(&mut self, end: Timestamp, load: f64) -> Made {
        let start = end - self.step;
        if self.pending.len() >= self.lead
            && let Some(Some(median)) = self.pending.pop_front()
        {
            self.errors.push_back((load - median) / median);
            if self.errors.len() > ERRORS_KEPT.steps_up(self.step) {
                self.errors.pop_front();
            }
        }
        if let Some(usual) = self.usual(start).filter(|usual| self.counts(*usual)) {
            self.level += self.weight * ((load / usual).clamp(0.1, 10.0) - self.level);
        }
        self.learn(start, load);
        let ahead = end + self.steps(self.lead - 1);
        self.pending.push_back(self.median(ahead).filter(|median| self.counts(*median)));
        if self.seen.is_multiple_of(QUANTILES_EVERY) && self.errors.len() >= ERRORS_MIN {
            self.offsets = quantiles(&self.errors);
        }
        self.seen += 1;
        self.forecast(start)
    }

    fn forecast(&self, origin: Timestamp) -> Made {
        if self.offsets.is_empty() {
            return Err("cold-start".to_owned());
        }
        let window = |index: usize| -> Result<Vec<f64>, String> {
            let median = self.median(origin + self.steps(index)).ok_or("no-history")?;
            Ok(self.offsets.iter().map(|offset| (median * (1.0 + offset)).max(0.0)).collect())
        };
        Ok(QuantileForecast {
            service: self.service.clone(),
            origin,
            step: self.step,
            model: "usual-day".to_owned(),
            reason: "champion".to_owned(),
            levels: DEFAULT_QUANTILES.to_vec(),
            values: (1..=self.horizon).map(window).collect::<Result<_, _>>()?,
        })
    }

    fn median(&self, moment: Timestamp) -> Option<f64> {
        Some(self.usual(moment)? * self.level)
    }

    /// The usual load of the window of `moment`; `None` before there was such a day.
    fn usual(&self, moment: Timestamp) -> Option<f64> {
        let (kind, slot) = self.place(moment);
        self.days[kind].get(slot).filter(|(loads, _)| !loads.is_empty()).map(|(_, median)| *median)
    }

    fn learn(&mut self, moment: Timestamp, load: f64) {
        let (kind, slot) = self.place(moment);
        self.highest = self.highest.max(load);
        if let Some((loads, known)) = self.days[kind].get_mut(slot) {
            loads.push_back(load);
            if loads.len() > DAYS_MAX {
                loads.pop_front();
            }
            *known = median(loads);
        }
    }

    fn counts(&self, load: f64) -> bool {
        load > FAINT * self.highest
    }

    fn place(&self, moment: Timestamp) -> (usize, usize) {
        let weekend = usize::from(calendar_features(moment, Span::ZERO)[6] > 0.5);
        let of_day = moment.millis().rem_euclid(DAY.millis()) / self.step.millis().max(1);
        (weekend, usize::try_from(of_day).unwrap_or(0))
    }

    fn steps(&self, count: usize) -> Span {
        Span::from_millis(self.step.millis().saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

fn median(loads: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = loads.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Empirical quantiles at the default levels.
fn quantiles(errors: &VecDeque<f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = errors.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let at = |level: f64| sorted.get(((level * sorted.len() as f64) as usize).min(last)).copied().unwrap_or(0.0);
    DEFAULT_QUANTILES.iter().map(|level| at(*level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_772_409_600_000);

    fn at(minute: i64) -> Timestamp {
        START + Span::from_minutes(minute)
    }

    /// Nothing at night, 100 and a bit from 09:00 to 10:00.
    fn load(minute: i64) -> f64 {
        let of_day = minute % 1440;
        if (540..600).contains(&of_day) { 100.0 + (minute % 7) as f64 } else { 0.0 }
    }

    fn model() -> UsualDay {
        UsualDay::new("web".into(), Span::from_minutes(1), Span::from_minutes(30), Span::from_minutes(5))
    }

    #[test]
    fn a_day_that_was_seen_is_expected_again_and_nothing_where_nothing_was() {
        let mut model = model();
        let mut made = Err(String::new());
        for minute in 0..3 * 1440 + 530 {
            made = model.after(at(minute + 1), load(minute));
            assert!(minute > 1440 || made.is_err(), "{minute}");
        }
        let made = made.unwrap();
        assert_eq!(made.at(at(3 * 1440 + 539), 0.99), Some(0.0));
        let [low, middle, high] = [0.05, 0.5, 0.95].map(|level| made.at(at(3 * 1440 + 540), level).unwrap());
        assert!(low < middle && middle < high && (95.0..115.0).contains(&middle), "{low} {middle} {high}");
    }

    #[test]
    fn what_comes_later_changes_no_forecast() {
        let forecasts = |changed: bool| -> Vec<Made> {
            let mut model = model();
            let value = |minute| if changed && minute >= 2 * 1440 + 555 { 7.0 } else { load(minute) };
            let made = (0..2 * 1440 + 700).map(|minute| model.after(at(minute + 1), value(minute)));
            made.skip(2 * 1440 + 500).collect()
        };
        let (one, other) = (forecasts(false), forecasts(true));
        assert_eq!(one[..55], other[..55]);
        assert_ne!(one[55..], other[55..]);
    }
}
