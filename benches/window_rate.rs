//! Count, mean and 99th percentile by service over a topic of JSON requests: in 1-minute windows, in windows of 5 minutes
//! every 10 seconds, and for 100,000 services; beside consuming alone, and beside Flink SQL. Rule: a ratio is of one run,
//! and printed only if every record was counted; Flink's only if both have the same rows.
//!
//! ```sh
//! tests/run.sh --services-only -- tests/kit/flink.sh with -- \
//!     cargo bench --workspace --bench window_rate [-- --quick]
//! ```
//!
//! Without `tests/kit/flink.sh with --` Flink is left out; without `tests/run.sh` the topics are short and on the embedded
//! broker, which runs in this process, so that its processor time is in ours.
//!
//! Each round does everything once, in turn forwards and backwards, with new consumers and new topics to write to; the
//! first one warms up. Wall clock and processor time are from the first poll, which connects, until the source is let go,
//! with deliveries and checkpoints in it; processor time is all of this process, of Flink all of its TaskManager. A
//! pipeline writes exactly once where the broker can; Flink, which takes no checkpoint here, at least once.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

mod kit;

use std::collections::BTreeMap;

use kit::flink::{Flink, Job};
use kit::piped::{Rows, pipe, rows};
use kit::requests::{Filled, Requests, fill, pipeline};
use kit::watch::{Took, consume};
use kit::{Broker, Result, quantile, spread};
use prescale_domain::Span;
use prescale_pipeline::source_settings;

const PARTITIONS: i32 = 4;
const TUMBLE: &str = "tumble(INTERVAL '1 minute')";
const HOP: &str = "hop(INTERVAL '10 seconds', INTERVAL '5 minutes')";
const LATENESS: &str = "5 seconds";

/// What a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Alone,
    Tumble,
    Hop,
    AloneManyKeys,
    TumbleManyKeys,
}

const TASKS: [Task; 5] = [Task::Alone, Task::Tumble, Task::Hop, Task::AloneManyKeys, Task::TumbleManyKeys];

struct Topics {
    few: Filled,
    many: Filled,
}

fn main() -> Result<()> {
    let quick = kit::quick()?;
    let broker = Broker::start(&[])?;
    // A partition of the embedded broker keeps 5 MiB of compressed records.
    let (records, rounds) = match (quick, broker.embedded.is_some()) {
        (true, _) => (200_000, 2),
        (false, true) => (200_000, 5),
        (false, false) => (5_000_000, 5),
    };
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    println!("broker: {}", broker.describe());
    let topics = topics(&broker, records)?;
    let mut took: BTreeMap<Task, Vec<Took>> = BTreeMap::new();
    let mut tumbled = None;
    for round in 0..=rounds {
        let mut tasks = TASKS;
        if round % 2 == 1 {
            tasks.reverse();
        }
        for task in tasks {
            let (time, features) = perform(&broker, &topics, task, round)?;
            if round > 0 {
                took.entry(task).or_default().push(time);
            }
            if task == Task::Tumble {
                tumbled = features;
            }
        }
    }
    println!("\n{rounds} rounds on {}: median (least..most)", kit::machine());
    report(&took, records);
    let ours = rows(&broker, &tumbled.ok_or("nothing was measured")?)?;
    match Flink::given()? {
        Some(flink) => beside_flink(&broker, &flink, &topics.few, &ours, &took[&Task::Tumble], rounds),
        None => {
            println!("  Flink: not asked, see the head of benches/window_rate.rs");
            Ok(())
        }
    }
}

/// One hour of twenty services; and one hundred thousand of them in as many records, ten to a service and window.
fn topics(broker: &Broker, records: u64) -> Result<Topics> {
    const SERVICES: u64 = 100_000;
    let few = Requests { records, services: 20, length: Span::from_minutes(60), partitions: PARTITIONS };
    // Fewer records have fewer windows, but at least two.
    let minutes = i64::try_from(records / (10 * SERVICES))?.max(2);
    let many = Requests { services: SERVICES, length: Span::from_minutes(minutes), ..few };
    let topics = Topics { few: fill(broker, "few", few)?, many: fill(broker, "many", many)? };
    for (filled, requests) in [(&topics.few, few), (&topics.many, many)] {
        println!(
            "{} records of {:.1} bytes in {PARTITIONS} partitions: {} services, {} of events",
            filled.records,
            filled.bytes as f64 / filled.records as f64,
            requests.services,
            requests.length
        );
    }
    Ok(topics)
}

