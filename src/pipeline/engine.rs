//! The engine: batches of raw records in, closed windows, dead letters and checkpoints out. Rule: no I/O and no clock;
//! the output is a function of the rows of each partition in offset order, and of which partitions fell silent when.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_domain::Timestamp;
use prescale_ingest::decode::{self, Decoder};
use prescale_ingest::{DeadLetter, RawBatch};

use crate::checkpoint::{Checkpoint, Counters, PartitionCheckpoint};
use crate::error::PipelineError;
use crate::exec::output;
use crate::exec::pane::{Inputs, PaneStore};
use crate::exec::rows::{Failure, Rows};
use crate::exec::source_rows::{SourceRows, SourceStep};
use crate::late;
use crate::sql::{Format, Plan};
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
    panes: BTreeMap<i64, BTreeMap<i32, PanePart>>,
    watermark: i64,
    told: Option<i64>,
    last_end: Option<i64>,
    silent_from: Option<i64>,
    silent_to: Option<i64>,
    counters: Counters,
    dead_letters: Vec<DeadLetter>,
    scratch: Scratch,
}

/// One source partition.
struct Partition {
    /// The first offset not read yet; `None` = no row was seen.
    next: Option<i64>,
    /// Records before this offset were counted by the run that wrote the checkpoint.
    live_from: i64,
    /// The watermark to go on with at `live_from`.
    live_watermark: i64,
    watermark: i64,
}

