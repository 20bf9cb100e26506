//! Load from a recorded history, scaled to services. Rule: the first service has the recorded shape at the recorded time;
//! the others have it some hours later, so that they do not peak together.

use prescale_domain::{Series, ServiceName, Span, Timestamp};
use rand::RngExt;
use thiserror::Error;

use super::MINUTE;
use crate::seeded::{Purpose, rng};

/// Requests per minute on average, by the service's place; more services begin again.
const MEANS: [f64; 3] = [120.0, 220.0, 160.0];
/// How much later each service has the recorded shape than the one before it.
const SHIFT: Span = Span::from_minutes(5 * 60);

/// A history by minute, replayed for several services.
#[derive(Clone, Debug)]
pub struct TraceLoad {
    seed: u64,
    names: Vec<ServiceName>,
    /// Factor on the recorded values, by service.
    scales: Vec<f64>,
    /// The moment that the history's start is moved to.
    start: Timestamp,
    history: Series,
}

/// A history that cannot be replayed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TraceError {
    #[error("trace has no value above 0 in {0} steps")]
    Empty(usize),
    #[error("trace has a step of {0}, expected a positive one")]
    Step(Span),
}

impl TraceLoad {
    /// Replays `history` (a count in each of its steps; gaps count as nothing) from `start` on, over and over, scaled to
    /// some hundred requests per minute for each service.
    ///
    /// # Errors
    /// A history without load, or without a step.
    pub fn new(history: &Series, names: Vec<ServiceName>, start: Timestamp, seed: u64) -> Result<Self, TraceError> {
        if history.step.millis() <= 0 {
            return Err(TraceError::Step(history.step));
        }
        let known: Vec<f64> = history.values.iter().flatten().copied().filter(|value| value.is_finite()).collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        if mean <= 0.0 {
            return Err(TraceError::Empty(history.values.len()));
        }
        let scales = MEANS.iter().cycle().take(names.len()).map(|wanted| wanted / mean).collect();
        Ok(Self { seed, names, scales, start, history: history.clone() })
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn services(&self) -> &[ServiceName] {
        &self.names
    }

    /// Requests of the minute that holds `moment`.
    pub fn load(&self, service: usize, moment: Timestamp) -> u64 {
        let Some(scale) = self.scales.get(service) else {
            return 0;
        };
        let minute = moment.floor_to(MINUTE);
        let shift = SHIFT.millis().saturating_mul(i64::try_from(service).unwrap_or(0));
        let steps = i64::try_from(self.history.values.len()).unwrap_or(i64::MAX).max(1);
        let step =
            (minute.millis() - self.start.millis() - shift).div_euclid(self.history.step.millis()).rem_euclid(steps);
        let value = usize::try_from(step).ok().and_then(|index| self.history.values.get(index).copied().flatten());
        let rate = value.filter(|value| value.is_finite()).unwrap_or(0.0).max(0.0) * scale;
        // Rounded by chance, so that scaling down keeps the mean.
        let up = rng(self.seed, Purpose::Rounding, service, minute).random::<f64>() < rate.fract();
        rate as u64 + u64::from(up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: Vec<Option<f64>>) -> Series {
        Series { start: Timestamp::from_millis(5_000_000), step: MINUTE, values }
    }

    #[test]
    fn a_history_is_moved_scaled_and_repeated() {
        let values = (0..1440).map(|m| if m == 7 { None } else { Some(f64::from(m % 60) * 10.0) }).collect();
        let trace =
            TraceLoad::new(&history(values), vec!["a".into(), "b".into()], Timestamp::from_millis(0), 1).unwrap();
        let at = |m: i64| Timestamp::from_millis(m * 60_000);
        let mean = |service| (0..1440).map(|m| trace.load(service, at(m))).sum::<u64>() as f64 / 1440.0;
        assert!((mean(0) - 120.0).abs() < 0.5 && (mean(1) - 220.0).abs() < 0.5, "{} {}", mean(0), mean(1));
        assert_eq!((trace.load(0, at(7)), trace.load(0, at(60))), (0, 0));
        assert!(trace.load(0, at(1440 + 30)).abs_diff(trace.load(0, at(30))) <= 1);
        assert!(trace.load(1, at(300)) < 5 && trace.load(1, at(300 + 59)) > 400);
        assert_eq!(trace.load(2, at(0)), 0);
    }

    #[test]
    fn a_history_without_load_is_refused() {
        let refused =
            |values| TraceLoad::new(&history(values), vec!["a".into()], Timestamp::from_millis(0), 1).unwrap_err();
        assert_eq!(refused(vec![None, Some(0.0)]).to_string(), "trace has no value above 0 in 2 steps");
    }
}
