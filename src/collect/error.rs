//! What ends the agent. Rule: an outage is none of these, but where a start or a single round can't do without.

use prescale_domain::Span;
use thiserror::Error;

/// Why the agent ended, or could not begin.
#[derive(Debug, Error)]
pub enum CollectError {
    /// A setting that can't be.
    #[error("{0}")]
    Settings(String),
    /// Of `docker = on`: without the engine there is nothing to begin with.
    #[error("Docker Engine at {host}: {error}\nhint: is it running, and may this user open its socket?")]
    Engine { host: String, error: String },
    /// librdkafka does not take its properties.
    #[error("write to Kafka: {0}\nhint: check the librdkafka properties under `client`")]
    Producer(String),
    /// A single round did not arrive.
    #[error("write to topic `{topic}` on {servers}: {missing} records not acknowledged within {waited}: {error}")]
    Undelivered { topic: String, servers: String, missing: u64, waited: Span, error: String },
    /// A record that is no JSON; no reading makes one.
    #[error("write a record: {0}")]
    Encode(#[from] serde_json::Error),
    /// NDJSON could not be written. A reader that has gone away is [`std::io::ErrorKind::BrokenPipe`].
    #[error("write records: {0}")]
    Write(#[from] std::io::Error),
}
