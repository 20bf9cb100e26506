//! `prescale demo`: the whole of Prescale with nothing installed. Rule: the same code as `run`, on the event clock, in lock
//! step with the load: minute t + 1 is emitted only after the decisions of minute t.

mod account;
mod score;
mod stage;

use std::path::PathBuf;

use clap::Args;
use prescale_domain::{Span, Timestamp};

use super::{Failure, print, runtime, say};

/// Show everything at work: an embedded Kafka-protocol broker, three services with the cycles and noise of real request
/// logs, feature SQL, an LSTM trained online, decisions, simulated fleets and the dashboard.
///
/// Fourteen days of history are back-filled; then two simulated days are lived through and scored against the
/// Kubernetes HPA (best target of a sweep) and a static peak fleet on the same load. The load has a campaign that is known
/// ahead and a spike that is not.
#[derive(Args)]
#[command(
    after_help = "Example:\n  prescale demo\n  prescale demo --for 60s --headless --json\n  prescale demo --aws --aws-listen 127.0.0.1:4566"
)]
pub(crate) struct Arguments {
    /// Wall time of the scored part; it takes longer where the machine is slower.
    #[arg(long = "for", value_name = "TIME")]
    wall_time: Option<Span>,
    /// Simulated days to score.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=14))]
    days: u32,
    /// Seed of the load and of everything else that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replay this history (CSV, NDJSON or Parquet, requests a minute; `.gz` is unpacked) instead of generated load.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// No dashboard; end with the score card.
    #[arg(long)]
    headless: bool,
    /// Print the score card as JSON.
    #[arg(long)]
    json: bool,
    /// Address of the dashboard.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Scale Auto Scaling groups of a simulated AWS account, spot first, through the real SDK.
    #[arg(long)]
    aws: bool,
    /// Where that account answers others, such as the AWS CLI by `--endpoint-url`.
    #[arg(long, value_name = "ADDRESS", requires = "aws")]
    aws_listen: Option<String>,
}

/// First scored minute of generated load: a Monday, two weeks after the history began.
pub(super) const SCORED_FROM: &str = "2026-03-16T00:00:00Z";
pub(super) const HISTORY_DAYS: i64 = 14;
/// Wall time of the scored part where nothing is asked for: slow enough to be watched.
const WATCHED: Span = Span::from_minutes(4);

pub(crate) fn demo(arguments: Arguments) -> Result<(), Failure> {
    let scored_from: Timestamp =
        SCORED_FROM.parse().map_err(|error: prescale_domain::TimeError| Failure::Bug(error.to_string()))?;
    let trace = match &arguments.trace {
        Some(path) => Some(super::history::of_file(path, Span::from_minutes(1))?),
        None => None,
    };
    let plan = stage::Plan {
        seed: arguments.seed,
        scored_from,
        history: Span::from_minutes(HISTORY_DAYS * 1440),
        scored: Span::from_minutes(i64::from(arguments.days) * 1440),
        wall_time: arguments.wall_time.unwrap_or(WATCHED),
        trace,
        listen: (!arguments.headless).then(|| arguments.listen.clone()),
        aws: arguments.aws,
        aws_listen: arguments.aws_listen.clone(),
    };
    let linger = !arguments.headless && arguments.wall_time.is_none();
    let (card, sweep) = runtime()?.block_on(stage::play(plan, linger))?;
    if arguments.json {
        print(&serde_json::to_string(&card).map_err(|error| Failure::Bug(error.to_string()))?);
    } else {
        print(prescale_simulation::score::render(&card, &sweep).trim_end());
    }
    if !arguments.headless && !linger {
        say("the demo has ended");
    }
    Ok(())
}
