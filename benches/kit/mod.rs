//! What both benches stand on: broker, arguments, profile and machine, order statistics. Rule: topics are new in each
//! run.

use std::error::Error;

use prescale_domain::{Clock as _, Span, SystemClock};
use prescale_ingest::embedded::EmbeddedBroker;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The variable under which the tests find a real Kafka.
const KAFKA: &str = "PRESCALE_TEST_KAFKA";
pub(crate) const TIMEOUT: Span = Span::from_secs(60);

/// Whether `--quick` was given. Cargo says `--bench`, which changes nothing.
pub(crate) fn quick() -> Result<bool> {
    let mut quick = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => quick = true,
            "--bench" => {}
            other => return Err(format!("argument `{other}`: expected --quick or nothing").into()),
        }
    }
    Ok(quick)
}

/// How this was compiled.
pub(crate) fn profile() -> &'static str {
    if cfg!(debug_assertions) {
        "dev (hot crates and Arrow at opt-level 3, DataFusion at 0 to 3, see Cargo.toml)"
    } else {
        "bench (all at opt-level 3, thin LTO)"
    }
}

/// Cores, and what else ran when this was asked.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{cores} cores, load average {}",
        load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown")
    )
}

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

/// The value that the share `quantile` of `values` does not exceed (nearest rank); `None` of nothing.
pub(crate) fn quantile(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}
