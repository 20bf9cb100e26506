//! The engine between its sources, a Kafka sink and the state store, on the caller's thread. Rule: input counts as read in
//! the same write of the store that holds what it gave, or after that has been acknowledged; whatever fails is tried
//! again, nothing is skipped. The clock is asked only how long a partition has been silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prescale_domain::{Clock, Share, Span, Timestamp};
use prescale_ingest::kafka::{self, KafkaSettings, KafkaSink, KafkaSourceSettings, SinkError};
use prescale_ingest::{OutRecord, Polled, RawBatch, Source};
use prescale_store::{MemoryStore, Store, Write};
use prescale_telemetry::ingest::DeadLettered;
use prescale_telemetry::pipeline::{EpochClosed, GapFound, PipelineEnded, PipelineStarted, ShareStarted};

use crate::PipelineError;
use crate::attempts::Attempts;
use crate::checkpoint::{Checkpoint, Counters, PartitionCheckpoint};
use crate::engine::{Engine, EpochOutput, PartitionView};
use crate::held::Held;
use crate::outbox::{GroupOffset, Outbox};
use crate::quiet::Quiet;
use crate::records;
use crate::schemas::Schemas;
use crate::shared::ShareOf;
use crate::sql::{Plan, SourceTable, StartAt};
use crate::stored::StoredPanes;
use crate::transactions::Transactions;

mod bound;

/// An epoch with more than this part of its most records is one of a pipeline that is catching up.
const CATCHING_UP: usize = 10;

/// How often a checkpoint without output is saved; that of a share costs a transaction.
const SAVE_EVERY: Span = Span::from_secs(1);
const MARK_EVERY: Span = Span::from_secs(10);

/// How often a row is written to its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Once, for readers of committed records, whatever crashes when: one Kafka transaction for each epoch with output.
    #[default]
    ExactlyOnce,
    /// Once, and again after a crash, byte for byte the same: for brokers without transactions.
    AtLeastOnce,
}

/// Steps of the protocol that writes an epoch exactly once, each told when it has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommitStep {
    /// A new producer has shut out all others, and the last epoch that was written is known.
    Opened,
    /// The engine has closed an epoch; nothing of it is saved.
    Closed,
    /// Checkpoint and outbox are in the state store.
    Saved,
    /// All records are queued in an open transaction.
    Sent,
    /// The brokers have acknowledged all of them.
    Acknowledged,
    /// The transaction is committed.
    Committed,
}

/// What a run needs beside its source, sink and store.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// The name of the pipeline: key of its checkpoint, and named in its progress records.
    pub pipeline: String,
    pub plan: Arc<Plan>,
    /// Where rows go.
    pub features_topic: String,
    /// Whether the readers of that topic are told of event time; the controller is.
    pub progress: bool,
    pub dead_letter_topic: String,
    /// Where each transaction notes its epoch; unused without transactions.
    pub epochs_topic: String,
    pub delivery: Delivery,
    /// What complete panes of open windows hold is stored with the checkpoint, so that a restart does not read their rows
    /// again.
    pub stores_panes: bool,
    /// Bytes that open windows may take; `None` = any.
    pub state_limit: Option<u64>,
    /// The sources are bounded: a partition at its end leaves the watermark's minimum.
    pub until_end: bool,
    /// Partitions of a features or dead-letter topic that has to be created.
    pub new_topic_partitions: i32,
    /// By source: a partition without rows for this long does not hold the watermark back; `None` = it always does.
    pub idle: Vec<Option<Span>>,
    /// The same for a partition that has been read up to the broker's high watermark; `None` = no sooner than others.
    pub caught_up_idle: Option<Span>,
    /// How long a poll waits for rows.
    pub poll_wait: Span,
    /// An epoch closes after this time, or after this many records.
    pub epoch: Span,
    pub epoch_records: usize,
    /// How long to wait for acknowledgements before saying that they are late.
    pub flush_timeout: Span,
    /// Called at each step of the protocol, on the pipeline's thread; tests crash there.
    pub probe: fn(CommitStep),
    /// Which share of the pipeline it is, where several processes share it.
    pub share: Option<ShareOf>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Since the pipeline's first start.
    pub counters: Counters,
    /// Epochs of this run that wrote something.
    pub epochs: u64,
    /// Whether the input was read to its end.
    pub ended: bool,
}

