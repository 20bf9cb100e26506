//! What benches on a broker stand on: the broker, and what every bench prints. Rule: topics are new in each run.

#![allow(dead_code, unused_imports, reason = "each bench uses its own part")]

pub(crate) mod flink;
pub(crate) mod piped;
mod report;
pub(crate) mod requests;
pub(crate) mod usage;
pub(crate) mod watch;

use prescale_domain::{Clock as _, Span, SystemClock};
use prescale_ingest::embedded::EmbeddedBroker;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink};
pub(crate) use report::{Result, machine, profile, quantile, quick, spread};

/// The variable under which the tests find a real Kafka.
const KAFKA: &str = "PRESCALE_TEST_KAFKA";
pub(crate) const TIMEOUT: Span = Span::from_secs(60);

/// A broker: the one that the tests use, where it is given, or else one in this process.
pub(crate) struct Broker {
    pub(crate) embedded: Option<EmbeddedBroker>,
    pub(crate) kafka: KafkaSettings,
    pub(crate) sink: KafkaSink,
    prefix: String,
}

impl Broker {
    /// `properties` of librdkafka are added to the default ones.
    pub(crate) fn start(properties: &[(&str, &str)]) -> Result<Self> {
        // As the program does.
        prescale_ingest::kafka::keep_freed_memory();
        let given = std::env::var(KAFKA).ok().filter(|servers| !servers.is_empty());
        let (embedded, kafka) = match given {
            Some(servers) => (None, KafkaSettings::new(servers)),
            None => {
                let broker = EmbeddedBroker::start()?;
                let kafka = broker.settings();
                (Some(broker), kafka)
            }
        };
        let kafka = properties.iter().fold(kafka, |kafka, (name, value)| kafka.with(name, value));
        let sink = KafkaSink::open(&kafka)?;
        let prefix = format!("bench-{:x}-{:x}", SystemClock.now().millis(), std::process::id());
        Ok(Self { embedded, kafka, sink, prefix })
    }

    pub(crate) fn describe(&self) -> String {
        match &self.embedded {
            Some(_) => format!("embedded (librdkafka's mock cluster in this process; {KAFKA} names another)"),
            None => format!("Kafka at {} ({KAFKA})", self.kafka.bootstrap_servers),
        }
    }

    /// The broker in this process shows readers what a transaction aborted.
    pub(crate) fn has_transactions(&self) -> bool {
        self.embedded.is_none()
    }

    /// Creates a topic and returns its full name.
    pub(crate) fn topic(&self, name: &str, partitions: i32) -> Result<String> {
        let topic = format!("{}-{name}", self.prefix);
        if let Some(broker) = &self.embedded {
            broker.create_topic(&topic, partitions)?;
        } else {
            self.sink.ensure_topic(&topic, partitions, TIMEOUT)?;
        }
        Ok(topic)
    }
}
