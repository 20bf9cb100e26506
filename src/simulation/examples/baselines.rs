//! Flies all baselines through the last week of a trace and prints the score card with the whole sweep:
//! `baselines TRACE.csv.gz [--units N] [--lead-seconds N] [--days N] [--seeds N] [--until TIME] [--curves]`. The trace has
//! `timestamp,value` lines of one minute, as requests in that minute; a unit is as large as makes the highest minute need N.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool that may stop on bad arguments")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Instant;

use prescale_actuate::FleetSettings;
use prescale_domain::{Span, Timestamp};
use prescale_simulation::arena::{Bout, Demand};
use prescale_simulation::baselines::{Course, System};
use prescale_simulation::frontier::{Tolerance, compare};
use prescale_simulation::meeting::{Meeting, Rules};
use prescale_simulation::score::render;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: i64| option(name).map_or(default, |text| text.parse().unwrap());
    let file = std::fs::File::open(arguments.first().unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let rows: Vec<(Timestamp, f64)> = text
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap())
        .map(|(moment, value)| (moment.parse().unwrap(), value.parse::<f64>().unwrap_or(0.0) / 60.0))
        .collect();
    let start = rows[0].0;
    let until: Timestamp =
        option("--until").map_or(rows.last().unwrap().0.floor_to(Span::from_minutes(60)), |text| text.parse().unwrap());
    let test_from = until - Span::from_minutes(number("--days", 7) * 24 * 60);
    let minute = Span::from_minutes(1);
    let load = |from: Timestamp, until: Timestamp| {
        let within = rows.iter().filter(|(moment, _)| *moment >= from && *moment < until);
        within.map(|(_, load)| *load).collect::<Vec<f64>>()
    };
    let training = Demand { start, step: minute, load: load(start, test_from) };
    let live = Demand { start: test_from, step: minute, load: load(test_from, until) };
    let peak = live.load.iter().copied().fold(0.0, f64::max);
    let unit_capacity = peak / number("--units", 200) as f64;
    let lead = Span::from_secs(number("--lead-seconds", 300));
    let last = training.load.last().copied().unwrap_or(0.0);
    let fleet = FleetSettings {
        min: 1,
        max: 2 * u32::try_from(number("--units", 200)).unwrap(),
        initial: (last * 1.3 / unit_capacity).ceil() as u32,
        provisioning_latency: lead,
        provisioning_latency_p90: Span::from_millis(lead.millis() * 6 / 5),
        warm_up: Span::ZERO,
        ..FleetSettings::default()
    };
    let courses = [Course { training, bout: Bout { demand: live, fleet, unit_capacity } }];
    let seeds: Vec<u64> = (1..=number("--seeds", 1).cast_unsigned()).collect();
    let meeting = Meeting::new(&courses, &seeds, Rules { budget_pct: 1.0, load_is_requests: true });
    let mut showings = Vec::new();
    for system in System::baselines() {
        let begun = Instant::now();
        let showing = meeting.show(system).unwrap();
        let flights = showing.operations.len() * seeds.len();
        println!("{system:<20} {flights:>4} flights, {:>8.1} ms", begun.elapsed().as_secs_f64() * 1e3);
        showings.push(showing);
    }
    let card = meeting.card(&showings, BTreeMap::new());
    println!("\n{}", render(&card, &[]));
    println!(
        "{:<20} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6} {:>6} {:>6}",
        "system", "regret", "$/M", "θU", "θO", "τU", "τO", "υ", "rev/h", "speedup", "util", "waste", "sp.av", "sp.sh"
    );
    for (name, score) in &card.systems {
        let cell = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
        println!(
            "{name:<20} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6} {:>6} {:>6}",
            cell(score.regret_to_oracle),
            cell(score.cost_per_million_good_usd),
            cell(score.theta_under),
            cell(score.theta_over),
            cell(score.tau_under),
            cell(score.tau_over),
            cell(score.instability),
            cell(score.reversals_per_hour),
            cell(score.elastic_speedup),
            cell(score.utilization_pct),
            cell(score.waste_pct),
            cell(score.spike_availability_pct),
            cell(score.spike_short_time_pct),
        );
    }
    for (name, score) in &card.brackets {
        let time = score.violations.time_pct;
        println!("bracket of {name}: {} USD {:.2}, time % {time:.3}", score.chosen.as_deref().unwrap(), score.cost_usd);
    }
    println!("\nshare of a frontier that another one beats (rows: who beats, columns: whom)");
    let names: Vec<&String> = card.frontier.keys().collect();
    for ours in &names {
        let cells = names.iter().map(|theirs| {
            let found = compare(&card.frontier[*ours], &card.frontier[*theirs], Tolerance::default()).unwrap();
            format!("{:>4.0}", 100.0 * found.beaten_share())
        });
        println!("{ours:<20} {}", cells.collect::<String>());
    }
    if arguments.iter().any(|argument| argument == "--curves") {
        for showing in &showings {
            println!("\n{}", showing.system);
            for operation in &showing.operations {
                let [cost, violation] = meeting.point(operation).unwrap();
                println!("  {:<34} {cost:>9.2} {violation:>8.3}", operation.label);
            }
        }
    }
}
