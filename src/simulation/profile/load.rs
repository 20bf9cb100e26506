//! A profile as rates, counts and events. Rule: counts are drawn around the rates of the same steps, so that both tell of
//! the same load.

use prescale_domain::{CalendarEvent, Span, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Poisson};

use super::lift::{Lift, draw, events};
use super::shape::{between, usual};
use super::{Profile, ProfileError, ProfileSettings};
use crate::queueing::{CountSeries, RateSeries};
use crate::seeded::{Purpose, normal, rng};
use crate::workload::MINUTE;

/// A profile ready to be asked.
#[derive(Clone, Debug)]
pub struct ProfileLoad {
    settings: ProfileSettings,
    lifts: Vec<Lift>,
}

impl ProfileLoad {
    /// # Errors
    /// A number that makes no sense.
    pub fn new(settings: ProfileSettings) -> Result<Self, ProfileError> {
        settings.check()?;
        let lifts = draw(&settings);
        Ok(Self { settings, lifts })
    }

    pub fn settings(&self) -> &ProfileSettings {
        &self.settings
    }

    /// What was announced, with the moment at which it was.
    pub fn events(&self) -> Vec<CalendarEvent> {
        events(&self.settings, &self.lifts)
    }

    /// Requests per second at `moment` without any noise.
    pub fn expected(&self, moment: Timestamp) -> f64 {
        let settings = &self.settings;
        let level = usual(settings, moment);
        let next = self.lifts.partition_point(|lift| lift.start <= moment);
        // A fall may reach into the lift after it.
        self.lifts[next.saturating_sub(2)..next].iter().fold(level, |level, lift| {
            let share = lift.share(settings, moment);
            match settings.profile {
                Profile::Campaign | Profile::MaintenanceDip => {
                    level * (1.0 + (settings.factor * lift.height - 1.0) * share)
                }
                _ => level.max(between(settings, lift.height * share)),
            }
        })
    }

    /// Requests per second by step of a second, a minute or the like, with all noise but that of single arrivals: a
    /// Poisson process at these rates has the dispersion of the settings.
    pub fn rates(&self, step: Span) -> RateSeries {
        self.rates_from(self.settings.start, step)
    }

    /// The same from `start` on.
    pub fn rates_from(&self, start: Timestamp, step: Span) -> RateSeries {
        let seconds = step.seconds();
        let per_second = self.steps(start, step).map(|(_, rate)| rate / seconds).collect();
        RateSeries { start, step, per_second }
    }

    /// Requests by step.
    pub fn counts(&self, step: Span) -> CountSeries {
        let counts = self.steps(self.settings.start, step).map(|(mut rng, rate)| count(rate, &mut rng)).collect();
        CountSeries { start: self.settings.start, step, counts }
    }

    /// Requests in the step from `moment` on.
    pub fn count(&self, moment: Timestamp, step: Span) -> u64 {
        let wander = self.wander(moment.floor_to(MINUTE));
        let (mut rng, rate) = self.step(moment, step, wander);
        count(rate, &mut rng)
    }

    /// Each step's requests to be expected by somebody who knows all but the counting noise, and the generator with which
    /// they are to be counted.
    fn steps(&self, start: Timestamp, step: Span) -> impl Iterator<Item = (ChaCha8Rng, f64)> {
        let width = step.millis().max(1);
        let count = self.settings.end().since(start).steps_up(Span::from_millis(width));
        let mut known: Option<(Timestamp, f64)> = None;
        (0..count).map(move |index| {
            let offset = width.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX));
            let moment = start + Span::from_millis(offset);
            let minute = moment.floor_to(MINUTE);
            let wander = match known {
                Some((of, wander)) if of == minute => wander,
                _ => self.wander(minute),
            };
            known = Some((minute, wander));
            self.step(moment, Span::from_millis(width), wander)
        })
    }

    fn step(&self, moment: Timestamp, step: Span, wander: f64) -> (ChaCha8Rng, f64) {
        let settings = &self.settings;
        let middle = moment + Span::from_millis(step.millis() / 2);
        let mean = self.expected(middle) * step.seconds() * wander;
        let mut rng = rng(settings.seed, Purpose::ProfileCount, 0, moment);
        // A Poisson count at a gamma-distributed rate is negative binomial.
        let excess = settings.noise.dispersion - 1.0;
        if excess <= 0.0 || mean <= 0.0 {
            return (rng, mean);
        }
        let rate = Gamma::new(mean / excess, excess).map_or(mean, |gamma| gamma.sample(&mut rng));
        (rng, rate)
    }

    /// Slow and short-range noise, of mean 1: days differ, and neighbouring minutes are alike.
    fn wander(&self, minute: Timestamp) -> f64 {
        const DAY: Span = Span::from_minutes(1440);
        const DECAY: f64 = 0.8;
        const REACH: i64 = 16;
        let (seed, noise) = (self.settings.seed, self.settings.noise);
        if noise.day_spread == 0.0 && noise.short_spread == 0.0 {
            return 1.0;
        }
        let midnight = minute.floor_to(DAY);
        let share = minute.since(midnight).millis() as f64 / DAY.millis() as f64;
        let day = |moment| normal(seed, Purpose::ProfileWander, 0, moment);
        let slow = (1.0 - share) * day(midnight) + share * day(midnight + DAY);
        let scale = (1.0 - DECAY * DECAY).sqrt();
        let short: f64 = (0..REACH)
            .map(|back| {
                let weight = scale * DECAY.powi(i32::try_from(back).unwrap_or(i32::MAX));
                weight * normal(seed, Purpose::ProfileWander, 1, minute - Span::from_minutes(back))
            })
            .sum();
        let variance = noise.day_spread.powi(2) * (share.powi(2) + (1.0 - share).powi(2)) + noise.short_spread.powi(2);
        (noise.day_spread * slow + noise.short_spread * short - variance / 2.0).exp()
    }
}

fn count(rate: f64, rng: &mut ChaCha8Rng) -> u64 {
    Poisson::new(rate).map_or(0, |poisson| poisson.sample(rng) as u64)
}
