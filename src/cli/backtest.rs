//! `prescale backtest`: what Prescale would have done on a history, what it would have cost, and what others would have.

mod streams;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use prescale_domain::{Mode, Series, ServiceName, Span, Timestamp};
use prescale_ingest::history::{Columns, read_history};

use super::forecast::progress_bar;
use super::{Failure, say};
use crate::app::{self, RunMode};
use crate::config;

/// Replay a history through the same forecasts and decisions that act, against a simulated fleet, beside other autoscalers.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  prescale backtest -c prescale.toml --history requests_1m.csv.gz --out backtest\n  prescale backtest -c prescale.toml --history requests_1m.csv.gz --from 2026-07-21T00:00:00Z --seeds 3 --sweep --json"
)]
pub(crate) struct Arguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// A file of windows (CSV, NDJSON, Parquet), as for `prescale forecast`; several may be given.
    #[arg(long, value_name = "FILE", required = true)]
    history: Vec<PathBuf>,
    /// Begin of the scored part; what is before it is learnt from. Default: the last quarter.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// End of the scored part. Default: the end of the history.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Folder for the report and for what a later run can use again.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn backtest(arguments: &Arguments) -> Result<(), Failure> {
    let mut loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    // Nothing is acted on.
    for service in &mut loaded.config.services {
        service.mode = Some(Mode::Recommend);
    }
    let step = loaded.config.features.step;
    let names: Vec<ServiceName> = loaded.config.services.iter().map(|s| ServiceName::new(&s.name)).collect();
    let signals: Vec<&str> = loaded.config.services.iter().map(|service| service.signal.as_str()).collect();
    let histories = histories(&arguments.history, &names, &signals, step)?;
    let first = histories.values().map(|series| series.start).min().unwrap_or_default();
    let last = histories.values().map(Series::end).max().unwrap_or_default();
    let to = arguments.to.unwrap_or(last).floor_to(step);
    let from = arguments.from.unwrap_or(first + Span::from_millis(last.since(first).millis() / 4 * 3)).floor_to(step);
    let mode = RunMode { event_clock: true, until_end: true };
    let settings = app::controller_settings(&loaded.config, mode)?;
    let bar = progress_bar();
    bar.set_message("forecasting");
    let question = streams::Question { settings, histories: &histories, events: Vec::new(), from, to };
    let streams =
        streams::streams(question, arguments.out.as_deref(), &mut |share| bar.set_position((share * 1000.0) as u64))?;
    bar.finish_and_clear();
    for (service, stream) in &streams {
        say(&format!("{service}: {} windows, {:?}", stream.len(), stream.models()));
    }
    Ok(())
}

/// The history of each service: by the names in the file, or that of the only service.
fn histories(
    paths: &[PathBuf],
    names: &[ServiceName],
    signals: &[&str],
    step: Span,
) -> Result<BTreeMap<ServiceName, Series>, Failure> {
    let mut histories = BTreeMap::new();
    for path in paths {
        let read = read_history(path, &Columns::default(), signals).map_err(Failure::invalid)?;
        for name in names {
            if let Ok(series) = read.series(if names.len() == 1 { None } else { Some(name) }, step) {
                histories.insert(name.clone(), series);
            }
        }
    }
    Ok(histories)
}
