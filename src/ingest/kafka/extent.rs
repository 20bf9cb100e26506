//! How much of a topic there is to read, before any of it is read. Rule: nothing is waited for, created or committed; what
//! can't be read now is an error that says what to do.

use std::time::Duration;

use prescale_domain::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::settings::KafkaSettings;
use crate::{PartitionStart, SourceError};

const TIMEOUT: Duration = Duration::from_secs(10);

/// From where on each partition is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// All that is there.
    #[default]
    Earliest,
    /// This offset; the earliest record where that is later.
    Offset(i64),
    /// The first record whose timestamp is not before this.
    Time(Timestamp),
}

/// What a topic holds from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first offset to read, for every partition.
    pub starts: Vec<PartitionStart>,
    /// Offsets from there to the end: records, and what transactions leave between them.
    pub records: u64,
}

/// Asks the brokers what `topic` holds. Calls block for some seconds at most.
///
/// # Errors
/// The brokers can't be reached, the topic is not there or may not be read, or it holds nothing.
pub fn extent(kafka: &KafkaSettings, topic: &str, from: ReadFrom) -> Result<Extent, SourceError> {
    let fault =
        |error: String, hint: &str| SourceError::Kafka { topic: topic.to_owned(), error, hint: hint.to_owned() };
    let unreachable = |error: KafkaError| {
        let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        fault(format!("broker {} can't be reached: {code}", kafka.bootstrap_servers), UNREACHABLE)
    };
    let created = kafka.consumer(None).create();
    let consumer: BaseConsumer =
        created.map_err(|error| fault(error.to_string(), "check the librdkafka properties under `client`"))?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(unreachable)?;
    let told = metadata.topics().iter().find(|told| told.name() == topic);
    match told.and_then(|told| told.error()).map(RDKafkaErrorCode::from) {
        None if told.is_some_and(|told| !told.partitions().is_empty()) => {}
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            let hint = "allow the configured user to describe and read the topic";
            return Err(fault("not allowed to read it".to_owned(), hint));
        }
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
            let error = format!("it does not exist on {}", kafka.bootstrap_servers);
            return Err(fault(error, "correct the name of the topic in the SQL or under [features.sources]"));
        }
        Some(code) => return Err(fault(code.to_string(), UNREACHABLE)),
    }
    let count = told.map_or(0, |told| told.partitions().len());
    let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
    let at_time = match from {
        ReadFrom::Time(time) => Some(at_time(&consumer, topic, numbers.clone(), time).map_err(unreachable)?),
        ReadFrom::Earliest | ReadFrom::Offset(_) => None,
    };
    let mut extent = Extent { starts: Vec::with_capacity(count), records: 0 };
    for partition in numbers {
        let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT).map_err(unreachable)?;
        let wanted = match (from, &at_time) {
            (ReadFrom::Offset(offset), _) => offset,
            (_, Some(found)) => offset_of(found, topic, partition).unwrap_or(high),
            _ => low,
        };
        let start = wanted.clamp(low, high.max(low));
        extent.starts.push(PartitionStart { partition, offset: Some(start) });
        extent.records += u64::try_from(high - start).unwrap_or(0);
    }
    if extent.records == 0 {
        let (error, hint) = match from {
            ReadFrom::Earliest => ("it holds no records".to_owned(), "write some to it, or name another topic"),
            ReadFrom::Offset(offset) => (format!("it holds no records from offset {offset} on"), EARLIER),
            ReadFrom::Time(time) => (format!("it holds no records from {time} on"), EARLIER),
        };
        return Err(fault(error, hint));
    }
    Ok(extent)
}

const UNREACHABLE: &str =
    "see that the brokers run and that kafka.bootstrap_servers and what is under [kafka.client] are right";
const EARLIER: &str = "begin earlier";

/// The offsets of the first records that are not older than `time`.
fn at_time(
    consumer: &BaseConsumer,
    topic: &str,
    numbers: std::ops::Range<i32>,
    time: Timestamp,
) -> Result<TopicPartitionList, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for partition in numbers {
        asked.add_partition_offset(topic, partition, Offset::Offset(time.millis().max(0)))?;
    }
    consumer.offsets_for_times(asked, TIMEOUT)
}

/// `None` = all records of the partition are older.
fn offset_of(found: &TopicPartitionList, topic: &str, partition: i32) -> Option<i64> {
    match found.find_partition(topic, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}