impl RunnerSettings {
    /// As the SQL says; dead letters go to `dead-letters`, exactly once.
    pub fn new(pipeline: &str, plan: Arc<Plan>) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            features_topic: plan.sink.options.topic.clone(),
            progress: true,
            dead_letter_topic: "dead-letters".to_owned(),
            epochs_topic: "pipeline-epochs".to_owned(),
            delivery: Delivery::default(),
            stores_panes: true,
            state_limit: None,
            until_end: false,
            new_topic_partitions: 1,
            idle: plan.sources.iter().map(|source| source.options.idle()).collect(),
            caught_up_idle: None,
            poll_wait: Span::from_millis(100),
            epoch: Span::from_millis(250),
            epoch_records: 200_000,
            flush_timeout: Span::from_secs(5),
            probe: |_| (),
            share: None,
            plan,
        }
    }
}

/// How to read a source of a plan, going on where `checkpoint` stands. `kafka` comes from the service's
/// configuration; without it, the brokers are the ones that the SQL names.
pub fn source_settings(
    source: &SourceTable,
    kafka: Option<KafkaSettings>,
    checkpoint: Option<&Checkpoint>,
    until_end: bool,
) -> KafkaSourceSettings {
    let options = &source.options;
    let mut kafka = kafka.unwrap_or_else(|| KafkaSettings::new(options.bootstrap_servers.clone().unwrap_or_default()));
    for (property, value) in &options.client_configs {
        kafka.client.entry(property.clone()).or_insert_with(|| value.clone());
    }
    if let Some(committed) = options.read_committed {
        let level = if committed { "read_committed" } else { "read_uncommitted" };
        kafka = kafka.with("consumer.isolation.level", level);
    }
    let mut settings = KafkaSourceSettings::new(kafka, options.topic.clone());
    settings.start = match options.start_at {
        StartAt::Earliest => kafka::StartAt::Earliest,
        StartAt::Latest => kafka::StartAt::Latest,
        StartAt::Group => kafka::StartAt::Group,
    };
    settings.starts = checkpoint.map(|checkpoint| checkpoint.starts(&source.name)).unwrap_or_default();
    settings.until_end = until_end;
    settings.group = options.group_id.clone();
    settings
}

/// Runs until the end of bounded sources, or until `stop` is set. `sources` are those of the plan, in its order, opened at
/// the starts of the checkpoint in `store` (see [`Checkpoint::load`]).
pub fn run(
    settings: RunnerSettings,
    sources: Vec<Box<dyn Source>>,
    sink: &KafkaSink,
    store: &dyn Store,
    clock: &dyn Clock,
    stop: &AtomicBool,
) -> Result<Summary, PipelineError> {
    let checkpoint = Checkpoint::load(store, &settings.pipeline)?;
    PipelineStarted { pipeline: &settings.pipeline, resumed: checkpoint.is_some() }.emit();
    let outbox = Outbox::load(store, &settings.pipeline)?;
    let transactions = match settings.delivery {
        Delivery::ExactlyOnce => Some(Transactions::new(&settings, sink, stop, outbox.as_ref())),
        Delivery::AtLeastOnce => None,
    };
    let outside = Outside { sink, store, clock, stop };
    let mut runner = Runner::new(settings, sources, outside, checkpoint)?;
    (runner.outbox, runner.transactions) = (outbox, transactions);
    let Some(partitions) = ensure_topics(&runner.settings, sink, stop) else { return Ok(runner.summary(false)) };
    if !runner.recover()? {
        return Ok(runner.summary(false));
    }
    runner.work(partitions)
}

