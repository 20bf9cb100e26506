//! The fleet under a load of which single requests cannot be followed. Rule: expected values, no chance but that of
//! launches and of the market; every second adds up.
//!
//! Requests are a liquid: in each step the rate comes in, at most the capacity goes out, and what is left waits. That is
//! the waiting of an overload. The waiting that chance causes below overload is added from theory: how many wait is
//! Erlang's C, how long is exponential with the mean of Allen and Cunneen, approached at the speed at which a queue
//! settles. Latency is waiting plus a service time drawn from equally fine parts of its distribution. A request counts as
//! served when its service begins. Queues by unit are taken for one queue.

use super::arrivals::Arrivals;
use super::moment::{Nanos, nanos_since};
use super::outcome::{Observation, QueueOutcome};
use super::record::Books;
use super::settings::RunSettings;
use super::theory::erlang_c;
use super::units::{Change, Fleet};
use super::validate::SettingsError;
use crate::seeded::{Purpose, rng};

/// Steps are no longer than this.
const STEP_SECONDS: f64 = 1.0;
/// A latency's count is rounded after this factor, so that small parts of small rates count.
const FINENESS: f64 = 10_000.0;
/// Equally likely parts into which the waits of those who wait are cut.
const WAITS: u32 = 8;

/// Runs the fleet through the arrivals as [`simulate`](super::simulate) does, in time that does not depend on the rate.
///
/// # Errors
/// Settings that cannot be simulated.
pub fn simulate_fluid(
    settings: &RunSettings,
    arrivals: &Arrivals,
    mut controller: impl FnMut(&Observation) -> Option<u32>,
) -> Result<QueueOutcome, SettingsError> {
    settings.check(arrivals)?;
    let mut tank = Tank::new(settings, Fleet::new(settings)?);
    let end = nanos_since(settings.start, settings.end);
    let tick = Nanos::from(settings.tick);
    let steps = (tick.seconds() / STEP_SECONDS).ceil().max(1.0) as u64;
    let mut now = Nanos::ZERO;
    while now < end {
        tank.follow_units(now);
        let (waiting, in_service) = (tank.level.round() as u64, tank.in_service.round() as u64);
        let observation = tank.books.observe(now, &mut tank.fleet, in_service, waiting);
        tank.books.close_tick(now);
        if let Some(units) = controller(&observation) {
            tank.fleet.set_wanted(now, units);
        }
        let begins = |step: u64| Nanos(now.0.saturating_add(tick.0 / steps * step)).min(end);
        for step in 0..steps {
            let (from, to) = (begins(step), if step + 1 == steps { now.plus(tick).min(end) } else { begins(step + 1) });
            if to > from {
                let rate = arrivals.mean_rate(from.after(settings.start), to.after(settings.start));
                tank.step(from, to, rate);
            }
        }
        now = now.plus(tick);
    }
    let Tank { books, fleet, level, steps, .. } = tank;
    Ok(books.close(end, fleet, level, 0, steps))
}

struct Tank<'a> {
    settings: &'a RunSettings,
    fleet: Fleet<'a>,
    /// Service times and the share of requests that have them.
    services: Vec<(f64, f64)>,
    /// Requests in line because of overload.
    level: f64,
    /// Those that wait by chance, on average.
    chance: f64,
    in_service: f64,
    /// Units that finish what they hold, and when they will have.
    finishing: Vec<(Nanos, u32)>,
    books: Books,
    steps: u64,
}

impl<'a> Tank<'a> {
    fn new(settings: &'a RunSettings, fleet: Fleet<'a>) -> Self {
        Self {
            settings,
            fleet,
            services: services(settings),
            level: 0.0,
            chance: 0.0,
            in_service: 0.0,
            finishing: Vec::new(),
            books: Books::new(settings),
            steps: 0,
        }
    }

    fn follow_units(&mut self, now: Nanos) {
        self.fleet.advance(now);
        let last = Nanos::from_seconds(self.settings.service.time.mean_seconds());
        while let Some(change) = self.fleet.take_change() {
            match change {
                Change::Opened(_) => {}
                Change::Closed(unit) => self.finishing.push((now.plus(last), unit)),
                Change::Gone(_) => {
                    let share = self.in_service / f64::from(self.fleet.in_service + 1);
                    // They had been counted as served when their service began.
                    let tick = &mut self.books.tick;
                    let lost = share.min(tick.served);
                    tick.served -= lost;
                    tick.good = (tick.good - lost).max(0.0);
                    tick.lost += lost;
                    self.in_service -= share;
                }
            }
        }
        let fleet = &mut self.fleet;
        self.finishing.retain(|(done, unit)| {
            let due = *done <= now;
            if due {
                fleet.end(*unit, now);
            }
            !due
        });
    }

