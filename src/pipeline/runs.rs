//! Merged runs of panes, for windows of many panes: a window is the tail of one block and the head of the next, where
//! blocks are as long as windows (van Herk 1992; Gil and Werman 1993). A pane is merged three times, not once for each
//! window. Rule: what is merged with what depends on where panes stand, not on when they were merged, so that sums of
//! floating-point numbers are the same after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::error::Result;

use crate::exec::groups::Partial;
use crate::exec::pane::PaneStore;
use crate::sql::Aggregation;
use crate::window::{self, Windows};

/// The state of some panes; `None` where they hold no row.
pub(crate) type Run = Option<Arc<Partial>>;

/// The runs that later windows need.
#[derive(Default)]
pub(crate) struct Runs {
    tails: Option<Tails>,
    head: Option<Head>,
}

struct Tails {
    /// The end of their block.
    border: i64,
    /// By start of the first pane.
    by_start: BTreeMap<i64, Run>,
}

struct Head {
    /// The start of its block.
    border: i64,
    until: i64,
    run: Run,
}

impl Runs {
    /// Memory held.
    pub(crate) fn bytes(&self) -> usize {
        let runs = self.tails.iter().flat_map(|tails| tails.by_start.values());
        runs.chain(self.head.iter().map(|head| &head.run)).flatten().map(|run| run.bytes).sum()
    }

    /// The two runs that make up the window that starts at `start`; windows come in their order. `pane` gives the state of
    /// one pane; all panes of the window are complete.
    pub(crate) fn of_window(
        &mut self,
        aggregation: &Aggregation,
        windows: Windows,
        start: i64,
        pane: &mut dyn FnMut(i64) -> Result<Run>,
    ) -> Result<[Run; 2]> {
        let border = window::start_of(start, windows.width).saturating_add(windows.width);
        let tails = match &mut self.tails {
            Some(tails) if tails.border == border => tails,
            tails => {
                let (mut by_start, mut run) = (BTreeMap::new(), None);
                for step in (0..(border - start) / windows.slide).rev() {
                    let at = start + step * windows.slide;
                    run = merged(aggregation, pane(at)?, run)?;
                    by_start.insert(at, run.clone());
                }
                tails.insert(Tails { border, by_start })
            }
        };
        let tail = tails.by_start.remove(&start).flatten();
        let head = match &mut self.head {
            Some(head) if head.border == border => head,
            head => head.insert(Head { border, until: border, run: None }),
        };
        while head.until < windows.end_of(start) {
            head.run = merged(aggregation, head.run.take(), pane(head.until)?)?;
            head.until += windows.slide;
        }
        Ok([tail, head.run.clone()])
    }
}

fn merged(aggregation: &Aggregation, first: Run, second: Run) -> Result<Run> {
    Ok(match (first, second) {
        (Some(first), Some(second)) => {
            let (mut store, mut ids) = (PaneStore::new(aggregation)?, Vec::new());
            store.merge(&first, &mut ids)?;
            store.merge(&second, &mut ids)?;
            Some(Arc::new(store.into_partial()?))
        }
        (run, None) | (None, run) => run,
    })
}
