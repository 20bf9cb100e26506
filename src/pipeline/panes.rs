//! Rows by pane, and panes into windows. Rule: a row is accumulated once, into its pane, however many windows hold it; a
//! window is the merge of its panes in their order, a pane the merge of its partitions in theirs, and a partition's share of
//! a wide pane that of its segments, which are cut where the partition's own watermark stood.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result;

use crate::exec::groups::Partial;
use crate::exec::pane::{Inputs, PaneStore};
use crate::held::Held;
use crate::partition::PartitionId;
use crate::runs::{Run, Runs};
use crate::sql::Aggregation;
use crate::stored::{Change, Content, Place, StoredPane, StoredPart};
use crate::watermark::UNSTARTED;
use crate::window::{self, Windows};

/// Panes that an open window holds or will hold.
#[derive(Default)]
pub(crate) struct Panes {
    /// The place of their input in the plan.
    input: usize,
    /// What is complete goes to the state store.
    stores: bool,
    by_start: BTreeMap<i64, Pane>,
    runs: Runs,
    /// What is stored and needed no more.
    gone: Vec<Place>,
}

/// Windows of fewer panes are merged pane by pane.
const MANY_PANES: i64 = 12;

#[derive(Default)]
struct Pane {
    parts: BTreeMap<PartitionId, Part>,
    /// What all partitions brought, once a window that holds the pane was closed.
    merged: Run,
    is_stored: bool,
}

/// One partition's share of a pane. All of it is in the pane's `merged` when neither `over` nor `store` is there.
#[derive(Default)]
struct Part {
    /// Segments that are over, in one.
    over: Option<PaneStore>,
    /// Rows of the segment that is not, or of the pane where it has only one.
    store: Option<PaneStore>,
    segment: u32,
    /// The partition's own watermark at which it is over.
    segment_end: i64,
    /// Of the rows in `store`.
    segment_first: Option<FirstRow>,
    /// Of all rows.
    first: Option<FirstRow>,
    /// Segments that are over and that the state store lacks.
    unstored: Vec<(u32, i64, Arc<Partial>)>,
    /// Bit n: segment n is stored.
    stored: u64,
}

/// Where a partition's share begins; of what came from the state store, the offset alone is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstRow {
    pub(crate) offset: i64,
    pub(crate) watermark_before: i64,
    /// By the partition's rows alone.
    pub(crate) own_before: i64,
}

/// Which rows they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsOf {
    pub(crate) pane: i64,
    pub(crate) partition: PartitionId,
    pub(crate) segment: u32,
    pub(crate) segment_end: i64,
    /// The first of them.
    pub(crate) first: FirstRow,
}

/// How far event time has come: what is complete by it no row can change, and it is stored.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) watermark: i64,
    /// By partition, its watermark by its own rows; only where panes have segments.
    pub(crate) own: BTreeMap<PartitionId, i64>,
}

impl FirstRow {
    pub(crate) fn stored(offset: i64) -> Self {
        Self { offset, watermark_before: UNSTARTED, own_before: UNSTARTED }
    }
}

impl Reached {
    fn own(&self, partition: PartitionId) -> i64 {
        self.own.get(&partition).copied().unwrap_or(UNSTARTED)
    }
}

impl Panes {
    pub(crate) fn new(input: usize, stores: bool) -> Self {
        Self { input, stores, ..Self::default() }
    }

    /// Adds rows of one segment; `ids` is scratch space.
    pub(crate) fn add(
        &mut self,
        aggregation: &Aggregation,
        of: RowsOf,
        share: &Inputs,
        ids: &mut Vec<usize>,
    ) -> Result<()> {
        let parts = &mut self.by_start.entry(of.pane).or_default().parts;
        let part = parts.entry(of.partition).or_default();
        part.first.get_or_insert(of.first);
        if part.segment != of.segment {
            part.seal(aggregation, self.stores, ids)?;
        }
        (part.segment, part.segment_end) = (of.segment, of.segment_end);
        part.segment_first.get_or_insert(of.first);
        let store = match &mut part.store {
            Some(store) => store,
            none => none.insert(PaneStore::new(aggregation)?),
        };
        store.update(share, ids)
    }

    /// The first row of `partition` that an open window needs and that is not in what is complete at `reached`.
    pub(crate) fn oldest(
        &self,
        windows: Windows,
        partition: PartitionId,
        reached: Option<&Reached>,
    ) -> Option<FirstRow> {
        let parts = self.by_start.iter().filter_map(|(start, pane)| Some((*start, pane.parts.get(&partition)?)));
        let firsts = parts.filter_map(|(start, part)| match reached {
            None => part.first,
            Some(reached) if window::is_closed(windows.pane_end(start), reached.watermark) => None,
            Some(reached) => part.segment_first.filter(|_| part.segment_end > reached.own(partition)),
        });
        firsts.min_by_key(|first| first.offset)
    }

