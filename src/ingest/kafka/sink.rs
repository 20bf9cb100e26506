//! Records out. Rule: `flush` succeeds only when the brokers have acknowledged every record sent before it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use prescale_domain::Span;
use prescale_telemetry::ingest::{ClientLog, FlushFailed};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use thiserror::Error;

use super::native;
use super::settings::KafkaSettings;
use crate::{DeadLetter, OutRecord};

/// How long `send` waits for room in the queue.
const QUEUE_PATIENCE: Duration = Duration::from_secs(30);

/// Records that did not get out.
#[derive(Debug, Error)]
pub enum SinkError {
    #[error("write to Kafka: {error}\nhint: check the librdkafka properties under `client`")]
    Settings { error: String },
    #[error("write to topic `{topic}`: {error}")]
    Send { topic: String, error: String },
    #[error("write to topic `{topic}`: the queue has been full for {waited}\nhint: is the broker reachable?")]
    QueueFull { topic: String, waited: Span },
    #[error("write to topic `{topic}` partition {partition}: {error} ({failed} records not written)")]
    Delivery { topic: String, partition: i32, error: String, failed: u64 },
    /// They are still queued: another `flush` goes on waiting for them.
    #[error("write to {servers}: {pending} records not acknowledged after {waited}\nhint: is the broker reachable?")]
    Unacknowledged { servers: String, pending: u64, waited: Span },
    #[error("topic `{topic}` on {servers}: {error}\nhint: {hint}")]
    Topic { topic: String, servers: String, error: String, hint: String },
}

/// A producer; shared by reference between threads.
pub struct KafkaSink {
    settings: KafkaSettings,
    pub(super) producer: ThreadedProducer<Deliveries>,
    sent: AtomicU64,
}

/// Counts delivery reports; the first failure since the last flush is kept.
#[derive(Default)]
pub(super) struct Deliveries {
    done: AtomicU64,
    failure: Mutex<Option<Undelivered>>,
}

struct Undelivered {
    topic: String,
    partition: i32,
    error: String,
    count: u64,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ClientLog { level: level as i32, text: &format!("{facility}: {message}") }.emit();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog { level: 3, text: &format!("{error}: {reason}") }.emit();
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *failure {
                Some(first) => first.count += 1,
                None => {
                    let (topic, partition) = (message.topic().to_owned(), message.partition());
                    *failure = Some(Undelivered { topic, partition, error: error.to_string(), count: 1 });
                }
            }
        }
        self.done.fetch_add(1, Ordering::Release);
    }
}

impl KafkaSink {
    /// Prepares to write; nothing is asked of the broker yet.
    pub fn open(settings: &KafkaSettings) -> Result<Self, SinkError> {
        Self::create(settings, &settings.producer())
    }

    pub(super) fn create(settings: &KafkaSettings, config: &ClientConfig) -> Result<Self, SinkError> {
        let producer = config
            .create_with_context(Deliveries::default())
            .map_err(|error| SinkError::Settings { error: error.to_string() })?;
        Ok(Self { settings: settings.clone(), producer, sent: AtomicU64::new(0) })
    }

