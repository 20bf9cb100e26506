//! Peak resident memory of a pipeline over a topic, and over ten times as many records of the same rate. Rule: each run is
//! a process of its own, and counts only if it accounted for every record.
//!
//! ```sh
//! tests/run.sh --services-only -- cargo bench --workspace --bench peak_memory [-- --quick]
//! ```
//!
//! The query is that of `window_rate`: windows of one minute, twenty services. Each round runs both, in turn forwards and
//! backwards. The peak is the kernel's (`VmHWM`), with librdkafka's queues in it.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

mod kit;

use std::process::{Command, Stdio};

use kit::piped::pipe;
use kit::requests::{Filled, Requests, fill, pipeline};
use kit::usage::Process;
use kit::{Broker, Result, spread};
use prescale_domain::Span;

/// The argument with which a process is started that is measured.
const MEASURED: &str = "--measured";
const MIB: f64 = 1024.0 * 1024.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, topic, records] = &arguments[..]
        && first == MEASURED
    {
        return measured(topic, records.parse()?);
    }
    let quick = kit::quick()?;
    let broker = Broker::start(&[])?;
    if broker.embedded.is_some() {
        println!(
            "peak_memory: not measured, the embedded broker forgets records; see the head of benches/peak_memory.rs"
        );
        return Ok(());
    }
    let (records, rounds) = if quick { (100_000, 2) } else { (500_000, 5) };
    println!("profile: {}\nmachine: {}", kit::profile(), kit::machine());
    println!("broker: {}", broker.describe());
    let small = Requests { records, services: 20, length: Span::from_minutes(6), partitions: 4 };
    let large = Requests { records: records * 10, length: Span::from_minutes(60), ..small };
    let topics = [fill(&broker, "small", small)?, fill(&broker, "large", large)?];
    let (mut peaks, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..rounds {
        let mut order = [0, 1];
        if round % 2 == 1 {
            order.reverse();
        }
        for which in order {
            peaks[which].push(peak_mib(&topics[which])?);
        }
        if let (Some(small), Some(large)) = (peaks[0].last(), peaks[1].last()) {
            ratios.push(large / small);
        }
    }
    println!("\n{rounds} rounds on {}: median (least..most)", kit::machine());
    for (filled, peaks) in topics.iter().zip(&peaks) {
        println!("  {} records: {} MiB", filled.records, spread(peaks, 1));
    }
    println!("  (d) ten times the records / one: {} (wanted: at most 1.2)", spread(&ratios, 3));
    Ok(())
}

/// Runs the pipeline in a process of its own.
fn peak_mib(filled: &Filled) -> Result<f64> {
    let mut process = Command::new(std::env::current_exe()?);
    process.args([MEASURED, &filled.topic, &filled.records.to_string()]).stderr(Stdio::inherit());
    let output = process.output()?;
    if !output.status.success() {
        return Err(format!("the run over {} ended with {}", filled.topic, output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse::<f64>()? / MIB)
}

fn measured(topic: &str, records: u64) -> Result<()> {
    let broker = Broker::start(&[])?;
    let sql = pipeline("tumble(INTERVAL '1 minute')", "", "5 seconds");
    pipe(&broker, &sql, &Filled { topic: topic.to_owned(), records, bytes: 0 }, "measured")?;
    println!("{}", Process::This.peak_resident_bytes()?);
    Ok(())
}
