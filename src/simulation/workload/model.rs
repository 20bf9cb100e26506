//! Generated load: daily and weekly cycle, noise as dispersed as real request logs, campaigns and a surprise. Rule: no
//! state; every minute is computed from the seed.

use prescale_domain::{CalendarEvent, ServiceName, Span, Timestamp, calendar_features};
use rand_distr::{Distribution, Gamma, Poisson};

use super::MINUTE;
use super::happening::{Happening, HappeningKind, draw};
use crate::seeded::{Purpose, normal, rng};

/// The usual load of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceShape {
    pub name: ServiceName,
    pub mean_per_minute: f64,
    /// Swing of the day around the mean, as a share of it.
    pub daily_swing: f64,
    /// Hour of the day, UTC, at which load is highest.
    pub peak_hour: f64,
    /// Load on Saturday and Sunday as a share of that on other days.
    pub weekend: f64,
}

/// What load to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSettings {
    pub seed: u64,
    /// First minute of the history, a midnight.
    pub start: Timestamp,
    /// Length of the history, and of the scored part after it.
    pub history: Span,
    pub scored: Span,
    pub services: Vec<ServiceShape>,
}

/// Load by service and minute.
#[derive(Clone, Debug)]
pub struct LoadModel {
    settings: LoadSettings,
    names: Vec<ServiceName>,
    happenings: Vec<Happening>,
}

impl LoadSettings {
    /// Three services of different size and phase.
    pub fn demo(seed: u64, start: Timestamp, history: Span, scored: Span) -> Self {
        let shape = |name: &str, mean_per_minute, daily_swing, peak_hour, weekend| ServiceShape {
            name: ServiceName::new(name),
            mean_per_minute,
            daily_swing,
            peak_hour,
            weekend,
        };
        let services = vec![
            shape("checkout", 120.0, 0.55, 19.0, 1.15),
            shape("search", 220.0, 0.6, 15.0, 0.85),
            shape("catalog", 160.0, 0.5, 12.0, 0.7),
        ];
        Self { seed, start, history, scored, services }
    }
}

impl LoadModel {
    pub fn new(settings: LoadSettings) -> Self {
        let names = settings.services.iter().map(|shape| shape.name.clone()).collect();
        let happenings = draw(&settings);
        Self { settings, names, happenings }
    }

    pub fn seed(&self) -> u64 {
        self.settings.seed
    }

    pub fn services(&self) -> &[ServiceName] {
        &self.names
    }

    /// Everything out of the ordinary, announced or not.
    pub fn happenings(&self) -> &[Happening] {
        &self.happenings
    }

    /// The campaigns as events of the calendar.
    pub fn events(&self) -> Vec<CalendarEvent> {
        let announced = self.happenings.iter().filter(|happening| happening.kind == HappeningKind::Campaign);
        announced
            .enumerate()
            .map(|(index, campaign)| CalendarEvent {
                id: format!("campaign-{}", index + 1),
                kind: "campaign".to_owned(),
                services: vec![self.names[campaign.service].clone()],
                start: campaign.start,
                end: campaign.end,
                expected_uplift: Some(campaign.expected_uplift),
                known_at: campaign.known_at,
            })
            .collect()
    }

    /// Requests of the minute that holds `moment`; 0 for a service that there is not.
    ///
    /// A negative binomial count (a Poisson count at a gamma-distributed rate) of variance 1.9 times the mean, the residual
    /// dispersion of the NASA 1995 log per minute, around [`LoadModel::rate`].
    pub fn load(&self, service: usize, moment: Timestamp) -> u64 {
        /// Variance / mean − 1 that the gamma-distributed rate adds to a Poisson count.
        const EXCESS: f64 = 0.8;
        let minute = moment.floor_to(MINUTE);
        let rate = self.rate(service, minute);
        let mut rng = rng(self.settings.seed, Purpose::Count, service, minute);
        let Ok(gamma) = Gamma::new(rate / EXCESS, EXCESS) else {
            return 0;
        };
        Poisson::new(gamma.sample(&mut rng)).map_or(0, |poisson| poisson.sample(&mut rng) as u64)
    }

    /// Requests per minute to be expected in that minute by somebody who knows all but the counting noise.
    pub fn rate(&self, service: usize, minute: Timestamp) -> f64 {
        let Some(shape) = self.settings.services.get(service) else {
            return 0.0;
        };
        let mine = self.happenings.iter().filter(|happening| happening.service == service);
        let lifted: f64 = mine.map(|happening| happening.factor(minute)).product();
        shape.mean_per_minute * cycle(shape, minute) * self.wander(service, minute) * lifted
    }

    /// Slow and short-range noise on the rate: days differ by some 4 %, and neighbouring minutes share some 4 % more.
    fn wander(&self, service: usize, minute: Timestamp) -> f64 {
        const DAY: Span = Span::from_minutes(1440);
        const DAY_SPREAD: f64 = 0.04;
        const SHORT_SPREAD: f64 = 0.04;
        const DECAY: f64 = 0.8;
        const REACH: i64 = 16;
        let seed = self.settings.seed;
        let midnight = minute.floor_to(DAY);
        let share = minute.since(midnight).millis() as f64 / DAY.millis() as f64;
        let day = |moment| normal(seed, Purpose::Day, service, moment);
        let slow = (1.0 - share) * day(midnight) + share * day(midnight + DAY);
        // A moving average with exponential weights: AR(1) but for its far past, and known without walking there.
        let scale = (1.0 - DECAY * DECAY).sqrt();
        let short: f64 = (0..REACH)
            .map(|back| {
                let weight = scale * DECAY.powi(i32::try_from(back).unwrap_or(i32::MAX));
                weight * normal(seed, Purpose::Correlated, service, minute - Span::from_minutes(back))
            })
            .sum();
        (DAY_SPREAD * slow + SHORT_SPREAD * short).exp()
    }
}

/// The daily and weekly cycle, 1 on average over a working day.
fn cycle(shape: &ServiceShape, minute: Timestamp) -> f64 {
    let turn = std::f64::consts::TAU;
    let hour = minute.millis().rem_euclid(86_400_000) as f64 / 3_600_000.0;
    let angle = turn * (hour - shape.peak_hour) / 24.0;
    // A second harmonic makes nights flat and days broad, as in real logs.
    let day = 1.0 + shape.daily_swing * (angle.cos() + 0.25 * (2.0 * angle + 0.6).cos());
    let weekend = calendar_features(minute, Span::ZERO)[6];
    day.max(0.05) * (1.0 + weekend * (shape.weekend - 1.0))
}
