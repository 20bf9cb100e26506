//! A pipeline that several processes work on. Rule: a share is what one partition number of all sources holds, and one
//! process at a time works on it, as the consumer group says; where it stands goes with it through Kafka. Why it is so:
//! `docs/designs/0010-shared-partitions.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use prescale_domain::{Clock, Share, Span};
use prescale_ingest::SourceError;
use prescale_ingest::kafka::{Group, GroupSettings, Held, KafkaSink};
use prescale_telemetry::ingest::SourceUnreachable;
use prescale_telemetry::pipeline::ShareEnded;

use crate::PipelineError;
use crate::checkpoint::Counters;
use crate::runner::{OpenSources, RunnerSettings, Summary, ensure_topics, run_share};
use crate::transactions::{id_of, is_known};

/// How often the group is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A share that is taken back ends after the epoch in hand; whoever gets it does not wait longer than this for that.
const PATIENCE: Span = Span::from_secs(15);
/// Before a share that was overtaken is begun again: what is still ours then was not another's. It doubles each time.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSES_MAX: u32 = 5;
/// A share that ran so long was not overtaken for the same reason as before.
const SETTLED: Duration = Duration::from_secs(60);
/// How long a bounded run waits for its topics, and for a part of the work.
const TOPIC_WAIT: Duration = Duration::from_secs(30);
const IDLE_WAIT: Duration = Duration::from_secs(15);

/// Which share a run is.
#[derive(Clone, Debug)]
pub struct ShareOf {
    /// The number of the partition that it reads of each source.
    pub partition: i32,
    /// How many there are; grows with the topics.
    pub of: Arc<AtomicI32>,
}

impl ShareOf {
    /// What readers are told of it.
    pub(crate) fn now(&self, idle: bool) -> Share {
        Share { partition: self.partition, of: self.of.load(Ordering::Relaxed).max(self.partition + 1), idle }
    }
}

/// Works on what the group gives this process, each share on a thread of its own, until `stop` is set or all of it has been
/// read to its end. `settings` are those of each share but for its place; sources are asked for new partitions each
/// `refresh`. The summary counts the rows of the shares that ended here.
pub fn run_shared(
    settings: &RunnerSettings,
    refresh: Span,
    open: &OpenSources<'_>,
    sink: &KafkaSink,
    clock: &dyn Clock,
    stop: &AtomicBool,
) -> Result<Summary, PipelineError> {
    let nothing = Summary { counters: Counters::default(), epochs: 0, ended: false };
    let Some(partitions) = ensure_topics(settings, sink, stop) else { return Ok(nothing) };
    let Some(count) = count_shares(settings, sink, stop)? else { return Ok(nothing) };
    match is_known(settings, sink.settings(), stop, &id_of(settings)) {
        Some(false) => {}
        Some(true) => {
            let (pipeline, topic) = (settings.pipeline.clone(), settings.features_topic.clone());
            return Err(PipelineError::OneProcess { pipeline, topic });
        }
        None => return Ok(nothing),
    }
    let group = Group::join(GroupSettings {
        kafka: sink.settings().clone(),
        group: id_of(settings),
        topic: settings.plan.sources.first().map(|source| source.options.topic.clone()).unwrap_or_default(),
        refresh,
        patience: PATIENCE,
    })?;
    let of = Arc::new(AtomicI32::new(count));
    let start = |partition: i32, stop: &AtomicBool| {
        let place = ShareOf { partition, of: Arc::clone(&of) };
        let settings = RunnerSettings { share: Some(place), ..settings.clone() };
        run_share(settings, open, (sink, clock, stop), partitions)
    };
    thread::scope(|scope| {
        let mut shares = Shares {
            pipeline: &settings.pipeline,
            scope,
            start: &start,
            running: BTreeMap::new(),
            overtaken: BTreeMap::new(),
            ended: BTreeMap::new(),
        };
        let outcome = shares.attend(&group, &of, settings.until_end, stop);
        // Before the group is left, so that nobody begins what is not over here.
        let rest = shares.end_all();
        outcome?;
        rest?;
        Ok(shares.summary(settings.until_end && !stop.load(Ordering::Relaxed)))
    })
}

/// How many partitions the sources have; `None` when stopped before they were there.
fn count_shares(settings: &RunnerSettings, sink: &KafkaSink, stop: &AtomicBool) -> Result<Option<i32>, PipelineError> {
    let (started, mut counts) = (Instant::now(), Vec::<(&str, i32)>::new());
    let topics: Vec<&str> = settings.plan.sources.iter().map(|source| source.options.topic.as_str()).collect();
    while let Some(topic) = topics.get(counts.len()) {
        let missing = match sink.partitions(topic, settings.flush_timeout) {
            Ok(Some(count)) => {
                counts.push((topic, count));
                continue;
            }
            Ok(None) => format!("topic `{topic}` does not exist on {}", sink.settings().bootstrap_servers),
            Err(error) => error.to_string(),
        };
        SourceUnreachable { topic, error: &missing }.emit();
        if settings.until_end && started.elapsed() > TOPIC_WAIT {
            let hint = "create the topic, or correct its name".to_owned();
            return Err(SourceError::Kafka { topic: (*topic).to_owned(), error: missing, hint }.into());
        }
        for _ in 0..20 {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            thread::sleep(LOOK);
        }
    }
    let least = counts.iter().map(|(_, count)| *count).min();
    if counts.iter().any(|(_, count)| Some(*count) != least) {
        let counts: Vec<_> = counts.iter().map(|(topic, count)| format!("`{topic}` {count}")).collect();
        let pipeline = settings.pipeline.clone();
        return Err(PipelineError::Partitions { pipeline, counts: counts.join(", ") });
    }
    Ok(least)
}

