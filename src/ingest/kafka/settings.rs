//! How to reach Kafka. Rule: any librdkafka property can be set and passes through untouched; ours are defaults only.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the brokers are and how to talk to them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// librdkafka properties, such as `security.protocol`, `sasl.mechanism`, `ssl.ca.location`, `fetch.wait.max.ms`. A
    /// name that starts with `consumer.` or `producer.` goes to that side alone, without the prefix.
    #[serde(default)]
    pub client: BTreeMap<String, String>,
}

/// Where to start a partition that no checkpoint speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StartAt {
    #[default]
    Earliest,
    Latest,
    /// The group's committed offset; where there is none, the earliest record.
    Group,
}

/// `auto.offset.reset = error`: an offset that is gone is told, never skipped. What is fetched ahead of the pipeline takes
/// most of its memory, some 300 bytes a record beside the record itself: 20,000 records a partition last longer than the
/// next fetch takes, which brings 1 MiB of compressed ones (`benches/peak_memory.rs`).
const CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
    ("check.crcs", "false"),
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "65536"),
    ("max.partition.fetch.bytes", "1048576"),
    ("fetch.wait.max.ms", "20"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "100"),
    ("socket.timeout.ms", "15000"),
];

/// Of a member of a group, which reads nothing: it only learns what is its. A process that died is missed after the
/// session's time-out.
const MEMBER: &[(&str, &str)] = &[
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("queued.min.messages", "1"),
    ("queued.max.messages.kbytes", "1024"),
];

/// What a member is, whatever the configuration says: partitions are given and taken one by one, and where to read is not
/// the group's business.
const MEMBERSHIP: &[(&str, &str)] = &[
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.auto.commit", "false"),
    ("enable.partition.eof", "false"),
    ("auto.offset.reset", "latest"),
];

/// No time-out on messages: through an outage they stay in the bounded queue, and `flush` says that they do.
const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("message.timeout.ms", "0"),
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.messages", "500000"),
    ("queue.buffering.max.kbytes", "131072"),
];

const BOTH: &[(&str, &str)] =
    &[("socket.nagle.disable", "true"), ("reconnect.backoff.ms", "100"), ("reconnect.backoff.max.ms", "2000")];

impl KafkaSettings {
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self { bootstrap_servers: bootstrap_servers.into(), client: BTreeMap::new() }
    }

    /// The same settings with one librdkafka property more.
    #[must_use]
    pub fn with(mut self, property: &str, value: &str) -> Self {
        self.client.insert(property.to_owned(), value.to_owned());
        self
    }

    /// librdkafka refuses to assign partitions without a group name, even where no group is used.
    pub(crate) fn consumer(&self, group: Option<&str>) -> ClientConfig {
        let mut config = self.config(CONSUMER, "consumer.", "producer.");
        match group {
            Some(group) => config.set("group.id", group),
            None if config.get("group.id").is_none() => config.set("group.id", "prescale-unused"),
            None => &mut config,
        };
        config
    }

    /// For a member of a group, which looks for new partitions of its topic this often.
    pub(crate) fn member(&self, group: &str, refresh_millis: i64) -> ClientConfig {
        let mut config = self.config(&[CONSUMER, MEMBER].concat(), "consumer.", "producer.");
        for (name, value) in MEMBERSHIP {
            config.set(*name, *value);
        }
        config.set("group.id", group);
        config.set("topic.metadata.refresh.interval.ms", refresh_millis.clamp(10, 3_600_000).to_string());
        config
    }

    pub(crate) fn producer(&self) -> ClientConfig {
        self.config(PRODUCER, "producer.", "consumer.")
    }

    /// For a producer of transactions. Messages time out with their transaction, so that it can be given up and tried
    /// again.
    pub(crate) fn transactional_producer(&self, id: &str) -> ClientConfig {
        let kept = PRODUCER.iter().filter(|(name, _)| *name != "message.timeout.ms").copied();
        let mut config = self.config(&kept.collect::<Vec<_>>(), "producer.", "consumer.");
        config.set("transactional.id", id);
        config
    }

    /// For the admin client, which takes neither side's properties.
    pub(crate) fn admin(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (name, value) in &self.client {
            if name.starts_with("security.") || name.starts_with("sasl.") || name.starts_with("ssl.") {
                config.set(name, value);
            }
        }
        config
    }

    fn config(&self, defaults: &[(&str, &str)], mine: &str, other: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in BOTH.iter().chain(defaults) {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        for (name, value) in &self.client {
            if !name.starts_with(other) && !name.starts_with(mine) {
                config.set(name, value);
            }
        }
        for (name, value) in &self.client {
            if let Some(name) = name.strip_prefix(mine) {
                config.set(name, value);
            }
        }
        config
    }
}

impl fmt::Debug for KafkaSettings {
    /// Values that may be secrets are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret =
            |name: &str| ["password", "secret", ".key", "jaas", "token"].iter().any(|part| name.contains(part));
        let client: BTreeMap<&str, &str> = self
            .client
            .iter()
            .map(|(name, value)| (name.as_str(), if secret(name) { "***" } else { value.as_str() }))
            .collect();
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client", &client)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_pass_through_and_prefixed_ones_go_to_one_side() {
        let settings = KafkaSettings::new("a:1,b:2")
            .with("security.protocol", "SASL_SSL")
            .with("sasl.password", "hunter2")
            .with("fetch.wait.max.ms", "5")
            .with("consumer.client.id", "reader")
            .with("producer.linger.ms", "0");
        let (consumer, producer) = (settings.consumer(Some("g")), settings.producer());
        assert_eq!(consumer.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(consumer.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(consumer.get("fetch.wait.max.ms"), Some("5"));
        assert_eq!(consumer.get("group.id"), Some("g"));
        assert_eq!(consumer.get("client.id"), Some("reader"));
        assert_eq!(consumer.get("linger.ms"), None);
        assert_eq!(producer.get("linger.ms"), Some("0"));
        assert_eq!(producer.get("client.id"), None);
        assert_eq!(producer.get("sasl.password"), Some("hunter2"));
        assert_eq!(settings.admin().get("fetch.wait.max.ms"), None);
        let transactional = settings.transactional_producer("prescale-x");
        assert_eq!(transactional.get("transactional.id"), Some("prescale-x"));
        assert_eq!(transactional.get("linger.ms"), Some("0"));
        assert_eq!((transactional.get("message.timeout.ms"), producer.get("message.timeout.ms")), (None, Some("0")));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let member = settings.with("consumer.session.timeout.ms", "6000").with("group.id", "x").member("g", 1000);
        assert_eq!((member.get("session.timeout.ms"), member.get("group.id")), (Some("6000"), Some("g")));
        assert_eq!(member.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    }
}
