//! `prescale sql`: feature SQL over files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use prescale_pipeline::PlanSummary;
use prescale_pipeline::udf::Udfs;

use super::{Failure, pipeline_failure, print, say};

/// Work with feature SQL; `prescale sql FILE` is short for `prescale sql run FILE`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Example:\n  prescale sql pipelines/access_log.sql --input access_log=access.log.gz --output -\n\nA first pipeline with a join, step by step, is in docs/sql.md."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArguments>,
}

#[derive(Subcommand)]
enum Command {
    Run(RunArguments),
    Check(CheckArguments),
}

/// Run a pipeline over files, with event time only, and print its rows as NDJSON.
#[derive(Args)]
#[command(
    after_help = "Example:\n  prescale sql run pipelines/access_log.sql --input access_log=access.log.gz --output -"
)]
pub(crate) struct RunArguments {
    /// The pipeline.
    #[arg(value_name = "FILE")]
    pipeline: PathBuf,
    /// A table of the pipeline and the file to read for it (`-` = stdin, `.gz` is unpacked). Several files of one table
    /// are its partitions. A table with connector = 'single_file' needs none.
    #[arg(long, value_name = "TABLE=PATH", value_parser = input)]
    input: Vec<(String, PathBuf)>,
    /// Where to write the rows (`-` = stdout) [default: the file that the SQL names for its sink, else stdout].
    #[arg(long, value_name = "PATH")]
    output: Option<String>,
    /// Folder of the Rust functions that the SQL calls [default: `udfs` beside the pipeline].
    #[arg(long, value_name = "DIR")]
    udfs: Option<PathBuf>,
}

/// Check a pipeline without running it.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale sql check pipelines/requests.sql")]
pub(crate) struct CheckArguments {
    /// The pipeline.
    #[arg(value_name = "FILE")]
    pipeline: PathBuf,
    /// Folder of the Rust functions that the SQL calls [default: `udfs` beside the pipeline].
    #[arg(long, value_name = "DIR")]
    udfs: Option<PathBuf>,
}

fn input(text: &str) -> Result<(String, PathBuf), String> {
    let (table, path) = text.split_once('=').ok_or_else(|| format!("`{text}` is not TABLE=PATH"))?;
    Ok((table.to_owned(), PathBuf::from(path)))
}

pub(crate) fn sql(arguments: Arguments) -> Result<(), Failure> {
    match (arguments.command, arguments.run) {
        (Some(Command::Run(arguments)), _) | (None, Some(arguments)) => run(&arguments),
        (Some(Command::Check(arguments)), _) => {
            let text = read(&arguments.pipeline)?;
            let udfs = udfs(arguments.udfs.as_deref(), &arguments.pipeline)?;
            let summary = prescale_pipeline::check(&text, &udfs).map_err(pipeline_failure)?;
            print(&describe(&summary));
            summary.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
            Ok(())
        }
        (None, None) => Err(Failure::Invalid("no pipeline is given\nhint: prescale sql --help".to_owned())),
    }
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Invalid(format!("read `{}`: {error}", path.display())))
}

/// The functions in `folder`, or beside the pipeline.
fn udfs(folder: Option<&Path>, pipeline: &Path) -> Result<Udfs, Failure> {
    let beside = || pipeline.with_file_name("udfs");
    let folder = folder.map_or_else(beside, Path::to_owned);
    Udfs::open(&folder).map_err(|error| pipeline_failure(error.into()))
}

fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let text = read(&arguments.pipeline)?;
    let udfs = udfs(arguments.udfs.as_deref(), &arguments.pipeline)?;
    let plan = prescale_pipeline::compile_with(&text, &udfs).map_err(|error| pipeline_failure(error.into()))?;
    let output = arguments.output.as_ref().or(plan.sink.options.file.as_ref());
    let mut output: Box<dyn Write> = match output.map_or("-", String::as_str) {
        "-" => Box::new(BufWriter::new(io::stdout().lock())),
        path => Box::new(BufWriter::new(
            File::create(path).map_err(|error| Failure::Outside(format!("create `{path}`: {error}")))?,
        )),
    };
    let counters = prescale_pipeline::run_over_files(plan, &arguments.input, &mut output).map_err(pipeline_failure)?;
    output.flush().map_err(Failure::outside)?;
    say(&format!(
        "{} rows read: {} windowed, {} filtered, {} late, {} bad",
        counters.read,
        counters.windowed,
        counters.filtered,
        counters.late,
        counters.bad()
    ));
    Ok(())
}

/// A pipeline in one line.
pub(super) fn describe(summary: &PlanSummary) -> String {
    let PlanSummary { sources, sink, sink_topic, window, columns, .. } = summary;
    let sources: Vec<String> =
        sources.iter().map(|source| format!("{} (topic {})", source.table, source.topic)).collect();
    format!("{}, {window} into {sink} (topic {sink_topic}): {}", sources.join(" and "), columns.join(", "))
}
