//! The engine between a source, a Kafka sink and the state store, on the caller's thread. Rule: output, then its
//! acknowledgement, then the checkpoint, then the group's offsets; whatever fails is tried again, nothing is skipped.
//! The clock is asked only how long a partition has been silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prescale_domain::{Clock, Progress, Span, Timestamp};
use prescale_ingest::kafka::{self, KafkaSettings, KafkaSink, KafkaSourceSettings, SinkError};
use prescale_ingest::{Polled, Source};
use prescale_store::Store;
use prescale_telemetry::ingest::DeadLettered;
use prescale_telemetry::pipeline::{
    EpochClosed, GapFound, OutputDelayed, OutputResumed, PipelineEnded, PipelineStarted,
};

use crate::PipelineError;
use crate::checkpoint::{Checkpoint, Counters};
use crate::engine::{Engine, EpochOutput, PartitionView};
use crate::sql::{Plan, StartAt};

/// What a run needs beside its source, sink and store.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// The name of the pipeline: key of its checkpoint, and named in its progress records.
    pub pipeline: String,
    pub plan: Arc<Plan>,
    pub features_topic: String,
    pub dead_letter_topic: String,
    /// The source is bounded: a partition at its end leaves the watermark's minimum.
    pub until_end: bool,
    /// Partitions of a features or dead-letter topic that has to be created.
    pub new_topic_partitions: i32,
    /// A partition without rows for this long does not hold the watermark back; `None` = it always does.
    pub idle: Option<Span>,
    /// How long a poll waits for rows.
    pub poll_wait: Span,
    /// An epoch closes after this time, or after this many records.
    pub epoch: Span,
    pub epoch_records: usize,
    /// How long to wait for acknowledgements before saying that they are late.
    pub flush_timeout: Span,
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
    /// As the SQL says; dead letters go to `dead-letters`.
    pub fn new(pipeline: &str, plan: Arc<Plan>) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            features_topic: plan.sink.options.topic.clone(),
            dead_letter_topic: "dead-letters".to_owned(),
            until_end: false,
            new_topic_partitions: 1,
            idle: plan.source.options.idle_micros.map(|micros| Span::from_millis(micros / 1000)),
            poll_wait: Span::from_millis(100),
            epoch: Span::from_millis(250),
            epoch_records: 200_000,
            flush_timeout: Span::from_secs(5),
            plan,
        }
    }
}

/// How to read the source of `plan`, going on where `checkpoint` stands. `kafka` comes from the service's
/// configuration; without it, the brokers are the ones that the SQL names.
pub fn source_settings(
    plan: &Plan,
    kafka: Option<KafkaSettings>,
    checkpoint: Option<&Checkpoint>,
    until_end: bool,
) -> KafkaSourceSettings {
    let options = &plan.source.options;
    let mut kafka = kafka.unwrap_or_else(|| KafkaSettings::new(options.bootstrap_servers.clone().unwrap_or_default()));
    for (property, value) in &options.client_configs {
        kafka.client.entry(property.clone()).or_insert_with(|| value.clone());
    }
    if options.read_committed {
        kafka = kafka.with("consumer.isolation.level", "read_committed");
    }
    let mut settings = KafkaSourceSettings::new(kafka, options.topic.clone());
    settings.start = match options.start_at {
        StartAt::Earliest => kafka::StartAt::Earliest,
        StartAt::Latest => kafka::StartAt::Latest,
        StartAt::Group => kafka::StartAt::Group,
    };
    settings.starts = checkpoint.map(Checkpoint::starts).unwrap_or_default();
    settings.until_end = until_end;
    settings.group = options.group_id.clone();
    settings
}

/// Runs until the end of a bounded source, or until `stop` is set. The source must have been opened at the starts of
/// the checkpoint in `store` (see [`Checkpoint::load`]).
pub fn run(
    settings: RunnerSettings,
    source: Box<dyn Source>,
    sink: &KafkaSink,
    store: &dyn Store,
    clock: &dyn Clock,
    stop: &AtomicBool,
) -> Result<Summary, PipelineError> {
    let checkpoint = Checkpoint::load(store, &settings.pipeline)?;
    PipelineStarted { pipeline: &settings.pipeline, resumed: checkpoint.is_some() }.emit();
    let engine = Engine::new(settings.plan.clone(), checkpoint.clone())?;
    let runner = Runner {
        settings,
        sink,
        store,
        clock,
        stop,
        engine,
        source,
        silence: Silence::default(),
        saved: checkpoint,
        epochs: 0,
    };
    runner.run()
}

