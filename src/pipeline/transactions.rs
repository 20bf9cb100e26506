//! Does what the protocol of `commit` asks for, on a real Kafka. Rule: nothing is decided here.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use prescale_domain::Span;
use prescale_ingest::OutRecord;
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, Remedy, TransactionError, TransactionalSink, newest_value};
use prescale_telemetry::ingest::CommitFailed;
use prescale_telemetry::pipeline::{EpochCommitted, OutboxFound, OutputOfOtherState};
use serde::{Deserialize, Serialize};

use crate::PipelineError;
use crate::attempts::Attempts;
use crate::checkpoint::Checkpoint;
use crate::commit::{Action, Commit, Event, Marker};
use crate::outbox::{GroupOffset, Outbox};
use crate::runner::{CommitStep, RunnerSettings};
use crate::sql::SourceOptions;

/// Markers are on one partition, whatever others the topic has.
const MARKER_PARTITION: i32 = 0;

/// A record of the topic of epochs.
#[derive(Debug, Serialize, Deserialize)]
struct EpochRecord {
    pipeline: String,
    #[serde(flatten)]
    marker: Marker,
    /// Of a share: where whoever works on it next goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Checkpoint>,
}

/// The transactions of one pipeline.
pub(crate) struct Transactions<'a> {
    settings: RunnerSettings,
    kafka: KafkaSettings,
    stop: &'a AtomicBool,
    /// Transactional id, and key of the markers: the same for every process that writes this pipeline's rows.
    id: String,
    /// Tells this process from others with the same id.
    run: String,
    commit: Commit,
    /// Being initialised, which may take longer than one attempt.
    opening: Option<TransactionalSink>,
    producer: Option<TransactionalSink>,
    /// Of a share: what was found when it was taken over.
    claimed: Option<Option<Checkpoint>>,
    /// The group's offsets were refused; rows go on without them, since they only inform.
    without_offsets: bool,
}

/// The transactional id of a pipeline, or of one share of it.
pub(crate) fn id_of(settings: &RunnerSettings) -> String {
    let whole = format!("prescale-{}-{}", settings.features_topic, settings.pipeline);
    settings.share.as_ref().map_or(whole.clone(), |place| format!("{whole}-{}", place.partition))
}

/// Whether a transaction of this id was ever committed; `None` when stopped before that was known.
pub(crate) fn is_known(settings: &RunnerSettings, kafka: &KafkaSettings, stop: &AtomicBool, id: &str) -> Option<bool> {
    let RunnerSettings { epochs_topic, flush_timeout, .. } = settings;
    let mut attempts = Attempts::new(&settings.pipeline, stop);
    loop {
        match newest_value(kafka, epochs_topic, MARKER_PARTITION, id.as_bytes(), *flush_timeout) {
            Ok(found) => return Some(found.is_some()),
            Err(error) => {
                if !attempts.failed(&error) {
                    return None;
                }
            }
        }
    }
}

struct Outcome {
    /// Otherwise the pipeline was stopped.
    is_done: bool,
    has_sent: bool,
}

impl<'a> Transactions<'a> {
    /// `last` is what the state store holds of output.
    pub(crate) fn new(
        settings: &RunnerSettings,
        sink: &KafkaSink,
        stop: &'a AtomicBool,
        last: Option<&Outbox>,
    ) -> Self {
        let (last, owed) = last.map_or((None, None), Outbox::standing);
        Self {
            settings: settings.clone(),
            kafka: sink.settings().clone(),
            stop,
            id: id_of(settings),
            run: format!("{:016x}", RandomState::new().build_hasher().finish()),
            commit: Commit::new(last, owed),
            opening: None,
            producer: None,
            claimed: None,
            without_offsets: false,
        }
    }

    /// Takes over a share: shuts out whoever worked on it, and reads how far that came; `false` when stopped before that.
    pub(crate) fn claim(&mut self) -> Result<bool, PipelineError> {
        let outcome = self.drive(Action::Open, None)?;
        // Whatever was found is where this goes on.
        drop(self.commit.take_stranger());
        Ok(outcome.is_done)
    }

