//! Commands. Rule: results go to stdout, everything else to stderr; the exit code says what kind of end it was.

mod agent;
mod backtest;
mod check;
mod demo;
mod explain;
mod forecast;
mod generate;
mod history;
mod model;
mod plan;
mod run;
mod schema;
mod selector;
mod simulate;
mod sql;
mod udf;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use prescale_telemetry::log;
use thiserror::Error;

/// Forecasts the load of your services from their request logs and scales them before the load arrives.
#[derive(Parser)]
#[command(name = "prescale", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Log as JSON.
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Run(run::Arguments),
    Agent(agent::Arguments),
    Check(check::Arguments),
    Sql(sql::Arguments),
    Udf(udf::Arguments),
    Forecast(forecast::Arguments),
    Backtest(backtest::Arguments),
    Simulate(simulate::Arguments),
    Plan(plan::Arguments),
    Explain(explain::Arguments),
    #[command(subcommand)]
    Generate(generate::Command),
    #[command(subcommand)]
    Model(model::Arguments),
    #[command(subcommand)]
    Selector(selector::Arguments),
    /// Work with the configuration.
    #[command(subcommand)]
    Config(schema::Arguments),
}

/// An end that is not success; the kind is the exit code.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The answer is no.
    #[error("{0}")]
    No(String),
    /// Invalid configuration or SQL.
    #[error("{0}")]
    Invalid(String),
    /// A system outside, or a file, does not do its part.
    #[error("{0}")]
    Outside(String),
    /// A bug.
    #[error("{0}\nhint: this is a bug in prescale; please report it")]
    Bug(String),
}

impl Failure {
    pub(crate) fn outside(error: impl Display) -> Self {
        Self::Outside(error.to_string())
    }

    pub(crate) fn invalid(error: impl Display) -> Self {
        Self::Invalid(error.to_string())
    }

    fn code(&self) -> u8 {
        match self {
            Self::No(_) => 1,
            Self::Invalid(_) => 3,
            Self::Outside(_) => 4,
            Self::Bug(_) => 70,
        }
    }
}

/// Parses the command line, carries it out and says how it ended.
pub(crate) fn main() -> ExitCode {
    prescale_ingest::kafka::keep_freed_memory();
    let arguments = Arguments::parse();
    // What the Kubernetes client complains of comes back as an error, and is told where that is handled.
    let default_filter = match arguments.command {
        Command::Run(_) | Command::Agent(_) => "info,kube_client=off",
        _ => "warn,kube_client=off",
    };
    log::init(default_filter, arguments.log_json);
    let ended = match arguments.command {
        Command::Demo(arguments) => demo::demo(arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Agent(arguments) => agent::agent(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Sql(arguments) => sql::sql(arguments),
        Command::Udf(arguments) => udf::udf(arguments),
        Command::Forecast(arguments) => forecast::forecast(&arguments),
        Command::Backtest(arguments) => backtest::backtest(&arguments),
        Command::Model(arguments) => model::model(&arguments),
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Generate(command) => generate::generate(&command),
        Command::Selector(arguments) => selector::selector(arguments),
        Command::Config(arguments) => schema::config(&arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("error: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// Prints a result line to stdout. A reader that has gone away (`| head`) is no failure of ours.
pub(crate) fn print(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Prints a line for people to stderr.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// A runtime for the commands that talk to the outside.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Outside(format!("start the async runtime: {error}")))
}

/// A pipeline's failure by kind: wrong SQL, or a system outside.
pub(crate) fn pipeline_failure(error: prescale_pipeline::PipelineError) -> Failure {
    use prescale_pipeline::PipelineError::{
        Input, NoInput, NotLines, OneProcess, Partitions, SeveralProcesses, Sql, Udf,
    };
    let invalid = match &error {
        Sql(_) | Input { .. } | NoInput { .. } | NotLines { .. } => true,
        OneProcess { .. } | SeveralProcesses { .. } | Partitions { .. } => true,
        Udf(error) => !error.is_outside(),
        _ => false,
    };
    if invalid { Failure::invalid(error) } else { Failure::outside(error) }
}