struct Runner<'a> {
    settings: RunnerSettings,
    sink: &'a KafkaSink,
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    stop: &'a AtomicBool,
    engine: Engine,
    source: Box<dyn Source>,
    silence: Silence,
    saved: Option<Checkpoint>,
    epochs: u64,
}

/// When each partition last brought rows, on the wall clock.
#[derive(Default)]
struct Silence {
    last_rows: BTreeMap<i32, Timestamp>,
}

impl Runner<'_> {
    fn run(mut self) -> Result<Summary, PipelineError> {
        let Some(partitions) = self.topics() else { return Ok(self.summary(false)) };
        while !self.stopped() {
            let polled = self.epoch()?;
            let now = self.clock.now();
            let idle = self.silence.idle(&polled, now, self.settings.idle);
            let view = PartitionView {
                known: &polled.partitions,
                ended: if polled.ended { &polled.partitions } else { self.bounded_ends(&polled) },
                idle: &idle,
                all_ended: polled.ended,
                silent: polled.unreachable.is_some()
                    || (!polled.partitions.is_empty() && idle.len() == polled.partitions.len()),
            };
            let output = self.engine.close(&view)?;
            if !self.deliver(&output, partitions) {
                break;
            }
            self.silence.skip(self.clock.now().since(now));
            self.save(&output)?;
            if polled.ended {
                let Counters { read, windowed, late, .. } = output.counters;
                PipelineEnded { pipeline: &self.settings.pipeline, read, windowed, late, bad: output.counters.bad() }
                    .emit();
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

    /// An unbounded source is at its end for the moment only, which holds nothing back and lets nothing go.
    fn bounded_ends<'p>(&self, polled: &'p Polled) -> &'p [i32] {
        if self.settings.until_end { &polled.at_end } else { &[] }
    }

    /// Polls until the epoch is full or nothing more is there; returns what the last poll said.
    fn epoch(&mut self) -> Result<Polled, PipelineError> {
        let (start, mut records) = (self.clock.now(), 0);
        loop {
            let wait = if records == 0 { self.settings.poll_wait } else { Span::ZERO };
            let polled = self.source.poll(wait)?;
            let now = self.clock.now();
            self.silence.see(&polled, now);
            for batch in &polled.batches {
                records += batch.len();
                self.engine.push(batch)?;
            }
            let full = records >= self.settings.epoch_records || now.since(start) >= self.settings.epoch;
            if full || polled.batches.is_empty() || polled.ended || self.stopped() {
                return Ok(polled);
            }
        }
    }

    /// Makes sure that the topics exist; `None` when stopped before the broker could be reached.
    fn topics(&self) -> Option<i32> {
        let RunnerSettings { pipeline, features_topic, dead_letter_topic, new_topic_partitions, flush_timeout, .. } =
            &self.settings;
        let mut attempts = Attempts::new(pipeline, self.stop);
        loop {
            let dead = self.sink.ensure_topic(dead_letter_topic, *new_topic_partitions, *flush_timeout);
            match dead.and_then(|_| self.sink.ensure_topic(features_topic, *new_topic_partitions, *flush_timeout)) {
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

    /// Writes an epoch's output until it is acknowledged; `false` when stopped before that.
    fn deliver(&self, output: &EpochOutput, partitions: i32) -> bool {
        let mut attempts = Attempts::new(&self.settings.pipeline, self.stop);
        for letter in &output.dead_letters {
            let (topic, reason, error) = (letter.topic.as_str(), letter.reason.as_str(), letter.error.as_str());
            DeadLettered { topic, partition: letter.partition, offset: letter.offset, reason, error }.emit();
        }
        let done = attempts.until_done(|| self.send_rows(output), || self.flush())
            && attempts.until_done(|| self.send_progress(output, partitions), || self.flush());
        if done {
            attempts.succeeded();
        }
        done
    }

    fn flush(&self) -> Result<(), SinkError> {
        self.sink.flush(self.settings.flush_timeout)
    }

    /// Queues rows and dead letters; `false` when there is nothing.
    fn send_rows(&self, output: &EpochOutput) -> Result<bool, SinkError> {
        for row in &output.rows {
            self.sink.send(&self.settings.features_topic, None, Some(&row.key), &row.json, &[])?;
        }
        for letter in &output.dead_letters {
            self.sink.send_dead_letter(&self.settings.dead_letter_topic, letter)?;
        }
        Ok(!output.rows.is_empty() || !output.dead_letters.is_empty())
    }

    /// Queues the progress record, for each partition of the features topic its copy. It comes after the rows that it
    /// covers have been acknowledged: a reader that sees it has seen them.
    fn send_progress(&self, output: &EpochOutput, partitions: i32) -> Result<bool, SinkError> {
        let Some(note) = &output.progress else { return Ok(false) };
        for partition in 0..partitions {
            let progress = Progress {
                pipeline: self.settings.pipeline.clone(),
                partition,
                watermark: note.watermark,
                gap: note.gap,
                end: note.end,
            };
            self.sink.send(&self.settings.features_topic, Some(partition), None, &progress.to_json(), &[])?;
        }
        Ok(true)
    }

    fn save(&mut self, output: &EpochOutput) -> Result<(), PipelineError> {
        let checkpoint = self.engine.checkpoint();
        let pipeline = &self.settings.pipeline;
        if let Some((from, to)) = output.progress.as_ref().and_then(|note| note.gap) {
            GapFound { pipeline, from, to }.emit();
        }
        if self.saved.as_ref() == Some(&checkpoint) {
            return Ok(());
        }
        checkpoint.save(self.store, pipeline)?;
        let oldest: Vec<(i32, i64)> = checkpoint.partitions.iter().map(|(id, at)| (*id, at.oldest)).collect();
        self.source.commit(&oldest)?;
        self.saved = Some(checkpoint);
        self.epochs += 1;
        let Counters { read, windowed, filtered, late, decode, expression, null_event_time, rows_out, .. } =
            output.counters;
        let by_fate = [
            ("windowed", windowed),
            ("filtered", filtered),
            ("late", late),
            ("decode", decode),
            ("expression", expression),
            ("null_event_time", null_event_time),
        ];
        EpochClosed { pipeline, read, by_fate: &by_fate, rows_out, watermark: self.engine.watermark() }.emit();
        Ok(())
    }
}

impl Silence {
    fn see(&mut self, polled: &Polled, now: Timestamp) {
        for partition in &polled.partitions {
            let last = self.last_rows.entry(*partition).or_insert(now);
            // What waits in a broker that was out of reach is not known: silence counts from when it is back.
            if polled.unreachable.is_some() {
                *last = now;
            }
        }
        for batch in &polled.batches {
            self.last_rows.insert(batch.partition, now);
        }
    }

    /// Partitions that have been read to their end and brought nothing for `limit`.
    fn idle(&self, polled: &Polled, now: Timestamp, limit: Option<Span>) -> Vec<i32> {
        let Some(limit) = limit else { return Vec::new() };
        let silent = |id: &&i32| self.last_rows.get(id).is_some_and(|last| now.since(*last) >= limit);
        polled.partitions.iter().filter(|id| polled.at_end.contains(id)).filter(silent).copied().collect()
    }

    /// Time in which nobody asked the source is not its silence.
    fn skip(&mut self, length: Span) {
        self.last_rows.values_mut().for_each(|last| *last = *last + length);
    }
}

/// Attempts at one thing, ever further apart.
struct Attempts<'a> {
    pipeline: &'a str,
    stop: &'a AtomicBool,
    failures: u32,
}

impl<'a> Attempts<'a> {
    fn new(pipeline: &'a str, stop: &'a AtomicBool) -> Self {
        Self { pipeline, stop, failures: 0 }
    }

    /// Sends and flushes until both succeed. Records that are still queued are waited for, others are sent again.
    fn until_done(
        &mut self,
        send: impl Fn() -> Result<bool, SinkError>,
        flush: impl Fn() -> Result<(), SinkError>,
    ) -> bool {
        let mut queued = false;
        loop {
            let outcome = if queued { flush() } else { send().and_then(|any| if any { flush() } else { Ok(()) }) };
            match outcome {
                Ok(()) => return true,
                Err(error) => {
                    queued = matches!(error, SinkError::Unacknowledged { .. });
                    if !self.failed(&error) {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits for the next attempt; `false` when stopped.
    fn failed(&mut self, error: &SinkError) -> bool {
        const STEP: Duration = Duration::from_millis(50);
        self.failures += 1;
        OutputDelayed { pipeline: self.pipeline, attempt: self.failures, error: &error.to_string() }.emit();
        for _ in 0..(1_u32 << self.failures.min(6)) {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(STEP);
        }
        true
    }

    fn succeeded(&self) {
        if self.failures > 0 {
            OutputResumed { pipeline: self.pipeline, attempts: self.failures + 1 }.emit();
        }
    }
}