/// Runs one share of a pipeline, going on where the last transaction of it stands, until the end of bounded sources,
/// until `stop` is set, or until another process has taken it over ([`PipelineError::Rival`]). `open` gives the sources;
/// the features topic has `partitions`.
pub(crate) fn run_share(
    settings: RunnerSettings,
    open: &OpenSources<'_>,
    (sink, clock, stop): (&KafkaSink, &dyn Clock, &AtomicBool),
    partitions: i32,
) -> Result<Summary, PipelineError> {
    // What outlives the process is in the marker, which has no room for panes.
    let (store, settings) = (MemoryStore::default(), RunnerSettings { stores_panes: false, ..settings });
    let (pipeline, place) = (settings.pipeline.clone(), settings.share.as_ref().map_or(0, |place| place.partition));
    let mut transactions = Transactions::new(&settings, sink, stop, None);
    if !transactions.claim()? {
        return Ok(Summary { counters: Counters::default(), epochs: 0, ended: false });
    }
    let checkpoint = transactions.take_checkpoint();
    ShareStarted { pipeline: &pipeline, partition: place, resumed: checkpoint.is_some() }.emit();
    let sources = open(place, checkpoint.as_ref())?;
    let outside = Outside { sink, store: &store, clock, stop };
    let mut runner = Runner::new(settings, sources, outside, checkpoint).map_err(|error| match error {
        PipelineError::OtherPlan { found, expected, .. } => {
            PipelineError::OtherSharedPlan { pipeline, found, expected }
        }
        error => error,
    })?;
    runner.transactions = Some(transactions);
    runner.work(partitions)
}

/// Opens the sources of one share at the starts of its checkpoint.
pub type OpenSources<'a> = dyn Fn(i32, Option<&Checkpoint>) -> Result<Vec<Box<dyn Source>>, PipelineError> + Sync + 'a;

/// Makes sure that the topics exist; returns how many partitions that of the rows has, or `None` when stopped before the
/// broker could be reached.
pub(crate) fn ensure_topics(settings: &RunnerSettings, sink: &KafkaSink, stop: &AtomicBool) -> Option<i32> {
    let (partitions, timeout) = (settings.new_topic_partitions, settings.flush_timeout);
    let ensure = || {
        if settings.delivery == Delivery::ExactlyOnce {
            sink.ensure_compacted_topic(&settings.epochs_topic, timeout)?;
        }
        sink.ensure_topic(&settings.dead_letter_topic, partitions, timeout)?;
        sink.ensure_topic(&settings.features_topic, partitions, timeout)
    };
    let mut attempts = Attempts::new(&settings.pipeline, stop);
    loop {
        match ensure() {
            Ok(partitions) => {
                attempts.succeeded();
                return Some(partitions);
            }
            Err(error) => {
                if !attempts.failed(&error) {
                    return None;
                }
            }
        }
    }
}

/// What a run speaks to.
#[derive(Clone, Copy)]
struct Outside<'a> {
    sink: &'a KafkaSink,
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    stop: &'a AtomicBool,
}

struct Runner<'a> {
    settings: RunnerSettings,
    sink: &'a KafkaSink,
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    stop: &'a AtomicBool,
    engine: Engine,
    /// In the order of the sources.
    schemas: Vec<Schemas>,
    sources: Vec<Box<dyn Source>>,
    /// In the order of the sources.
    quiet: Vec<Quiet>,
    /// The source that is waited for when none has records.
    turn: usize,
    /// What open windows hold.
    state: Held,
    /// Partitions that are not read until others have caught up, by source.
    waiting: Vec<Vec<i32>>,
    saved: Option<Checkpoint>,
    saved_at: Option<Timestamp>,
    /// As it is in the state store.
    outbox: Option<Outbox>,
    /// `None` where output is written at least once.
    transactions: Option<Transactions<'a>>,
    epochs: u64,
    /// What readers know of the share, if it is one.
    told: Option<Share>,
}

