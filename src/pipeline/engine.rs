//! The engine: batches of raw records in, closed windows, dead letters and checkpoints out. Rule: no I/O and no clock;
//! the output is a function of the rows of each partition in offset order, and of which partitions fell silent when.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_domain::Timestamp;
use prescale_ingest::decode::{self, Decoder};
use prescale_ingest::{DeadLetter, RawBatch};

use crate::checkpoint::{Checkpoint, Counters};
use crate::error::PipelineError;
use crate::exec::output;
use crate::exec::pane::{self, Inputs};
use crate::exec::rows::{Failure, Rows};
use crate::exec::source_rows::{SourceRows, SourceStep};
use crate::late;
use crate::panes::{ClosedWindow, FirstRow, Panes};
use crate::partition::Partition;
use crate::sql::{Format, Plan, Step};
use crate::watermark::{self, ENDED, PartitionTime, UNSTARTED};
use crate::window;

/// A row for the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRow {
    pub key: Vec<u8>,
    pub window_start: Timestamp,
    pub window_end: Timestamp,
    /// A flat JSON object.
    pub json: Vec<u8>,
}

/// What to tell readers about event time: a [`prescale_domain::Progress`] without its addressee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressNote {
    pub watermark: Timestamp,
    pub gap: Option<(Timestamp, Timestamp)>,
    pub end: bool,
}

/// What one epoch has to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochOutput {
    /// By window start, then key.
    pub rows: Vec<OutRow>,
    /// By partition and offset.
    pub dead_letters: Vec<DeadLetter>,
    pub progress: Option<ProgressNote>,
    /// Since the first start.
    pub counters: Counters,
}

/// What is known of the source's partitions when an epoch closes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionView<'a> {
    /// All partitions, also those without rows.
    pub known: &'a [i32],
    /// Partitions of a bounded source that have been read to their end.
    pub ended: &'a [i32],
    /// Partitions of an unbounded source that brought nothing for the idle time.
    pub idle: &'a [i32],
    /// All partitions of a bounded source have been read.
    pub all_ended: bool,
    /// All partitions are idle, or the source is out of reach.
    pub silent: bool,
}

/// Runs one plan.
pub struct Engine {
    plan: Arc<Plan>,
    decoder: Decoder,
    step: SourceStep,
    partitions: BTreeMap<i32, Partition>,
    panes: Panes,
    watermark: i64,
    told: Option<i64>,
    last_end: Option<i64>,
    silent_from: Option<i64>,
    silent_to: Option<i64>,
    counters: Counters,
    dead_letters: Vec<DeadLetter>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    ids: Vec<usize>,
    before: Vec<i64>,
    /// By record of the raw batch: event time and the watermark before the row.
    times: Vec<(i64, i64)>,
}

impl Engine {
    /// Starts a plan, or goes on where `checkpoint` stands. The source must start at [`Checkpoint::starts`].
    pub fn new(plan: Arc<Plan>, checkpoint: Option<Checkpoint>) -> Result<Self, PipelineError> {
        let format = match plan.source.options.format {
            Format::Json => decode::Format::Json,
            Format::RawString => decode::Format::RawString,
        };
        let decoder = Decoder::try_new(format, plan.source.payload.clone())
            .map_err(|error| PipelineError::Engine(error.to_string()))?;
        let step = SourceStep::new(&plan.source);
        let mut engine = Self {
            plan,
            decoder,
            step,
            partitions: BTreeMap::new(),
            panes: Panes::default(),
            watermark: UNSTARTED,
            told: None,
            last_end: None,
            silent_from: None,
            silent_to: None,
            counters: Counters::default(),
            dead_letters: Vec::new(),
            scratch: Scratch::default(),
        };
        if let Some(checkpoint) = checkpoint {
            engine.resume(checkpoint)?;
        }
        Ok(engine)
    }

    fn resume(&mut self, from: Checkpoint) -> Result<(), PipelineError> {
        if from.fingerprint != self.plan.fingerprint {
            return Err(PipelineError::OtherPlan {
                pipeline: self.plan.sink.name.clone(),
                found: from.fingerprint,
                expected: self.plan.fingerprint.clone(),
            });
        }
        self.watermark = from.watermark;
        self.told = from.told;
        self.last_end = from.last_end;
        self.silent_from = from.silent_from;
        self.silent_to = from.silent_to;
        self.counters = from.counters;
        for (id, at) in from.partitions {
            let lifts = from.lifts.get(&id).map(Vec::as_slice).unwrap_or_default();
            self.partitions.insert(id, Partition::resumed(at, lifts));
        }
        Ok(())
    }