    /// How the brokers are reached.
    pub fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    /// Forgets a failure of records that nobody waits for any more.
    pub(super) fn forgive(&self) {
        let context = self.producer.client().context();
        drop(context.failure.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Queues a record; without a partition, its key chooses one as Java clients do. Waits only while the queue is full.
    pub fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: &[u8],
        headers: &[(&str, &[u8])],
    ) -> Result<(), SinkError> {
        self.enqueue(topic, partition, key, Some(value), headers)
    }

    /// Queues a tombstone: a record without a value, which deletes `key` from a compacted topic.
    pub fn send_tombstone(&self, topic: &str, partition: Option<i32>, key: &[u8]) -> Result<(), SinkError> {
        self.enqueue(topic, partition, Some(key), None, &[])
    }

    fn enqueue(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), SinkError> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        (record.partition, record.key, record.payload) = (partition, key, value);
        if !headers.is_empty() {
            let none = OwnedHeaders::new_with_capacity(headers.len());
            record.headers =
                Some(headers.iter().fold(none, |all, (key, value)| all.insert(Header { key, value: Some(*value) })));
        }
        let mut waiting_since = None;
        loop {
            let (error, refused) = match self.producer.send(record) {
                Ok(()) => {
                    self.sent.fetch_add(1, Ordering::Release);
                    return Ok(());
                }
                Err(refused) => refused,
            };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(SinkError::Send { topic: topic.to_owned(), error: error.to_string() });
            }
            if waiting_since.get_or_insert_with(Instant::now).elapsed() > QUEUE_PATIENCE {
                let waited = span(QUEUE_PATIENCE);
                return Err(SinkError::QueueFull { topic: topic.to_owned(), waited });
            }
            self.producer.poll(Duration::from_millis(5));
            record = refused;
        }
    }

    /// Queues a record.
    pub fn send_record(&self, record: &OutRecord) -> Result<(), SinkError> {
        let headers: Vec<(&str, &[u8])> = record.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.send(&record.topic, record.partition, record.key.as_deref(), &record.value, &headers)
    }

    /// Queues a dead letter: the original bytes, with where they came from and what was wrong in the headers.
    pub fn send_dead_letter(&self, topic: &str, letter: &DeadLetter) -> Result<(), SinkError> {
        self.send_record(&letter.record(topic.into()))
    }

    /// Waits until every record sent so far has been acknowledged.
    pub fn flush(&self, timeout: Span) -> Result<(), SinkError> {
        let sent = self.sent.load(Ordering::Acquire);
        let empty = native::flush(self.producer.client(), timeout.to_std());
        let context = self.producer.client().context();
        let done = context.done.load(Ordering::Acquire);
        let failure = context.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let error = match failure {
            Some(Undelivered { topic, partition, error, count }) => {
                SinkError::Delivery { topic, partition, error, failed: count }
            }
            None if !empty || done < sent => {
                let servers = self.settings.bootstrap_servers.clone();
                SinkError::Unacknowledged { servers, pending: sent.saturating_sub(done).max(1), waited: timeout }
            }
            None => return Ok(()),
        };
        FlushFailed { error: &error.to_string() }.emit();
        Err(error)
    }

    /// How many partitions a topic has; `None` = it does not exist.
    pub fn partitions(&self, topic: &str, timeout: Span) -> Result<Option<i32>, SinkError> {
        self.count(&self.reader(topic)?, topic, timeout.to_std())
    }

    /// A consumer to ask for metadata: a producer's question would create the topic on a broker that allows it.
    fn reader(&self, topic: &str) -> Result<BaseConsumer, SinkError> {
        let config = self.settings.consumer(None);
        config
            .create()
            .map_err(|error| self.topic_error(topic, error.to_string(), "check the properties under `client`"))
    }

    fn count(&self, reader: &BaseConsumer, topic: &str, timeout: Duration) -> Result<Option<i32>, SinkError> {
        let metadata = reader
            .fetch_metadata(Some(topic), timeout)
            .map_err(|error| self.topic_error(topic, error.to_string(), "is the broker reachable?"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let count = found.map_or(0, |found| found.partitions().len());
        Ok((count > 0).then(|| i32::try_from(count).unwrap_or(i32::MAX)))
    }

    /// Creates a topic with the broker's own replication unless it exists; returns how many partitions it has.
    pub fn ensure_topic(&self, topic: &str, partitions: i32, timeout: Span) -> Result<i32, SinkError> {
        self.ensure(&NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)), timeout)
    }

    /// Like [`KafkaSink::ensure_topic`], for a topic that is made to keep all its records, however old.
    pub fn ensure_lasting_topic(&self, topic: &str, partitions: i32, timeout: Span) -> Result<i32, SinkError> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        self.ensure(&new.set("retention.ms", "-1").set("retention.bytes", "-1"), timeout)
    }

    /// Like [`KafkaSink::ensure_topic`], for a topic of one partition that keeps the last record of each key.
    pub fn ensure_compacted_topic(&self, topic: &str, timeout: Span) -> Result<i32, SinkError> {
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1));
        // What is not the last of its key goes within the hour or so: readers start at the first record that is left.
        self.ensure(&new.set("cleanup.policy", "compact").set("segment.ms", "3600000"), timeout)
    }

    fn ensure(&self, wanted: &NewTopic<'_>, timeout: Span) -> Result<i32, SinkError> {
        let topic = wanted.name;
        if let Some(count) = self.partitions(topic, timeout)? {
            return Ok(count);
        }
        const HINT: &str = "create the topic, or allow the configured user to create topics";
        let failed = |error: String| self.topic_error(topic, format!("create: {error}"), HINT);
        let admin: AdminClient<DefaultClientContext> =
            self.settings.admin().create().map_err(|error| failed(error.to_string()))?;
        let limit = timeout.to_std();
        let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit));
        let results = wait_for(admin.create_topics([wanted], &options)).map_err(|error| failed(error.to_string()))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(failed(code.to_string())),
            }
        }
        self.await_topic(topic, limit)?.ok_or_else(|| failed("not seen after it was created".to_owned()))
    }

    fn await_topic(&self, topic: &str, limit: Duration) -> Result<Option<i32>, SinkError> {
        let (start, reader) = (Instant::now(), self.reader(topic)?);
        loop {
            let found = self.count(&reader, topic, limit)?;
            if found.is_some() || start.elapsed() > limit {
                return Ok(found);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn topic_error(&self, topic: &str, error: String, hint: &str) -> SinkError {
        let servers = self.settings.bootstrap_servers.clone();
        SinkError::Topic { topic: topic.to_owned(), servers, error, hint: hint.to_owned() }
    }
}

fn span(length: Duration) -> Span {
    Span::from_millis(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The admin calls are futures that another thread completes; this waits for one on any thread, runtime or not.
fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
