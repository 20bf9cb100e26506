//! Events and metrics of `pipeline`.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use prescale_domain::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::catalogue::{Labels, register};

/// A pipeline begins to read.
#[derive(Clone, Copy, Debug)]
pub struct PipelineStarted<'a> {
    pub pipeline: &'a str,
    /// It goes on from a checkpoint.
    pub resumed: bool,
}

/// A process has taken over a share of a pipeline: what all processes wrote of it before is known.
#[derive(Clone, Copy, Debug)]
pub struct ShareStarted<'a> {
    pub pipeline: &'a str,
    pub partition: i32,
    /// It goes on from what another process, or this one, wrote.
    pub resumed: bool,
}

/// A process works on a share no longer.
#[derive(Clone, Copy, Debug)]
pub struct ShareEnded<'a> {
    pub pipeline: &'a str,
    pub partition: i32,
    pub why: &'static str,
}

/// A pipeline's SQL is written in a way that will not stay.
#[derive(Clone, Copy, Debug)]
pub struct SqlWarned<'a> {
    pub pipeline: &'a str,
    pub warning: &'a str,
}

/// An epoch's output is acknowledged and its checkpoint written.
#[derive(Clone, Copy, Debug)]
pub struct EpochClosed<'a> {
    pub pipeline: &'a str,
    /// Of several processes' shares, the one that it was.
    pub share: Option<i32>,
    /// Since the pipeline's first start.
    pub read: u64,
    /// Rows by what became of them, since the pipeline's first start; they add up to `read`.
    pub by_fate: &'a [(&'static str, u64)],
    pub rows_out: u64,
    /// Memory that open windows take, as keys and accumulators say.
    pub state_bytes: u64,
    pub watermark: Option<Timestamp>,
}

/// Open windows take more than half of what they may, and partitions that are ahead of others are not read meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct PartitionsHeld<'a> {
    pub pipeline: &'a str,
    pub table: &'a str,
    /// None = all are read again.
    pub partitions: &'a [i32],
    pub state_bytes: u64,
}

/// The source was silent, and its event time went on meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct GapFound<'a> {
    pub pipeline: &'a str,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Output could not be written; it is kept and tried again.
#[derive(Clone, Copy, Debug)]
pub struct OutputDelayed<'a> {
    pub pipeline: &'a str,
    /// Counts from 1.
    pub attempt: u32,
    pub error: &'a str,
}

/// Output that could not be written has been written.
#[derive(Clone, Copy, Debug)]
pub struct OutputResumed<'a> {
    pub pipeline: &'a str,
    pub attempts: u32,
}

/// The schema registry can't be asked; the records that need its answer wait, and it is asked again.
#[derive(Clone, Copy, Debug)]
pub struct RegistryDelayed<'a> {
    pub pipeline: &'a str,
    pub endpoint: &'a str,
    /// The schema that is needed.
    pub id: u32,
    /// Counts from 1.
    pub attempt: u32,
    pub error: &'a str,
}

/// A schema registry that could not be asked has answered.
#[derive(Clone, Copy, Debug)]
pub struct RegistryBack<'a> {
    pub pipeline: &'a str,
    pub endpoint: &'a str,
    pub attempts: u32,
}

/// The schema registry has said what an id stands for.
#[derive(Clone, Copy, Debug)]
pub struct SchemaResolved<'a> {
    pub pipeline: &'a str,
    pub id: u32,
    /// The language of the schema; `None` = the registry has none of this id.
    pub kind: Option<&'static str>,
}

/// A run begins with output that the one before had not written, as far as it knew.
#[derive(Clone, Copy, Debug)]
pub struct OutboxFound<'a> {
    pub pipeline: &'a str,
    pub epoch: u64,
    pub records: usize,
    /// It had been written; otherwise it is now.
    pub written: bool,
}

/// The last epoch that was written is none that the state knows of.
#[derive(Clone, Copy, Debug)]
pub struct OutputOfOtherState<'a> {
    pub pipeline: &'a str,
    /// 0 = none.
    pub found: u64,
    pub expected: u64,
}

/// An epoch's output was written in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct EpochCommitted<'a> {
    pub pipeline: &'a str,
    pub epoch: u64,
    pub records: usize,
    /// From the save of the state to the broker's word that the transaction is committed.
    pub seconds: f64,
}

