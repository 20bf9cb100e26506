//! Records out: to Kafka, or to a writer as NDJSON. Rule: nobody waits for a broker. What has waited too long, or finds the queue
//! full, is given up and counted; what is counted as sent has been acknowledged.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prescale_domain::Span;
use prescale_telemetry::collect::{OutletBack, OutletWaiting, SamplesGivenUp};
use prescale_telemetry::ingest::ClientLog;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::time::Instant;

use crate::{CollectError, MetricRecord};

/// As `ingest` writes, but in smaller measure, and not without end: a sample that is minutes old is late for its window.
const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("compression.type", "lz4"),
    ("linger.ms", "50"),
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.kbytes", "16384"),
    ("socket.nagle.disable", "true"),
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "2000"),
];

/// Where the records go, and how many may wait.
#[derive(Clone)]
pub struct KafkaOutletSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Properties of librdkafka, passed through; those for consumers are left out, `producer.` before a name is taken off.
    pub client: BTreeMap<String, String>,
    pub topic: String,
    /// Most records that wait for the brokers.
    pub queue_records: u32,
    /// How long one waits at most.
    pub patience: Span,
}

impl KafkaOutletSettings {
    pub fn new(bootstrap_servers: &str, topic: &str) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.to_owned(),
            client: BTreeMap::new(),
            topic: topic.to_owned(),
            queue_records: 20_000,
            patience: Span::from_minutes(5),
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in PRODUCER {
            config.set(*name, *value);
        }
        config.set("queue.buffering.max.messages", self.queue_records.max(1).to_string());
        config.set("message.timeout.ms", self.patience.millis().clamp(1, i64::from(i32::MAX)).to_string());
        config.set("bootstrap.servers", &self.bootstrap_servers);
        let of_both = |name: &&String| !name.starts_with("consumer.") && !name.starts_with("producer.");
        for name in self.client.keys().filter(of_both) {
            config.set(name, &self.client[name]);
        }
        for (name, value) in &self.client {
            if let Some(name) = name.strip_prefix("producer.") {
                config.set(name, value);
            }
        }
        config
    }
}

impl fmt::Debug for KafkaOutletSettings {
    /// Properties may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bootstrap_servers, topic, queue_records, patience, client } = self;
        let names: Vec<_> = client.keys().collect();
        f.debug_struct("KafkaOutletSettings")
            .field("bootstrap_servers", bootstrap_servers)
            .field("topic", topic)
            .field("queue_records", queue_records)
            .field("patience", patience)
            .field("client", &names)
            .finish()
    }
}

/// What the brokers said of the records.
#[derive(Default)]
struct Reports {
    acknowledged: AtomicU64,
    given_up: AtomicU64,
    /// The last complaint, of a record or of a connection.
    trouble: Mutex<Option<String>>,
}

impl Reports {
    fn complain(&self, text: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ClientLog { level: level as i32, text: &format!("{facility}: {message}") }.emit();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog { level: 3, text: &format!("{error}: {reason}") }.emit();
        self.complain(reason.to_owned());
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Release);
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                // That it waited too long says less than what it waited for.
                if code != Some(RDKafkaErrorCode::MessageTimedOut) || self.trouble().is_none() {
                    self.complain(code.map_or_else(|| error.to_string(), |code| code.to_string()));
                }
                self.given_up.fetch_add(1, Ordering::Release);
            }
        }
    }
}

/// Records to a topic.
pub struct KafkaOutlet {
    settings: KafkaOutletSettings,
    producer: ThreadedProducer<Reports>,
    put: u64,
    /// As they were when it was last told of.
    told_given_up: u64,
    seen_acknowledged: u64,
    is_waiting: bool,
}

impl KafkaOutlet {
    /// Prepares to write; nothing is asked of the brokers yet.
    ///
    /// # Errors
    /// librdkafka refuses its properties.
    pub fn open(settings: KafkaOutletSettings) -> Result<Self, CollectError> {
        let producer = settings.config().create_with_context(Reports::default());
        let producer = producer.map_err(|error| CollectError::Producer(error.to_string()))?;
        Ok(Self { settings, producer, put: 0, told_given_up: 0, seen_acknowledged: 0, is_waiting: false })
    }

    /// Records that the brokers have.
    pub fn acknowledged(&self) -> u64 {
        self.producer.context().acknowledged.load(Ordering::Acquire)
    }

