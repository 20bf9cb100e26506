//! Requests by service and minute, generated or replayed. Rule: the same seed gives the same minute, whatever was asked
//! for before.

mod happening;
mod model;
mod request;
mod trace;

use prescale_domain::{CalendarEvent, ServiceName, Span, Timestamp};

pub use happening::{Happening, HappeningKind};
pub use model::{LoadModel, LoadSettings, ServiceShape};
pub use request::RequestRecord;
pub use trace::{TraceError, TraceLoad};

/// Load is made minute by minute.
pub const MINUTE: Span = Span::from_minutes(1);

/// Where the load comes from.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Generated, with cycles, noise, campaigns and a surprise.
    Model(LoadModel),
    /// A recorded history, scaled to the services.
    Trace(TraceLoad),
}

impl Workload {
    pub fn services(&self) -> &[ServiceName] {
        match self {
            Self::Model(model) => model.services(),
            Self::Trace(trace) => trace.services(),
        }
    }

    /// Requests of the service with that index in the minute that holds `moment`.
    pub fn load(&self, service: usize, moment: Timestamp) -> u64 {
        match self {
            Self::Model(model) => model.load(service, moment),
            Self::Trace(trace) => trace.load(service, moment),
        }
    }

    /// The requests of that minute, in the order of their times.
    pub fn requests(&self, service: usize, moment: Timestamp) -> impl Iterator<Item = RequestRecord> + use<> {
        let name = self.services().get(service).cloned().unwrap_or_else(|| ServiceName::new("unknown"));
        let seed = match self {
            Self::Model(model) => model.seed(),
            Self::Trace(trace) => trace.seed(),
        };
        request::requests(seed, service, name, moment.floor_to(MINUTE), self.load(service, moment))
    }

    /// Events that somebody announced, with the moment at which they did.
    pub fn events(&self) -> Vec<CalendarEvent> {
        match self {
            Self::Model(model) => model.events(),
            Self::Trace(_) => Vec::new(),
        }
    }

    /// Requests per second of each minute of `[from, to)`.
    pub fn requests_per_second(&self, service: usize, from: Timestamp, to: Timestamp) -> Vec<f64> {
        let minutes = to.since(from).steps_up(MINUTE);
        let start = |index: usize| from + Span::from_minutes(i64::try_from(index).unwrap_or(i64::MAX));
        (0..minutes).map(|index| self.load(service, start(index)) as f64 / 60.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        "2026-03-02T00:00:00Z".parse().unwrap()
    }

    fn workload(seed: u64) -> Workload {
        Workload::Model(LoadModel::new(LoadSettings::demo(
            seed,
            start(),
            Span::from_minutes(14 * 1440),
            Span::from_minutes(2 * 1440),
        )))
    }

    fn minute(number: i64) -> Timestamp {
        start() + Span::from_minutes(number)
    }

    #[test]
    fn a_minute_does_not_depend_on_what_was_asked_before() {
        let (forth, back) = (workload(1), workload(1));
        let upwards: Vec<u64> = (0..300).map(|m| forth.load(m as usize % 3, minute(m * 7))).collect();
        let mut downwards: Vec<u64> = (0..300).rev().map(|m| back.load(m as usize % 3, minute(m * 7))).collect();
        downwards.reverse();
        assert_eq!(upwards, downwards);
        assert_ne!(upwards, (0..300).map(|m| workload(2).load(m as usize % 3, minute(m * 7))).collect::<Vec<_>>());
    }

    #[test]
    fn a_minute_has_as_many_requests_as_its_load_all_inside_it_and_in_order() {
        let workload = workload(3);
        for number in [0, 700, 20_000] {
            let requests: Vec<_> = workload.requests(1, minute(number)).collect();
            assert_eq!(requests.len() as u64, workload.load(1, minute(number)));
            assert!(requests.iter().all(|r| r.ts >= minute(number) && r.ts < minute(number + 1)));
            assert!(requests.is_sorted_by_key(|r| r.ts));
            assert_eq!(requests, workload.requests(1, minute(number)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_scored_part_has_a_campaign_known_hours_before_and_a_surprise() {
        for seed in 1..=20 {
            let Workload::Model(model) = workload(seed) else { panic!("seed {seed} gave no model") };
            let scored = start() + Span::from_minutes(14 * 1440);
            let within = |h: &&Happening| h.start >= scored && h.end <= scored + Span::from_minutes(2 * 1440);
            let kinds = |kind| model.happenings().iter().filter(within).filter(|h| h.kind == kind).count();
            assert_eq!((kinds(HappeningKind::Campaign), kinds(HappeningKind::Spike)), (1, 1), "seed {seed}");
            let announced = model.events();
            assert!(announced.iter().all(|event| event.start.since(event.known_at) >= Span::from_minutes(240)));
            assert!(announced.iter().all(|event| event.expected_uplift.is_some()));
            assert!(announced.len() >= 3, "past campaigns to learn from");
        }
    }

    /// Variance over mean of the noise around a centred 15-minute mean that leaves the minute itself out, as the real
    /// logs were measured.
    fn dispersion(counts: &[f64]) -> f64 {
        let (mut squares, mut total) = (0.0, 0.0);
        for window in counts.windows(15) {
            let mean = (window.iter().sum::<f64>() - window[7]) / 14.0;
            squares += (window[7] - mean).powi(2) / (1.0 + 1.0 / 14.0);
            total += mean;
        }
        squares / total
    }

    #[test]
    fn noise_is_as_dispersed_as_in_real_request_logs() {
        let mut settings = LoadSettings::demo(5, start(), Span::from_minutes(14 * 1440), Span::from_minutes(2 * 1440));
        settings.services[0].mean_per_minute = 40.0;
        let workload = Workload::Model(LoadModel::new(settings));
        let counts: Vec<f64> = (0..7 * 1440).map(|m| workload.load(0, minute(m)) as f64).collect();
        let found = dispersion(&counts);
        assert!((1.7..2.2).contains(&found), "variance over mean {found}");
    }

    #[test]
    fn a_minute_has_tens_to_hundreds_of_requests() {
        let workload = workload(1);
        for service in 0..3 {
            let counts: Vec<u64> = (0..16 * 1440).map(|m| workload.load(service, minute(m))).collect();
            let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
            assert!((80.0..260.0).contains(&mean), "mean {mean}");
            assert!(counts.iter().all(|count| (5..1500).contains(count)));
        }
    }
}
