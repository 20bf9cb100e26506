//! The books of a run, by tick, by window and in all. Rule: each happening is written once, into the tick; a tick goes
//! into its window and a window into the total.

use hdrhistogram::Histogram;
use prescale_domain::{Span, Timestamp};

use super::moment::Nanos;
use super::outcome::{Observation, QueueOutcome, Totals, WindowOutcome};
use super::settings::RunSettings;
use super::units::Fleet;

/// Latencies are kept in microseconds, from one to an hour, to two significant digits.
const MICROS_MAX: u64 = 3_600_000_000;
const DIGITS: u8 = 2;

/// Sums over some time. Counts are whole but for the fluid mode.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) arrived: f64,
    pub(super) served: f64,
    pub(super) good: f64,
    pub(super) full: f64,
    pub(super) timeout: f64,
    pub(super) lost: f64,
    /// Requests whose service began, the time that they had waited, and the time that those dropped had.
    pub(super) begun: f64,
    pub(super) waited: f64,
    pub(super) abandoned: f64,
    /// Integrals over time: requests waiting, requests in service, places for them, units that take requests.
    pub(super) seconds: f64,
    pub(super) queue: f64,
    pub(super) busy: f64,
    pub(super) places: f64,
    pub(super) ready: f64,
    pub(super) queue_max: f64,
    latencies: Option<Histogram<u64>>,
}

impl Part {
    pub(super) fn new() -> Self {
        // These bounds are sound; were they not, quantiles would be absent.
        Self { latencies: Histogram::new_with_bounds(1, MICROS_MAX, DIGITS).ok(), ..EMPTY }
    }

    pub(super) fn dropped(&self) -> f64 {
        self.full + self.timeout + self.lost
    }

    pub(super) fn latency(&mut self, micros: u64, count: u64) {
        if let Some(latencies) = &mut self.latencies {
            latencies.saturating_record_n(micros, count);
        }
    }

    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let latencies = self.latencies.as_ref().filter(|latencies| !latencies.is_empty())?;
        Some(latencies.value_at_quantile(quantile) as f64 / 1000.0)
    }

    pub(super) fn utilization(&self) -> Option<f64> {
        (self.places > 0.0).then(|| self.busy / self.places)
    }

    /// Takes in `other`, which begins anew.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.arrived += other.arrived;
        self.served += other.served;
        self.good += other.good;
        self.full += other.full;
        self.timeout += other.timeout;
        self.lost += other.lost;
        self.begun += other.begun;
        self.waited += other.waited;
        self.abandoned += other.abandoned;
        self.seconds += other.seconds;
        self.queue += other.queue;
        self.busy += other.busy;
        self.places += other.places;
        self.ready += other.ready;
        self.queue_max = self.queue_max.max(other.queue_max);
        let mut theirs = other.latencies.take();
        if let (Some(ours), Some(theirs)) = (&mut self.latencies, &mut theirs) {
            // Both have the same bounds, so that there is nothing that could not be added.
            if !theirs.is_empty() && ours.add(&*theirs).is_ok() {
                theirs.reset();
            }
        }
        *other = Self { latencies: theirs, ..EMPTY };
    }

    pub(super) fn window(&self, start: Timestamp) -> WindowOutcome {
        WindowOutcome {
            start,
            arrived: whole(self.arrived),
            served: whole(self.served),
            dropped: whole(self.dropped()),
            good: whole(self.good),
            wait_mean_ms: (self.begun > 0.0).then(|| 1000.0 * self.waited / self.begun),
            p50_ms: self.quantile_ms(0.5),
            p95_ms: self.quantile_ms(0.95),
            p99_ms: self.quantile_ms(0.99),
            queue_mean: if self.seconds > 0.0 { self.queue / self.seconds } else { 0.0 },
            queue_max: whole(self.queue_max),
            utilization: self.utilization(),
            ready_mean: if self.seconds > 0.0 { self.ready / self.seconds } else { 0.0 },
        }
    }

    /// The figures of requests; those of units are for others to fill in.
    pub(super) fn totals(&self, queued: f64, in_service: u64) -> Totals {
        let window = self.window(Timestamp::default());
        let ended = self.served + self.dropped();
        Totals {
            arrived: window.arrived,
            served: window.served,
            dropped_full: whole(self.full),
            dropped_timeout: whole(self.timeout),
            dropped_lost: whole(self.lost),
            queued: whole(queued),
            in_service,
            good: window.good,
            share_good: (ended > 0.0).then(|| self.good / ended),
            wait_mean_ms: window.wait_mean_ms,
            p50_ms: window.p50_ms,
            p95_ms: window.p95_ms,
            p99_ms: window.p99_ms,
            queue_mean: window.queue_mean,
            queue_max: window.queue_max,
            waited_seconds: self.waited,
            abandoned_seconds: self.abandoned,
            utilization: window.utilization,
            desired_max: 0,
            units_max: 0,
            unit_hours: 0.0,
            cost_usd: 0.0,
            failed_launches: 0,
            recommendations: 0,
            notices: 0,
            events: 0,
        }
    }
}

