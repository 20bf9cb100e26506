//! Rolling-origin evaluation of models on a history. Rule: a forecast sees nothing after its origin; no clock.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

use prescale_domain::{DEFAULT_QUANTILES, Series, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::accuracy::{Accuracy, mase_scale};
use crate::calibrate::Calibrator;
use crate::error::{ForecastCrateError, Result};
use crate::models::residual::at_level;
use crate::models::{DAY, Lesson, ModelKind};
use crate::past::{Past, Request};

/// At most this much before the test is looked at.
const HISTORY_MAX: Span = Span::from_minutes(21 * 24 * 60);
/// The level whose coverage and pinball loss are reported.
const UPPER: f64 = 0.9;

/// What to evaluate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluateSettings {
    /// Models are fitted on windows before this moment; those from here to `test_from` calibrate their quantiles.
    pub train_until: Timestamp,
    pub test_from: Timestamp,
    pub test_to: Timestamp,
    /// Horizon h of the origin window `[t, t + step)` is the window that starts at `t + h`.
    pub horizons: Vec<Span>,
    pub models: Vec<ModelKind>,
    pub origin_every: Span,
    pub seed: u64,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self {
            train_until: Timestamp::MIN,
            test_from: Timestamp::MIN,
            test_to: Timestamp::MAX,
            horizons: [5, 10, 15, 30, 60].map(Span::from_minutes).to_vec(),
            models: ModelKind::ALL.to_vec(),
            origin_every: Span::from_minutes(5),
            seed: 1,
        }
    }
}

/// Figures of all models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub models: BTreeMap<ModelKind, ModelReport>,
    /// Mean absolute first difference of the training part, in the unit of the load.
    pub mase_scale: f64,
    pub origins: usize,
    pub step: Span,
    pub train_from: Timestamp,
    pub train_until: Timestamp,
    pub test_from: Timestamp,
    pub test_to: Timestamp,
    pub seed: u64,
}

/// Figures of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    pub horizons: BTreeMap<Span, HorizonReport>,
}

/// Figures of one model at one horizon: of the median, and of the 90 % quantile. Coverage is adaptive: every outcome
/// moves the quantiles of later origins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HorizonReport {
    pub mae: f64,
    pub rmse: f64,
    pub mape_pct: f64,
    pub smape_pct: f64,
    pub mase: f64,
    pub pinball_p90: f64,
    pub coverage_p90_pct: f64,
    /// Coverage of the quantile as the model gave it.
    pub coverage_p90_native_pct: f64,
    pub n: u64,
}

/// Fits each model once and forecasts from every origin of the test. `progress` hears the share done in [0, 1].
///
/// # Errors
/// Bounds outside the history, or a model that can't be fitted on it.
pub fn evaluate(series: &Series, settings: &EvaluateSettings, progress: &mut dyn FnMut(f64, &str)) -> Result<Report> {
    let from = series.start.max((settings.test_from - HISTORY_MAX).floor_to(series.step));
    let until = settings.test_to.min(series.end());
    if settings.train_until <= from + DAY || settings.test_from < settings.train_until || until <= settings.test_from {
        return Err(ForecastCrateError::Bounds {
            from: series.start.to_string(),
            to: series.end().to_string(),
            needed: format!(
                "a day before train-until {}, test-from {} not before it, and test-to {} after that",
                settings.train_until, settings.test_from, settings.test_to
            ),
        });
    }
    let skipped = from.since(series.start).steps_up(series.step);
    let window = Series { start: from, step: series.step, values: series.values[skipped..].to_vec() };
    let scale = mase_scale(window.before(settings.train_until)).ok_or_else(|| ForecastCrateError::TooShort {
        model: "any".into(),
        found: 0,
        needed: 2,
    })?;
    let service = ServiceName::new("history");
    let histories = BTreeMap::from([(service.clone(), window)]);
    let horizon_steps = settings.horizons.iter().map(|h| h.steps_up(series.step)).max().unwrap_or(1).max(1);
    let task = Task { service, histories, horizon_steps, settings, until };
    let mut models = BTreeMap::new();
    let mut origins = 0;
    for (index, kind) in settings.models.iter().enumerate() {
        let mut share = |done: f64| progress((index as f64 + done) / settings.models.len() as f64, kind.name());
        share(0.0);
        let (report, count) = task.run(*kind, scale, &mut share)?;
        origins = count;
        models.insert(*kind, report);
    }
    let (step, train_until, test_from, seed) = (series.step, settings.train_until, settings.test_from, settings.seed);
    Ok(Report {
        models,
        mase_scale: scale,
        origins,
        step,
        train_from: from,
        train_until,
        test_from,
        test_to: until,
        seed,
    })
}

