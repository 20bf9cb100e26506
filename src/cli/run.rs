//! `prescale run`: the service.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Failure, print, runtime};
use crate::app;
use crate::config;

/// Run the service: pipelines, forecasts, decisions, API and dashboard.
///
/// With `--clock wall` (default) it follows the present until it is stopped. With `--clock event` time follows the
/// watermark of the input, so that a topic's history can be replayed; `--until-end` ends at the end of what the topics
/// hold now.
#[derive(Args)]
#[command(
    after_help = "Example:\n  prescale run -c prescale.toml\n  prescale run -c prescale.toml --clock event --until-end"
)]
pub(crate) struct Arguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Whose time decisions follow.
    #[arg(long, value_enum, default_value = "wall")]
    clock: ClockArgument,
    /// End when all input that is there at the start has been worked off.
    #[arg(long)]
    until_end: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClockArgument {
    Wall,
    Event,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    let mode = app::RunMode { event_clock: arguments.clock == ClockArgument::Event, until_end: arguments.until_end };
    let summary = runtime()?.block_on(app::run(loaded, mode))?;
    if arguments.json {
        print(&serde_json::to_string(&summary).map_err(|error| Failure::Bug(error.to_string()))?);
    }
    Ok(())
}
