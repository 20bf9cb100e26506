//! Crane's effective HPA: Kubernetes' HPA on the load and on the highest load that its signal processing predicts for the
//! next hour. Rule: as coded, down to the half spectrum that its noise filter keeps.
//!
//! Source: gocrane/crane `pkg/prediction/dsp`, `pkg/prediction/accuracy`, `cmd/craned/app/options` (12 hours between two
//! fits), `docs/tutorials/effective-hpa-with-prometheus-adapter.md` (a window of 3600 s); field.md, section 1.1.

mod dsp;
mod fourier;

use prescale_domain::{Span, Timestamp};

use super::hpa::{Hpa, HpaSettings, Observation};
use super::{Autoscaler, Contender, Course, Knobs, METRIC_AGE};
use crate::arena::{Bout, Gauge, Tick};

const UPDATE: Span = Span::from_minutes(12 * 60);
const WINDOW: Span = Span::from_minutes(60);
/// Samples asked for: `historyDuration` and an hour.
const HISTORY: Span = Span::from_minutes((15 * 24 + 1) * 60);

/// What is predicted, by step of the scored load.
#[derive(Clone, Debug, PartialEq)]
pub struct Crane {
    /// The highest prediction for the hour from each step on; `None` where no period was found.
    highest: Vec<Option<f64>>,
}

impl Crane {
    /// Fits the model every 12 hours on what is known then.
    pub fn new(gauge: &Gauge) -> Self {
        let (start, step, end) = (gauge.live.start, gauge.live.step, gauge.live.end());
        let moment = |from: Timestamp, steps: usize| from + Span::from_millis(step.millis() * steps as i64);
        let window = usize::try_from(WINDOW.millis() / step.millis().max(1)).unwrap_or(0);
        let mut highest = Vec::with_capacity(gauge.live.load.len());
        let mut fitted_at = start;
        while fitted_at < end {
            // The newest whole step that is known.
            let newest = (fitted_at - gauge.age).floor_to(step);
            let asked = HISTORY.steps_up(step);
            let mut samples: Vec<f64> = (1..=asked)
                .map_while(|ago| gauge.at(fitted_at, newest - Span::from_millis(step.millis() * ago as i64)))
                .collect();
            samples.reverse();
            let cycle = dsp::predict(samples, step);
            let until = (fitted_at + UPDATE).min(end);
            let mut now = fitted_at;
            while now < until {
                let first = usize::try_from(now.since(newest).millis() / step.millis().max(1)).unwrap_or(0);
                let hour = (first..=first + window).filter_map(|ahead| {
                    let cycle = cycle.as_ref()?;
                    cycle.get(ahead % cycle.len().max(1)).copied()
                });
                highest.push(hour.reduce(f64::max));
                now = moment(now, 1);
            }
            fitted_at = fitted_at + UPDATE;
        }
        Self { highest }
    }
}

pub(super) struct Entry<'a> {
    gauge: Gauge<'a>,
    crane: Crane,
}

impl<'a> Entry<'a> {
    pub(super) fn new(course: &'a Course) -> Self {
        let gauge = Gauge { training: &course.training, live: &course.bout.demand, age: METRIC_AGE };
        Self { gauge, crane: Crane::new(&gauge) }
    }
}

struct Flight<'a> {
    gauge: Gauge<'a>,
    crane: &'a Crane,
    hpa: Hpa,
}

impl Contender for Entry<'_> {
    fn enter<'a>(&'a self, bout: &'a Bout, knobs: Knobs) -> Box<dyn Autoscaler + 'a> {
        Box::new(Flight { gauge: self.gauge, crane: &self.crane, hpa: Hpa::new(HpaSettings::of(bout, knobs.target)) })
    }
}

impl Autoscaler for Flight<'_> {
    fn decide(&mut self, tick: Tick) -> Option<u32> {
        let live = self.gauge.live;
        let step = usize::try_from(tick.now.since(live.start).millis() / live.step.millis().max(1)).ok()?;
        let seen = Observation::of(&tick, self.gauge.read(tick.now));
        let predicted = self.crane.highest.get(step).copied().flatten();
        let predicted = Observation { total: predicted.unwrap_or(seen.total), ..seen };
        Some(self.hpa.sync_all(tick.now, &[seen, predicted]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Demand;

    #[test]
    fn the_highest_of_the_next_hour_of_a_daily_wave_is_predicted() {
        let step = Span::from_minutes(5);
        let wave = |index: i32| 100.0 + 60.0 * (f64::from(index) / 288.0 * std::f64::consts::TAU).sin();
        let load: Vec<f64> = (0..5 * 288).map(wave).collect();
        let training = Demand { start: Timestamp::from_millis(0), step, load: load[..4 * 288].to_vec() };
        let live = Demand { start: training.end(), step, load: load[4 * 288..].to_vec() };
        let crane = Crane::new(&Gauge { training: &training, live: &live, age: Span::ZERO });
        assert_eq!(crane.highest.len(), 288);
        for (index, highest) in crane.highest.iter().enumerate() {
            let truth = (index..=index + 12).map(|index| wave(index as i32)).fold(0.0, f64::max);
            // The smallest margin, 1 percent, errs least.
            assert!((highest.unwrap() / truth - 1.01).abs() < 0.005, "{index}: {highest:?} for {truth}");
        }
        // A day is too little for a period.
        let short = Demand { load: load[..288].to_vec(), ..training };
        let live = Demand { start: short.end(), ..live };
        let crane = Crane::new(&Gauge { training: &short, live: &live, age: Span::ZERO });
        assert_eq!(crane.highest, [None; 288]);
    }
}
