//! `prescale simulate`: synthetic request logs, metrics and histories.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use prescale_domain::{ServiceName, Span, Timestamp};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink};
use prescale_simulation::profile::{Profile, ProfileLoad, ProfileSettings};
use serde::Serialize;

use super::forecast::progress_bar;
use super::{Failure, say};

const FLUSH: Span = Span::from_secs(30);
/// Records that are written before the progress is told.
const MINUTE: Span = Span::from_minutes(1);

/// Generate the load of a kind: request records, metric records, or a history of windows.
///
/// Profiles: diurnal, weekly, flash-crowd, ramp, micro-bursts, step, campaign, maintenance-dip, gpu-inference. The same seed
/// gives the same records. What was announced of a profile (campaigns, maintenance) is written with --what events.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  prescale simulate --profile diurnal --length 1d --output requests.ndjson\n  prescale simulate --profile flash-crowd --what windows --step 1m --length 14d --output history.csv\n  prescale simulate --profile gpu-inference --what metrics --kafka localhost:9092 --topic metrics"
)]
pub(crate) struct Arguments {
    /// The kind of load.
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    profile: Profile,
    /// What to write: requests or metrics (NDJSON, as on the topics), windows (CSV: timestamp, value in requests per
    /// second), or events (NDJSON).
    #[arg(long, value_enum, default_value = "requests")]
    what: What,
    #[arg(long, default_value = "web")]
    service: String,
    #[arg(long, default_value = "2026-01-05T00:00:00Z", value_name = "TIME")]
    start: Timestamp,
    /// How long; default: as long as it takes for everything of the profile to happen.
    #[arg(long, value_name = "SPAN")]
    length: Option<Span>,
    /// Requests per second at quiet times, and at the height.
    #[arg(long, value_name = "RATE")]
    base: Option<f64>,
    #[arg(long, value_name = "RATE")]
    peak: Option<f64>,
    /// How often what the profile is about comes again.
    #[arg(long, value_name = "SPAN")]
    period: Option<Span>,
    /// Load at unusual times as a multiple of the usual.
    #[arg(long, value_name = "NUMBER")]
    factor: Option<f64>,
    /// Width of a window, and time between metrics.
    #[arg(long, default_value = "1m")]
    step: Span,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file; `-` = stdout.
    #[arg(long, value_name = "PATH", default_value = "-", conflicts_with = "kafka")]
    output: PathBuf,
    /// Write to a topic instead: host:port, several separated by commas.
    #[arg(long, value_name = "SERVERS", requires = "topic")]
    kafka: Option<String>,
    #[arg(long, value_name = "TOPIC", requires = "kafka")]
    topic: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Requests,
    Metrics,
    Windows,
    Events,
}

fn profile(text: &str) -> Result<Profile, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// Where lines go.
enum Sink {
    Lines(Box<dyn Write>),
    Topic { sink: Box<KafkaSink>, topic: String },
}

impl Sink {
    fn put(&mut self, key: &str, line: &str) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => writeln!(lines, "{line}").map_err(Failure::outside),
            Self::Topic { sink, topic } => {
                sink.send(topic, None, Some(key.as_bytes()), line.as_bytes(), &[]).map_err(Failure::outside)
            }
        }
    }

    fn json(&mut self, key: &str, record: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(record).map_err(|error| Failure::Bug(error.to_string()))?;
        self.put(key, &line)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.flush().map_err(Failure::outside),
            Self::Topic { sink, .. } => sink.flush(FLUSH).map_err(Failure::outside),
        }
    }
}

pub(crate) fn simulate(arguments: &Arguments) -> Result<(), Failure> {
    let defaults =
        ProfileSettings::new(arguments.profile, ServiceName::new(&arguments.service), arguments.start, arguments.seed);
    let settings = ProfileSettings {
        length: arguments.length.unwrap_or(defaults.length),
        base_per_second: arguments.base.unwrap_or(defaults.base_per_second),
        peak_per_second: arguments.peak.unwrap_or(defaults.peak_per_second),
        period: arguments.period.unwrap_or(defaults.period),
        factor: arguments.factor.unwrap_or(defaults.factor),
        ..defaults
    };
    if arguments.step < Span::from_secs(1) {
        return Err(Failure::Invalid(format!("step {} is shorter than 1s", arguments.step)));
    }
    let load = ProfileLoad::new(settings).map_err(Failure::invalid)?;
    let mut sink = open(arguments)?;
    let written = write(arguments, &load, &mut sink)?;
    sink.finish()?;
    say(&format!("{written} records of profile {}", arguments.profile));
    Ok(())
}

fn open(arguments: &Arguments) -> Result<Sink, Failure> {
    if let (Some(servers), Some(topic)) = (&arguments.kafka, &arguments.topic) {
        let settings = KafkaSettings { bootstrap_servers: servers.clone(), client: Default::default() };
        let sink = KafkaSink::open(&settings).map_err(Failure::outside)?;
        return Ok(Sink::Topic { sink: Box::new(sink), topic: topic.clone() });
    }
    if arguments.output.as_os_str() == "-" {
        return Ok(Sink::Lines(Box::new(BufWriter::new(std::io::stdout().lock()))));
    }
    let path = &arguments.output;
    let file = File::create(path).map_err(|error| Failure::Outside(format!("create `{}`: {error}", path.display())))?;
    Ok(Sink::Lines(Box::new(BufWriter::new(file))))
}

fn write(arguments: &Arguments, load: &ProfileLoad, sink: &mut Sink) -> Result<u64, Failure> {
    let (settings, step) = (load.settings(), arguments.step);
    let key = arguments.service.as_str();
    let mut written = 0;
    match arguments.what {
        What::Windows => {
            sink.put(key, "timestamp,value")?;
            let counts = load.counts(step);
            for (index, count) in counts.counts.iter().enumerate() {
                let start = counts.start + Span::from_millis(step.millis().saturating_mul(index as i64));
                sink.put(key, &format!("{start},{}", *count as f64 / step.seconds()))?;
                written += 1;
            }
        }
        What::Events => {
            for event in load.events() {
                sink.json(&event.id.clone(), &event)?;
                written += 1;
            }
        }
        What::Requests | What::Metrics => {
            let bar = progress_bar();
            let (mut moment, end) = (settings.start, settings.end());
            let width = if arguments.what == What::Requests { MINUTE } else { step };
            while moment < end {
                let width = if moment + width > end { end.since(moment) } else { width };
                if arguments.what == What::Requests {
                    for record in load.requests(moment, width) {
                        sink.json(key, &record)?;
                        written += 1;
                    }
                } else {
                    for record in load.metrics(moment + width, width) {
                        sink.json(key, &record)?;
                        written += 1;
                    }
                }
                moment = moment + width;
                let share = moment.since(settings.start).seconds() / settings.length.seconds().max(1.0);
                bar.set_position((share * 1000.0) as u64);
            }
            bar.finish_and_clear();
        }
    }
    Ok(written)
}
