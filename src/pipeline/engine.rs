//! The engine: batches of raw records in, closed windows, dead letters and checkpoints out. Rule: no I/O and no clock;
//! the output is a function of the rows of each partition in offset order, and of which partitions fell silent when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prescale_domain::Timestamp;
use prescale_ingest::decode::Decoder;
use prescale_ingest::{DeadLetter, RawBatch};

use crate::checkpoint::{Checkpoint, Counters, SourceCheckpoint};
use crate::error::PipelineError;
use crate::exec::closed::{self, Window};
use crate::exec::output;
use crate::exec::source_rows::SourceStep;
use crate::gathered::{Gathered, Gathering};
use crate::late;
use crate::panes::{FirstRow, RowsOf};
use crate::partition::Partition;
use crate::prepared::{Intake, Prepared, Times};
use crate::routing::Share;
use crate::silence::Silence;
use crate::sql::Plan;
use crate::watermark::{self, ENDED, PartitionTime, UNSTARTED};
use crate::window::{self, Windows};

mod keeping;

use keeping::Keeping;

/// Follows the plan's fingerprint where a checkpoint is not whole without stored panes: versions that know nothing of them
/// take it for that of another plan.
const WITH_PANES: &str = "+panes";

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
    /// By window start, then key; sessions by their end, then key.
    pub rows: Vec<OutRow>,
    /// By partition and offset.
    pub dead_letters: Vec<DeadLetter>,
    pub progress: Option<ProgressNote>,
    /// Since the first start.
    pub counters: Counters,
}

/// What is known of a source's partitions when an epoch closes.
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

impl PartitionView<'_> {
    /// All partitions are idle.
    pub(crate) fn is_idle(&self) -> bool {
        !self.known.is_empty() && self.idle.len() == self.known.len()
    }
}

/// Runs one plan.
pub struct Engine {
    plan: Arc<Plan>,
    /// In the order of the plan's sources.
    readers: Vec<Reader>,
    gathered: Gathered,
    keeping: Keeping,
    watermark: i64,
    told: Option<i64>,
    last_end: Option<i64>,
    silence: Silence,
    counters: Counters,
    dead_letters: Vec<DeadLetter>,
    scratch: Scratch,
}

/// One source, and how far it has come.
struct Reader {
    intake: Intake,
    partitions: BTreeMap<i32, Partition>,
    /// Partitions that did not hold the watermark back when the last epoch closed.
    excluded: BTreeSet<i32>,
}

impl Reader {
    fn times(&self) -> impl Iterator<Item = PartitionTime> {
        self.partitions.iter().map(|(id, partition)| PartitionTime {
            watermark: partition.watermark,
            excluded: self.excluded.contains(id),
        })
    }
}

#[derive(Default)]
struct Scratch {
    ids: Vec<usize>,
    before: Vec<i64>,
    own_before: Vec<i64>,
    /// By record of the raw batch: event time and the watermark before the row.
    times: Vec<(i64, i64)>,
    /// The same watermark by the partition's rows alone; empty where panes have no segments.
    own: Vec<i64>,
    fates: Vec<Fate>,
}

/// The pane of the row that was looked at last; empty before the first.
#[derive(Clone, Copy, Default)]
struct Pane {
    start: i64,
    end: i64,
}

impl Pane {
    fn reach(&mut self, time: i64, windows: Windows) {
        if time < self.start || time >= self.end {
            self.start = windows.pane_of(time);
            self.end = windows.pane_end(self.start);
        }
    }
}

/// What became of a record that was kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Windowed,
    Late,
}

/// A batch on its way: which source it is from, and the first of its records that counts.
#[derive(Clone, Copy)]
struct Batch<'a> {
    source: usize,
    raw: &'a RawBatch,
    live: usize,
}

impl Batch<'_> {
    fn is_live(&self, record: u32) -> bool {
        record as usize >= self.live
    }

    fn letter(&self, record: u32, reason: impl Into<String>, error: impl Into<String>) -> DeadLetter {
        DeadLetter {
            topic: self.raw.topic.to_string(),
            partition: self.raw.partition,
            offset: self.raw.offsets[record as usize],
            reason: reason.into(),
            error: error.into(),
            payload: self.raw.bytes(record as usize).to_vec(),
        }
    }
}

