//! What the flights of a back-test cost: four weeks of one service by the minute under one seed and one lead time, all
//! systems at all of their operating points. Rule: under 60 s on two cores; forecasts are made before, and counted elsewhere.
//!
//! The reference beside it is a fixed fleet through the same load with nobody who decides: what every flight pays. The
//! checksums are of all numbers of a part: a change that only makes it faster leaves them as they are.
//!
//! `cargo bench -p prescale-simulation --bench backtest`; `-- 7` flies so many days instead of 28.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use prescale_actuate::{Fleet, FleetSettings};
use prescale_domain::{
    Mode, PlanningRule, PlanningSettings, PolicySettings, QuantileForecast, ServiceName, Span, Timestamp,
};
use prescale_simulation::arena::{Bout, Demand, Pilot, TICK, spikes};
use prescale_simulation::baselines::{Course, System, static_p95, static_peak};
use prescale_simulation::experiment::ExperimentSettings;
use prescale_simulation::frontier::{Tolerance, compare};
use prescale_simulation::meeting::{Meeting, Operation, Rules, Showing, fit};
use prescale_simulation::prescale::{self, Entry};
use prescale_simulation::report::{BacktestReport, html};
use prescale_simulation::stream::ForecastStream;

const MINUTE: Span = Span::from_minutes(1);
const START: Timestamp = Timestamp::from_millis(1_790_000_040_000);
const TRAINING_DAYS: usize = 28;
const SCORED_DAYS: usize = 28;
const LEVELS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995];
const HORIZON: usize = 60;
const SEEDS: [u64; 1] = [1];
/// Seconds for all flights, over so many cores.
const FLOOR_SECONDS: f64 = 60.0;
const CORES: f64 = 2.0;
/// Each part is timed so often, and the median counts.
const ROUNDS: usize = 3;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The parts, in the order of the table.
#[derive(Default)]
struct Times {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    seconds: f64,
    flights: usize,
    checksum: Option<u64>,
}

/// What a part made.
trait Made {
    fn flights(&self) -> usize {
        0
    }

    /// All numbers of it, where it makes any.
    fn text(&self) -> Option<String> {
        None
    }
}

impl Times {
    /// Runs a part some times and notes the median.
    fn part<T: Made>(&mut self, name: &str, mut run: impl FnMut() -> T) -> T {
        let (mut seconds, made) = timed(&mut run);
        let mut all = vec![seconds];
        // What takes long varies little.
        while all.len() < ROUNDS && seconds < 20.0 {
            seconds = timed(&mut run).0;
            all.push(seconds);
        }
        all.sort_by(f64::total_cmp);
        self.rows.push(Row {
            name: name.to_owned(),
            seconds: all[all.len() / 2],
            flights: made.flights(),
            checksum: made.text().map(|text| checksum(text.as_bytes())),
        });
        made
    }

    fn total(&self) -> f64 {
        self.rows.iter().map(|row| row.seconds).sum()
    }
}

impl Made for Vec<bool> {}

impl<T> Made for Option<Vec<T>> {}

impl Made for Meeting<'_> {
    fn flights(&self) -> usize {
        1
    }
}

impl Made for Showing {
    fn flights(&self) -> usize {
        self.operations.len() + if self.bracket.is_some() { 13 } else { 0 }
    }

    fn text(&self) -> Option<String> {
        Some(format!("{:?}{:?}", self.operations, self.bracket))
    }
}

impl Made for Vec<Operation> {
    fn flights(&self) -> usize {
        self.len()
    }