impl<'a> Runner<'a> {
    /// Goes on at a checkpoint; nothing is owed, and there are no transactions.
    fn new(
        settings: RunnerSettings,
        sources: Vec<Box<dyn Source>>,
        outside: Outside<'a>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self, PipelineError> {
        let Outside { sink, store, clock, stop } = outside;
        let engine = if settings.stores_panes {
            let stored = StoredPanes { store, pipeline: &settings.pipeline };
            Engine::with_panes(settings.plan.clone(), checkpoint.clone(), &stored)?
        } else {
            Engine::new(settings.plan.clone(), checkpoint.clone())?
        };
        let schemas = |table: &SourceTable| Schemas::new(&settings.pipeline, &table.name, &table.options);
        let schemas = settings.plan.sources.iter().map(schemas).collect::<Result<_, _>>()?;
        Ok(Self {
            outbox: None,
            transactions: None,
            settings,
            sink,
            store,
            clock,
            stop,
            engine,
            schemas,
            quiet: sources.iter().map(|_| Quiet::default()).collect(),
            sources,
            turn: 0,
            state: Held::default(),
            waiting: Vec::new(),
            saved: checkpoint,
            saved_at: None,
            epochs: 0,
            told: None,
        })
    }

    fn work(mut self, partitions: i32) -> Result<Summary, PipelineError> {
        while !self.stopped() {
            let Some(polled) = self.epoch()? else { break };
            let now = self.clock.now();
            let idle: Vec<Vec<i32>> = self
                .quiet
                .iter()
                .zip(&polled)
                .zip(&self.settings.idle)
                .map(|((quiet, polled), limit)| quiet.idle(polled, now, *limit, self.settings.caught_up_idle))
                .collect();
            let views: Vec<PartitionView<'_>> =
                polled.iter().zip(&idle).map(|(polled, idle)| self.view(polled, idle)).collect();
            let ended = views.iter().all(|view| view.all_ended);
            let hears_nothing: Vec<bool> = views.iter().map(PartitionView::is_idle).collect();
            let share =
                self.settings.share.as_ref().map(|place| place.now(self.settings.plan.is_blind(&hears_nothing)));
            let output = self.engine.close(&views)?;
            self.bound(&polled)?;
            if !self.write(&output, partitions, share)? {
                break;
            }
            let length = self.clock.now().since(now);
            self.quiet.iter_mut().for_each(|quiet| quiet.skip(length));
            if ended && self.settings.share.is_some() {
                return Ok(self.summary(true));
            }
            if ended {
                let Counters { read, windowed, late, future, .. } = output.counters;
                let (pipeline, bad) = (self.settings.pipeline.as_str(), output.counters.bad());
                PipelineEnded { pipeline, read, windowed, late, future, bad }.emit();
                return Ok(self.summary(true));
            }
        }
        Ok(self.summary(false))
    }