    /// Where a share that was taken over stands; given out once.
    pub(crate) fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        self.claimed.as_mut().and_then(Option::take)
    }

    /// Shuts out whoever wrote before, and writes what the run before did not; `false` when stopped before that.
    pub(crate) fn recover(&mut self, left: Option<&Outbox>) -> Result<bool, PipelineError> {
        let owed = left.filter(|outbox| !outbox.records.is_empty());
        let outcome = self.drive(Action::Open, owed)?;
        if left.is_none() && outcome.is_done {
            let share = format!("{}-0", self.id);
            match is_known(&self.settings, &self.kafka, self.stop, &share) {
                Some(false) => {}
                Some(true) => {
                    let (pipeline, topic) = (self.settings.pipeline.clone(), self.settings.features_topic.clone());
                    return Err(PipelineError::SeveralProcesses { pipeline, topic });
                }
                None => return Ok(false),
            }
        }
        if let (true, Some(outbox)) = (outcome.is_done, owed) {
            let (epoch, records) = (outbox.marker.epoch, outbox.records.len());
            let pipeline = &self.settings.pipeline;
            OutboxFound { pipeline, epoch, records, written: !outcome.has_sent }.emit();
        }
        if let Some(stranger) = self.commit.take_stranger() {
            let number = |marker: Option<Marker>| marker.map_or(0, |marker| marker.epoch);
            let (found, expected) = (number(stranger.found), number(stranger.expected));
            OutputOfOtherState { pipeline: &self.settings.pipeline, found, expected }.emit();
        }
        Ok(outcome.is_done)
    }

    /// An outbox for the next epoch.
    pub(crate) fn outbox(
        &self,
        mut records: Vec<OutRecord>,
        offsets: Vec<GroupOffset>,
        checkpoint: &Checkpoint,
    ) -> Outbox {
        let marker = self.commit.next(&self.run);
        let checkpoint = self.settings.share.as_ref().map(|_| checkpoint.clone());
        let record = EpochRecord { pipeline: self.settings.pipeline.clone(), marker: marker.clone(), checkpoint };
        records.push(OutRecord {
            topic: Arc::from(&*self.settings.epochs_topic),
            partition: Some(MARKER_PARTITION),
            key: Some(self.id.clone().into_bytes()),
            // Serialising texts and numbers can't fail.
            value: serde_json::to_vec(&record).unwrap_or_default(),
            headers: Vec::new(),
        });
        Outbox { marker, before: self.commit.last().cloned(), records, offsets }
    }

    /// Writes an outbox that the state store holds; `false` when stopped before it was committed.
    pub(crate) fn deliver(&mut self, outbox: &Outbox) -> Result<bool, PipelineError> {
        let started = Instant::now();
        let action = self.commit.on(Event::Saved(outbox.marker.clone()));
        let is_done = self.drive(action, Some(outbox))?.is_done;
        if is_done {
            let (epoch, records) = (outbox.marker.epoch, outbox.records.len());
            let seconds = started.elapsed().as_secs_f64();
            EpochCommitted { pipeline: &self.settings.pipeline, epoch, records, seconds }.emit();
        }
        Ok(is_done)
    }

    fn drive(&mut self, mut action: Action, outbox: Option<&Outbox>) -> Result<Outcome, PipelineError> {
        let (pipeline, mut has_sent) = (self.settings.pipeline.clone(), false);
        let mut attempts = Attempts::new(&pipeline, self.stop);
        loop {
            let done = match action {
                Action::Rest => {
                    attempts.succeeded();
                    return Ok(Outcome { is_done: true, has_sent });
                }
                Action::GiveWay => return Err(self.rival()),
                // Whoever is shut out of a share does not ask by whom: it is begun anew, by whoever the group says.
                Action::Open if self.claimed.is_some() => return Err(self.rival()),
                Action::Open => self.open().map(Event::Opened),
                Action::Send => self.send(outbox).map(|()| Event::Sent),
                Action::Await => self.with(|sink, wait| sink.flush(wait)).map(|()| Event::Acknowledged),
                Action::Commit => self.with(TransactionalSink::commit).map(|()| Event::Committed),
                Action::Abort => self.with(TransactionalSink::abort).map(|()| Event::Aborted),
            };
            let event = match done {
                Ok(event) => event,
                Err(error) if error.remedy == Remedy::Refused => {
                    let pipeline = self.settings.pipeline.clone();
                    return Err(PipelineError::Transactions { pipeline, error: error.to_string() });
                }
                Err(error) => {
                    if !attempts.failed(&error) {
                        return Ok(Outcome { is_done: false, has_sent });
                    }
                    Event::Failed(error.remedy)
                }
            };
            has_sent |= event == Event::Sent;
            self.probe(&event);
            action = self.commit.on(event);
        }
    }

    fn probe(&self, event: &Event) {
        let step = match event {
            Event::Opened(_) => CommitStep::Opened,
            Event::Sent => CommitStep::Sent,
            Event::Acknowledged => CommitStep::Acknowledged,
            Event::Committed => CommitStep::Committed,
            Event::Saved(_) | Event::Aborted | Event::Failed(_) => return,
        };
        (self.settings.probe)(step);
    }

    /// A new producer; the old one, if there was one, has failed.
    fn open(&mut self) -> Result<Option<Marker>, TransactionError> {
        self.producer = None;
        let opening = match self.opening.take() {
            Some(opening) => opening,
            None => TransactionalSink::open(&self.kafka, &self.id)?,
        };
        if let Err(error) = opening.init(self.settings.flush_timeout) {
            self.opening = (error.remedy == Remedy::Repeat).then_some(opening);
            return Err(error);
        }
        let last = self.last_record()?;
        self.producer = Some(opening);
        let (marker, checkpoint) = last.map(|record| (record.marker, record.checkpoint)).unzip();
        if self.settings.share.is_some() {
            self.claimed = Some(checkpoint.flatten());
        }
        Ok(marker)
    }

    fn last_record(&self) -> Result<Option<EpochRecord>, TransactionError> {
        let RunnerSettings { epochs_topic, flush_timeout, .. } = &self.settings;
        let found = newest_value(&self.kafka, epochs_topic, MARKER_PARTITION, self.id.as_bytes(), *flush_timeout)
            .map_err(|error| self.error(Remedy::Repeat, error.to_string()))?;
        let Some(bytes) = found else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).map_err(|error| {
            self.error(Remedy::Refused, format!("the last record of `{epochs_topic}` can't be read: {error}"))
        })?;
        Ok(Some(record))
    }

    fn send(&mut self, outbox: Option<&Outbox>) -> Result<(), TransactionError> {
        let Some(outbox) = outbox else { return Err(self.error(Remedy::Reopen, "nothing is owed".to_owned())) };
        self.with(|sink, _| {
            sink.begin()?;
            outbox.records.iter().try_for_each(|record| sink.send(record))
        })?;
        let plan = self.settings.plan.clone();
        let mut tables = plan.sources.iter().enumerate();
        tables.try_for_each(|(place, table)| self.send_offsets(place, &table.options, outbox))
    }

    /// Tells the group of a source how far the outbox has come, where the source names one.
    fn send_offsets(&mut self, place: usize, source: &SourceOptions, outbox: &Outbox) -> Result<(), TransactionError> {
        let of = outbox.offsets.iter().filter(|offset| offset.source == place);
        let offsets: Vec<(i32, i64)> = of.map(|offset| (offset.partition, offset.offset)).collect();
        let Some(group) = source.group_id.as_deref().filter(|_| !self.without_offsets && !offsets.is_empty()) else {
            return Ok(());
        };
        let sent = self.with(|sink, wait| sink.send_offsets(group, &source.topic, &offsets, wait));
        if let Err(error) = &sent
            && error.remedy == Remedy::Abort
        {
            CommitFailed { topic: &source.topic, error: &error.to_string() }.emit();
            self.without_offsets = true;
        }
        sent
    }

    fn with(
        &self,
        act: impl FnOnce(&TransactionalSink, Span) -> Result<(), TransactionError>,
    ) -> Result<(), TransactionError> {
        match &self.producer {
            Some(sink) => act(sink, self.settings.flush_timeout),
            None => Err(self.error(Remedy::Reopen, "there is no producer".to_owned())),
        }
    }

    fn error(&self, remedy: Remedy, error: String) -> TransactionError {
        TransactionError { id: self.id.clone(), remedy, error }
    }

    fn rival(&mut self) -> PipelineError {
        let found = self.commit.take_stranger().and_then(|stranger| stranger.found);
        PipelineError::Rival {
            pipeline: self.settings.pipeline.clone(),
            topic: self.settings.epochs_topic.clone(),
            found: found.map_or_else(|| "none".to_owned(), |marker| marker.epoch.to_string()),
        }
    }
}