/// What it took, and the topic of its rows.
fn perform(broker: &Broker, topics: &Topics, task: Task, round: usize) -> Result<(Took, Option<String>)> {
    let (filled, sql) = match task {
        Task::Alone | Task::Tumble => (&topics.few, pipeline(TUMBLE, "", LATENESS)),
        Task::Hop => (&topics.few, pipeline(HOP, "", LATENESS)),
        Task::AloneManyKeys | Task::TumbleManyKeys => (&topics.many, pipeline(TUMBLE, "", LATENESS)),
    };
    if matches!(task, Task::Alone | Task::AloneManyKeys) {
        let plan = kit::piped::plan(&sql, &filled.topic)?;
        let settings = source_settings(&plan.sources[0], Some(broker.kafka.clone()), None, true);
        return Ok((consume(settings, filled.records)?, None));
    }
    let piped = pipe(broker, &sql, filled, &format!("{task:?}-{round}").to_lowercase())?;
    if round == 0 {
        println!("  {task:?}: {} rows", piped.counters.rows_out);
    }
    Ok((piped.took, Some(piped.features)))
}

fn report(took: &BTreeMap<Task, Vec<Took>>, records: u64) {
    for (task, took) in took {
        let per = |seconds: &dyn Fn(&Took) -> f64| -> Vec<f64> {
            took.iter().map(|took| records as f64 / seconds(took) / 1e6).collect()
        };
        println!(
            "  {:<16} {} M records/s, {} M records per CPU second",
            format!("{task:?}"),
            spread(&per(&|took| took.wall), 3),
            spread(&per(&|took| took.cpu), 3)
        );
    }
    for (what, least, task, to) in [
        ("(a) tumble / consuming alone", 0.6, Task::Tumble, Task::Alone),
        ("(b) hop / tumble", 0.8, Task::Hop, Task::Tumble),
        ("(c) 100,000 services / tumble", 0.5, Task::TumbleManyKeys, Task::Tumble),
    ] {
        let ratios = |seconds: &dyn Fn(&Took) -> f64| -> Vec<f64> {
            took[&task].iter().zip(&took[&to]).map(|(this, that)| seconds(that) / seconds(this)).collect()
        };
        println!(
            "  {what:<32} {} on the clock (wanted: {least}), {} of processor time",
            spread(&ratios(&|took| took.wall), 3),
            spread(&ratios(&|took| took.cpu), 3)
        );
    }
}

fn beside_flink(
    broker: &Broker,
    flink: &Flink,
    filled: &Filled,
    ours: &Rows,
    took: &[Took],
    rounds: usize,
) -> Result<()> {
    let (mut theirs, servers) = (Vec::new(), broker.kafka.bootstrap_servers.as_str());
    for round in 0..=rounds {
        let features = broker.topic(&format!("flink-{round}"), 1)?;
        let time = flink.tumble(&Job { bootstrap_servers: servers, requests: &filled.topic, features: &features })?;
        compare(ours, &rows(broker, &features)?)?;
        if round > 0 {
            theirs.push(time);
        }
    }
    let per_cpu =
        |took: &[Took]| -> Vec<f64> { took.iter().map(|took| filled.records as f64 / took.cpu / 1e6).collect() };
    let rate: Vec<f64> = theirs.iter().map(|took| filled.records as f64 / took.wall / 1e6).collect();
    println!(
        "  Flink SQL {}: {} M records/s, {} M records per CPU second of its TaskManager; the same {} rows",
        flink.version,
        spread(&rate, 3),
        spread(&per_cpu(&theirs), 3),
        ours.len()
    );
    let median = |values: &[f64]| quantile(values, 0.5).unwrap_or(f64::NAN);
    let ratio = median(&per_cpu(took)) / median(&per_cpu(&theirs));
    println!("  (a) records per CPU second, ours / Flink's: {ratio:.1} (ratio of the medians; wanted: 8)");
    Ok(())
}

/// Counts are equal, means nearly, and percentiles within both engines' definitions of them.
fn compare(ours: &Rows, theirs: &Rows) -> Result<()> {
    if ours.len() != theirs.len() {
        return Err(format!("{} rows of ours, {} of Flink's", ours.len(), theirs.len()).into());
    }
    for (key, (count, mean, p99)) in ours {
        let (their_count, their_mean, their_p99) = theirs.get(key).ok_or_else(|| format!("Flink has no {key:?}"))?;
        let near = |a: f64, b: f64, relative: f64| (a - b).abs() <= relative * b.abs();
        // Ours is within 0.5 % of the value at the rank below; Flink's lies between that and the next.
        let gap = if *count >= 1000 { 0.02 } else { 1.0 };
        if count != their_count || !near(*mean, *their_mean, 1e-9) || !near(*p99, *their_p99, gap) {
            return Err(format!(
                "{key:?}: ours {count}, {mean}, {p99}; Flink's {their_count}, {their_mean}, {their_p99}"
            )
            .into());
        }
    }
    Ok(())
}