    fn summary(&self, ended: bool) -> Summary {
        Summary { counters: self.engine.counters(), epochs: self.epochs, ended }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn view<'p>(&self, polled: &'p Polled, idle: &'p [i32]) -> PartitionView<'p> {
        PartitionView {
            known: &polled.partitions,
            // An unbounded source is at its end for the moment only, which holds nothing back and lets nothing go.
            ended: match (polled.ended, self.settings.until_end) {
                (true, _) => &polled.partitions,
                (false, true) => &polled.at_end,
                (false, false) => &[],
            },
            idle,
            all_ended: polled.ended,
            silent: polled.unreachable.is_some()
                || (!polled.partitions.is_empty() && idle.len() == polled.partitions.len()),
        }
    }

    /// Polls until the epoch is full or nothing more is there; returns what the last poll of each source said, or
    /// `None` when stopped with records that could not be decoded yet: the epoch is then not to be closed.
    fn epoch(&mut self) -> Result<Option<Vec<Polled>>, PipelineError> {
        let (start, mut records) = (self.clock.now(), 0);
        loop {
            let before = records;
            let mut polled = Vec::with_capacity(self.sources.len());
            for place in 0..self.sources.len() {
                // One source is waited for as long as none has brought anything, each in its turn.
                let wait = if records == 0 && place == self.turn { self.settings.poll_wait } else { Span::ZERO };
                let Some(read) = self.poll(place, wait)? else { return Ok(None) };
                polled.push(read);
                records += polled.last().map_or(0, |polled| polled.batches.iter().map(RawBatch::len).sum());
            }
            self.turn = (self.turn + 1) % self.sources.len().max(1);
            let ended = polled.iter().all(|polled| polled.ended);
            let full = records >= self.settings.epoch_records || self.clock.now().since(start) >= self.settings.epoch;
            // While records come no faster than they are read, nobody gains by waiting with a window that is complete.
            let full = full || (records < self.settings.epoch_records / CATCHING_UP && self.engine.is_due());
            if full || records == before || ended || self.stopped() {
                return Ok(Some(polled));
            }
        }
    }

    /// `None` when stopped while the schemas of its records could not be had.
    fn poll(&mut self, place: usize, wait: Span) -> Result<Option<Polled>, PipelineError> {
        let polled = self.sources[place].poll(wait)?;
        self.quiet[place].see(&polled, self.clock.now());
        for batch in &polled.batches {
            let asked = self.clock.now();
            if let Some(decoder) = self.engine.decoder_mut(place)
                && !self.schemas[place].supply(decoder, batch, self.stop)
            {
                return Ok(None);
            }
            // A wait for the registry is not the sources' silence.
            let waited = self.clock.now().since(asked);
            self.quiet.iter_mut().for_each(|quiet| quiet.skip(waited));
        }
        self.engine.push_all(place, &polled.batches)?;
        Ok(Some(polled))
    }

    /// Writes what the run before saved and did not write; `false` when stopped before that.
    fn recover(&mut self) -> Result<bool, PipelineError> {
        if let Some(transactions) = &mut self.transactions {
            return transactions.recover(self.outbox.as_ref());
        }
        let Some(left) = self.outbox.as_ref().filter(|outbox| !outbox.records.is_empty()) else { return Ok(true) };
        if !self.acknowledge(&[&left.records[..]]) {
            return Ok(false);
        }
        let emptied = left.emptied();
        if !self.save(&[emptied.write(&self.settings.pipeline)])? {
            return Ok(false);
        }
        self.outbox = Some(emptied);
        Ok(true)
    }

    /// Writes an epoch's output and saves where the next one begins; `false` when stopped before that.
    fn write(&mut self, output: &EpochOutput, partitions: i32, share: Option<Share>) -> Result<bool, PipelineError> {
        let checkpoint = self.engine.checkpoint();
        let changed = self.saved.as_ref() != Some(&checkpoint);
        for letter in &output.dead_letters {
            let (topic, reason, error) = (letter.topic.as_str(), letter.reason.as_str(), letter.error.as_str());
            DeadLettered { topic, partition: letter.partition, offset: letter.offset, reason, error }.emit();
        }
        let news = share.filter(|share| self.told != Some(*share)).map(|_| checkpoint.told());
        let progress = records::progress(&self.settings, output.progress.as_ref(), share, news);
        let mut records = records::of_rows(&self.settings, output);
        let progress = records::to_each(&self.settings.features_topic, partitions, progress.as_ref());
        let written = if self.transactions.is_some() {
            records.extend(progress);
            let every = if share.is_some() { MARK_EVERY } else { SAVE_EVERY };
            let is_recent = self.saved_at.is_some_and(|at| self.clock.now().since(at) < every);
            if records.is_empty() && changed && is_recent {
                // Nothing depends on it but how much is read again.
                return Ok(true);
            }
            (!changed && records.is_empty()) || self.write_once(records, &checkpoint)?
        } else {
            self.acknowledge(&[&records[..], &progress[..]])
        };
        // What one share did not hear is a gap only with what the others say.
        let gap = output.progress.as_ref().and_then(|note| note.gap).filter(|_| share.is_none());
        if let (true, Some((from, to))) = (written, gap) {
            GapFound { pipeline: &self.settings.pipeline, from, to }.emit();
        }
        if written {
            self.told = share;
        }
        if written && changed {
            self.saved_with(output, checkpoint)?;
        }
        Ok(written)
    }

    /// Saves a checkpoint with its output, then writes that in one transaction; `false` when stopped in between.
    fn write_once(&mut self, records: Vec<OutRecord>, checkpoint: &Checkpoint) -> Result<bool, PipelineError> {
        let offsets = self.offsets(checkpoint);
        let mut writes = self.state(checkpoint)?;
        let Some(transactions) = &mut self.transactions else { return Ok(true) };
        let pipeline = &self.settings.pipeline;
        (self.settings.probe)(CommitStep::Closed);
        if records.is_empty() && self.settings.share.is_none() {
            if let Some(left) = self.outbox.as_mut().filter(|outbox| !outbox.records.is_empty()) {
                *left = left.emptied();
                writes.push(left.write(pipeline));
            }
            return self.save(&writes);
        }
        let outbox = transactions.outbox(records, offsets, checkpoint);
        writes.push(outbox.write(pipeline));
        if !self.save(&writes)? {
            return Ok(false);
        }
        (self.settings.probe)(CommitStep::Saved);
        let Some(transactions) = &mut self.transactions else { return Ok(true) };
        let is_done = transactions.deliver(&outbox)?;
        self.outbox = Some(outbox);
        Ok(is_done)
    }

    /// The changes that record a checkpoint of this moment.
    fn state(&mut self, checkpoint: &Checkpoint) -> Result<Vec<Write>, PipelineError> {
        let pipeline = &self.settings.pipeline;
        let mut writes = self.engine.pane_writes(&StoredPanes { store: self.store, pipeline })?;
        writes.push(checkpoint.write(pipeline)?);
        Ok(writes)
    }

    /// Writes to the state store, however long that can't be reached; `false` when stopped before that.
    fn save(&self, writes: &[Write]) -> Result<bool, PipelineError> {
        let mut attempts = Attempts::new(&self.settings.pipeline, self.stop);
        loop {
            match self.store.write(writes) {
                Ok(()) => {
                    attempts.succeeded();
                    return Ok(true);
                }
                Err(error) if error.is_passing() => {
                    if !attempts.failed(&error) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes groups of records, each once the one before is acknowledged; `false` when stopped before that.
    fn acknowledge(&self, groups: &[&[OutRecord]]) -> bool {
        let mut attempts = Attempts::new(&self.settings.pipeline, self.stop);
        let send = |records: &[OutRecord]| -> Result<bool, SinkError> {
            records.iter().try_for_each(|record| self.sink.send_record(record))?;
            Ok(!records.is_empty())
        };
        let flush = || self.sink.flush(self.settings.flush_timeout);
        let done = groups.iter().all(|records| attempts.until_done(|| send(records), flush));
        if done {
            attempts.succeeded();
        }
        done
    }

    /// The first offset that an open window needs, by source and partition.
    fn offsets(&self, checkpoint: &Checkpoint) -> Vec<GroupOffset> {
        let tables = self.settings.plan.sources.iter().enumerate();
        let known = tables.filter_map(|(place, table)| Some((place, checkpoint.sources.get(&table.name)?)));
        let offset = |source, (&partition, at): (&i32, &PartitionCheckpoint)| GroupOffset {
            source,
            partition,
            offset: at.needed.unwrap_or(at.oldest),
        };
        known.flat_map(|(place, at)| at.partitions.iter().map(move |entry| offset(place, entry))).collect()
    }

    fn saved_with(&mut self, output: &EpochOutput, checkpoint: Checkpoint) -> Result<(), PipelineError> {
        if self.transactions.is_none() {
            let writes = self.state(&checkpoint)?;
            if !self.save(&writes)? {
                return Ok(());
            }
            let offsets = self.offsets(&checkpoint);
            for (place, source) in self.sources.iter_mut().enumerate() {
                let of = offsets.iter().filter(|offset| offset.source == place);
                source.commit(&of.map(|offset| (offset.partition, offset.offset)).collect::<Vec<_>>())?;
            }
        }
        self.saved = Some(checkpoint);
        self.saved_at = Some(self.clock.now());
        self.epochs += 1;
        let pipeline = &self.settings.pipeline;
        let Counters { read, rows_out, .. } = output.counters;
        let by_fate = output.counters.by_fate();
        let share = self.settings.share.as_ref().map(|place| place.partition);
        let (state_bytes, watermark) = (self.state.bytes, self.engine.watermark());
        EpochClosed { pipeline, share, read, by_fate: &by_fate, rows_out, state_bytes, watermark }.emit();
        Ok(())
    }
}