const EMPTY: Part = Part {
    arrived: 0.0,
    served: 0.0,
    good: 0.0,
    full: 0.0,
    timeout: 0.0,
    lost: 0.0,
    begun: 0.0,
    waited: 0.0,
    abandoned: 0.0,
    seconds: 0.0,
    queue: 0.0,
    busy: 0.0,
    places: 0.0,
    ready: 0.0,
    queue_max: 0.0,
    latencies: None,
};

/// The tick, the window and the total of a run.
#[derive(Debug)]
pub(super) struct Books {
    start: Timestamp,
    width: Span,
    pub(super) tick: Part,
    window: Part,
    window_start: Nanos,
    total: Part,
    windows: Vec<WindowOutcome>,
}

impl Books {
    pub(super) fn new(settings: &RunSettings) -> Self {
        Self {
            start: settings.start,
            width: settings.window,
            tick: Part::new(),
            window: Part::new(),
            window_start: Nanos::ZERO,
            total: Part::new(),
            windows: Vec::new(),
        }
    }

    /// What a controller sees of the tick that ends.
    pub(super) fn observe(&self, now: Nanos, fleet: &mut Fleet, in_service: u64, queue: u64) -> Observation {
        let (tick, signals) = (&self.tick, fleet.take_signals());
        Observation {
            now: now.after(self.start),
            desired: fleet.wanted(),
            ready: fleet.in_service,
            pending: fleet.pending,
            draining: fleet.draining,
            in_service,
            queue,
            arrived: whole(tick.arrived),
            served: whole(tick.served),
            dropped: whole(tick.dropped()),
            rate_per_second: (tick.seconds > 0.0).then(|| tick.arrived / tick.seconds),
            latency_p95_ms: tick.quantile_ms(0.95),
            utilization: tick.utilization(),
            recommendations: signals.recommendations,
            notices: signals.notices,
        }
    }

    pub(super) fn close_tick(&mut self, now: Nanos) {
        self.window.absorb(&mut self.tick);
        if now.since(self.window_start) >= self.width.into() {
            self.close_window(now);
        }
    }

    pub(super) fn close(mut self, end: Nanos, fleet: Fleet, queued: f64, in_service: u64, events: u64) -> QueueOutcome {
        self.close_tick(end);
        if end > self.window_start {
            self.close_window(end);
        }
        let mut totals = self.total.totals(queued, in_service);
        let bill = fleet.close(end);
        totals.desired_max = bill.desired_max;
        totals.units_max = bill.units_max;
        totals.unit_hours = bill.classes.values().map(|class| class.unit_hours).sum();
        totals.cost_usd = bill.classes.values().map(|class| class.cost_usd).sum();
        totals.failed_launches = bill.failed_launches;
        totals.recommendations = bill.signals.recommendations;
        totals.notices = bill.signals.notices;
        totals.events = events;
        QueueOutcome { totals, classes: bill.classes, window: self.width, windows: self.windows, actions: bill.actions }
    }

    fn close_window(&mut self, now: Nanos) {
        self.windows.push(self.window.window(self.window_start.after(self.start)));
        self.total.absorb(&mut self.window);
        self.window_start = now;
    }
}

fn whole(count: f64) -> u64 {
    // The cast saturates.
    count.round() as u64
}