    /// Windows the rows of one batch. Batches of one partition come in offset order; an error is a defect of the plan
    /// or the engine, never of a row.
    pub fn push(&mut self, raw: &RawBatch) -> Result<(), PipelineError> {
        let Some(&last) = raw.offsets.last() else { return Ok(()) };
        let partition = self.partitions.entry(raw.partition).or_insert_with(|| Partition::fresh(self.watermark));
        partition.next = Some(last + 1);
        let live_from = partition.live_from;
        let live = |record: u32| raw.offsets[record as usize] >= live_from;
        let decoded = self.decoder.decode(raw);
        let tombstones = raw.tombstones.iter().filter(|record| raw.offsets[**record] >= live_from).count();
        self.counters.tombstones += tombstones as u64;
        self.counters.read +=
            raw.offsets.iter().filter(|offset| **offset >= live_from).count() as u64 - tombstones as u64;
        for bad in decoded.bad {
            if live(bad.index) {
                self.counters.decode += 1;
                self.dead_letters.push(dead_letter(raw, bad.index, bad.reason, bad.error));
            }
        }
        let plan = self.plan.clone();
        let source = self.step.rows(&plan.source, raw, decoded.batch, decoded.rows)?;
        self.fail(raw, live_from, &source.failures);
        for &record in source.null_times.iter().filter(|record| live(**record)) {
            self.counters.null_event_time += 1;
            self.dead_letters.push(dead_letter(raw, record, "null_event_time", "event time is NULL"));
        }
        for (record, error) in source.future.iter().filter(|(record, _)| live(*record)) {
            self.counters.future += 1;
            self.dead_letters.push(dead_letter(raw, *record, "future", error.clone()));
        }
        self.advance(raw, &source);
        let mut rows = self.branches(raw, live_from, source.rows)?;
        let inputs = self.inputs(raw, live_from, &mut rows)?;
        self.window(raw, live_from, &rows.index, &inputs)
    }

    /// Closes an epoch: windows that are complete, the letters collected since the last call, and what to tell readers.
    pub fn close(&mut self, view: &PartitionView<'_>) -> Result<EpochOutput, PipelineError> {
        let plan = self.plan.clone();
        let mut from = plan.windows.first_open(self.watermark);
        self.move_watermark(view);
        let mut rows = Vec::new();
        while let Some(closed) = self.panes.next_closed(&plan, &mut from, self.watermark, &mut self.scratch.ids)? {
            self.emit(closed, &mut rows)?;
        }
        for (id, partition) in &mut self.partitions {
            partition.forget(|| self.panes.oldest(*id));
        }
        let progress = self.progress(view.all_ended);
        let mut dead_letters = std::mem::take(&mut self.dead_letters);
        dead_letters.sort_by_key(|letter| (letter.partition, letter.offset));
        if !self.counters.is_conserved() {
            return Err(PipelineError::Engine(format!("rows were lost or counted twice: {:?}", self.counters)));
        }
        Ok(EpochOutput { rows, dead_letters, progress, counters: self.counters })
    }

    /// Where a restart would go on, once the output of all closed epochs is safe.
    pub fn checkpoint(&self) -> Checkpoint {
        let partition = |(&id, partition): (&i32, &Partition)| {
            partition.checkpoint(self.panes.oldest(id)).map(|checkpoint| (id, checkpoint))
        };
        let lifts = |(&id, partition): (&i32, &Partition)| partition.lifts().map(|lifts| (id, lifts));
        Checkpoint {
            fingerprint: self.plan.fingerprint.clone(),
            watermark: self.watermark,
            told: self.told,
            last_end: self.last_end,
            silent_from: self.silent_from,
            silent_to: self.silent_to,
            partitions: self.partitions.iter().filter_map(partition).collect(),
            lifts: self.partitions.iter().filter_map(lifts).collect(),
            counters: self.counters,
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The query watermark; `None` before the first row of the slowest partition.
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.watermark != UNSTARTED).then(|| to_millis(self.watermark))
    }

    fn fail(&mut self, raw: &RawBatch, live_from: i64, failures: &[Failure]) {
        for (record, error) in failures {
            if raw.offsets[*record as usize] >= live_from {
                self.counters.expression += 1;
                self.dead_letters.push(dead_letter(raw, *record, "expression", error.clone()));
            }
        }
    }

    /// Walks event times and watermarks of a batch, and leaves them in the scratch space by record.
    fn advance(&mut self, raw: &RawBatch, source: &SourceRows) {
        let Some(partition) = self.partitions.get_mut(&raw.partition) else { return };
        let times = &mut self.scratch.times;
        times.clear();
        times.resize(raw.len(), (0, UNSTARTED));
        let index = &source.rows.index;
        partition.advance(&raw.offsets, index, &source.watermarks, &mut self.scratch.before);
        for ((record, time), before) in index.iter().zip(&source.times).zip(&self.scratch.before) {
            times[*record as usize] = (*time, *before);
        }
    }

