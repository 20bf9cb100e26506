//! Records out in Kafka transactions. Rule: a reader of committed records sees all of a transaction or nothing of it, and
//! each call that fails says what to do about it.

use std::ffi::CString;
use std::time::{Duration, Instant};

use prescale_domain::Span;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use thiserror::Error;

use super::native::{self, TransactionFault};
use super::settings::KafkaSettings;
use super::sink::{KafkaSink, SinkError};
use super::source::{KafkaSource, KafkaSourceSettings};
use crate::{OutRecord, Source, SourceError};

/// What to do about a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Make the same call again: it goes on where it was.
    Repeat,
    /// Abort the transaction, then write it anew.
    Abort,
    /// This producer is of no use any more, and whether the transaction was committed is not known.
    Reopen,
    /// Somebody has to change a setting.
    Refused,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("transactions of `{id}`: {error}")]
pub struct TransactionError {
    pub id: String,
    pub remedy: Remedy,
    pub error: String,
}

/// Errors that no attempt mends.
const REFUSALS: [RDKafkaErrorCode; 5] = [
    RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
    RDKafkaErrorCode::ClusterAuthorizationFailed,
    RDKafkaErrorCode::InvalidTransactionTimeout,
    RDKafkaErrorCode::UnsupportedVersion,
    RDKafkaErrorCode::UnsupportedFeature,
];

/// How long to wait for acknowledgements before looking whether they can still come.
const SLICE: Duration = Duration::from_millis(100);

/// A producer that writes one transaction after the other. Calls block; it lives on the thread of its owner.
pub struct TransactionalSink {
    id: String,
    sink: KafkaSink,
}

impl TransactionalSink {
    /// Prepares to write as `id`; nothing is asked of the broker yet.
    pub fn open(settings: &KafkaSettings, id: &str) -> Result<Self, TransactionError> {
        let sink = KafkaSink::create(settings, &settings.transactional_producer(id)).map_err(|error| {
            TransactionError { id: id.to_owned(), remedy: Remedy::Refused, error: error.to_string() }
        })?;
        Ok(Self { id: id.to_owned(), sink })
    }

    /// Shuts out all older producers of the same id, and waits until what they left open has been committed or aborted.
    pub fn init(&self, timeout: Span) -> Result<(), TransactionError> {
        self.outcome(self.sink.producer.init_transactions(timeout.to_std()))
    }

    pub fn begin(&self) -> Result<(), TransactionError> {
        self.sink.forgive();
        self.outcome(self.sink.producer.begin_transaction())
    }

    /// Queues a record of the open transaction.
    pub fn send(&self, record: &OutRecord) -> Result<(), TransactionError> {
        self.sink.send_record(record).map_err(|error| self.error(Remedy::Abort, error.to_string()))
    }

    /// Makes a group's offsets of a topic part of the open transaction: the next offsets to read, by partition.
    pub fn send_offsets(
        &self,
        group: &str,
        topic: &str,
        next: &[(i32, i64)],
        timeout: Span,
    ) -> Result<(), TransactionError> {
        let refused = |error: String| self.error(Remedy::Refused, format!("group `{group}`: {error}"));
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next {
            list.add_partition_offset(topic, *partition, Offset::from_raw(*offset))
                .map_err(|error| refused(error.to_string()))?;
        }
        let name = CString::new(group).map_err(|error| refused(error.to_string()))?;
        native::send_offsets(self.sink.producer.client(), &name, &list, timeout.to_std()).map_err(|fault| {
            let TransactionFault { code, text, is_retriable, requires_abort } = fault;
            self.error(remedy(code, is_retriable, requires_abort), text)
        })
    }

    /// Waits until the brokers have acknowledged every record of the transaction.
    pub fn flush(&self, timeout: Span) -> Result<(), TransactionError> {
        let (client, started) = (self.sink.producer.client(), Instant::now());
        // Once it is shut out, records stay queued.
        while !native::flush(client, SLICE) {
            if let Some((code, text)) = client.fatal_error() {
                return Err(self.error(remedy(code, false, false), format!("{text} ({code:?})")));
            }
            if started.elapsed() > timeout.to_std() {
                return Err(self.error(Remedy::Repeat, format!("records not acknowledged after {timeout}")));
            }
        }
        self.sink.flush(Span::ZERO).map_err(|error| {
            let still_queued = matches!(error, SinkError::Unacknowledged { .. });
            self.error(if still_queued { Remedy::Repeat } else { Remedy::Abort }, error.to_string())
        })
    }

    /// Commits what has been flushed.
    pub fn commit(&self, timeout: Span) -> Result<(), TransactionError> {
        self.outcome(self.sink.producer.commit_transaction(timeout.to_std()))
    }

    pub fn abort(&self, timeout: Span) -> Result<(), TransactionError> {
        self.outcome(self.sink.producer.abort_transaction(timeout.to_std()))
    }

    fn outcome(&self, result: KafkaResult<()>) -> Result<(), TransactionError> {
        let Err(error) = result else { return Ok(()) };
        Err(match error {
            KafkaError::Transaction(fault) => {
                let remedy = remedy(fault.code(), fault.is_retriable(), fault.txn_requires_abort());
                self.error(remedy, format!("{} ({})", fault.string(), fault.name()))
            }
            // Before a commit asks the coordinator, it waits for the queue.
            KafkaError::Flush(_) => self.error(Remedy::Repeat, error.to_string()),
            other => self.error(Remedy::Reopen, other.to_string()),
        })
    }

    fn error(&self, remedy: Remedy, error: String) -> TransactionError {
        TransactionError { id: self.id.clone(), remedy, error }
    }
}

fn remedy(code: RDKafkaErrorCode, is_retriable: bool, requires_abort: bool) -> Remedy {
    if REFUSALS.contains(&code) {
        Remedy::Refused
    } else if is_retriable {
        Remedy::Repeat
    } else if requires_abort {
        Remedy::Abort
    } else {
        Remedy::Reopen
    }
}

/// The newest committed value of `key` in a partition. It is certain: transactions that are open below the end of the
/// partition are waited for, up to `limit`.
pub fn newest_value(
    settings: &KafkaSettings,
    topic: &str,
    partition: i32,
    key: &[u8],
    limit: Span,
) -> Result<Option<Vec<u8>>, SourceError> {
    let reading = KafkaSourceSettings { until_end: true, ..KafkaSourceSettings::new(settings.clone(), topic) };
    let (mut source, started, mut newest) = (KafkaSource::open(reading)?, Instant::now(), None);
    loop {
        let polled = source.poll(Span::from_millis(200))?;
        for batch in polled.batches.iter().filter(|batch| batch.partition == partition) {
            for index in (0..batch.len()).filter(|index| batch.key(*index) == Some(key)) {
                newest = (!batch.tombstones.contains(&index)).then(|| batch.bytes(index).to_vec());
            }
        }
        if polled.ended {
            return Ok(newest);
        }
        if started.elapsed() > limit.to_std() {
            let error = polled.unreachable.unwrap_or_else(|| format!("not read to its end after {limit}"));
            let hint = "is the broker reachable, or has a writer left a transaction open? \
                        `kafka-transactions.sh find-hanging` lists those that the broker will not end by itself"
                .to_owned();
            return Err(SourceError::Kafka { topic: topic.to_owned(), error, hint });
        }
    }
}