/// A pipeline has read its input to the end.
#[derive(Clone, Copy, Debug)]
pub struct PipelineEnded<'a> {
    pub pipeline: &'a str,
    pub read: u64,
    pub windowed: u64,
    pub late: u64,
    pub future: u64,
    pub bad: u64,
}

/// What can become of a row.
const FATES: [&str; 8] = ["windowed", "filtered", "late", "future", "decode", "expression", "null_event_time", "key"];

struct Metrics {
    read: Family<Labels, Gauge<u64, AtomicU64>>,
    by_fate: Family<Labels, Gauge<u64, AtomicU64>>,
    rows_out: Family<Labels, Gauge<u64, AtomicU64>>,
    state_bytes: Family<Labels, Gauge<u64, AtomicU64>>,
    held: Family<Labels, Gauge<u64, AtomicU64>>,
    watermark: Family<Labels, Gauge<f64, AtomicU64>>,
    gaps: Family<Labels, Counter>,
    delays: Family<Labels, Counter>,
    registry_delays: Family<Labels, Counter>,
    schemas: Family<Labels, Counter>,
    transactions: Family<Labels, Counter>,
    transaction_seconds: Family<Labels, Counter<f64, AtomicU64>>,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        read: register("pipeline_read_rows", "Records with a payload read since the first start", Family::default()),
        by_fate: register(
            "pipeline_fate_rows",
            "Rows by what became of them since the first start; they add up to the rows read",
            Family::default(),
        ),
        rows_out: register("pipeline_written_rows", "Feature rows written since the first start", Family::default()),
        state_bytes: register(
            "pipeline_state_bytes",
            "Memory that open windows take: group keys and accumulators, as they say",
            Family::default(),
        ),
        held: register(
            "pipeline_held_partitions",
            "Partitions that are not read until others have caught up, because of the memory that open windows take",
            Family::default(),
        ),
        watermark: register(
            "pipeline_watermark_seconds",
            "Event time that is complete, as Unix time",
            Family::default(),
        ),
        gaps: register("pipeline_gaps", "Silences of the source that left a gap in event time", Family::default()),
        delays: register("pipeline_output_delays", "Attempts to write output that failed", Family::default()),
        registry_delays: register(
            "pipeline_registry_delays",
            "Requests to the schema registry that failed; records wait meanwhile",
            Family::default(),
        ),
        schemas: register("pipeline_schemas", "Schemas looked up in the registry, by type", Family::default()),
        transactions: register("pipeline_transactions", "Transactions committed", Family::default()),
        transaction_seconds: register(
            "pipeline_transaction_seconds",
            "Time spent writing and committing transactions",
            Family::default(),
        ),
    })
}

fn labels(pipeline: &str) -> Labels {
    vec![("pipeline", pipeline.to_owned())]
}

fn share_labels(pipeline: &str, share: Option<i32>) -> Labels {
    let mut labels = labels(pipeline);
    labels.extend(share.map(|partition| ("share", partition.to_string())));
    labels
}

fn with_fate(labels: &Labels, fate: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push(("fate", fate.to_owned()));
    labels
}

impl PipelineStarted<'_> {
    pub fn emit(&self) {
        tracing::info!(pipeline = self.pipeline, resumed = self.resumed, "pipeline starts");
    }
}

impl ShareStarted<'_> {
    pub fn emit(&self) {
        let Self { pipeline, partition, resumed } = *self;
        tracing::info!(pipeline, partition, resumed, "share starts");
    }
}

impl ShareEnded<'_> {
    pub fn emit(&self) {
        let Self { pipeline, partition, why } = *self;
        // Whoever works on it next counts on from there.
        let (metrics, labels) = (metrics(), share_labels(pipeline, Some(partition)));
        metrics.read.remove(&labels);
        metrics.rows_out.remove(&labels);
        metrics.watermark.remove(&labels);
        for fate in FATES {
            metrics.by_fate.remove(&with_fate(&labels, fate));
        }
        tracing::info!(pipeline, partition, why, "share ends");
    }
}

impl SqlWarned<'_> {
    pub fn emit(&self) {
        tracing::warn!(pipeline = self.pipeline, "{}", self.warning);
    }
}