    fn text(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Made for String {
    fn text(&self) -> Option<String> {
        Some(self.clone())
    }
}

fn timed<T>(run: &mut impl FnMut() -> T) -> (f64, T) {
    let begun = Instant::now();
    let made = black_box(run());
    (begun.elapsed().as_secs_f64(), made)
}

fn main() -> Outcome {
    let days = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(SCORED_DAYS);
    let course = course(days);
    let (windows, ticks) = (course.bout.demand.load.len(), 4 * course.bout.demand.load.len());
    let stream = stream(&course);
    let courses = [course];
    let bout = &courses[0].bout;
    let reference = median(|| bout.fly(&Pilot::Fixed(100)));
    println!("{windows} windows of a minute, {ticks} ticks; median of {ROUNDS} runs on one core");
    let per_tick = |seconds: f64| 1e9 * seconds / ticks as f64;
    println!("reference: a fixed fleet in {:.1} ms, {:.0} ns a tick", 1e3 * reference, per_tick(reference));
    println!("  of which the fleet without its meters: {:.0} ns a tick", per_tick(median(|| unmetered(bout))));
    let read = median(|| read(&stream, bout));
    println!("  beside it, a forecast is read in {:.1} us\n", 1e6 * read / windows as f64);
    let mut times = Times::default();
    times.part("spikes", || spikes(&bout.demand));
    let rules = Rules { budget_pct: 1.0, load_is_requests: true };
    let meeting = times.part("reference fleet", || Meeting::new(&courses, &SEEDS, rules));
    let mut showings = Vec::new();
    for system in System::baselines() {
        let name = system.name();
        let fitted = times.part(&format!("{name}: fit"), || fit(system, &courses));
        let fitted = fitted.ok_or("a baseline that is none")?;
        showings.push(times.part(&format!("{name}: flights"), || meeting.show_by(system, &fitted)));
    }
    let swept = sweep(&meeting, &courses, &stream, &mut times);
    showings.push(prescale::showing(swept[0].clone()));
    times.part("card and report", || report(&meeting, &showings, &swept).unwrap_or_default());
    print(&times, ticks, reference);
    println!();
    // Each part is many flights that need nothing of each other, so that cores share them evenly.
    let (total, shared) = (times.total(), times.total() / CORES);
    println!("all flights: {total:.1} s on one core, {shared:.1} s over {CORES} (floor {FLOOR_SECONDS} s)");
    if shared > FLOOR_SECONDS {
        return Err(format!("over the {FLOOR_SECONDS} s that are wanted").into());
    }
    Ok(())
}

/// Seconds, the median of nine runs.
fn median<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut seconds: Vec<f64> = (0..9).map(|_| timed(&mut run).0).collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// What a flight asks the fleet, and nothing that is counted.
fn unmetered(bout: &Bout) -> f64 {
    let mut fleet = Fleet::new(FleetSettings { initial: 100, ..bout.fleet }, bout.demand.start);
    let (mut now, mut sum) = (bout.demand.start, 0.0);
    while now < bout.demand.end() {
        fleet.advance(now);
        black_box(fleet.state(now));
        sum += f64::from(fleet.ready(now)) + fleet.serving_capacity(now);
        now = now + TICK;
    }
    sum
}

/// All forecasts, as Prescale is given them.
fn read(stream: &ForecastStream, bout: &Bout) -> usize {
    let end = |window: usize| bout.demand.start + Span::from_minutes(window as i64 + 1);
    (0..bout.demand.load.len()).filter(|window| black_box(stream.after(end(*window))).is_ok()).count()
}

/// Prescale as configured, and everywhere where it is swept.
fn sweep(meeting: &Meeting, courses: &[Course], stream: &ForecastStream, times: &mut Times) -> Vec<Operation> {
    let bout = &courses[0].bout;
    let peak = static_peak(courses[0].training.load.iter().copied(), bout.unit_capacity);
    let p95 = static_p95(&courses[0].training.load, bout.unit_capacity);
    let entries = [Entry { stream, settings: settings(bout), seen: bout.demand.load.as_slice().into(), peak, p95 }];
    let mut swept = times.part("prescale: as configured", || vec![prescale::configured(meeting, &entries)]);
    swept.extend(times.part("prescale: swept", || -> Vec<Operation> {
        prescale::sweep().into_iter().map(|setting| prescale::set(meeting, &entries, setting)).collect()
    }));
    swept
}

/// Card, frontiers, JSON and page, without the curves.
fn report(meeting: &Meeting, showings: &[Showing], swept: &[Operation]) -> Result<String, serde_json::Error> {
    let card = meeting.card(showings, BTreeMap::new());
    let points: Vec<_> = swept.iter().filter_map(|operation| meeting.point(operation)).collect();
    let beyond = card.frontier.values().filter_map(|theirs| compare(&points, theirs, Tolerance::default()));
    let beyond: Vec<usize> = beyond.map(|comparison| comparison.beaten).collect();
    let report = BacktestReport::new("Back-test", &card)?;
    black_box(html(&report));
    Ok(format!("{}{points:?}{beyond:?}", report.to_json()?))
}

fn print(times: &Times, ticks: usize, reference: f64) {
    let heads = ["seconds", "share", "flights", "ns/tick", "reference"];
    println!(
        "{:<28} {:>9} {:>7} {:>7} {:>8} {:>10}  checksum",
        "part", heads[0], heads[1], heads[2], heads[3], heads[4]
    );
    for Row { name, seconds, flights, checksum } in &times.rows {
        let share = 100.0 * seconds / times.total();
        let each = seconds / (*flights).max(1) as f64;
        let [flights, nanos, times] = match flights {
            0 => [const { String::new() }; 3],
            _ => {
                [flights.to_string(), format!("{:.0}", 1e9 * each / ticks as f64), format!("{:.1}x", each / reference)]
            }
        };
        let checksum = checksum.map_or(String::new(), |checksum| format!("{checksum:016x}"));
        println!("{name:<28} {seconds:>9.3} {share:>6.1}% {flights:>7} {nanos:>8} {times:>10}  {checksum}");
    }
}

/// FNV-1a: two builds that give the same report give the same number.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A number in [0, 1) by its place.
fn noise(place: usize) -> f64 {
    let mixed = (place as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) as f64 / u64::MAX as f64
}

/// A day of 30 to 170 units with quieter weekends.
fn level(minute: usize) -> f64 {
    let day = minute / 1440 % 7;
    let wave = 1.0 - 0.7 * (minute as f64 / 1440.0 * std::f64::consts::TAU).cos();
    1000.0 * wave * if day < 5 { 1.0 } else { 0.75 }
}

/// Loads with noise and, about five times a day, a burst of ten minutes.
fn load(minute: usize) -> f64 {
    let burst = if noise(minute / 10 + 1_000_000) < 0.035 { 1.4 } else { 1.0 };
    level(minute) * (0.92 + 0.16 * noise(minute)) * burst
}

fn course(days: usize) -> Course {
    let training = Demand { start: START, step: MINUTE, load: (0..TRAINING_DAYS * 1440).map(load).collect() };
    let scored = (0..days * 1440).map(|minute| load(TRAINING_DAYS * 1440 + minute)).collect();
    let demand = Demand { start: training.end(), step: MINUTE, load: scored };
    let fleet = FleetSettings {
        min: 1,
        max: 400,
        initial: 40,
        provisioning_latency: Span::from_secs(250),
        provisioning_latency_p90: Span::from_secs(300),
        ..FleetSettings::default()
    };
    Course { training, bout: Bout { demand, fleet, unit_capacity: 10.0 } }
}

/// A forecast of an hour after each window: the level, with a band that widens.
fn stream(course: &Course) -> ForecastStream {
    let demand = &course.bout.demand;
    let name = ServiceName::new("web");
    let mut stream = ForecastStream::new(name.clone(), demand.start, MINUTE, LEVELS.to_vec(), HORIZON);
    let spread = [-0.11, -0.08, -0.06, -0.03, 0.0, 0.03, 0.06, 0.09, 0.3, 0.42];
    for window in 0..demand.load.len() {
        let ahead = |ahead: usize| {
            let (level, wide) = (level(TRAINING_DAYS * 1440 + window + ahead), 1.0 + ahead as f64 / 60.0);
            spread.iter().map(|share| level * (1.0 + share * wide)).collect()
        };
        let forecast = QuantileForecast {
            service: name.clone(),
            origin: demand.start + Span::from_minutes(window as i64),
            step: MINUTE,
            model: "ensemble".to_owned(),
            reason: "champion".to_owned(),
            levels: LEVELS.to_vec(),
            values: (1..=HORIZON).map(ahead).collect(),
        };
        stream.push(Ok(&forecast));
    }
    stream
}

fn settings(bout: &Bout) -> ExperimentSettings {
    let policy = PolicySettings {
        unit_capacity: bout.unit_capacity,
        min_units: bout.fleet.min,
        max_units: bout.fleet.max,
        quantile: 0.99,
        step_up_units: 1000,
        step_down_units: 1000,
        cooldown_up: Span::ZERO,
        cooldown_down: MINUTE,
        stabilization_down: Span::from_minutes(3),
        hysteresis: 0.05,
        reactive_utilization: 0.7,
        stale_after: Span::from_minutes(5),
        blind_after: Span::from_minutes(10),
        planning: PlanningSettings { rule: PlanningRule::RiskBudget, risk_max: 0.3, ..PlanningSettings::default() },
    };
    ExperimentSettings {
        policy,
        decision_interval: MINUTE,
        data_age: Span::from_secs(5),
        early: None,
        knows_events: false,
        mode: Mode::Act,
        rules: None,
    }
}