    /// Filters and projects rows. Where there are several branches, a row comes once out of each that keeps it, and out of
    /// none if it fails in one.
    fn branches(&mut self, raw: &RawBatch, live_from: i64, rows: Rows) -> Result<Rows, PipelineError> {
        let plan = self.plan.clone();
        let mut failures = BTreeMap::new();
        let read = if plan.branches.len() > 1 { rows.index.clone() } else { Vec::new() };
        let (mut done, mut filtered) = (Vec::with_capacity(plan.branches.len()), Vec::new());
        let (mut source, last) = (Some(rows), plan.branches.len().saturating_sub(1));
        for (branch, stages) in plan.branches.iter().enumerate() {
            let Some(mut rows) = (if branch == last { source.take() } else { source.clone() }) else { break };
            for stage in stages {
                let (gone, failed) = rows.run(stage)?;
                filtered.extend(gone);
                failures.extend(failed);
            }
            done.push(rows);
        }
        let rows = match <[Rows; 1]>::try_from(done) {
            Ok([rows]) => rows,
            Err(done) => {
                let rows = Rows::union(&done, &failures.keys().copied().collect())?;
                filtered = read;
                filtered.retain(|record| rows.index.binary_search(record).is_err() && !failures.contains_key(record));
                rows
            }
        };
        filtered.retain(|record| raw.offsets[*record as usize] >= live_from);
        self.note_rows(filtered.iter().copied());
        self.counters.filtered += filtered.len() as u64;
        self.fail(raw, live_from, &failures.into_iter().collect::<Vec<_>>());
        Ok(rows)
    }

    /// Keys and arguments of the rows; rows for which they can't be evaluated are taken out.
    fn inputs(&mut self, raw: &RawBatch, live_from: i64, rows: &mut Rows) -> Result<Inputs, PipelineError> {
        let (mut inputs, mut failures) = Inputs::isolated(&self.plan.aggregation, rows)?;
        if !failures.is_empty() && self.plan.branches.len() > 1 {
            failures.dedup_by_key(|(record, _)| *record);
            rows.without(&failures.iter().map(|(record, _)| *record).collect())?;
            inputs = Inputs::of(&self.plan.aggregation, &rows.batch)?;
        }
        self.fail(raw, live_from, &failures);
        Ok(inputs)
    }

    /// Sorts rows into panes; what is late goes to the dead letters.
    fn window(&mut self, raw: &RawBatch, live_from: i64, index: &[u32], inputs: &Inputs) -> Result<(), PipelineError> {
        let plan = self.plan.clone();
        // Runs of neighbouring rows of one pane: (its start, first row, rows).
        let mut runs: Vec<(i64, usize, usize)> = Vec::new();
        let (mut windowed, mut noted) = (0, i64::MAX);
        for (row, &record) in index.iter().enumerate() {
            let (time, before) = self.scratch.times[record as usize];
            let start = plan.windows.pane_of(time);
            let end = plan.windows.pane_end(start);
            let is_live = raw.offsets[record as usize] >= live_from;
            // A record that came out of several branches is one row of the source.
            let counts = is_live && (row == 0 || index[row - 1] != record);
            // A row that is read again goes where it went before, as long as an open window needs it.
            let needed_until = if is_live { end } else { plan.windows.last_end(start) };
            if late::is_late(end, before) || window::is_closed(needed_until, self.watermark) {
                if counts {
                    self.counters.late += 1;
                    let error = format!(
                        "window ended at {}, watermark was {}",
                        to_millis(end),
                        to_millis(before.max(self.watermark))
                    );
                    self.dead_letters.push(dead_letter(raw, record, "late", error));
                }
                continue;
            }
            if counts {
                windowed += 1;
                noted = noted.min(start);
            }
            match runs.last_mut() {
                Some((at, first, length)) if *at == start && *first + *length == row => *length += 1,
                _ => runs.push((start, row, 1)),
            }
        }
        self.counters.windowed += windowed;
        self.note_start(noted);
        let mut by_pane: BTreeMap<i64, Vec<(usize, usize)>> = BTreeMap::new();
        for (start, first, length) in runs {
            by_pane.entry(start).or_default().push((first, length));
        }
        for (start, runs) in by_pane {
            let first_record = index[runs[0].0] as usize;
            let share = if let [(first, length)] = runs[..] {
                if length == inputs.rows { inputs.clone() } else { inputs.slice(first, length) }
            } else {
                let positions = runs.iter().flat_map(|(first, length)| *first..first + length);
                inputs.take(positions.map(|row| u32::try_from(row).unwrap_or_default()).collect())?
            };
            let first =
                FirstRow { offset: raw.offsets[first_record], watermark_before: self.scratch.times[first_record].1 };
            self.panes.add(&plan.aggregation, (start, raw.partition), first, &share, &mut self.scratch.ids)?;
        }
        Ok(())
    }

