//! The event loop. Rule: happenings are taken in the order of their times; of those at the same time a departure comes
//! first and an arrival last.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand_chacha::ChaCha8Rng;

use super::arrivals::{Arrivals, Stream};
use super::balance::Balance;
use super::moment::{Nanos, nanos_since};
use super::outcome::{Observation, QueueOutcome};
use super::record::Books;
use super::service::Sampler;
use super::settings::{Queueing, RunSettings};
use super::units::{Change, Fleet, Stage};
use super::validate::SettingsError;
use crate::seeded::{Purpose, rng};

/// Runs the fleet through the arrivals, request by request; `controller` is asked at every tick how many units there
/// should be, the first time at the start, and `None` changes nothing.
///
/// # Errors
/// Settings that cannot be simulated.
pub fn simulate(
    settings: &RunSettings,
    arrivals: &Arrivals,
    mut controller: impl FnMut(&Observation) -> Option<u32>,
) -> Result<QueueOutcome, SettingsError> {
    settings.check(arrivals)?;
    let mut engine = Engine::new(settings, arrivals)?;
    engine.follow_units();
    engine.run(&mut controller);
    Ok(engine.close())
}

#[derive(Clone, Copy, Debug)]
struct Request {
    arrived: Nanos,
    /// Seconds at full speed.
    work: f64,
}

/// End of a service: when, at which unit, and when the request had arrived.
type Departure = Reverse<(Nanos, u32, Nanos)>;

struct Engine<'a> {
    settings: &'a RunSettings,
    fleet: Fleet<'a>,
    stream: Stream<'a>,
    sampler: Sampler,
    works: ChaCha8Rng,
    concurrency: u32,
    limit: u64,
    timeout: Option<Nanos>,
    shared: bool,
    objective: Nanos,
    balance: Balance,
    departures: BinaryHeap<Departure>,
    /// The shared queue.
    waiting: VecDeque<Request>,
    /// Queues by unit, and when the requests in them give up, in the order in which they came.
    queues: Vec<VecDeque<Request>>,
    deadlines: VecDeque<(Nanos, u32, Nanos)>,
    now: Nanos,
    queued: u64,
    busy: u64,
    /// Nanoseconds times requests waiting, in service, places for them, and units; since the last tick.
    integrals: [u128; 4],
    since: Nanos,
    books: Books,
    events: u64,
}

impl<'a> Engine<'a> {
    fn new(settings: &'a RunSettings, arrivals: &'a Arrivals) -> Result<Self, SettingsError> {
        Ok(Self {
            settings,
            fleet: Fleet::new(settings)?,
            stream: arrivals.stream(settings.start, settings.seed),
            sampler: settings.service.time.sampler(),
            works: rng(settings.seed, Purpose::Works, 0, settings.start),
            concurrency: settings.service.concurrency,
            limit: settings.queue.limit(),
            timeout: settings.queue.timeout(),
            shared: matches!(settings.queue, Queueing::Shared { .. }),
            objective: settings.objective.into(),
            balance: Balance::default(),
            departures: BinaryHeap::new(),
            waiting: VecDeque::new(),
            queues: Vec::new(),
            deadlines: VecDeque::new(),
            now: Nanos::ZERO,
            queued: 0,
            busy: 0,
            integrals: [0; 4],
            since: Nanos::ZERO,
            books: Books::new(settings),
            events: 0,
        })
    }
}