    fn step(&mut self, from: Nanos, to: Nanos, rate: f64) {
        self.follow_units(from);
        self.steps += 1;
        let seconds = to.since(from).seconds();
        let mean = self.settings.service.time.mean_seconds();
        let speed = self.fleet.speed(Nanos(from.0 + to.since(from).0 / 2));
        let capacity = speed * self.settings.service.unit_rate();
        let before = self.level;
        let come = rate * seconds;
        let begun = (before + come).min(capacity * seconds);
        let left = before + come - begun;
        let by_limit = left.min(self.settings.queue.limit() as f64);
        let patience = self.settings.queue.timeout().map_or(f64::INFINITY, Nanos::seconds);
        // First come, first served: nobody waits longer than it takes to serve those before him; where nobody is served,
        // those wait that came last.
        let by_timeout = by_limit.min(patience * if capacity > 0.0 { capacity } else { rate });
        self.level = by_timeout;
        self.in_service =
            begun / seconds * mean * if speed > 0.0 { f64::from(self.fleet.in_service) / speed } else { 0.0 };
        let waits = self.chance_waits(rate, capacity, speed, seconds);
        let tick = &mut self.books.tick;
        tick.arrived += come;
        tick.begun += begun;
        tick.served += begun;
        tick.full += left - by_limit;
        tick.timeout += by_limit - by_timeout;
        tick.seconds += seconds;
        tick.queue += ((before + self.level) / 2.0 + self.chance) * seconds;
        tick.queue_max = tick.queue_max.max(self.level + self.chance);
        tick.busy += self.in_service * seconds;
        let taking = f64::from(self.fleet.in_service);
        tick.places +=
            (taking + f64::from(self.fleet.draining)) * f64::from(self.settings.service.concurrency) * seconds;
        tick.ready += taking * seconds;
        if begun > 0.0 {
            self.answer(before, begun, rate, capacity, seconds, waits);
        }
    }

    /// Share of arrivals that wait by chance, and the mean wait of those.
    fn chance_waits(&mut self, rate: f64, capacity: f64, speed: f64, seconds: f64) -> (f64, f64) {
        let places = (speed * f64::from(self.settings.service.concurrency)).round().max(0.0) as u32;
        let load = if capacity > 0.0 { rate / capacity } else { f64::INFINITY };
        if load >= 1.0 || rate <= 0.0 {
            return (0.0, 0.0);
        }
        let Some(share) = erlang_c(places, load * f64::from(places)) else {
            return (0.0, 0.0);
        };
        let spread = (1.0 + self.settings.service.time.squared_variation()) / 2.0;
        let settled = share * load / (1.0 - load) * spread;
        let settling = spread / (capacity * (1.0 - load.sqrt()).powi(2));
        self.chance += (settled - self.chance) * -(-seconds / settling).exp_m1();
        if share > 0.0 { (share, self.chance / rate / share) } else { (0.0, 0.0) }
    }

    /// Writes down the latencies of `begun` requests.
    fn answer(&mut self, before: f64, begun: f64, rate: f64, capacity: f64, seconds: f64, waits: (f64, f64)) {
        let points: u32 = if before > 0.0 || self.level > 0.0 { 4 } else { 1 };
        let objective = self.settings.objective.seconds();
        let patience = self.settings.queue.timeout().map_or(f64::INFINITY, Nanos::seconds);
        let (share, mean) = waits;
        let tick = &mut self.books.tick;
        let mut waited = 0.0;
        let mut note = |seconds: f64, count: f64| {
            tick.good += if seconds <= objective { count } else { 0.0 };
            tick.latency(((seconds * 1e6) as u64).max(1), (count * FINENESS).round() as u64);
        };
        for point in 0..points {
            let moment = seconds * (f64::from(point) + 0.5) / f64::from(points);
            let in_line = (before + (rate - capacity) * moment).max(0.0);
            let delay = if capacity > 0.0 { (in_line / capacity).min(patience) } else { 0.0 };
            let count = begun / f64::from(points);
            let share = if in_line > 0.0 { 0.0 } else { share };
            waited += count * (delay + share * mean);
            for (service, part) in &self.services {
                note(delay + service, count * part * (1.0 - share));
                if share > 1e-6 {
                    for number in 0..WAITS {
                        // The middle of each part of an exponential distribution.
                        let wait = -mean * (1.0 - (f64::from(number) + 0.5) / f64::from(WAITS)).ln();
                        note(delay + wait + service, count * part * share / f64::from(WAITS));
                    }
                }
            }
        }
        tick.waited += waited;
    }
}

/// Parts of the service time's distribution, finer towards its tail, each with its mean: from draws, so that every
/// distribution is treated alike.
fn services(settings: &RunSettings) -> Vec<(f64, f64)> {
    /// Up to which share of the requests, in how many parts.
    const PARTS: [(f64, u32); 3] = [(0.9, 50), (0.99, 45), (1.0, 50)];
    const DRAWS: usize = 100_000;
    let sampler = settings.service.time.sampler();
    let mut rng = rng(settings.seed, Purpose::Works, 1, settings.start);
    let mut draws: Vec<f64> = (0..DRAWS).map(|_| sampler.sample(&mut rng)).collect();
    draws.sort_by(f64::total_cmp);
    let drawn = draws.iter().sum::<f64>() / DRAWS as f64;
    // The mean of the draws is made that of the distribution.
    let scale = if drawn > 0.0 { settings.service.time.mean_seconds() / drawn } else { 1.0 };
    let mut parts = Vec::new();
    let mut from = 0.0;
    for (until, count) in PARTS {
        let width = (until - from) / f64::from(count);
        for number in 0..count {
            let place = |share: f64| ((share * DRAWS as f64).round() as usize).min(DRAWS);
            let (first, last) = (place(from + width * f64::from(number)), place(from + width * f64::from(number + 1)));
            let part = &draws[first..last];
            parts.push((scale * part.iter().sum::<f64>() / part.len().max(1) as f64, part.len() as f64 / DRAWS as f64));
        }
        from = until;
    }
    parts
}