    /// What of these panes is stored once all that is complete at `reached` is.
    pub(crate) fn listed(&self, windows: Windows, reached: &Reached, list: &mut Vec<StoredPane>) {
        for (&pane, state) in &self.by_start {
            let of = StoredPane { input: self.input, pane, part: None };
            if window::is_closed(windows.pane_end(pane), reached.watermark) {
                list.push(of);
                continue;
            }
            for (&(source, partition), part) in &state.parts {
                let segments = part.complete(reached.own((source, partition)));
                if segments != 0 {
                    list.push(StoredPane { part: Some(StoredPart { source, partition, segments }), ..of });
                }
            }
        }
    }

    /// The changes that make it so.
    pub(crate) fn changes(
        &mut self,
        aggregation: &Aggregation,
        windows: Windows,
        reached: &Reached,
        ids: &mut Vec<usize>,
    ) -> Result<Vec<Change>> {
        let mut changes: Vec<Change> = self.gone.drain(..).map(|place| Change { place, content: None }).collect();
        let change = |place, partial, firsts| Change { place, content: Some(Content::of(partial, firsts)) };
        for (&pane, state) in &mut self.by_start {
            let whole = Place { input: self.input, pane, segment: None };
            if window::is_closed(windows.pane_end(pane), reached.watermark) {
                if !state.is_stored
                    && let Some(merged) = state.merged(aggregation, windows, ids)?
                {
                    changes.push(change(whole, merged, state.firsts()));
                    let segments = state.stored_segments(whole);
                    changes.extend(segments.into_iter().map(|place| Change { place, content: None }));
                    state.is_stored = true;
                }
                continue;
            }
            for (id, part) in &mut state.parts {
                if part.segment_end <= reached.own(*id) {
                    part.seal(aggregation, true, ids)?;
                }
                for (segment, first, partial) in std::mem::take(&mut part.unstored) {
                    part.stored |= 1 << segment;
                    changes.push(change(Place { segment: Some((*id, segment)), ..whole }, partial, vec![(*id, first)]));
                }
            }
        }
        Ok(changes)
    }

    /// Takes back what was stored at a place; segments of a part come in their order.
    pub(crate) fn restore(
        &mut self,
        aggregation: &Aggregation,
        place: Place,
        Content { partial, firsts, .. }: Content,
        ids: &mut Vec<usize>,
    ) -> Result<()> {
        let pane = self.by_start.entry(place.pane).or_default();
        for (partition, offset) in firsts {
            let part = pane.parts.entry(partition).or_default();
            part.first.get_or_insert(FirstRow::stored(offset));
        }
        match place.segment {
            None => (pane.merged, pane.is_stored) = (Some(partial), true),
            Some((partition, segment)) => {
                let part = pane.parts.entry(partition).or_default();
                part.stored |= 1 << segment;
                part.fold(aggregation, &partial, ids)?;
            }
        }
        Ok(())
    }

    /// The start of the next window that is complete at `watermark` and holds rows, if there is one from `from` on. Panes
    /// that no such window holds are dropped.
    pub(crate) fn next_start(&mut self, windows: Windows, from: i64, watermark: i64) -> Option<i64> {
        while let Some(pane) = self.by_start.keys().next().copied() {
            let start = if windows.is_tumbling() { pane } else { windows.first_start(pane).max(from) };
            if start > pane {
                self.remove(pane);
                continue;
            }
            return window::is_closed(windows.end_of(start), watermark).then_some(start);
        }
        None
    }

    /// The aggregation's output for the window that starts at `start`; windows come in their order.
    pub(crate) fn take(
        &mut self,
        aggregation: &Aggregation,
        windows: Windows,
        start: i64,
        ids: &mut Vec<usize>,
    ) -> Result<RecordBatch> {
        let end = windows.end_of(start);
        if self.by_start.range(start..end).next().is_none() {
            return Ok(RecordBatch::new_empty(aggregation.output.clone()));
        }
        let store = if windows.is_tumbling() {
            let mut pane = self.remove(start);
            pane.take(aggregation, windows, ids)?
        } else {
            let store = self.window(aggregation, windows, start, ids)?;
            self.remove(start);
            store
        };
        store.finish(aggregation, start, end)
    }

    /// Memory held.
    pub(crate) fn held(&self) -> Held {
        let ends = self.by_start.first_key_value().zip(self.by_start.last_key_value());
        let range = ends.map(|((first, _), (last, _))| (*first, *last));
        let mut held = Held { panes: self.by_start.len(), range, ..Held::default() };
        held.add(self.runs.bytes(), 0);
        let partial = |held: &mut Held, partial: &Partial| held.add(partial.bytes, partial.count);
        for pane in self.by_start.values() {
            pane.merged.iter().for_each(|merged| partial(&mut held, merged));
            for part in pane.parts.values() {
                part.unstored.iter().for_each(|(.., segment)| partial(&mut held, segment));
                for (bytes, groups) in part.over.iter().chain(&part.store).map(PaneStore::size) {
                    held.add(bytes, groups);
                }
            }
        }
        held
    }