impl EpochClosed<'_> {
    pub fn emit(&self) {
        let (metrics, labels) = (metrics(), share_labels(self.pipeline, self.share));
        metrics.read.get_or_create(&labels).set(self.read);
        metrics.rows_out.get_or_create(&labels).set(self.rows_out);
        metrics.state_bytes.get_or_create(&labels).set(self.state_bytes);
        for (fate, rows) in self.by_fate {
            metrics.by_fate.get_or_create(&with_fate(&labels, fate)).set(*rows);
        }
        if let Some(watermark) = self.watermark.filter(|watermark| *watermark != Timestamp::MAX) {
            metrics.watermark.get_or_create(&labels).set(watermark.millis() as f64 / 1000.0);
        }
        tracing::debug!(pipeline = self.pipeline, read = self.read, rows_out = self.rows_out, "epoch closed");
    }
}

impl PartitionsHeld<'_> {
    pub fn emit(&self) {
        let Self { pipeline, table, partitions, state_bytes } = *self;
        let mut labels = labels(pipeline);
        labels.push(("table", table.to_owned()));
        metrics().held.get_or_create(&labels).set(partitions.len() as u64);
        if partitions.is_empty() {
            tracing::info!(pipeline, table, state_bytes, "all partitions are read again");
        } else {
            tracing::info!(pipeline, table, ?partitions, state_bytes, "partitions that are ahead wait for the others");
        }
    }
}

impl GapFound<'_> {
    pub fn emit(&self) {
        metrics().gaps.get_or_create(&labels(self.pipeline)).inc();
        let (from, to) = (self.from, self.to);
        tracing::warn!(pipeline = self.pipeline, %from, %to, "the source was silent: windows without rows are gaps");
    }
}

impl OutputDelayed<'_> {
    pub fn emit(&self) {
        metrics().delays.get_or_create(&labels(self.pipeline)).inc();
        tracing::warn!(
            pipeline = self.pipeline,
            attempt = self.attempt,
            error = self.error,
            "output kept, trying again"
        );
    }
}

impl OutputResumed<'_> {
    pub fn emit(&self) {
        tracing::info!(pipeline = self.pipeline, attempts = self.attempts, "output written");
    }
}

impl RegistryDelayed<'_> {
    pub fn emit(&self) {
        let Self { pipeline, endpoint, id, attempt, error } = *self;
        metrics().registry_delays.get_or_create(&labels(pipeline)).inc();
        tracing::warn!(pipeline, endpoint, id, attempt, error, "schema registry can't be asked, records wait");
    }
}

impl RegistryBack<'_> {
    pub fn emit(&self) {
        let Self { pipeline, endpoint, attempts } = *self;
        tracing::info!(pipeline, endpoint, attempts, "schema registry answers");
    }
}

impl SchemaResolved<'_> {
    pub fn emit(&self) {
        let Self { pipeline, id, kind } = *self;
        let mut labels = labels(pipeline);
        labels.push(("type", kind.unwrap_or("unknown").to_owned()));
        metrics().schemas.get_or_create(&labels).inc();
        match kind {
            Some(kind) => tracing::info!(pipeline, id, kind, "schema looked up"),
            None => tracing::warn!(pipeline, id, "schema is not in the registry, its records become dead letters"),
        }
    }
}

impl OutboxFound<'_> {
    pub fn emit(&self) {
        let Self { pipeline, epoch, records, written } = *self;
        tracing::info!(pipeline, epoch, records, written, "the run before left output behind");
    }
}

impl OutputOfOtherState<'_> {
    pub fn emit(&self) {
        let Self { pipeline, found, expected } = *self;
        tracing::warn!(
            pipeline,
            found,
            expected,
            "the last epoch that was written is not the last one of this state: rows may be written again"
        );
    }
}

impl EpochCommitted<'_> {
    pub fn emit(&self) {
        let Self { pipeline, epoch, records, seconds } = *self;
        let (metrics, labels) = (metrics(), labels(pipeline));
        metrics.transactions.get_or_create(&labels).inc();
        metrics.transaction_seconds.get_or_create(&labels).inc_by(seconds);
        tracing::debug!(pipeline, epoch, records, seconds, "transaction committed");
    }
}

impl PipelineEnded<'_> {
    pub fn emit(&self) {
        let Self { pipeline, read, windowed, late, future, bad } = *self;
        tracing::info!(pipeline, read, windowed, late, future, bad, "pipeline has read its input to the end");
    }
}
