//! Membership of a consumer group: which partitions of a topic are this process's. Rule: it is polled by a thread that does
//! nothing else, so that nobody is evicted for being busy; a partition that is taken back is given up when whoever works
//! on it has ended, or after a bounded wait.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use prescale_domain::Span;
use prescale_telemetry::ingest::{ClientLog, PartitionsHeld};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::settings::KafkaSettings;
use crate::SourceError;

const WAIT: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Which group to join, and for what.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    pub kafka: KafkaSettings,
    pub group: String,
    pub topic: String,
    /// How often to look for new partitions.
    pub refresh: Span,
    /// How long a partition that is taken back is waited for.
    pub patience: Span,
}

/// What a member knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Partitions that are this process's.
    pub partitions: BTreeSet<i32>,
    /// How many the topic has; `None` = not known yet.
    pub of: Option<i32>,
    /// The group has given this process its part, which may be nothing.
    pub joined: bool,
}

/// A member of a group; it leaves when this is dropped.
pub struct Group {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    held: Held,
    /// Taken back, and not given up yet.
    leaving: BTreeSet<i32>,
    failure: Option<String>,
}

impl Group {
    /// Begins to join; nothing is waited for.
    pub fn join(settings: GroupSettings) -> Result<Self, SourceError> {
        let shared = Arc::new(Shared::default());
        let context =
            Member { topic: settings.topic.clone(), patience: settings.patience, shared: Arc::clone(&shared) };
        let unusable = |error: String| SourceError::Kafka {
            topic: settings.topic.clone(),
            error,
            hint: "check the librdkafka properties under `client`".to_owned(),
        };
        let config = settings.kafka.member(&settings.group, settings.refresh.millis());
        let consumer: BaseConsumer<Member> =
            config.create_with_context(context).map_err(|error| unusable(error.to_string()))?;
        consumer.subscribe(&[&settings.topic]).map_err(|error| unusable(error.to_string()))?;
        let seen = Arc::clone(&shared);
        let name = format!("group {}", settings.group);
        let work = move || attend(&consumer, &settings, &seen);
        let thread = thread::Builder::new().name(name).spawn(work);
        let thread = thread.map_err(|error| SourceError::Kafka {
            topic: String::new(),
            error: error.to_string(),
            hint: "allow the process more threads".to_owned(),
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What this process holds now; an error is one that no attempt mends.
    pub fn held(&self) -> Result<Held, String> {
        let state = self.shared.lock();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(state.held.clone()),
        }
    }

    /// Says which partitions are worked on: one that was taken back and is not among them is given up.
    pub fn working_on(&self, partitions: &BTreeSet<i32>) {
        let mut state = self.shared.lock();
        let before = state.leaving.len();
        state.leaving.retain(|partition| partitions.contains(partition));
        if state.leaving.len() < before {
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.lock().leaving.clear();
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so, and holds nothing any more.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls until told to stop. Records are of no interest: the few that come before a new partition is paused are dropped.
fn attend(consumer: &BaseConsumer<Member>, settings: &GroupSettings, shared: &Shared) {
    let mut asked: Option<Instant> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        if asked.is_none_or(|at| at.elapsed() >= settings.refresh.to_std()) {
            let metadata = consumer.fetch_metadata(Some(&settings.topic), REQUEST_TIMEOUT);
            let found = metadata.ok().and_then(|metadata| Some(metadata.topics().first()?.partitions().len()));
            if let Some(count) = found.and_then(|count| i32::try_from(count).ok()).filter(|count| *count > 0) {
                asked = Some(Instant::now());
                shared.lock().held.of = Some(count);
            }
        }
        let Some(Err(error)) = consumer.poll(WAIT) else { continue };
        match error.rdkafka_error_code() {
            Some(code @ (RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                shared.lock().failure = Some(format!("{code}"));
            }
            // The topic may come, and the broker may come back.
            _ => ClientLog { level: 4, text: &format!("group {}: {error}", settings.group) }.emit(),
        }
    }
}

/// Takes what the group gives and gives what it takes back.
struct Member {
    topic: String,
    patience: Span,
    shared: Arc<Shared>,
}

impl Member {
    fn take(&self, consumer: &BaseConsumer<Self>, given: &TopicPartitionList) -> Result<(), KafkaError> {
        // From the end on, since nothing is read here, and paused at once.
        let mut list = TopicPartitionList::new();
        for element in given.elements() {
            list.add_partition_offset(element.topic(), element.partition(), Offset::End)?;
        }
        consumer.incremental_assign(&list)?;
        if list.count() > 0 {
            consumer.pause(&list)?;
        }
        let mut state = self.shared.lock();
        state.held.joined = true;
        state.held.partitions.extend(given.elements().iter().map(|element| element.partition()));
        PartitionsHeld { topic: &self.topic, partitions: state.held.partitions.len() }.emit();
        Ok(())
    }

    fn give_back(&self, consumer: &BaseConsumer<Self>, taken: &TopicPartitionList) -> Result<(), KafkaError> {
        let numbers: BTreeSet<i32> = taken.elements().iter().map(|element| element.partition()).collect();
        let mut state = self.shared.lock();
        state.held.partitions.retain(|partition| !numbers.contains(partition));
        PartitionsHeld { topic: &self.topic, partitions: state.held.partitions.len() }.emit();
        if !self.shared.stop.load(Ordering::Relaxed) {
            state.leaving.extend(&numbers);
            let busy = |state: &mut State| !state.leaving.is_empty();
            let (mut state, _) = self
                .shared
                .changed
                .wait_timeout_while(state, self.patience.to_std(), busy)
                .unwrap_or_else(PoisonError::into_inner);
            state.leaving.clear();
        }
        consumer.incremental_unassign(taken)
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ClientLog { level: level as i32, text: &format!("{facility}: {message}") }.emit();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog { level: 3, text: &format!("{error}: {reason}") }.emit();
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.take(consumer, list),
            _ => self.give_back(consumer, list),
        };
        if let Err(error) = done {
            ClientLog { level: 3, text: &format!("rebalance: {error}") }.emit();
        }
    }
}