struct Task<'a> {
    service: ServiceName,
    histories: BTreeMap<ServiceName, Series>,
    horizon_steps: usize,
    settings: &'a EvaluateSettings,
    until: Timestamp,
}

/// A forecast that waits for its outcome at one horizon.
struct Waiting {
    target: usize,
    lead: usize,
    row: Vec<f64>,
}

impl Task<'_> {
    fn run(&self, kind: ModelKind, scale: f64, share: &mut dyn FnMut(f64)) -> Result<(ModelReport, usize)> {
        let series = &self.histories[&self.service];
        let mut model = kind.build(self.settings.seed);
        model.fit(&Lesson {
            histories: &self.histories,
            events: &[],
            train_until: self.settings.train_until,
            end: self.settings.test_from,
            horizon_steps: self.horizon_steps,
            levels: &DEFAULT_QUANTILES,
        })?;
        share(0.5);
        let leads: Vec<(Span, usize)> = self.settings.horizons.iter().map(|h| (*h, h.steps_up(series.step))).collect();
        let calibrated: Vec<usize> = {
            let mut steps: Vec<usize> = leads.iter().map(|lead| lead.1).collect();
            steps.sort_unstable();
            steps.dedup();
            steps
        };
        let mut calibrator = Calibrator::new(&DEFAULT_QUANTILES, &calibrated);
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let mut sums: BTreeMap<Span, (Accuracy, Accuracy)> = BTreeMap::new();
        let first = self.settings.train_until.since(series.start).steps_up(series.step);
        let test = self.settings.test_from.since(series.start).steps_up(series.step);
        let last = self.until.since(series.start).steps_up(series.step).min(series.values.len());
        let stride = self.settings.origin_every.steps_up(series.step).max(1);
        // Origins are aligned to the first of the test.
        let mut origins = 0;
        for origin in (first + (test - first) % stride..last).step_by(stride) {
            waiting.retain(|forecast| {
                let known = forecast.target <= origin;
                if known && let Some(actual) = series.values[forecast.target] {
                    calibrator.add(forecast.lead, &forecast.row, actual);
                }
                !known
            });
            let past = Past { start: series.start, step: series.step, values: &series.values[..=origin] };
            let request = Request {
                service: &self.service,
                past,
                horizon_steps: self.horizon_steps,
                levels: &DEFAULT_QUANTILES,
                events: &[],
                now: past.end(),
            };
            let Ok(native) = model.predict(&request) else { continue };
            let mut rows = native.clone();
            calibrator.correct(&mut rows);
            let counted = origin >= test;
            for (horizon, lead) in &leads {
                let target = origin + lead;
                let row = &native[lead - 1];
                waiting.push_back(Waiting { target, lead: *lead, row: row.clone() });
                let Some(actual) = series.values.get(target).copied().flatten() else { continue };
                if counted && target < last {
                    let at = |row: &[f64], level| at_level(&DEFAULT_QUANTILES, row, level);
                    let median = at(&rows[lead - 1], 0.5);
                    let sums = sums.entry(*horizon).or_default();
                    sums.0.add(actual, median, at(&rows[lead - 1], UPPER), UPPER);
                    sums.1.add(actual, median, at(row, UPPER), UPPER);
                }
            }
            origins += usize::from(counted);
            share(0.5 + 0.5 * (origin - first) as f64 / (last - first) as f64);
        }
        let horizons = sums.into_iter().filter_map(|(horizon, sums)| Some((horizon, report(&sums, scale)?)));
        Ok((ModelReport { horizons: horizons.collect() }, origins))
    }
}

fn report((calibrated, native): &(Accuracy, Accuracy), scale: f64) -> Option<HorizonReport> {
    Some(HorizonReport {
        mae: calibrated.mae()?,
        rmse: calibrated.rmse()?,
        mape_pct: calibrated.mape_pct()?,
        smape_pct: calibrated.smape_pct()?,
        mase: calibrated.mase(scale)?,
        pinball_p90: calibrated.pinball()?,
        coverage_p90_pct: calibrated.coverage_pct()?,
        coverage_p90_native_pct: native.coverage_pct()?,
        n: calibrated.count(),
    })
}

