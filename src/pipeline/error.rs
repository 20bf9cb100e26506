//! What can go wrong with a pipeline. Rule: a fault in the SQL names its place and what to write instead.

use std::fmt;

use prescale_domain::Timestamp;
use prescale_ingest::SourceError;
use prescale_store::StoreError;
use thiserror::Error;

use crate::udf::UdfError;

/// A place in a SQL text; lines and columns count from 1, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    /// Characters to underline, at least 1.
    pub width: usize,
}

/// A SQL text that is not a pipeline in the portable profile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct SqlError {
    /// Stable, such as `unknown-column`.
    pub code: &'static str,
    pub message: String,
    pub place: Place,
    /// The portable form to write instead.
    pub hint: Option<String>,
    /// The line that `place` is in.
    pub source_line: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, width } = self.place;
        let margin = " ".repeat(line.to_string().len());
        writeln!(f, "sql error[{}]: {}", self.code, self.message)?;
        writeln!(f, "{margin}--> line {line}, column {column}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{line} | {}", self.source_line)?;
        write!(f, "{margin} | {}{}", " ".repeat(column.saturating_sub(1)), "^".repeat(width.max(1)))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Anything that stops a pipeline.
#[derive(Debug, Error)]
pub enum PipelineError {
    #[error("{0}")]
    Sql(Box<SqlError>),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Udf(#[from] UdfError),
    #[error("sink topic `{topic}`: {error}\nhint: {hint}")]
    Sink { topic: String, error: String, hint: &'static str },
    #[error(
        "pipeline `{pipeline}`: its checkpoint was written by other SQL (found {found}, expected {expected})\nhint: give the changed pipeline a new name, or delete its checkpoint to start from the oldest record"
    )]
    OtherPlan { pipeline: String, found: String, expected: String },
    #[error(
        "pipeline `{pipeline}`: the processes that share it run other SQL (found {found}, expected {expected})\nhint: give all of them the same file; give a changed pipeline a new name"
    )]
    OtherSharedPlan { pipeline: String, found: String, expected: String },
    #[error(
        "pipeline `{pipeline}`: its checkpoint can't be read: {error}\nhint: delete the checkpoint to start from the oldest record"
    )]
    Checkpoint { pipeline: String, error: String },
    #[error(
        "pipeline `{pipeline}`: another process writes its output too: epoch {found} on `{topic}` is not of this one\nhint: let one process run a pipeline, or give each a topic of features of its own"
    )]
    Rival { pipeline: String, topic: String, found: String },
    #[error(
        "pipeline `{pipeline}`: its rows on `{topic}` were written by one process, and where that stands can't be shared\nhint: give the pipeline a new name or `topics.features` a new one, or set features.processes = 1"
    )]
    OneProcess { pipeline: String, topic: String },
    #[error(
        "pipeline `{pipeline}`: its rows on `{topic}` were written by several processes, and one can't go on from there\nhint: give the pipeline a new name or `topics.features` a new one, or set features.processes as it was"
    )]
    SeveralProcesses { pipeline: String, topic: String },
    #[error(
        "pipeline `{pipeline}`: its sources can't be shared, since they have different numbers of partitions: {counts}\nhint: give the topics the same number of partitions, or set features.processes = 1"
    )]
    Partitions { pipeline: String, counts: String },
    #[error(
        "pipeline `{pipeline}`: it can't share its partitions: {error}\nhint: allow the configured user to read with the consumer group prescale-<features topic>-<pipeline>"
    )]
    Group { pipeline: String, error: String },
    #[error(
        "pipeline `{pipeline}`: Kafka does not take its transactions: {error}\nhint: allow the configured user to write with this transactional id, or set features.delivery = \"at-least-once\""
    )]
    Transactions { pipeline: String, error: String },
    #[error(
        "pipeline `{pipeline}`: its open windows take {bytes} bytes, features.state_limit is {limit}: {groups} groups in panes of `{window}` from {from} to {to}\nhint: raise features.state_limit, group by what has fewer values, or write a shorter window; what was read since the last checkpoint is read again"
    )]
    StateLimit {
        pipeline: String,
        bytes: u64,
        limit: u64,
        groups: u64,
        window: String,
        /// The starts of the first and the last of these panes.
        from: Timestamp,
        to: Timestamp,
    },
    #[error("{error}")]
    Registry { error: String },
    #[error(
        "table `{table}`: records of format `{format}` can't be read from a file of lines\nhint: write them to a topic, or as NDJSON with format = 'json'"
    )]
    NotLines { table: String, format: String },
    #[error("read `{path}`: {error}")]
    File { path: String, error: String },
    #[error("table `{table}` is not a source of this pipeline\nhint: its sources are {known}")]
    Input { table: String, known: String },
    #[error("source `{table}` has no file to read\nhint: --input {table}=PATH")]
    NoInput { table: String },
    #[error("write rows: {0}")]
    Output(#[from] std::io::Error),
    #[error("pipeline engine: {0}")]
    Engine(String),
}

impl From<SqlError> for PipelineError {
    fn from(error: SqlError) -> Self {
        Self::Sql(Box::new(error))
    }
}

impl From<datafusion::error::DataFusionError> for PipelineError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::Engine(one_line(&error))
    }
}

impl From<arrow::error::ArrowError> for PipelineError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Engine(error.to_string())
    }
}

/// The root cause without DataFusion's prefixes and backtraces.
pub(crate) fn one_line(error: &datafusion::error::DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let text = text.lines().next().unwrap_or_default();
    let mut rest = text;
    for prefix in ["Error during planning: ", "Execution error: ", "Arrow error: ", "Schema error: ", "Parser error: "]
    {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    rest.to_owned()
}