/// The shares of this process.
struct Shares<'scope, 'env> {
    pipeline: &'env str,
    scope: &'scope Scope<'scope, 'env>,
    start: &'env (dyn Fn(i32, &AtomicBool) -> Result<Summary, PipelineError> + Sync),
    running: BTreeMap<i32, Running<'scope>>,
    /// How often each was overtaken of late, and when it may begin again.
    overtaken: BTreeMap<i32, (u32, Instant)>,
    /// Read to their end here.
    ended: BTreeMap<i32, Summary>,
}

struct Running<'scope> {
    stop: Arc<AtomicBool>,
    since: Instant,
    thread: ScopedJoinHandle<'scope, Result<Summary, PipelineError>>,
}

impl<'scope, 'env: 'scope> Shares<'scope, 'env> {
    /// Follows the group until stopped, or until nothing is left to do in a bounded run.
    fn attend(
        &mut self,
        group: &Group,
        of: &AtomicI32,
        until_end: bool,
        stop: &AtomicBool,
    ) -> Result<(), PipelineError> {
        let mut empty_since = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let held =
                group.held().map_err(|error| PipelineError::Group { pipeline: self.pipeline.to_owned(), error })?;
            of.fetch_max(held.of.unwrap_or(0), Ordering::Relaxed);
            self.collect()?;
            for (partition, running) in &self.running {
                if !held.partitions.contains(partition) {
                    running.stop.store(true, Ordering::Relaxed);
                }
            }
            self.ended.retain(|partition, _| held.partitions.contains(partition));
            group.working_on(&self.running.keys().copied().collect());
            for partition in self.to_begin(&held) {
                self.begin(partition)?;
            }
            if !held.partitions.is_empty() {
                empty_since = Instant::now();
                if until_end && held.partitions.iter().all(|partition| self.ended.contains_key(partition)) {
                    return Ok(());
                }
            } else if until_end && held.joined && empty_since.elapsed() > IDLE_WAIT {
                // The others have all of it.
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn to_begin(&self, held: &Held) -> BTreeSet<i32> {
        let may = |partition: &&i32| {
            let paused = self.overtaken.get(partition).is_some_and(|(_, until)| Instant::now() < *until);
            !paused && !self.running.contains_key(partition) && !self.ended.contains_key(partition)
        };
        held.partitions.iter().filter(may).copied().collect()
    }

    fn begin(&mut self, partition: i32) -> Result<(), PipelineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (start, stopped) = (self.start, Arc::clone(&stop));
        let name = format!("{} {partition}", self.pipeline);
        let thread = thread::Builder::new().name(name).spawn_scoped(self.scope, move || start(partition, &stopped));
        let thread = thread.map_err(|error| PipelineError::Engine(format!("start a thread: {error}")))?;
        self.running.insert(partition, Running { stop, since: Instant::now(), thread });
        Ok(())
    }

    /// Takes what has come of shares that are over.
    fn collect(&mut self) -> Result<(), PipelineError> {
        let over: Vec<i32> =
            self.running.iter().filter(|(_, running)| running.thread.is_finished()).map(|(id, _)| *id).collect();
        for partition in over {
            self.take(partition)?;
        }
        Ok(())
    }

    fn take(&mut self, partition: i32) -> Result<(), PipelineError> {
        let Some(Running { stop, since, thread }) = self.running.remove(&partition) else { return Ok(()) };
        let outcome = thread.join().unwrap_or_else(|crash| {
            self.running.values().for_each(|running| running.stop.store(true, Ordering::Relaxed));
            panic::resume_unwind(crash)
        });
        let why = match &outcome {
            Ok(summary) if summary.ended => "its input has ended",
            Ok(_) if stop.load(Ordering::Relaxed) => "it was taken back, or the process ends",
            Ok(_) => "it was stopped",
            Err(PipelineError::Rival { .. }) => "another process has taken it over",
            Err(_) => "it failed",
        };
        ShareEnded { pipeline: self.pipeline, partition, why }.emit();
        match outcome {
            Ok(summary) => {
                self.overtaken.remove(&partition);
                if summary.ended {
                    self.ended.insert(partition, summary);
                }
                Ok(())
            }
            Err(PipelineError::Rival { .. }) => {
                let before = self.overtaken.get(&partition).map_or(0, |(times, _)| *times);
                let times = if since.elapsed() > SETTLED { 0 } else { before };
                let pause = PAUSE * 2_u32.pow(times.min(PAUSES_MAX));
                self.overtaken.insert(partition, (times + 1, Instant::now() + pause));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Ends all of them after the epoch in hand; the first failure counts.
    fn end_all(&mut self) -> Result<(), PipelineError> {
        self.running.values().for_each(|running| running.stop.store(true, Ordering::Relaxed));
        let all: Vec<i32> = self.running.keys().copied().collect();
        let outcomes: Vec<_> = all.into_iter().map(|partition| self.take(partition)).collect();
        outcomes.into_iter().collect()
    }

    fn summary(&self, ended: bool) -> Summary {
        let mut summary = Summary { counters: Counters::default(), epochs: 0, ended };
        for share in self.ended.values() {
            summary.counters.add(&share.counters);
            summary.epochs += share.epochs;
        }
        summary
    }
}
