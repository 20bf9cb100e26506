//! Load from a recorded history, scaled to services. Rule: the first service has the recorded shape at the recorded time;
//! the others have it some hours later, so that they do not peak together.

use prescale_domain::{Series, ServiceName, Span, Timestamp};
use rand::RngExt;

use super::MINUTE;
use crate::seeded::{Purpose, rng};

/// A history by minute, replayed for several services.
#[derive(Clone, Debug)]
pub struct TraceLoad {
    seed: u64,
    names: Vec<ServiceName>,
    /// Factor on the recorded values, by service.
    scales: Vec<f64>,
    /// Requests per minute.
    history: Series,
}

impl TraceLoad {
    /// Replays `history` (requests in each of its steps, gaps count as nothing) so that each service has the given mean of
    /// requests per minute.
    pub fn new(seed: u64, history: Series, services: &[(ServiceName, f64)]) -> Self {
        let minutes = MINUTE.millis() as f64 / history.step.millis().max(1) as f64;
        let known: Vec<f64> = history.values.iter().flatten().map(|value| value * minutes).collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let scale = |wanted: f64| if mean > 0.0 { wanted * minutes / mean } else { 0.0 };
        Self {
            seed,
            names: services.iter().map(|(name, _)| name.clone()).collect(),
            scales: services.iter().map(|(_, wanted)| scale(*wanted)).collect(),
            history,
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn services(&self) -> &[ServiceName] {
        &self.names
    }

    /// Requests of the minute that holds `moment`. The history starts again when it ends.
    pub fn load(&self, service: usize, moment: Timestamp) -> u64 {
        const SHIFT: Span = Span::from_minutes(5 * 60);
        let minute = moment.floor_to(MINUTE);
        let length = self.history.end().since(self.history.start).millis();
        let Some(scale) = self.scales.get(service).filter(|_| length > 0) else {
            return 0;
        };
        let shift = SHIFT.millis().saturating_mul(i64::try_from(service).unwrap_or(0));
        let into = (minute.millis() - self.history.start.millis() - shift).rem_euclid(length);
        let place = (self.history.start + Span::from_millis(into)).millis();
        let index = (place - self.history.start.millis()) / self.history.step.millis().max(1);
        let value = usize::try_from(index).ok().and_then(|index| self.history.values.get(index).copied().flatten());
        let rate = value.unwrap_or(0.0).max(0.0) * scale;
        // Rounded by chance, so that scaling down keeps the mean.
        let up = rng(self.seed, Purpose::Rounding, service, minute).random::<f64>() < rate.fract();
        rate as u64 + u64::from(up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_scaled_to_the_wanted_mean_and_repeats() {
        let values = (0..1440).map(|m| if m == 7 { None } else { Some(f64::from(m % 60) * 10.0) }).collect();
        let history = Series { start: Timestamp::from_millis(0), step: MINUTE, values };
        let trace = TraceLoad::new(1, history, &[("a".into(), 50.0), ("b".into(), 200.0)]);
        let at = |m: i64| Timestamp::from_millis(m * 60_000);
        let mean = |service| (0..1440).map(|m| trace.load(service, at(m))).sum::<u64>() as f64 / 1440.0;
        assert!((mean(0) - 50.0).abs() < 0.5 && (mean(1) - 200.0).abs() < 0.5, "{} {}", mean(0), mean(1));
        assert_eq!(trace.load(0, at(7)), 0);
        assert!(trace.load(0, at(1440 + 30)).abs_diff(trace.load(0, at(30))) <= 1);
        assert!(trace.load(1, at(300 + 59)).abs_diff(trace.load(1, at(300 + 1440 + 59))) <= 1);
        assert_eq!(trace.load(2, at(0)), 0);
    }
}