    /// Remembers the windows of rows that came after a silence.
    fn note_rows(&mut self, records: impl Iterator<Item = u32>) {
        if self.silent_from.is_some() {
            let windows = self.plan.windows;
            let starts = records.map(|record| self.scratch.times[record as usize]).filter_map(|(time, before)| {
                let start = windows.pane_of(time);
                (!late::is_late(windows.pane_end(start), before)).then_some(start)
            });
            let first = starts.min().unwrap_or(i64::MAX);
            self.note_start(first);
        }
    }

    fn note_start(&mut self, start: i64) {
        if self.silent_from.is_some() && start != i64::MAX {
            self.silent_to = Some(self.silent_to.map_or(start, |known| known.min(start)));
        }
    }

    fn move_watermark(&mut self, view: &PartitionView<'_>) {
        for id in view.known {
            self.partitions.entry(*id).or_insert_with(|| Partition::fresh(self.watermark));
        }
        if view.all_ended {
            self.watermark = ENDED;
            return;
        }
        let excluded = |id: &i32| view.idle.contains(id) || view.ended.contains(id);
        let times = self
            .partitions
            .iter()
            .map(|(id, partition)| PartitionTime { watermark: partition.watermark, excluded: excluded(id) });
        self.watermark = watermark::query(self.watermark, times);
        for id in view.idle {
            // Windows closed without it stay closed: when it comes back its older rows are late.
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.lift(self.watermark);
            }
        }
        if view.silent && self.silent_from.is_none() && self.watermark != UNSTARTED {
            self.silent_from = Some(self.watermark);
        }
    }

    fn emit(&mut self, closed: ClosedWindow, out: &mut Vec<OutRow>) -> Result<(), PipelineError> {
        let ClosedWindow { start, end, batch } = closed;
        self.last_end = self.last_end.max(Some(end));
        let plan = self.plan.clone();
        let mut rows = Rows::all(batch);
        for step in &plan.after {
            let failures = match step {
                Step::Rows(stage) => rows.run(stage)?.1,
                Step::Aggregate(aggregation) => {
                    pane::aggregate(&mut rows, aggregation, (start, end), &mut self.scratch.ids)?
                }
            };
            for (_, error) in failures {
                self.fail_row(error, Vec::new());
            }
        }
        let mut written = Vec::with_capacity(rows.batch.num_rows());
        for row in output::rows(&rows.batch, &plan.sink)? {
            match row {
                Ok(row) => written.push(row),
                Err(json) => {
                    let key = plan.sink.schema.field(plan.sink.key).name();
                    self.fail_row(format!("row of window {}: `{key}` is NULL", to_millis(start)), json);
                }
            }
        }
        written.sort_by(|a, b| a.key.cmp(&b.key));
        self.counters.rows_out += written.len() as u64;
        out.append(&mut written);
        Ok(())
    }

    /// A row of a closed window that can't be written.
    fn fail_row(&mut self, error: String, payload: Vec<u8>) {
        self.counters.rows_failed += 1;
        let topic = self.plan.sink.options.topic.clone();
        self.dead_letters.push(DeadLetter {
            topic,
            partition: -1,
            offset: -1,
            reason: "expression".to_owned(),
            error,
            payload,
        });
    }

    fn progress(&mut self, end: bool) -> Option<ProgressNote> {
        let floor = if end { self.last_end.max(self.told) } else { self.floor() };
        let moved = floor.is_some() && floor > self.told;
        if !moved && !end {
            return None;
        }
        let mut gap = None;
        if let (Some(from), Some(to)) = (self.silent_from, self.silent_to) {
            if to.saturating_sub(from) >= self.plan.windows.width {
                gap = Some((to_millis(from), to_millis(to)));
            }
            (self.silent_from, self.silent_to) = (None, None);
        }
        self.told = floor;
        Some(ProgressNote { watermark: to_millis(floor.unwrap_or(UNSTARTED)), gap, end })
    }

    /// The last window border that the watermark has reached.
    fn floor(&self) -> Option<i64> {
        (self.watermark != UNSTARTED && self.watermark != ENDED).then(|| self.plan.windows.border(self.watermark))
    }
}

fn to_millis(nanos: i64) -> Timestamp {
    match nanos {
        UNSTARTED => Timestamp::MIN,
        ENDED => Timestamp::MAX,
        _ => Timestamp::from_millis(nanos.div_euclid(1_000_000)),
    }
}

fn dead_letter(raw: &RawBatch, record: u32, reason: impl Into<String>, error: impl Into<String>) -> DeadLetter {
    DeadLetter {
        topic: raw.topic.to_string(),
        partition: raw.partition,
        offset: raw.offsets[record as usize],
        reason: reason.into(),
        error: error.into(),
        payload: raw.bytes(record as usize).to_vec(),
    }
}