    /// Records that nobody will have.
    pub fn given_up(&self) -> u64 {
        self.producer.context().given_up.load(Ordering::Acquire)
    }

    /// Records that still wait. The client's own count has what it says of connections in it as well.
    pub fn waiting(&self) -> u64 {
        self.put.saturating_sub(self.acknowledged() + self.given_up())
    }

    /// Queues records, keyed by their service as the other topics are.
    fn put(&mut self, records: &[MetricRecord]) -> Result<(), CollectError> {
        self.tell();
        for record in records {
            let value = serde_json::to_vec(record)?;
            self.put += 1;
            let out = BaseRecord::to(&self.settings.topic).key(record.service.as_str()).payload(&value);
            if let Err((error, _)) = self.producer.send(out) {
                let reports = self.producer.context();
                reports.given_up.fetch_add(1, Ordering::Release);
                match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) if reports.trouble().is_some() => {}
                    Some(code) => reports.complain(code.to_string()),
                    None => reports.complain(error.to_string()),
                }
            }
        }
        Ok(())
    }

    /// Says what has changed since it was last called: once for a round, before its records, not once for a record.
    fn tell(&mut self) {
        let (acknowledged, given_up, waiting) = (self.acknowledged(), self.given_up(), self.waiting());
        let trouble = self.producer.context().trouble();
        let (topic, error) = (&*self.settings.topic, trouble.as_deref().unwrap_or("no answer"));
        if given_up > self.told_given_up {
            SamplesGivenUp { topic, records: given_up - self.told_given_up, total: given_up, error }.emit();
            self.told_given_up = given_up;
        }
        if acknowledged > self.seen_acknowledged {
            self.seen_acknowledged = acknowledged;
            if waiting == 0 {
                self.producer.context().forget();
            }
            if std::mem::take(&mut self.is_waiting) {
                OutletBack { topic }.emit();
            }
        } else if waiting > 0 && !self.is_waiting {
            self.is_waiting = true;
            OutletWaiting { topic, waiting, error }.emit();
        }
    }

    /// Waits until the brokers have all records that were put, or `limit` is over.
    ///
    /// # Errors
    /// Some were given up, or still wait.
    async fn finish(&mut self, limit: Span) -> Result<(), CollectError> {
        let deadline = Instant::now() + limit.to_std();
        while self.waiting() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let missing = self.waiting() + self.given_up();
        let error = self.producer.context().trouble().unwrap_or_else(|| "no answer".to_owned());
        self.tell();
        if missing == 0 {
            return Ok(());
        }
        let KafkaOutletSettings { topic, bootstrap_servers: servers, .. } = self.settings.clone();
        Err(CollectError::Undelivered { topic, servers, missing, waited: limit, error })
    }
}

/// Where records go.
pub enum Outlet {
    Kafka(KafkaOutlet),
    /// One JSON object a line.
    Lines {
        writer: Box<dyn Write + Send>,
        written: u64,
    },
}

impl Outlet {
    pub fn lines(writer: impl Write + Send + 'static) -> Self {
        Self::Lines { writer: Box::new(writer), written: 0 }
    }

    /// Takes the records of a round.
    ///
    /// # Errors
    /// A writer refuses them; Kafka's outages are none.
    pub(crate) fn put(&mut self, records: &[MetricRecord]) -> Result<(), CollectError> {
        match self {
            Self::Kafka(kafka) => kafka.put(records),
            Self::Lines { writer, written } => {
                let mut text = Vec::new();
                for record in records {
                    serde_json::to_writer(&mut text, record)?;
                    text.push(b'\n');
                }
                writer.write_all(&text)?;
                writer.flush()?;
                *written += records.len() as u64;
                Ok(())
            }
        }
    }

    /// Waits for what was put, so long at most.
    pub(crate) async fn finish(&mut self, limit: Span) -> Result<(), CollectError> {
        match self {
            Self::Kafka(kafka) => kafka.finish(limit).await,
            Self::Lines { .. } => Ok(()),
        }
    }

    /// Records that have arrived, and that have not and will not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        match self {
            Self::Kafka(kafka) => (kafka.acknowledged(), kafka.given_up() + kafka.waiting()),
            Self::Lines { written, .. } => (*written, 0),
        }
    }
}

#[cfg(test)]
mod tests;
