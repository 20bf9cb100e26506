//! Events and metrics of `ingest`.

use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::catalogue::{Labels, register};

/// Records of one topic were read.
#[derive(Clone, Copy, Debug)]
pub struct RecordsRead<'a> {
    pub topic: &'a str,
    pub records: u64,
    pub bytes: u64,
}

/// A record could not be used and goes to the dead-letter topic.
#[derive(Clone, Copy, Debug)]
pub struct DeadLettered<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub reason: &'a str,
    pub error: &'a str,
}

/// A topic can't be read now; reading is tried again without end.
#[derive(Clone, Copy, Debug)]
pub struct SourceUnreachable<'a> {
    pub topic: &'a str,
    pub error: &'a str,
}

/// A topic that could not be read can be read again.
#[derive(Clone, Copy, Debug)]
pub struct SourceBack<'a> {
    pub topic: &'a str,
}

/// Partitions were taken up: at start, or because the topic has grown.
#[derive(Clone, Copy, Debug)]
pub struct PartitionsAssigned<'a> {
    pub topic: &'a str,
    /// How many are read now.
    pub partitions: usize,
}

/// A group has given this process partitions, or taken some back.
#[derive(Clone, Copy, Debug)]
pub struct PartitionsHeld<'a> {
    pub topic: &'a str,
    /// How many are this process's now.
    pub partitions: usize,
}

/// Group offsets could not be committed; a later commit makes up for it.
#[derive(Clone, Copy, Debug)]
pub struct CommitFailed<'a> {
    pub topic: &'a str,
    pub error: &'a str,
}

/// Rows of the calendar of events could not be written to their topic; it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct EventMinutesDelayed<'a> {
    pub topic: &'a str,
    pub error: &'a str,
}

impl EventMinutesDelayed<'_> {
    pub fn emit(&self) {
        tracing::warn!(topic = self.topic, error = self.error, "event minutes delayed, trying again");
    }
}

/// A calendar of events could not be read; what it said before stands.
#[derive(Clone, Copy, Debug)]
pub struct CalendarUnread<'a> {
    pub calendar: &'a str,
    pub error: &'a str,
}

impl CalendarUnread<'_> {
    pub fn emit(&self) {
        tracing::warn!(calendar = self.calendar, error = self.error, "calendar not read, what it said before stands");
    }
}

/// A source that is asked at an interval gave nothing this time.
#[derive(Clone, Copy, Debug)]
pub struct PollFailed<'a> {
    /// What its rows are called.
    pub source: &'a str,
    pub error: &'a str,
}

impl PollFailed<'_> {
    pub fn emit(&self) {
        static FAILED: OnceLock<Family<Labels, Counter>> = OnceLock::new();
        let failed = FAILED.get_or_init(|| {
            register(
                "ingest_polls_failed",
                "Questions that a polled source did not answer, by source",
                Family::default(),
            )
        });
        failed.get_or_create(&labels("source", self.source)).inc();
        tracing::warn!(source = self.source, error = self.error, "a polled source gave nothing");
    }
}

/// What calendars say could not be written to the events topic; it is tried again.
#[derive(Clone, Copy, Debug)]
pub struct CalendarsDelayed<'a> {
    pub topic: &'a str,
    pub error: &'a str,
}

impl CalendarsDelayed<'_> {
    pub fn emit(&self) {
        tracing::warn!(topic = self.topic, error = self.error, "calendars not written, trying again");
    }
}

/// What calendars say has changed, and so has the events topic.
#[derive(Clone, Copy, Debug)]
pub struct CalendarsWritten<'a> {
    pub topic: &'a str,
    /// Events that are new or have changed.
    pub told: usize,
    /// Events that were taken back.
    pub gone: usize,
}

impl CalendarsWritten<'_> {
    pub fn emit(&self) {
        tracing::info!(topic = self.topic, told = self.told, gone = self.gone, "calendars written");
    }
}

/// Records that were sent have not all been acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct FlushFailed<'a> {
    pub error: &'a str,
}

/// What librdkafka logs.
#[derive(Clone, Copy, Debug)]
pub struct ClientLog<'a> {
    /// As in syslog: 3 and less are errors.
    pub level: i32,
    pub text: &'a str,
}

struct Metrics {
    records: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    dead_letters: Family<Labels, Counter>,
    unreachable: Family<Labels, Gauge>,
    held: Family<Labels, Gauge>,
    commit_failures: Counter,
    flush_failures: Counter,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        records: register("ingest_read_records", "Records read, by topic", Family::default()),
        bytes: register("ingest_read_bytes", "Bytes of record values read, by topic", Family::default()),
        dead_letters: register(
            "ingest_dead_letters",
            "Records sent to the dead-letter topic, by reason",
            Family::default(),
        ),
        unreachable: register("ingest_source_unreachable", "1 while a topic can't be read", Family::default()),
        held: register(
            "ingest_group_partitions",
            "Partitions of a shared topic that are this process's",
            Family::default(),
        ),
        commit_failures: register("ingest_commit_failures", "Commits of group offsets that failed", Counter::default()),
        flush_failures: register(
            "ingest_flush_failures",
            "Flushes after which records were not acknowledged",
            Counter::default(),
        ),
    })
}

fn labels(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

impl RecordsRead<'_> {
    pub fn emit(&self) {
        let labels = labels("topic", self.topic);
        metrics().records.get_or_create(&labels).inc_by(self.records);
        metrics().bytes.get_or_create(&labels).inc_by(self.bytes);
    }
}

impl DeadLettered<'_> {
    pub fn emit(&self) {
        metrics().dead_letters.get_or_create(&labels("reason", self.reason)).inc();
        let Self { topic, partition, offset, reason, error } = *self;
        tracing::debug!(topic, partition, offset, reason, error, "record can't be used");
    }
}

impl SourceUnreachable<'_> {
    pub fn emit(&self) {
        metrics().unreachable.get_or_create(&labels("topic", self.topic)).set(1);
        tracing::warn!(topic = self.topic, error = self.error, "topic can't be read, trying again");
    }
}

impl SourceBack<'_> {
    pub fn emit(&self) {
        metrics().unreachable.get_or_create(&labels("topic", self.topic)).set(0);
        tracing::info!(topic = self.topic, "topic can be read again");
    }
}

impl PartitionsAssigned<'_> {
    pub fn emit(&self) {
        tracing::info!(topic = self.topic, partitions = self.partitions, "reading topic");
    }
}

impl PartitionsHeld<'_> {
    pub fn emit(&self) {
        let Self { topic, partitions } = *self;
        metrics().held.get_or_create(&labels("topic", topic)).set(i64::try_from(partitions).unwrap_or(i64::MAX));
        tracing::info!(topic, partitions, "the group's partitions of this process");
    }
}

impl CommitFailed<'_> {
    pub fn emit(&self) {
        metrics().commit_failures.inc();
        tracing::warn!(topic = self.topic, error = self.error, "group offsets not committed");
    }
}

impl FlushFailed<'_> {
    pub fn emit(&self) {
        metrics().flush_failures.inc();
        tracing::warn!(error = self.error, "records not acknowledged");
    }
}

impl ClientLog<'_> {
    pub fn emit(&self) {
        // What matters of it comes as an error too and is told then; as log lines these repeat with every attempt.
        tracing::debug!(level = self.level, "librdkafka: {}", self.text);
    }
}
