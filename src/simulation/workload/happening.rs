//! What lifts the load for a while: announced campaigns and surprises. Rule: drawn from the seed once, at the start.

use prescale_domain::{Span, Timestamp};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::model::LoadSettings;
use crate::seeded::{Purpose, rng};

const DAY: Span = Span::from_minutes(1440);

/// Whether anybody knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HappeningKind {
    /// Announced hours before.
    Campaign,
    /// Known to nobody.
    Spike,
}

/// A lift of one service's load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Happening {
    pub kind: HappeningKind,
    /// Index of the service.
    pub service: usize,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Load at its height as a multiple of the usual.
    pub uplift: f64,
    /// What was announced, which is never exactly what comes.
    pub expected_uplift: f64,
    pub known_at: Timestamp,
}

impl Happening {
    /// The factor on the load of its service at `moment`: a steep rise, a plateau, and an exponential end.
    pub(super) fn factor(&self, moment: Timestamp) -> f64 {
        let (rise_minutes, fall_minutes) = match self.kind {
            HappeningKind::Campaign => (3.0, 5.0),
            HappeningKind::Spike => (5.0, 8.0),
        };
        let minutes = |from: Timestamp| (moment.millis() - from.millis()) as f64 / 60_000.0;
        let height = if moment < self.start {
            0.0
        } else if moment < self.end {
            ((minutes(self.start) + 1.0) / rise_minutes).min(1.0)
        } else {
            (-(minutes(self.end) + 1.0) / fall_minutes).exp()
        };
        1.0 + (self.uplift - 1.0) * height
    }
}

/// A campaign every two days or so and a spike every week of history; one of each, apart, in the scored part.
pub(super) fn draw(settings: &LoadSettings) -> Vec<Happening> {
    let mut rng = rng(settings.seed, Purpose::Happenings, 0, settings.start);
    let services = settings.services.len().max(1);
    let scored = settings.start + settings.history;
    let mut happenings = Vec::new();
    let days = settings.history.millis() / DAY.millis();
    for day in 1..days {
        let midnight = settings.start + Span::from_millis(day * DAY.millis());
        if day % 2 == 0 {
            happenings.push(campaign(&mut rng, services, midnight, 9.0, 20.0));
        }
        if day % 7 == 3 {
            let service = rng.random_range(0..services);
            happenings.push(spike(&mut rng, service, midnight, 1.0, 22.0));
        }
    }
    // The scored part, whatever its length: a campaign in its first half, a surprise for another service in its second.
    let hours = settings.scored.millis() as f64 / 3_600_000.0;
    let announced = campaign(&mut rng, services, scored, hours * 0.15, hours * 0.45);
    let surprised = (announced.service + 1) % services;
    happenings.push(announced);
    happenings.push(spike(&mut rng, surprised, scored, hours * 0.6, hours * 0.9));
    happenings
}

fn campaign(rng: &mut ChaCha8Rng, services: usize, from: Timestamp, earliest: f64, latest: f64) -> Happening {
    let start = whole_minute(from, rng.random_range(earliest..latest));
    let expected_uplift = f64::from(rng.random_range(20..=30)) / 10.0;
    Happening {
        kind: HappeningKind::Campaign,
        service: rng.random_range(0..services),
        start,
        end: start + Span::from_minutes(rng.random_range(45..=90)),
        uplift: expected_uplift * rng.random_range(0.88..1.12),
        expected_uplift,
        known_at: start - Span::from_minutes(rng.random_range(240..=1200)),
    }
}

fn spike(rng: &mut ChaCha8Rng, service: usize, from: Timestamp, earliest: f64, latest: f64) -> Happening {
    let start = whole_minute(from, rng.random_range(earliest..latest));
    let uplift = rng.random_range(1.8..2.4);
    Happening {
        kind: HappeningKind::Spike,
        service,
        start,
        end: start + Span::from_minutes(rng.random_range(12..=20)),
        uplift,
        expected_uplift: uplift,
        known_at: Timestamp::MAX,
    }
}

fn whole_minute(from: Timestamp, hours: f64) -> Timestamp {
    from + Span::from_minutes((hours * 60.0) as i64)
}
