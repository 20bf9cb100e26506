//! The fleet under a load of which single requests cannot be followed. Rule: expected values, no chance but that of
//! launches and of the market; every second adds up.
//!
//! Requests are a liquid: in each step the rate comes in, at most the capacity goes out, and what is left waits. That is
//! the waiting of an overload. The waiting that chance causes below overload is added from theory: how many wait is
//! Erlang's C, how long is exponential with the mean of Allen and Cunneen, approached at the speed at which a queue
//! settles. Latency is waiting plus a service time drawn from equally fine parts of its distribution. A request counts as
//! served when its service begins. Queues by unit are taken for one queue.

use super::arrivals::Arrivals;
use super::line::Line;
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
const FINENESS: f64 = 1e6;
/// Equally likely parts into which the waits of those who wait are cut.
const WAITS: u32 = 16;
/// Parts of a step in which there is a line.
const POINTS: u32 = 4;

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
        let (waiting, in_service) = (tank.line.level.round() as u64, tank.in_service.round() as u64);
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
    let Tank { books, fleet, line, steps, .. } = tank;
    Ok(books.close(end, fleet, line.level, 0, steps))
}

struct Tank<'a> {
    settings: &'a RunSettings,
    fleet: Fleet<'a>,
    /// Service times and the share of requests that have them.
    services: Vec<(f64, f64)>,
    /// Means of equally likely parts of an exponential distribution of mean 1.
    waits: Vec<f64>,
    /// Requests that wait because of overload.
    line: Line,
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
            waits: waits(),
            line: Line::default(),
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
        let before = self.line.level;
        let come = rate * seconds;
        let begun = (before + come).min(capacity * seconds);
        let unit_share = if speed > 0.0 { f64::from(self.fleet.in_service) / speed } else { 0.0 };
        self.in_service = begun / seconds * mean * unit_share;
        let chance = self.chance_waits(rate, capacity, speed, seconds);
        let start = from.seconds();
        self.line.join(start, start + seconds, come);
        // A millionth of a request is rounding.
        if before > 1e-6 || come > capacity * seconds {
            let served_by = |moment: f64| (capacity * moment).min(before + rate * moment);
            for point in 0..POINTS {
                let moment = |point: u32| seconds * f64::from(point) / f64::from(POINTS);
                let (begins, ends) = (moment(point), moment(point + 1));
                let served = served_by(ends) - served_by(begins);
                let arrived = self.line.serve(served);
                let delay = (start + (begins + ends) / 2.0 - arrived).max(0.0);
                self.answer(served, delay, (0.0, 0.0));
            }
        } else {
            self.line.serve(self.line.level);
            self.answer(begun, 0.0, chance);
        }
        let tick = &mut self.books.tick;
        tick.arrived += come;
        tick.begun += begun;
        tick.served += begun;
        tick.full += self.line.cut(self.settings.queue.limit() as f64);
        if let Some(patience) = self.settings.queue.timeout() {
            let given_up = self.line.give_up(start + seconds - patience.seconds());
            tick.timeout += given_up;
            tick.abandoned += given_up * patience.seconds();
        }
        tick.seconds += seconds;
        tick.queue += ((before + self.line.level) / 2.0 + self.chance) * seconds;
        tick.queue_max = tick.queue_max.max(self.line.level + self.chance);
        tick.busy += self.in_service * seconds;
        let taking = f64::from(self.fleet.in_service);
        let places = (taking + f64::from(self.fleet.draining)) * f64::from(self.settings.service.concurrency);
        tick.places += places * seconds;
        tick.ready += taking * seconds;
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

    /// Writes down the latencies of `begun` requests that were `delay` in line, and of which a share waits by chance, so
    /// long on average.
    fn answer(&mut self, begun: f64, delay: f64, (share, mean): (f64, f64)) {
        if begun <= 0.0 {
            return;
        }
        let objective = self.settings.objective.seconds();
        let tick = &mut self.books.tick;
        tick.waited += begun * (delay + share * mean);
        let mut note = |seconds: f64, count: f64| {
            tick.good += if seconds <= objective { count } else { 0.0 };
            tick.latency(((seconds * 1e6) as u64).max(1), (count * FINENESS).round() as u64);
        };
        for (service, part) in &self.services {
            note(delay + service, begun * part * (1.0 - share));
            if share > 1e-6 {
                for wait in &self.waits {
                    note(delay + mean * wait + service, begun * part * share / f64::from(WAITS));
                }
            }
        }
    }
}

/// Means of equally likely parts of an exponential distribution of mean 1.
fn waits() -> Vec<f64> {
    let beyond = |part: u32| {
        let share = 1.0 - f64::from(part) / f64::from(WAITS);
        if share > 0.0 { share * (1.0 - share.ln()) } else { 0.0 }
    };
    (0..WAITS).map(|part| f64::from(WAITS) * (beyond(part) - beyond(part + 1))).collect()
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
