//! A topic as a source. Rule: each partition is read from a known offset on, in order, and an offset that is gone is an
//! error, never skipped. Partitions are assigned by hand, all of them or the one that is asked for: no group ever takes
//! one away.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prescale_domain::Span;
use prescale_telemetry::ingest::{
    ClientLog, CommitFailed, PartitionsAssigned, RecordsRead, SourceBack, SourceUnreachable,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::native::{Fetched, NativeConsumer, Notice};
use super::settings::{KafkaSettings, StartAt};
use crate::{PartitionStart, Polled, RawBatch, Source, SourceError};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// What to read and how.
#[derive(Clone, Debug)]
pub struct KafkaSourceSettings {
    pub kafka: KafkaSettings,
    pub topic: String,
    /// Read this partition alone; one that the topic does not have yet is waited for.
    pub only: Option<i32>,
    /// Where to start partitions that `starts` gives no offset for, if `starts` is empty. If it is not, the partitions
    /// that it does not name are newer than it and are read from their earliest record.
    pub start: StartAt,
    pub starts: Vec<PartitionStart>,
    /// Stop at the high watermarks read at start; records after them are not delivered. A transaction that is open below
    /// them is waited for.
    pub until_end: bool,
    /// The group whose offsets `commit` moves and [`StartAt::Group`] reads; `None` = `commit` does nothing.
    pub group: Option<String>,
    /// How often to look for new partitions.
    pub refresh: Span,
    /// How long a bounded source waits for a topic that does not exist. An unbounded one waits without end.
    pub topic_timeout: Span,
    /// Most records in one poll.
    pub max_records: usize,
}

impl KafkaSourceSettings {
    /// Everything of the topic, without end.
    pub fn new(kafka: KafkaSettings, topic: impl Into<String>) -> Self {
        Self {
            kafka,
            topic: topic.into(),
            only: None,
            start: StartAt::Earliest,
            starts: Vec::new(),
            until_end: false,
            group: None,
            refresh: Span::from_secs(60),
            topic_timeout: Span::from_secs(30),
            max_records: 32_768,
        }
    }
}

/// Reads a topic; nothing is asked of the broker before the first poll.
pub struct KafkaSource {
    settings: KafkaSourceSettings,
    topic: Arc<str>,
    /// The same, as librdkafka takes it.
    native_topic: CString,
    consumer: NativeConsumer,
    /// By number, from the only one or from 0 on; empty until the brokers have answered.
    partitions: Vec<Partition>,
    connected: bool,
    opened: Instant,
    asked: Instant,
    /// Why the topic can't be read now.
    trouble: Option<String>,
    /// What librdkafka said last of a connection that failed.
    last_error: Option<String>,
    /// Partitions whose offset was refused and whose watermarks could not be asked for yet; librdkafka tells it once.
    refused: Vec<i32>,
}

struct Partition {
    /// The offset expected next.
    next: i64,
    /// The first offset that is not delivered, in a bounded source.
    end: Option<i64>,
    at_end: bool,
    /// Nothing was read yet and no offset was asked for: the earliest record may move.
    movable: bool,
    /// It is not assigned until others have caught up.
    held: bool,
    batch: RawBatch,
    /// Records and bytes of the batch before: the next is mostly as large.
    expected: (usize, usize),
}

struct Failure {
    partition: i32,
    code: RDKafkaErrorCode,
    text: String,
}

impl KafkaSource {
    /// Checks the settings and prepares to read.
    pub fn open(settings: KafkaSourceSettings) -> Result<Self, SourceError> {
        let config = settings.kafka.consumer(settings.group.as_deref());
        let consumer = NativeConsumer::new(&config, settings.max_records).map_err(|error| SourceError::Kafka {
            topic: settings.topic.clone(),
            error: error.to_string(),
            hint: "check the librdkafka properties under `client`".to_owned(),
        })?;
        let native_topic = CString::new(settings.topic.as_str()).map_err(|error| SourceError::Kafka {
            topic: settings.topic.clone(),
            error: error.to_string(),
            hint: "correct the name of the topic".to_owned(),
        })?;
        let now = Instant::now();
        let topic = settings.topic.as_str().into();
        Ok(Self {
            topic,
            native_topic,
            consumer,
            partitions: Vec::new(),
            connected: false,
            opened: now,
            asked: now,
            trouble: None,
            last_error: None,
            refused: Vec::new(),
            settings,
        })
    }

    /// Learns the partitions and where to start them.
    fn connect(&mut self, wait: Duration) -> Result<(), Unready> {
        let count = self.partition_count(wait.clamp(Duration::from_millis(100), REQUEST_TIMEOUT))?;
        if let Some(lost) = self.settings.starts.iter().find(|start| start.partition >= count) {
            let error =
                format!("partition {} has a stored offset, but the topic has {count} partitions", lost.partition);
            return Err(self.fatal(error, RECREATED).into());
        }
        let numbers = match self.settings.only {
            None => 0..count,
            Some(only) if only < count => only..only + 1,
            Some(only) => {
                let text = format!("topic `{}` has no partition {only} yet, but {count}", self.topic);
                return Err(Unready::Later(text));
            }
        };
        let committed = self.committed(numbers.clone())?;
        let ends = self.ends(numbers.clone())?;
        let mut partitions = Vec::new();
        for (place, partition) in numbers.enumerate() {
            let (low, high) = self.watermarks(partition)?;
            let end = ends.get(place).map(|end| high.max(*end));
            let stored = self.settings.starts.iter().find(|start| start.partition == partition);
            let asked = stored.and_then(|start| start.offset).or(committed.get(&partition).copied());
            let start = match (asked, self.settings.start) {
                (Some(offset), _) => offset,
                (None, StartAt::Latest) if self.settings.starts.is_empty() => high,
                (None, _) => low,
            };
            self.check_start(partition, start, low, end.unwrap_or(high))?;
            partitions.push(Partition {
                next: start,
                end,
                at_end: end.is_some_and(|end| start >= end),
                movable: asked.is_none(),
                held: false,
                batch: RawBatch::new(self.topic.clone(), partition),
                expected: (0, 0),
            });
        }
        let unfinished = |partition: &&Partition| !(partition.at_end && partition.end.is_some());
        let list = self.list(partitions.iter().filter(unfinished).map(|p| (p.batch.partition, p.next)))?;
        self.consumer.assign(&list).map_err(|error| Unready::Later(self.describe(&error)))?;
        PartitionsAssigned { topic: &self.topic, partitions: partitions.len() }.emit();
        (self.partitions, self.connected, self.asked) = (partitions, true, Instant::now());
        Ok(())
    }

    fn check_start(&self, partition: i32, start: i64, low: i64, high: i64) -> Result<(), SourceError> {
        if start < low {
            let topic = self.topic.to_string();
            return Err(SourceError::OffsetGap { topic, partition, expected: start, found: low });
        }
        if start > high {
            let error = format!("partition {partition}: offset {start} is past the partition's end at {high}");
            return Err(self.fatal(error, RECREATED));
        }
        Ok(())
    }

    fn partition_count(&self, timeout: Duration) -> Result<i32, Unready> {
        let metadata = self
            .consumer
            .client()
            .fetch_metadata(Some(&self.topic), timeout)
            .map_err(|error| Unready::Later(self.describe(&error)))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == &*self.topic);
        let count = topic.map_or(0, |topic| topic.partitions().len());
        match topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(self
                .fatal("not allowed to read it".to_owned(), "allow the configured user to describe and read the topic")
                .into()),
            None if count > 0 => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) | None => self.missing(),
            Some(code) => Err(Unready::Later(format!("topic `{}`: {code}", self.topic))),
        }
    }

    fn missing(&self) -> Result<i32, Unready> {
        let text = format!("topic `{}` does not exist on {}", self.topic, self.settings.kafka.bootstrap_servers);
        if self.settings.until_end && !self.connected && self.opened.elapsed() > self.settings.topic_timeout.to_std() {
            let waited = self.settings.topic_timeout;
            return Err(self.fatal(format!("{text}, waited {waited}"), "create the topic, or correct its name").into());
        }
        Err(Unready::Later(text))
    }

    /// Where a bounded source ends, by partition: the high watermarks. A reader of committed records is told the end of
    /// what is committed instead; one that reads all of them knows.
    fn ends(&self, numbers: Range<i32>) -> Result<Vec<i64>, Unready> {
        if !self.settings.until_end {
            return Ok(Vec::new());
        }
        let mut config = self.settings.kafka.consumer(None);
        config.set("isolation.level", "read_uncommitted");
        let later = |error: KafkaError| Unready::Later(self.describe(&error));
        let reader: BaseConsumer = config.create().map_err(later)?;
        let high = |partition| reader.fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT).map(|(_, high)| high);
        numbers.map(high).collect::<Result<_, _>>().map_err(later)
    }

    /// The first offset, and the end of what is committed.
    fn watermarks(&self, partition: i32) -> Result<(i64, i64), Unready> {
        self.consumer
            .client()
            .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT)
            .map_err(|error| Unready::Later(self.describe(&error)))
    }

    /// The group's offsets by partition, where they are asked for.
    fn committed(&self, numbers: Range<i32>) -> Result<BTreeMap<i32, i64>, Unready> {
        if self.settings.start != StartAt::Group || !self.settings.starts.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = self.list(numbers.map(|partition| (partition, Offset::Invalid.to_raw().unwrap_or_default())))?;
        self.consumer.committed(&list, REQUEST_TIMEOUT).map_err(|error| Unready::Later(self.describe(&error)))?;
        let mut offsets = BTreeMap::new();
        for element in list.elements() {
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }

    fn list(&self, offsets: impl Iterator<Item = (i32, i64)>) -> Result<TopicPartitionList, SourceError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::from_raw(offset))
                .map_err(|error| self.fatal(format!("partition {partition}, offset {offset}: {error}"), RECREATED))?;
        }
        Ok(list)
    }

    /// Takes up partitions that the topic has got since, from their earliest record.
    fn grow(&mut self) -> Result<(), Unready> {
        self.asked = Instant::now();
        if self.settings.only.is_some() {
            return Ok(());
        }
        let count = self.partition_count(REQUEST_TIMEOUT)?;
        let known = i32::try_from(self.partitions.len()).unwrap_or(i32::MAX);
        for partition in known..count {
            let (low, _) = self.watermarks(partition)?;
            self.consumer
                .assign_more(&self.list(std::iter::once((partition, low)))?)
                .map_err(|error| Unready::Later(self.describe(&error)))?;
            let batch = RawBatch::new(self.topic.clone(), partition);
            self.partitions.push(Partition {
                next: low,
                end: None,
                at_end: false,
                movable: true,
                held: false,
                batch,
                expected: (0, 0),
            });
            PartitionsAssigned { topic: &self.topic, partitions: self.partitions.len() }.emit();
        }
        Ok(())
    }

    fn fetch(&mut self, wait: Duration) -> (bool, Vec<Failure>) {
        let (mut alive, mut failures) = (false, Vec::new());
        let (partitions, first) = (&mut self.partitions, self.settings.only.unwrap_or(0));
        self.consumer.fetch(wait, |fetched| match fetched {
            Fetched::Record { partition, offset, timestamp_millis, key, payload } => {
                alive = true;
                if let Some(partition) = at(partitions, first, partition) {
                    partition.take(offset, timestamp_millis, key, payload);
                }
            }
            Fetched::End { partition, offset } => {
                alive = true;
                if let Some(partition) = at(partitions, first, partition) {
                    partition.reach_end(offset);
                }
            }
            Fetched::Failed { partition, code, text } => failures.push(Failure { partition, code, text }),
        });
        (alive, failures)
    }

    fn handle(&mut self, failure: Failure) -> Result<(), Unready> {
        let Failure { partition, code, text } = failure;
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.refused.push(partition);
                self.settle_refused()
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                Err(self.fatal(text, "allow the configured user to read the topic").into())
            }
            RDKafkaErrorCode::Fatal => {
                Err(self.fatal(text, "restart; what was read goes on from its checkpoint").into())
            }
            // Without a group the coordinator's refusals mean nothing.
            RDKafkaErrorCode::GroupAuthorizationFailed if self.settings.group.is_none() => Ok(()),
            _ => Err(Unready::Later(format!("topic `{}` partition {partition}: {text}", self.topic))),
        }
    }

    fn settle_refused(&mut self) -> Result<(), Unready> {
        while let Some(partition) = self.refused.last() {
            self.out_of_range(*partition)?;
            self.refused.pop();
        }
        Ok(())
    }

    /// The broker does not have the offset that we asked for: dropped by retention, or the topic is another one.
    fn out_of_range(&mut self, number: i32) -> Result<(), Unready> {
        let (low, high) = self.watermarks(number)?;
        let first = self.settings.only.unwrap_or(0);
        let Some(partition) = at(&mut self.partitions, first, number) else { return Ok(()) };
        if partition.movable && partition.next < low {
            partition.next = low;
        }
        let next = partition.next;
        self.check_start(number, next, low, high)?;
        // All of them, also those that were held: whoever holds them says so again.
        self.partitions.iter_mut().for_each(|partition| partition.held = false);
        let list = self.list(self.partitions.iter().map(|p| (p.batch.partition, p.next)))?;
        self.consumer.assign(&list).map_err(|error| Unready::Later(self.describe(&error)))
    }

    /// What librdkafka told; `true` = all brokers are out of reach.
    fn hear(&mut self) -> Result<bool, SourceError> {
        let mut down = false;
        for notice in self.consumer.notices() {
            match notice {
                Notice::Log { level, text } => ClientLog { level, text: &text }.emit(),
                Notice::Error { code, text } => {
                    ClientLog { level: 3, text: &text }.emit();
                    let refused = matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL);
                    if refused && !self.connected {
                        return Err(self.fatal(text, "check user, password, mechanism and certificates under `client`"));
                    }
                    if code == RDKafkaErrorCode::AllBrokersDown {
                        down = true;
                    } else {
                        // How long the attempt took changes with every attempt.
                        let end = text.rfind(" (after ").unwrap_or(text.len());
                        self.last_error = Some(text[..end].to_owned());
                    }
                }
            }
        }
        Ok(down)
    }

    /// Settles whether the topic can be read, asking the broker where that is in doubt.
    fn look_around(&mut self, alive: bool, down: bool) -> Result<(), SourceError> {
        if alive {
            self.set_trouble(None);
        }
        let doubt = down && !alive;
        let probe = self.trouble.is_some() && self.asked.elapsed() > PROBE_INTERVAL;
        if doubt || probe {
            self.asked = Instant::now();
            match self.partition_count(PROBE_TIMEOUT) {
                Ok(_) => self.set_trouble(None),
                Err(Unready::Later(text)) => self.set_trouble(Some(text)),
                Err(Unready::Never(error)) => return Err(error),
            }
        } else if self.trouble.is_none()
            && !self.settings.until_end
            && self.asked.elapsed() > self.settings.refresh.to_std()
        {
            match self.grow() {
                Ok(()) => {}
                Err(Unready::Later(text)) => self.set_trouble(Some(text)),
                Err(Unready::Never(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_trouble(&mut self, trouble: Option<String>) {
        match (&self.trouble, &trouble) {
            (None, Some(error)) => SourceUnreachable { topic: &self.topic, error }.emit(),
            (Some(_), None) => {
                SourceBack { topic: &self.topic }.emit();
                self.last_error = None;
            }
            _ => {}
        }
        self.trouble = trouble;
    }

    fn polled(&mut self) -> Polled {
        let mut polled = Polled { unreachable: self.trouble.clone(), ..Polled::default() };
        let (mut records, mut bytes) = (0, 0);
        for partition in &mut self.partitions {
            let number = partition.batch.partition;
            polled.partitions.push(number);
            if partition.at_end {
                polled.at_end.push(number);
                let high = || self.consumer.high_watermark(&self.native_topic, number);
                if partition.end.is_none() && high().is_some_and(|high| partition.next >= high) {
                    polled.caught_up.push(number);
                }
            }
            if !partition.batch.is_empty() {
                records += partition.batch.len() as u64;
                bytes += partition.batch.payload.len() as u64;
                let empty = RawBatch::new(self.topic.clone(), number);
                let full = std::mem::replace(&mut partition.batch, empty);
                partition.expected = (full.len(), full.payload.len());
                polled.batches.push(full);
            }
        }
        if records > 0 {
            RecordsRead { topic: &self.topic, records, bytes }.emit();
        }
        polled.ended = self.connected && self.settings.until_end && polled.at_end.len() == polled.partitions.len();
        polled
    }

    fn describe(&self, error: &KafkaError) -> String {
        let code = || error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        let reason = self.last_error.clone().unwrap_or_else(code);
        format!("broker {} can't be reached: {reason}", self.settings.kafka.bootstrap_servers)
    }

    fn fatal(&self, error: String, hint: &str) -> SourceError {
        SourceError::Kafka { topic: self.topic.to_string(), error, hint: hint.to_owned() }
    }
}

const RECREATED: &str =
    "the topic seems to have been created anew; delete the state directory to start from its earliest record";

/// Why something did not work: try again, or give up.
enum Unready {
    Later(String),
    Never(SourceError),
}

impl From<SourceError> for Unready {
    fn from(error: SourceError) -> Self {
        Self::Never(error)
    }
}

/// The partition of this number, where those from `first` on are read.
fn at(partitions: &mut [Partition], first: i32, number: i32) -> Option<&mut Partition> {
    usize::try_from(number - first).ok().and_then(|place| partitions.get_mut(place))
}

impl Partition {
    fn take(&mut self, offset: i64, timestamp_millis: Option<i64>, key: Option<&[u8]>, payload: Option<&[u8]>) {
        // Read twice, because of a new assignment.
        if offset < self.next {
            return;
        }
        if self.end.is_some_and(|end| offset >= end) {
            self.at_end = true;
            return;
        }
        if self.batch.is_empty() {
            let (records, bytes) = self.expected;
            self.batch.reserve(records, bytes);
        }
        if let Some(key) = key {
            self.batch.push_key(key);
        }
        self.batch.push(offset, timestamp_millis, payload);
        (self.next, self.movable) = (offset + 1, false);
        self.at_end = self.end.is_some_and(|end| self.next >= end);
    }

    /// There is nothing before `offset` any more: transaction markers and compacted records take offsets too.
    fn reach_end(&mut self, offset: i64) {
        if self.held {
            return;
        }
        self.next = self.next.max(offset);
        self.at_end = self.end.is_none_or(|end| self.next >= end);
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, wait: Span) -> Result<Polled, SourceError> {
        let wait = wait.to_std();
        let down = self.hear()?;
        if !self.connected {
            match self.connect(wait) {
                Ok(()) => self.set_trouble(None),
                Err(Unready::Never(error)) => return Err(error),
                Err(Unready::Later(text)) => {
                    // A refused password comes on the other queue.
                    self.hear()?;
                    self.set_trouble(Some(text));
                    return Ok(self.polled());
                }
            }
        }
        let finished = self.settings.until_end && self.partitions.iter().all(|partition| partition.at_end);
        if !finished {
            let (alive, failures) = self.fetch(wait);
            self.look_around(alive, down)?;
            let mut outcomes = vec![self.settle_refused()];
            outcomes.extend(failures.into_iter().map(|failure| self.handle(failure)));
            for outcome in outcomes {
                match outcome {
                    Ok(()) => {}
                    Err(Unready::Later(text)) => self.set_trouble(Some(text)),
                    Err(Unready::Never(error)) => return Err(error),
                }
            }
        }
        Ok(self.polled())
    }

    fn commit(&mut self, oldest_needed: &[(i32, i64)]) -> Result<(), SourceError> {
        if self.settings.group.is_none() || oldest_needed.is_empty() {
            return Ok(());
        }
        let list = self.list(oldest_needed.iter().copied())?;
        // Group offsets only inform; what a restart needs is in the checkpoint.
        if let Err(error) = self.consumer.commit(&list, REQUEST_TIMEOUT) {
            CommitFailed { topic: &self.topic, error: &error.to_string() }.emit();
        }
        Ok(())
    }

    /// Held partitions are taken out of the assignment, and put back at the offset that is expected next: whatever
    /// librdkafka had fetched of them ahead is dropped and fetched again.
    fn hold(&mut self, partitions: &[i32]) {
        for number in 0..self.partitions.len() {
            let Some(partition) = self.partitions.get(number) else { continue };
            let id = partition.batch.partition;
            let is_read_out = partition.end.is_some() && partition.at_end;
            let wanted = partitions.contains(&id) && !is_read_out;
            if wanted == partition.held || (partition.held && is_read_out) {
                continue;
            }
            let Ok(list) = self.list(std::iter::once((id, partition.next))) else { continue };
            let change = if wanted { self.consumer.assign_less(&list) } else { self.consumer.assign_more(&list) };
            // What did not work is asked for again with the next epoch.
            if change.is_ok()
                && let Some(partition) = self.partitions.get_mut(number)
            {
                partition.held = wanted;
                // Nothing is known of its end meanwhile; it is not silent but not heard.
                partition.at_end &= partition.end.is_some();
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
