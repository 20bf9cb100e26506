//! What of an engine's state is stored, and how much memory it takes. Rule: a pane or a segment of one is stored when no
//! row can come to it any more, so that what is stored, and what is merged with what, does not depend on when that was.
//! Why it is so: `docs/designs/0013-stored-panes.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_store::Write;

use super::Engine;
use crate::checkpoint::Checkpoint;
use crate::error::PipelineError;
use crate::held::{self, Held};
use crate::panes::Reached;
use crate::partition::PartitionId;
use crate::sql::Plan;
use crate::stored::StoredPanes;

/// Whether panes are stored.
pub(super) struct Keeping {
    stores: bool,
    /// The checkpoint was written by a run that stored none: all rows of open windows are being read again.
    rebuilds: bool,
}

impl Keeping {
    pub(super) fn new(stores: bool, checkpoint: Option<&Checkpoint>) -> Self {
        Self { stores, rebuilds: checkpoint.is_some_and(|checkpoint| checkpoint.panes.is_none()) }
    }
}

impl Engine {
    /// Starts a plan that stores panes, or goes on where `checkpoint` and they stand. Each source must start at
    /// [`Checkpoint::starts`].
    pub(crate) fn with_panes(
        plan: Arc<Plan>,
        checkpoint: Option<Checkpoint>,
        stored: &StoredPanes<'_>,
    ) -> Result<Self, PipelineError> {
        let panes = checkpoint.as_ref().and_then(|checkpoint| checkpoint.panes.clone()).unwrap_or_default();
        if checkpoint.is_none() {
            stored.clear()?;
        }
        let mut engine = Self::started(plan.clone(), checkpoint, true)?;
        for place in panes.iter().flat_map(|pane| pane.places()) {
            let Some(input) = plan.inputs.get(place.input) else { continue };
            let content = stored.load(&place, &input.aggregation, &plan.fingerprint)?;
            engine.gathered.restore(&plan, place, content, &mut engine.scratch.ids)?;
        }
        Ok(engine)
    }

    /// What has to be stored in the same write as the checkpoint of this moment; asked for once.
    pub(crate) fn pane_writes(&mut self, stored: &StoredPanes<'_>) -> Result<Vec<Write>, PipelineError> {
        let Some(reached) = self.reached() else { return Ok(Vec::new()) };
        let plan = self.plan.clone();
        let changes = self.gathered.changes(&plan, &reached, &mut self.scratch.ids)?;
        changes.iter().map(|change| stored.write(change, &plan.fingerprint)).collect()
    }

    /// The memory that open windows take.
    pub fn held(&mut self) -> Held {
        self.gathered.held()
    }

    /// By source, the partitions that are ahead of the slowest one, of which `at_end` tells whether they have been read to
    /// their end.
    pub(crate) fn ahead(&self, at_end: &[&[i32]]) -> Vec<Vec<i32>> {
        let (mut places, mut times) = (Vec::new(), Vec::new());
        for (source, (reader, at_end)) in self.readers.iter().zip(at_end).enumerate() {
            for (id, time) in reader.partitions.keys().zip(reader.times()) {
                places.push((source, *id));
                times.push((time, at_end.contains(id)));
            }
        }
        let mut ahead = vec![Vec::new(); self.readers.len()];
        for (source, id) in held::ahead(&times, self.plan.windows.slide).into_iter().map(|place| places[place]) {
            ahead[source].push(id);
        }
        ahead
    }

    /// How far event time has come for what is stored; `None` = nothing is.
    pub(super) fn reached(&self) -> Option<Reached> {
        if !self.keeping.stores || self.rebuilds() {
            return None;
        }
        let mut own = BTreeMap::new();
        if self.plan.has_segments() {
            for (source, reader) in self.readers.iter().enumerate() {
                own.extend(reader.partitions.iter().map(|(id, at)| ((source, *id), at.own_reached())));
            }
        }
        Some(Reached { watermark: self.watermark, own })
    }

    /// Until all of them are there again, no pane is taken to be complete.
    fn rebuilds(&self) -> bool {
        let is_behind = |reader: &super::Reader| reader.partitions.values().any(|at| at.is_catching_up());
        self.keeping.rebuilds && self.readers.iter().any(is_behind)
    }

    /// Until which watermark a row of this pane that is read again is needed.
    pub(super) fn needed_until(&self, pane: i64) -> i64 {
        if !self.keeping.stores || self.keeping.rebuilds {
            self.gathered.needed_until(&self.plan, pane)
        } else {
            self.plan.windows.pane_end(pane)
        }
    }

    /// The segment of the row of a record of the present batch in a pane, and where that segment ends.
    pub(super) fn segment(&self, pane: i64, record: u32) -> (u32, i64) {
        match self.scratch.own.get(record as usize) {
            Some(own) => self.plan.windows.segment_of(pane, *own),
            None => (0, self.plan.windows.pane_end(pane)),
        }
    }

    /// Whether a row that is read again is in a segment that was stored.
    pub(super) fn is_stored(&self, (source, partition): PartitionId, pane: i64, record: u32) -> bool {
        if !self.keeping.stores || self.keeping.rebuilds || self.scratch.own.is_empty() {
            return false;
        }
        let at = self.readers.get(source).and_then(|reader| reader.partitions.get(&partition));
        at.is_some_and(|at| at.had_completed(self.segment(pane, record).1))
    }
}