impl Engine {
    /// Starts a plan that stores no panes, or goes on where `checkpoint` stands. Each source must start at
    /// [`Checkpoint::starts`].
    pub fn new(plan: Arc<Plan>, checkpoint: Option<Checkpoint>) -> Result<Self, PipelineError> {
        if checkpoint.as_ref().and_then(|checkpoint| checkpoint.panes.as_ref()).is_some_and(|panes| !panes.is_empty()) {
            let error = "a part of its state is in stored panes, which this run can't read".to_owned();
            return Err(PipelineError::Checkpoint { pipeline: plan.sink.name.clone(), error });
        }
        Self::started(plan, checkpoint, false)
    }

    fn started(plan: Arc<Plan>, checkpoint: Option<Checkpoint>, stores: bool) -> Result<Self, PipelineError> {
        let mut readers = Vec::with_capacity(plan.sources.len());
        for (place, source) in plan.sources.iter().enumerate() {
            let decoder = Decoder::try_new(&source.options.format, source.payload.clone())
                .map_err(|error| PipelineError::Engine(error.to_string()))?
                .keeping(&plan.used_columns(place));
            let intake = Intake { decoder, step: SourceStep::new(source) };
            readers.push(Reader { intake, partitions: BTreeMap::new(), excluded: BTreeSet::new() });
        }
        let watermark = checkpoint.as_ref().map_or(UNSTARTED, Checkpoint::goes_on_at);
        let mut engine = Self {
            gathered: Gathered::new(&plan, watermark, stores),
            keeping: Keeping::new(stores, checkpoint.as_ref()),
            plan,
            readers,
            watermark,
            told: None,
            last_end: None,
            silence: Silence::default(),
            counters: Counters::default(),
            dead_letters: Vec::new(),
            scratch: Scratch::default(),
        };
        if let Some(checkpoint) = checkpoint {
            engine.resume(checkpoint)?;
        }
        Ok(engine)
    }

    fn resume(&mut self, mut from: Checkpoint) -> Result<(), PipelineError> {
        if from.fingerprint.trim_end_matches(WITH_PANES) != self.plan.fingerprint {
            return Err(PipelineError::OtherPlan {
                pipeline: self.plan.sink.name.clone(),
                found: from.fingerprint,
                expected: self.plan.fingerprint.clone(),
            });
        }
        self.told = from.told;
        self.last_end = from.last_end;
        self.silence = from.silence;
        self.counters = from.counters;
        for (source, reader) in self.plan.sources.iter().zip(&mut self.readers) {
            let at = from.sources.remove(&source.name).unwrap_or_default();
            for (id, partition) in at.partitions {
                let lifts = at.lifts.get(&id).map(Vec::as_slice).unwrap_or_default();
                reader.partitions.insert(id, Partition::resumed(partition, lifts));
            }
        }
        Ok(())
    }

    /// Windows the rows of one batch of the source at this place in the plan. Batches of one partition come in offset
    /// order; an error is a defect of the plan or the engine, never of a row.
    pub fn push(&mut self, source: usize, raw: &RawBatch) -> Result<(), PipelineError> {
        self.push_all(source, std::slice::from_ref(raw))
    }

    /// The same for several batches, in their order. What does not depend on it is done on all cores.
    pub fn push_all(&mut self, source: usize, batches: &[RawBatch]) -> Result<(), PipelineError> {
        let plan = self.plan.clone();
        let Some(reader) = self.readers.get(source) else {
            return Err(PipelineError::Engine(format!("a batch of source {source}, of which the plan knows nothing")));
        };
        for (raw, prepared) in batches.iter().zip(reader.intake.prepare_all(&plan, source, batches)) {
            self.take(source, raw, prepared?)?;
        }
        Ok(())
    }