/// One partition's share of a window.
struct PanePart {
    store: PaneStore,
    first_offset: i64,
    watermark_before_first: i64,
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
            panes: BTreeMap::new(),
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
            let partition = Partition {
                next: Some(at.oldest),
                live_from: at.next,
                live_watermark: at.watermark,
                watermark: if at.oldest < at.next { at.oldest_watermark } else { at.watermark },
            };
            self.partitions.insert(id, partition);
        }
        Ok(())
    }

    /// Windows the rows of one batch. Batches of one partition come in offset order; an error is a defect of the plan
    /// or the engine, never of a row.
    pub fn push(&mut self, raw: &RawBatch) -> Result<(), PipelineError> {
        let Some(&last) = raw.offsets.last() else { return Ok(()) };
        let fresh = Partition { next: None, live_from: i64::MIN, live_watermark: UNSTARTED, watermark: self.watermark };
        let partition = self.partitions.entry(raw.partition).or_insert(fresh);
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
        self.advance(raw, &source);
        let mut rows = source.rows;
        for stage in &plan.before {
            let (filtered, failures) = rows.run(stage)?;
            self.note_rows(filtered.iter().filter(|record| live(**record)).copied());
            self.counters.filtered += filtered.iter().filter(|record| live(**record)).count() as u64;
            self.fail(raw, live_from, &failures);
        }
        let inputs = self.inputs(raw, live_from, &mut rows)?;
        self.window(raw, live_from, &rows.index, &inputs)
    }

    /// Closes an epoch: windows that are complete, the letters collected since the last call, and what to tell readers.
    pub fn close(&mut self, view: &PartitionView<'_>) -> Result<EpochOutput, PipelineError> {
        self.move_watermark(view);
        let mut rows = Vec::new();
        while let Some(entry) = self.panes.first_entry() {
            let (start, end) = (*entry.key(), window::end_of(*entry.key(), self.plan.width));
            if !window::is_closed(end, self.watermark) {
                break;
            }
            let parts = entry.remove();
            self.emit(start, end, parts, &mut rows)?;
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
            let reached = partition.next?;
            let open = self.panes.values().filter_map(|parts| parts.get(&id)).min_by_key(|part| part.first_offset);
            // While rows before `live_from` are being read again, the old promise about them still stands.
            let (next, watermark) = if reached < partition.live_from {
                (partition.live_from, partition.live_watermark)
            } else {
                (reached, partition.watermark.max(partition.live_watermark))
            };
            let (oldest, oldest_watermark) = match open {
                Some(part) if part.first_offset < reached => (part.first_offset, part.watermark_before_first),
                _ if reached < partition.live_from => (reached, partition.watermark),
                _ => (next, watermark),
            };
            Some((id, PartitionCheckpoint { next, watermark, oldest, oldest_watermark }))
        };
        Checkpoint {
            fingerprint: self.plan.fingerprint.clone(),
            watermark: self.watermark,
            told: self.told,
            last_end: self.last_end,
            silent_from: self.silent_from,
            silent_to: self.silent_to,
            partitions: self.partitions.iter().filter_map(partition).collect(),
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
        let index = &source.rows.index;
        let live_at = index.partition_point(|record| raw.offsets[*record as usize] < partition.live_from);
        let times = &mut self.scratch.times;
        times.clear();
        times.resize(raw.len(), (0, UNSTARTED));
        for (range, is_live) in [(0..live_at, false), (live_at..index.len(), true)] {
            if is_live && raw.offsets.last().is_some_and(|last| *last >= partition.live_from) {
                partition.watermark = partition.watermark.max(partition.live_watermark);
            }
            partition.watermark =
                watermark::advance(partition.watermark, &source.watermarks[range.clone()], &mut self.scratch.before);
            for (row, before) in range.zip(&self.scratch.before) {
                times[index[row] as usize] = (source.times[row], *before);
            }
        }
    }

    /// Keys and arguments of the rows; rows for which they can't be evaluated are taken out.
    fn inputs(&mut self, raw: &RawBatch, live_from: i64, rows: &mut Rows) -> Result<Inputs, PipelineError> {
        if let Ok(inputs) = Inputs::of(&self.plan, &rows.batch) {
            return Ok(inputs);
        }
        let (plan, schema) = (self.plan.clone(), rows.batch.schema());
        let failures = rows.map(&schema, &|batch| Inputs::of(&plan, batch).map(|_| batch.clone()))?;
        self.fail(raw, live_from, &failures);
        Ok(Inputs::of(&self.plan, &rows.batch)?)
    }

    /// Sorts rows into windows; what is late goes to the dead letters.
    fn window(&mut self, raw: &RawBatch, live_from: i64, index: &[u32], inputs: &Inputs) -> Result<(), PipelineError> {
        let width = self.plan.width;
        // Runs of neighbouring rows of one window: (window start, first row, rows).
        let mut runs: Vec<(i64, usize, usize)> = Vec::new();
        let (mut windowed, mut noted) = (0, i64::MAX);
        for (row, &record) in index.iter().enumerate() {
            let (time, before) = self.scratch.times[record as usize];
            let start = window::start_of(time, width);
            let end = window::end_of(start, width);
            let is_live = raw.offsets[record as usize] >= live_from;
            if late::is_late(end, before) || window::is_closed(end, self.watermark) {
                if is_live {
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
            if is_live {
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
        let mut by_window: BTreeMap<i64, Vec<(usize, usize)>> = BTreeMap::new();
        for (start, first, length) in runs {
            by_window.entry(start).or_default().push((first, length));
        }
        for (start, runs) in by_window {
            let first_record = index[runs[0].0] as usize;
            let share = if let [(first, length)] = runs[..] {
                if length == inputs.rows { inputs.clone() } else { inputs.slice(first, length) }
            } else {
                let positions = runs.iter().flat_map(|(first, length)| *first..first + length);
                inputs.take(positions.map(|row| u32::try_from(row).unwrap_or_default()).collect())?
            };
            let parts = self.panes.entry(start).or_default();
            let part = match parts.entry(raw.partition) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(PanePart {
                    store: PaneStore::new(&self.plan)?,
                    first_offset: raw.offsets[first_record],
                    watermark_before_first: self.scratch.times[first_record].1,
                }),
            };
            part.store.update(&share, &mut self.scratch.ids)?;
        }
        Ok(())
    }

    /// Remembers the windows of rows that came after a silence.
    fn note_rows(&mut self, records: impl Iterator<Item = u32>) {
        if self.silent_from.is_some() {
            let width = self.plan.width;
            let starts = records.map(|record| self.scratch.times[record as usize]).filter_map(|(time, before)| {
                let start = window::start_of(time, width);
                (!late::is_late(window::end_of(start, width), before)).then_some(start)
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
            let fresh =
                Partition { next: None, live_from: i64::MIN, live_watermark: UNSTARTED, watermark: self.watermark };
            self.partitions.entry(*id).or_insert(fresh);
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
                partition.watermark = partition.watermark.max(self.watermark);
            }
        }
        if view.silent && self.silent_from.is_none() && self.watermark != UNSTARTED {
            self.silent_from = Some(self.watermark);
        }
    }

    fn emit(
        &mut self,
        start: i64,
        end: i64,
        parts: BTreeMap<i32, PanePart>,
        out: &mut Vec<OutRow>,
    ) -> Result<(), PipelineError> {
        let mut parts = parts.into_values();
        let Some(first) = parts.next() else { return Ok(()) };
        let mut store = first.store;
        for part in parts {
            store.merge(part.store, &mut self.scratch.ids)?;
        }
        self.last_end = self.last_end.max(Some(end));
        let plan = self.plan.clone();
        let batch = store.finish(&plan, start, end)?;
        let index = (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
        let mut rows = Rows { batch, index };
        for stage in &plan.after {
            let (_, failures) = rows.run(stage)?;
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
            if to.saturating_sub(from) >= self.plan.width {
                gap = Some((to_millis(from), to_millis(to)));
            }
            (self.silent_from, self.silent_to) = (None, None);
        }
        self.told = floor;
        Some(ProgressNote { watermark: to_millis(floor.unwrap_or(UNSTARTED)), gap, end })
    }

    /// The last window border that the watermark has reached.
    fn floor(&self) -> Option<i64> {
        (self.watermark != UNSTARTED && self.watermark != ENDED)
            .then(|| window::start_of(self.watermark, self.plan.width))
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