    fn remove(&mut self, pane: i64) -> Pane {
        let state = self.by_start.remove(&pane).unwrap_or_default();
        let place = Place { input: self.input, pane, segment: None };
        if state.is_stored {
            self.gone.push(place);
        } else {
            self.gone.extend(state.stored_segments(place));
        }
        state
    }

    /// The panes of the window that starts at `start` in one.
    fn window(
        &mut self,
        aggregation: &Aggregation,
        windows: Windows,
        start: i64,
        ids: &mut Vec<usize>,
    ) -> Result<PaneStore> {
        let mut store = PaneStore::new(aggregation)?;
        if windows.width / windows.slide < MANY_PANES {
            for pane in self.by_start.range_mut(start..windows.end_of(start)).map(|(_, pane)| pane) {
                if let Some(merged) = pane.merged(aggregation, windows, ids)? {
                    store.merge(&merged, ids)?;
                }
            }
            return Ok(store);
        }
        let by_start = &mut self.by_start;
        let mut pane = |at: i64| match by_start.get_mut(&at) {
            Some(pane) => pane.merged(aggregation, windows, ids),
            None => Ok(None),
        };
        let runs = self.runs.of_window(aggregation, windows, start, &mut pane)?;
        for run in runs.iter().flatten() {
            store.merge(run, ids)?;
        }
        Ok(store)
    }
}

impl Pane {
    /// All partitions in one, in their order.
    fn take(&mut self, aggregation: &Aggregation, windows: Windows, ids: &mut Vec<usize>) -> Result<PaneStore> {
        let mut stores = Vec::with_capacity(self.parts.len());
        for part in self.parts.values_mut() {
            stores.extend(part.take(aggregation, windows, ids)?);
        }
        let mut stores = stores.into_iter();
        let mut all = match (self.merged.take(), stores.next()) {
            (None, Some(first)) => first,
            (merged, first) => {
                let mut all = PaneStore::new(aggregation)?;
                if let Some(merged) = merged {
                    all.merge(&merged, ids)?;
                }
                if let Some(first) = first {
                    all.merge(&first.into_partial()?, ids)?;
                }
                all
            }
        };
        for store in stores {
            all.merge(&store.into_partial()?, ids)?;
        }
        Ok(all)
    }

    fn merged(&mut self, aggregation: &Aggregation, windows: Windows, ids: &mut Vec<usize>) -> Result<Run> {
        if self.parts.values().any(|part| part.store.is_some() || part.over.is_some()) {
            self.merged = Some(Arc::new(self.take(aggregation, windows, ids)?.into_partial()?));
        }
        Ok(self.merged.clone())
    }

    fn firsts(&self) -> Vec<(PartitionId, i64)> {
        self.parts.iter().filter_map(|(id, part)| Some((*id, part.first?.offset))).collect()
    }

    fn stored_segments(&self, pane: Place) -> Vec<Place> {
        let stored = |part: &Part, segment: &u32| part.stored & (1 << segment) != 0;
        let of = |(id, part): (&PartitionId, &Part)| {
            let segments = (0..u64::BITS).filter(|segment| stored(part, segment));
            segments.map(|segment| Place { segment: Some((*id, segment)), ..pane }).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of).collect()
    }
}

impl Part {
    /// Ends the segment.
    fn seal(&mut self, aggregation: &Aggregation, stores: bool, ids: &mut Vec<usize>) -> Result<()> {
        let Some(store) = self.store.take() else { return Ok(()) };
        let partial = Arc::new(store.into_partial()?);
        self.fold(aggregation, &partial, ids)?;
        let first = self.segment_first.take();
        if let Some(first) = first.filter(|_| stores) {
            self.unstored.push((self.segment, first.offset, partial));
        }
        Ok(())
    }

    fn fold(&mut self, aggregation: &Aggregation, segment: &Partial, ids: &mut Vec<usize>) -> Result<()> {
        let over = match &mut self.over {
            Some(over) => over,
            none => none.insert(PaneStore::new(aggregation)?),
        };
        over.merge(segment, ids)
    }

    /// All segments in one. Those of a pane that has several are always folded, so that it does not matter how many were over.
    fn take(&mut self, aggregation: &Aggregation, windows: Windows, ids: &mut Vec<usize>) -> Result<Option<PaneStore>> {
        if windows.segment().is_none() {
            return Ok(self.store.take());
        }
        self.seal(aggregation, false, ids)?;
        self.unstored.clear();
        Ok(self.over.take())
    }

    /// The segments that are over at the partition's own watermark.
    fn complete(&self, own: i64) -> u64 {
        let bits = self.unstored.iter().fold(self.stored, |bits, (segment, ..)| bits | 1 << segment);
        if self.store.is_some() && self.segment_end <= own { bits | 1 << self.segment } else { bits }
    }
}