    fn take(&mut self, source: usize, raw: &RawBatch, prepared: Prepared) -> Result<(), PipelineError> {
        let Some(&last) = raw.offsets.last() else { return Ok(()) };
        let plan = self.plan.clone();
        let (Some(reader), Some(table)) = (self.readers.get_mut(source), plan.sources.get(source)) else {
            return Ok(());
        };
        let fresh = || Partition::fresh(self.watermark);
        let partition = reader.partitions.entry(raw.partition).or_insert_with(fresh);
        partition.next = Some(last + 1);
        let batch = Batch { source, raw, live: raw.offsets.partition_point(|offset| *offset < partition.live_from) };
        let tombstones = raw.tombstones.len() - raw.tombstones.partition_point(|record| *record < batch.live);
        self.counters.tombstones += tombstones as u64;
        self.counters.read += (raw.len() - batch.live - tombstones) as u64;
        let Prepared { bad, rows, null_times, future, strange, failures, routed } = prepared;
        for bad in bad {
            if batch.is_live(bad.index) {
                self.counters.decode += 1;
                self.dead_letters.push(batch.letter(bad.index, bad.reason, bad.error));
            }
        }
        advance(partition, raw, &rows, plan.has_segments(), &mut self.scratch);
        self.fail(batch, failures);
        for &record in null_times.iter().filter(|record| batch.is_live(**record)) {
            self.counters.null_event_time += 1;
            self.dead_letters.push(batch.letter(record, "null_event_time", "event time is NULL"));
        }
        for (record, error) in future.into_iter().filter(|(record, _)| batch.is_live(*record)) {
            self.counters.future += 1;
            self.dead_letters.push(batch.letter(record, "future", error));
        }
        for (record, error) in strange.into_iter().filter(|(record, _)| batch.is_live(*record)) {
            self.counters.key += 1;
            self.dead_letters.push(batch.letter(record, "key", error));
        }
        let filtered = routed.filtered.iter().filter(|record| batch.is_live(**record));
        self.counters.filtered += filtered.clone().count() as u64;
        if self.silence.is_open() {
            let starts = filtered
                .map(|record| self.scratch.times[*record as usize])
                .filter(|(time, before)| !late::is_late(plan.late_from(*time), *before));
            self.silence.back(&table.name, starts.map(|(time, _)| plan.windows.pane_of(time)).min());
        }
        self.fail(batch, routed.failures);
        self.scratch.fates.clear();
        self.scratch.fates.resize(raw.len(), Fate::Open);
        for share in &routed.shares {
            self.window(batch, share)?;
        }
        Ok(())
    }