/// Reads `timestamp,value` lines with RFC 3339 times in any order of time; windows without a line or with an empty value
/// are gaps, a window that is named twice keeps the last.
///
/// # Errors
/// A line that is not of this form, a time that is no start of a window of width `step`, or an unreadable source.
pub fn parse_csv(mut source: impl Read, step: Span) -> Result<Series> {
    let fail = |line: usize, reason: String| ForecastCrateError::History { line, reason };
    let mut text = String::new();
    source.read_to_string(&mut text).map_err(|error| fail(0, error.to_string()))?;
    let mut rows: Vec<(Timestamp, Option<f64>)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim().trim_start_matches('\u{feff}'));
        if line.is_empty() || (index == 0 && line.starts_with("timestamp")) {
            continue;
        }
        let (time, value) = line.split_once(',').ok_or_else(|| fail(number, "has no comma".into()))?;
        let time: Timestamp =
            time.trim().parse().map_err(|error: prescale_domain::TimeError| fail(number, error.to_string()))?;
        let value = match value.split(',').next().unwrap_or("").trim() {
            "" => None,
            text => Some(
                text.parse::<f64>()
                    .ok()
                    .filter(|value| value.is_finite() && *value >= 0.0)
                    .ok_or_else(|| fail(number, format!("value `{text}` is not a number of at least 0")))?,
            ),
        };
        rows.push((time, value));
    }
    let start = rows.iter().map(|row| row.0).min().ok_or_else(|| fail(0, "there are no rows".into()))?;
    let end = rows.iter().map(|row| row.0).max().unwrap_or(start);
    let count = end.since(start).steps_up(step) + 1;
    if count > 50_000_000 {
        return Err(fail(0, format!("{count} windows of {step} are too many; hint: is the step right?")));
    }
    let mut series = Series { start, step, values: vec![None; count] };
    for (index, (time, value)) in rows.into_iter().enumerate() {
        let place = series.index_of(time).ok_or_else(|| {
            fail(index + 2, format!("{time} is no multiple of {step} after {start}; hint: choose another step"))
        })?;
        series.values[place] = value;
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_without_a_line_are_gaps() {
        let text = "timestamp,value\n2026-01-01T00:00:00Z,1\n2026-01-01T00:03:00Z,4\n2026-01-01T00:01:00Z,\n";
        let series = parse_csv(text.as_bytes(), Span::from_minutes(1)).unwrap();
        assert_eq!(series.values, [Some(1.0), None, None, Some(4.0)]);
    }

    #[track_caller]
    fn refused(text: &str, reason: &str) {
        let error = parse_csv(text.as_bytes(), Span::from_minutes(1)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn what_is_not_a_history_is_refused_by_line() {
        refused("", "there are no rows");
        refused("timestamp,value\nyesterday,1\n", "line 2");
        refused("2026-01-01T00:00:00Z;1\n", "line 1: has no comma");
        refused("2026-01-01T00:00:00Z,-1\n", "at least 0");
        refused("2026-01-01T00:00:00Z,1\n2026-01-01T00:00:30Z,1\n", "no multiple of 1m");
    }

    #[test]
    fn the_future_does_not_change_the_past_of_an_evaluation() {
        let values: Vec<Option<f64>> =
            (0..6 * 288).map(|i| Some(50.0 + 20.0 * (f64::from(i) / 45.8).sin() + f64::from(i * 7919 % 13))).collect();
        let series = Series { start: Timestamp::from_millis(0), step: Span::from_minutes(5), values };
        let at = |days: i64| Timestamp::from_millis(days * 86_400_000);
        let settings = EvaluateSettings {
            train_until: at(3),
            test_from: at(4),
            test_to: at(5),
            models: vec![ModelKind::SeasonalNaive, ModelKind::Holt],
            ..EvaluateSettings::default()
        };
        let whole = evaluate(&series, &settings, &mut |_, _| {}).unwrap();
        let cut = Series { values: series.values[..5 * 288].to_vec(), ..series };
        assert_eq!(whole, evaluate(&cut, &settings, &mut |_, _| {}).unwrap());
        assert_eq!(whole.origins, 288);
    }
}
