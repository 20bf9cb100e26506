//! `prescale`: predictive autoscaling from the request logs that already flow through Kafka. The commands are in `cli`,
//! the configuration in `config`, the composition in `app`; everything else is in the crates of `src/`.

mod app;
mod cli;
mod config;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
