//! Rows by pane, and panes into windows. Rule: a row is accumulated once, into its pane, however many windows hold it; a
//! window is the merge of its panes in their order, and a pane the merge of its partitions in theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result;

use crate::exec::pane::{Inputs, PaneStore};
use crate::partition::PartitionId;
use crate::runs::{Run, Runs};
use crate::sql::Aggregation;
use crate::window::{self, Windows};

/// Panes that an open window holds or will hold.
#[derive(Default)]
pub(crate) struct Panes {
    by_start: BTreeMap<i64, Pane>,
    runs: Runs,
}

/// Windows of fewer panes are merged pane by pane.
const MANY_PANES: i64 = 12;

#[derive(Default)]
struct Pane {
    parts: BTreeMap<PartitionId, Part>,
    /// What all partitions brought, once a window that holds the pane was closed.
    merged: Run,
}

/// One partition's share of a pane.
struct Part {
    /// `None` while all of it is in the pane's `merged`.
    store: Option<PaneStore>,
    first: FirstRow,
}

/// Where a partition's share begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstRow {
    pub(crate) offset: i64,
    pub(crate) watermark_before: i64,
}

impl Panes {
    /// Adds rows of one pane and partition; `first` is the first of them, `ids` scratch space.
    pub(crate) fn add(
        &mut self,
        aggregation: &Aggregation,
        (pane, partition): (i64, PartitionId),
        first: FirstRow,
        share: &Inputs,
        ids: &mut Vec<usize>,
    ) -> Result<()> {
        let parts = &mut self.by_start.entry(pane).or_default().parts;
        let part = parts.entry(partition).or_insert(Part { store: None, first });
        let store = match &mut part.store {
            Some(store) => store,
            none => none.insert(PaneStore::new(aggregation)?),
        };
        store.update(share, ids)
    }

    /// The first row of `partition` that an open window needs.
    pub(crate) fn oldest(&self, partition: PartitionId) -> Option<FirstRow> {
        let parts = self.by_start.values().filter_map(|pane| pane.parts.get(&partition));
        parts.map(|part| part.first).min_by_key(|first| first.offset)
    }

    /// The start of the next window that is complete at `watermark` and holds rows, if there is one from `from` on. Panes
    /// that no such window holds are dropped.
    pub(crate) fn next_start(&mut self, windows: Windows, from: i64, watermark: i64) -> Option<i64> {
        while let Some(pane) = self.by_start.keys().next().copied() {
            let start = if windows.is_tumbling() { pane } else { windows.first_start(pane).max(from) };
            if start > pane {
                self.by_start.remove(&pane);
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
            let pane = self.by_start.remove(&start).unwrap_or_default();
            pane.into_store(aggregation, ids)?
        } else {
            let store = self.window(aggregation, windows, start, ids)?;
            self.by_start.remove(&start);
            store
        };
        store.finish(aggregation, start, end)
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
                if let Some(merged) = pane.merged(aggregation, ids)? {
                    store.merge(&merged, ids)?;
                }
            }
            return Ok(store);
        }
        let by_start = &mut self.by_start;
        let mut pane = |at: i64| match by_start.get_mut(&at) {
            Some(pane) => pane.merged(aggregation, ids),
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
    fn into_store(mut self, aggregation: &Aggregation, ids: &mut Vec<usize>) -> Result<PaneStore> {
        let mut stores = self.parts.values_mut().filter_map(|part| part.store.take());
        let mut all = match (&self.merged, stores.next()) {
            (None, Some(first)) => first,
            (merged, first) => {
                let mut all = PaneStore::new(aggregation)?;
                if let Some(merged) = merged {
                    all.merge(merged, ids)?;
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

    fn merged(&mut self, aggregation: &Aggregation, ids: &mut Vec<usize>) -> Result<Run> {
        if self.parts.values().any(|part| part.store.is_some()) {
            let stores = self.parts.iter_mut().map(|(id, part)| (*id, Part { store: part.store.take(), ..*part }));
            let whole = Pane { parts: stores.collect(), merged: self.merged.take() };
            self.merged = Some(Arc::new(whole.into_store(aggregation, ids)?.into_partial()?));
        }
        Ok(self.merged.clone())
    }
}