    /// Closes an epoch: windows that are complete, the letters collected since the last call, and what to tell readers.
    /// `views` are those of the plan's sources, in its order.
    pub fn close(&mut self, views: &[PartitionView<'_>]) -> Result<EpochOutput, PipelineError> {
        let plan = self.plan.clone();
        let before = self.watermark;
        let all_ended = views.iter().all(|view| view.all_ended);
        self.move_watermark(views, all_ended);
        let mut rows = Vec::new();
        let mut closing = self.gathered.closing(&plan, before, self.watermark);
        while let Some(window) = self.gathered.next(&plan, &mut closing, &mut self.scratch.ids)? {
            self.emit(&Window { start: window.start, end: window.end, batches: &window.batches }, &mut rows)?;
        }
        let reached = self.reached();
        for (source, reader) in self.readers.iter_mut().enumerate() {
            for (id, partition) in &mut reader.partitions {
                partition.forget(|| self.gathered.oldest(&plan, (source, *id), reached.as_ref()));
            }
        }
        let progress = self.progress(all_ended);
        let mut dead_letters = std::mem::take(&mut self.dead_letters);
        dead_letters.sort_by(|a, b| (a.partition, a.offset, &a.topic).cmp(&(b.partition, b.offset, &b.topic)));
        if !self.counters.is_conserved() {
            return Err(PipelineError::Engine(format!("rows were lost or counted twice: {:?}", self.counters)));
        }
        Ok(EpochOutput { rows, dead_letters, progress, counters: self.counters })
    }

    /// Whether the rows since the last epoch make a window complete, as far as can be told before it closes.
    pub fn is_due(&self) -> bool {
        let reached = watermark::query(self.watermark, self.readers.iter().flat_map(Reader::times));
        reached != UNSTARTED && self.plan.windows.border(reached) > self.plan.windows.border(self.watermark)
    }

    /// Where a restart would go on, once the output of all closed epochs is safe and the stored panes are.
    pub fn checkpoint(&self) -> Checkpoint {
        let (reached, has_segments) = (self.reached(), self.plan.has_segments());
        let of = |source: usize, reader: &Reader| {
            let partition = |(&id, partition): (&i32, &Partition)| {
                let oldest = self.gathered.oldest(&self.plan, (source, id), reached.as_ref());
                let needed = reached.as_ref().and_then(|_| self.gathered.oldest(&self.plan, (source, id), None));
                partition.checkpoint(oldest, needed, has_segments).map(|checkpoint| (id, checkpoint))
            };
            let lifts = |(&id, partition): (&i32, &Partition)| partition.lifts().map(|lifts| (id, lifts));
            SourceCheckpoint {
                partitions: reader.partitions.iter().filter_map(partition).collect(),
                lifts: reader.partitions.iter().filter_map(lifts).collect(),
            }
        };
        let readers = self.plan.sources.iter().zip(&self.readers).enumerate();
        let panes = reached.as_ref().map(|reached| self.gathered.listed(&self.plan, reached));
        let mark = if panes.as_ref().is_some_and(|panes| !panes.is_empty()) { WITH_PANES } else { "" };
        Checkpoint {
            fingerprint: format!("{}{mark}", self.plan.fingerprint),
            watermark: self.watermark,
            told: self.told,
            last_end: self.last_end,
            silence: self.silence.clone(),
            sources: readers.map(|(place, (source, reader))| (source.name.clone(), of(place, reader))).collect(),
            counters: self.counters,
            panes,
        }
    }

    /// For whoever looks up the schemas that records of a source name by id, before they are pushed.
    pub(crate) fn decoder_mut(&mut self, source: usize) -> Option<&mut Decoder> {
        self.readers.get_mut(source).map(|reader| &mut reader.intake.decoder)
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

    fn fail(&mut self, batch: Batch<'_>, failures: impl IntoIterator<Item = (u32, String)>) {
        for (record, error) in failures {
            if batch.is_live(record) {
                self.counters.expression += 1;
                self.dead_letters.push(batch.letter(record, "expression", error));
            }
        }
    }

    /// Sorts rows into panes; what is late goes to the dead letters.
    fn window(&mut self, batch: Batch<'_>, share: &Share) -> Result<(), PipelineError> {
        let plan = self.plan.clone();
        let Batch { source, raw, .. } = batch;
        // Runs of neighbouring rows of one segment: (pane and segment, first row, rows).
        let mut runs: Vec<((i64, u32), usize, usize)> = Vec::new();
        let (mut windowed, mut first) = (0, None);
        // Neighbours are mostly of one pane.
        let mut pane = Pane::default();
        for (row, &record) in share.index.iter().enumerate() {
            let (time, before) = self.scratch.times[record as usize];
            pane.reach(time, plan.windows);
            let start = pane.start;
            let end = if plan.session_gap.is_none() { pane.end } else { plan.late_from(time) };
            let is_live = batch.is_live(record);
            // A row that is read again goes where it went before, as long as an open window needs it.
            let needed_until = if is_live { end } else { self.needed_until(start) };
            let (segment, _) = self.segment(start, record);
            let is_late = late::is_late(end, before)
                || window::is_closed(needed_until, self.watermark)
                || (!is_live && self.is_stored((source, raw.partition), start, record));
            // A record that came to several inputs is one row of the source.
            let fate = &mut self.scratch.fates[record as usize];
            let counts = is_live && *fate == Fate::Open;
            *fate = if is_late { Fate::Late } else { Fate::Windowed };
            if is_late {
                if counts {
                    self.counters.late += 1;
                    let watermark = to_millis(before.max(self.watermark));
                    let error = match plan.session_gap {
                        None => format!("window ended at {}, watermark was {watermark}", to_millis(end)),
                        Some(_) => format!("row is of {}, watermark was {watermark}", to_millis(time)),
                    };
                    self.dead_letters.push(batch.letter(record, "late", error));
                }
                continue;
            }
            if counts {
                windowed += 1;
                first = Some(first.map_or(start, |first: i64| first.min(start)));
            }
            match runs.last_mut() {
                Some((at, first, length)) if *at == (start, segment) && *first + *length == row => *length += 1,
                _ => runs.push(((start, segment), row, 1)),
            }
        }
        self.counters.windowed += windowed;
        if let Some(table) = plan.sources.get(source) {
            self.silence.back(&table.name, first);
        }
        let mut by_pane: BTreeMap<(i64, u32), Vec<(usize, usize)>> = BTreeMap::new();
        for (at, first, length) in runs {
            by_pane.entry(at).or_default().push((first, length));
        }
        for ((pane, segment), runs) in by_pane {
            let first_record = share.index[runs[0].0] as usize;
            let rows = runs.iter().flat_map(|(first, length)| *first..first + length);
            let values = match runs[..] {
                [(_, length)] if length == share.values.rows => share.values.clone(),
                [(first, length)] => share.values.slice(first, length),
                _ => share.values.take(rows.clone().map(|row| u32::try_from(row).unwrap_or_default()).collect())?,
            };
            let times = |row: usize| self.scratch.times[share.index[row] as usize].0;
            let (_, segment_end) = self.segment(pane, share.index[runs[0].0]);
            let first = FirstRow {
                offset: raw.offsets[first_record],
                watermark_before: self.scratch.times[first_record].1,
                own_before: self.scratch.own.get(first_record).copied().unwrap_or(UNSTARTED),
            };
            let gathering = Gathering {
                input: share.input,
                of: RowsOf { pane, partition: (source, raw.partition), segment, segment_end, first },
                times: if plan.session_gap.is_some() { rows.map(times).collect() } else { Vec::new() },
                values,
            };
            self.gathered.add(&plan, gathering, &mut self.scratch.ids)?;
        }
        Ok(())
    }

    fn move_watermark(&mut self, views: &[PartitionView<'_>], all_ended: bool) {
        for (view, reader) in views.iter().zip(&mut self.readers) {
            for id in view.known {
                reader.partitions.entry(*id).or_insert_with(|| Partition::fresh(self.watermark));
            }
            reader.excluded = view.idle.iter().chain(view.ended).copied().collect();
        }
        if all_ended {
            self.watermark = ENDED;
            return;
        }
        // Where nothing at all is heard of what the query needs, event time stands still.
        if !self.plan.is_blind(&views.iter().map(PartitionView::is_idle).collect::<Vec<_>>()) {
            self.watermark = watermark::query(self.watermark, self.readers.iter().flat_map(Reader::times));
        }
        for (view, reader) in views.iter().zip(&mut self.readers) {
            for id in view.idle {
                // Windows closed without it stay closed: when it comes back its older rows are late.
                if let Some(partition) = reader.partitions.get_mut(id) {
                    partition.lift(self.watermark);
                }
            }
        }
        let silent: Vec<bool> = views.iter().map(|view| view.silent).collect();
        if self.watermark != UNSTARTED && self.plan.is_blind(&silent) {
            let tables = self.plan.sources.iter().zip(silent).filter(|(_, silent)| *silent);
            self.silence.begin(self.watermark, tables.map(|(table, _)| table.name.as_str()));
        }
    }

    fn emit(&mut self, window: &Window<'_>, out: &mut Vec<OutRow>) -> Result<(), PipelineError> {
        self.last_end = self.last_end.max(Some(window.end));
        let (plan, mut failures) = (self.plan.clone(), Vec::new());
        let batch = closed::rows(&plan.closed, window, &mut self.scratch.ids, &mut failures)?;
        for (_, error) in failures {
            self.fail_row(error, Vec::new());
        }
        let mut written = Vec::with_capacity(batch.num_rows());
        for row in output::rows(&batch, &plan.sink)? {
            match row {
                Ok(row) => written.push(row),
                Err(json) => {
                    let key = plan.sink.schema.field(plan.sink.key).name();
                    self.fail_row(format!("row of window {}: `{key}` is NULL", to_millis(window.start)), json);
                }
            }
        }
        // Sessions that end together come at once or one by one, in the same order.
        if plan.session_gap.is_none() {
            written.sort_by(|a, b| a.key.cmp(&b.key));
        }
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
        let least = self.plan.session_gap.unwrap_or(self.plan.windows.width);
        let gap = self.silence.end().filter(|(from, to)| to.saturating_sub(*from) >= least);
        self.told = floor;
        let gap = gap.map(|(from, to)| (to_millis(from), to_millis(to)));
        Some(ProgressNote { watermark: to_millis(floor.unwrap_or(UNSTARTED)), gap, end })
    }

    /// The last window border that the watermark has reached.
    fn floor(&self) -> Option<i64> {
        (self.watermark != UNSTARTED && self.watermark != ENDED).then(|| self.plan.windows.border(self.watermark))
    }
}

/// Walks event times and watermarks of a batch, and leaves them in the scratch space by record.
fn advance(partition: &mut Partition, raw: &RawBatch, rows: &Times, segments: bool, scratch: &mut Scratch) {
    scratch.times.clear();
    scratch.times.resize(raw.len(), (0, UNSTARTED));
    partition.advance(&raw.offsets, &rows.index, &rows.watermarks, &mut scratch.before);
    for ((record, time), before) in rows.index.iter().zip(&rows.times).zip(&scratch.before) {
        scratch.times[*record as usize] = (*time, *before);
    }
    scratch.own.clear();
    if segments {
        scratch.own.resize(raw.len(), UNSTARTED);
        partition.advance_own(&raw.offsets, &rows.index, &rows.watermarks, &mut scratch.own_before);
        for (record, own) in rows.index.iter().zip(&scratch.own_before) {
            scratch.own[*record as usize] = *own;
        }
    }
}

pub(crate) fn to_millis(nanos: i64) -> Timestamp {
    match nanos {
        UNSTARTED => Timestamp::MIN,
        ENDED => Timestamp::MAX,
        _ => Timestamp::from_millis(nanos.div_euclid(1_000_000)),
    }
}