impl Engine<'_> {
    fn run(&mut self, controller: &mut impl FnMut(&Observation) -> Option<u32>) {
        let end = nanos_since(self.settings.start, self.settings.end);
        let tick = Nanos::from(self.settings.tick);
        let (mut next_tick, mut next_arrival) = (Nanos::ZERO, self.stream.next());
        loop {
            let arrival = next_arrival.unwrap_or(Nanos::MAX);
            let departure = self.departures.peek().map_or(Nanos::MAX, |Reverse((moment, ..))| *moment);
            let fleet = self.fleet.next();
            let deadline = self.next_deadline();
            let other = fleet.min(deadline).min(next_tick);
            let next = arrival.min(departure).min(other);
            if next >= end {
                break;
            }
            self.pass(next);
            self.events += 1;
            if departure == next {
                self.depart();
            } else if fleet == next {
                self.fleet.advance(next);
                self.follow_units();
            } else if deadline == next {
                self.give_up();
            } else if next_tick == next {
                next_tick = next.plus(tick);
                self.turn(controller);
            } else {
                self.arrive();
                next_arrival = self.stream.next();
            }
        }
        self.pass(end);
    }

    /// Lets time go by in which nothing happens.
    fn pass(&mut self, to: Nanos) {
        let passed = u128::from(to.since(self.now).0);
        self.now = to;
        let taking = self.fleet.in_service;
        let places = u64::from(taking + self.fleet.draining) * u64::from(self.concurrency);
        for (integral, level) in self.integrals.iter_mut().zip([self.queued, self.busy, places, u64::from(taking)]) {
            *integral += passed * u128::from(level);
        }
    }

    fn arrive(&mut self) {
        let request = Request { arrived: self.now, work: self.sampler.sample(&mut self.works) };
        self.books.tick.arrived += 1.0;
        let least = if self.shared && self.queued > 0 { None } else { self.balance.least() };
        match least {
            Some((unit, held)) if held < self.concurrency => {
                self.fleet.units[unit as usize].held = held + 1;
                self.balance.set(unit, held + 1);
                self.serve(unit, request);
            }
            Some((unit, held)) if !self.shared && u64::from(held - self.concurrency) < self.limit => {
                self.fleet.units[unit as usize].held = held + 1;
                self.balance.set(unit, held + 1);
                self.queue_of(unit).push_back(request);
                if let Some(timeout) = self.timeout {
                    self.deadlines.push_back((self.now.plus(timeout), unit, self.now));
                }
                self.enqueued();
            }
            _ if self.shared && self.queued < self.limit => {
                self.waiting.push_back(request);
                self.enqueued();
            }
            _ => self.books.tick.full += 1.0,
        }
    }

    fn enqueued(&mut self) {
        self.queued += 1;
        self.books.tick.queue_max = self.books.tick.queue_max.max(self.queued as f64);
    }

    fn serve(&mut self, unit: u32, request: Request) {
        let age = self.fleet.units[unit as usize].age(self.now);
        let seconds = self.settings.fleet.warm_up.duration(request.work, age);
        self.departures.push(Reverse((self.now.plus(Nanos::from_seconds(seconds)), unit, request.arrived)));
        self.busy += 1;
        self.books.tick.begun += 1.0;
        self.books.tick.waited += self.now.since(request.arrived).seconds();
    }

    fn depart(&mut self) {
        let Some(Reverse((_, unit, arrived))) = self.departures.pop() else {
            return;
        };
        let stage = self.fleet.units[unit as usize].stage;
        if stage == Stage::Ended {
            // Lost with its unit.
            return;
        }
        let latency = self.now.since(arrived);
        self.busy -= 1;
        self.books.tick.served += 1.0;
        self.books.tick.good += f64::from(u8::from(latency <= self.objective));
        self.books.tick.latency((latency.0 / 1000).max(1), 1);
        let next = if !self.shared {
            self.queue_of(unit).pop_front()
        } else if stage == Stage::InService {
            self.waiting.pop_front()
        } else {
            None
        };
        if let Some(request) = next {
            self.queued -= 1;
            self.serve(unit, request);
        }
        // A place that was taken over from the shared queue is as full as before.
        if !(self.shared && next.is_some()) {
            self.release(unit);
        }
    }

    /// One request less at a unit.
    fn release(&mut self, unit: u32) {
        let releasing = &mut self.fleet.units[unit as usize];
        releasing.held = releasing.held.saturating_sub(1);
        let held = releasing.held;
        if releasing.stage == Stage::InService {
            self.balance.set(unit, held);
        } else if held == 0 {
            self.fleet.end(unit, self.now);
        }
    }

    fn next_deadline(&self) -> Nanos {
        let Some(timeout) = self.timeout else {
            return Nanos::MAX;
        };
        let own = self.deadlines.front().map_or(Nanos::MAX, |(deadline, ..)| *deadline);
        self.waiting.front().map_or(own, |request| request.arrived.plus(timeout))
    }

    /// The request that has waited longest gives up.
    fn give_up(&mut self) {
        let given_up = if self.shared {
            self.waiting.pop_front()
        } else {
            let Some((_, unit, arrived)) = self.deadlines.pop_front() else {
                return;
            };
            let mine = self.queue_of(unit).pop_front_if(|first| first.arrived == arrived);
            if mine.is_some() {
                self.release(unit);
            }
            mine
        };
        if let Some(request) = given_up {
            self.queued -= 1;
            self.books.tick.timeout += 1.0;
            self.books.tick.abandoned += self.now.since(request.arrived).seconds();
        }
    }

    fn queue_of(&mut self, unit: u32) -> &mut VecDeque<Request> {
        let index = unit as usize;
        if self.queues.len() <= index {
            self.queues.resize_with(index + 1, VecDeque::new);
        }
        &mut self.queues[index]
    }

    /// Does what units that came, are to go, or went ask for.
    fn follow_units(&mut self) {
        while let Some(change) = self.fleet.take_change() {
            match change {
                Change::Opened(unit) => self.open(unit),
                Change::Closed(unit) => {
                    self.balance.remove(unit);
                    if self.fleet.units[unit as usize].held == 0 {
                        self.fleet.end(unit, self.now);
                    }
                }
                Change::Gone(unit) => self.bury(unit),
            }
        }
    }

    fn open(&mut self, unit: u32) {
        let taken = if self.shared {
            let free = self.concurrency.min(u32::try_from(self.queued).unwrap_or(u32::MAX));
            for _ in 0..free {
                if let Some(request) = self.waiting.pop_front() {
                    self.queued -= 1;
                    self.serve(unit, request);
                }
            }
            free
        } else {
            0
        };
        self.fleet.units[unit as usize].held = taken;
        self.balance.set(unit, taken);
    }

    fn bury(&mut self, unit: u32) {
        self.balance.remove(unit);
        let held = std::mem::take(&mut self.fleet.units[unit as usize].held);
        let now = self.now;
        let left: Vec<Request> = if self.shared { Vec::new() } else { self.queue_of(unit).drain(..).collect() };
        let waiting = left.len() as u64;
        self.books.tick.abandoned += left.iter().map(|request| now.since(request.arrived).seconds()).sum::<f64>();
        self.books.tick.lost += f64::from(held);
        self.queued -= waiting;
        self.busy -= u64::from(held) - waiting;
    }

    /// Closes the books of a tick and asks the controller.
    fn turn(&mut self, controller: &mut impl FnMut(&Observation) -> Option<u32>) {
        self.settle();
        let observation = self.books.observe(self.now, &mut self.fleet, self.busy, self.queued);
        self.books.close_tick(self.now);
        if let Some(units) = controller(&observation) {
            self.fleet.set_wanted(self.now, units);
            self.fleet.advance(self.now);
            self.follow_units();
        }
    }

    /// Takes the integrals over into the tick.
    fn settle(&mut self) {
        let [queue, busy, places, ready] = std::mem::take(&mut self.integrals).map(|integral| integral as f64 / 1e9);
        let tick = &mut self.books.tick;
        tick.seconds += self.now.since(self.since).seconds();
        tick.queue += queue;
        tick.busy += busy;
        tick.places += places;
        tick.ready += ready;
        self.since = self.now;
    }

    fn close(mut self) -> QueueOutcome {
        self.settle();
        self.books.close(self.now, self.fleet, self.queued as f64, self.busy, self.events)
    }
}
