//! What open windows hold, by input. Rule: windows come out in their order, each with what all inputs hold of it.

use arrow::array::RecordBatch;
use datafusion::error::Result;

use crate::exec::pane::Inputs;
use crate::held::Held;
use crate::panes::{FirstRow, Panes, Reached, RowsOf};
use crate::partition::PartitionId;
use crate::sessions::Sessions;
use crate::sql::Plan;
use crate::stored::{Change, Content, Place, StoredPane};

/// Rows of open windows, accumulated.
pub(crate) enum Gathered {
    /// Of tumbling and hop windows, by input.
    Panes(Vec<Panes>),
    Sessions(Box<Sessions>),
}

/// Rows of one segment on their way into an input.
pub(crate) struct Gathering {
    pub(crate) input: usize,
    pub(crate) of: RowsOf,
    /// Event times by row; only of sessions.
    pub(crate) times: Vec<i64>,
    pub(crate) values: Inputs,
}

/// A complete window, or sessions that are complete.
pub(crate) struct ClosedWindow {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The output of each input's aggregation.
    pub(crate) batches: Vec<RecordBatch>,
}

/// How far the windows that are complete at a watermark have been given out.
pub(crate) struct Closing {
    /// The start of the first window that was not given out.
    from: i64,
    watermark: i64,
}

impl Gathered {
    /// For a plan that has come to `watermark`; `stores`: what is complete goes to the state store.
    pub(crate) fn new(plan: &Plan, watermark: i64, stores: bool) -> Self {
        match plan.session_gap {
            None => Self::Panes((0..plan.inputs.len()).map(|input| Panes::new(input, stores)).collect()),
            Some(gap) => Self::Sessions(Box::new(Sessions::new(gap, plan.windows, watermark, stores))),
        }
    }

    pub(crate) fn add(&mut self, plan: &Plan, rows: Gathering, ids: &mut Vec<usize>) -> Result<()> {
        let Gathering { input, of, times, values } = rows;
        let Some(aggregation) = plan.inputs.get(input).map(|input| &input.aggregation) else { return Ok(()) };
        match self {
            Self::Panes(panes) => match panes.get_mut(input) {
                Some(panes) => panes.add(aggregation, of, &values, ids),
                None => Ok(()),
            },
            Self::Sessions(sessions) => sessions.add(aggregation, of, (&values, &times), ids),
        }
    }

    /// The first row of a partition that an open window needs and that is not in what is complete at `reached`.
    pub(crate) fn oldest(&self, plan: &Plan, partition: PartitionId, reached: Option<&Reached>) -> Option<FirstRow> {
        match self {
            Self::Panes(panes) => {
                let oldest = panes.iter().filter_map(|panes| panes.oldest(plan.windows, partition, reached));
                oldest.min_by_key(|first| first.offset)
            }
            Self::Sessions(sessions) => sessions.oldest(partition, reached.is_some()),
        }
    }

    /// What is stored once all that is complete at `reached` is.
    pub(crate) fn listed(&self, plan: &Plan, reached: &Reached) -> Vec<StoredPane> {
        let mut list = Vec::new();
        match self {
            Self::Panes(panes) => panes.iter().for_each(|panes| panes.listed(plan.windows, reached, &mut list)),
            Self::Sessions(sessions) => sessions.listed(&mut list),
        }
        list
    }

    /// The changes that make it so.
    pub(crate) fn changes(&mut self, plan: &Plan, reached: &Reached, ids: &mut Vec<usize>) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        match self {
            Self::Panes(panes) => {
                for (panes, input) in panes.iter_mut().zip(&plan.inputs) {
                    changes.append(&mut panes.changes(&input.aggregation, plan.windows, reached, ids)?);
                }
            }
            Self::Sessions(sessions) => changes.append(&mut sessions.changes()),
        }
        Ok(changes)
    }

    /// Takes back what was stored at a place; places come in their order.
    pub(crate) fn restore(&mut self, plan: &Plan, place: Place, content: Content, ids: &mut Vec<usize>) -> Result<()> {
        let Some(aggregation) = plan.inputs.get(place.input).map(|input| &input.aggregation) else { return Ok(()) };
        match self {
            Self::Panes(panes) => match panes.get_mut(place.input) {
                Some(panes) => panes.restore(aggregation, place, content, ids),
                None => Ok(()),
            },
            Self::Sessions(sessions) => sessions.restore(aggregation, place.pane, content, ids),
        }
    }

    /// Memory held.
    pub(crate) fn held(&mut self) -> Held {
        let mut held = Held::default();
        match self {
            Self::Panes(panes) => panes.iter().for_each(|panes| held += panes.held()),
            Self::Sessions(sessions) => held += sessions.held(),
        }
        held
    }

    /// Until which watermark a row of this pane that is read again may be needed.
    pub(crate) fn needed_until(&self, plan: &Plan, pane: i64) -> i64 {
        match self {
            Self::Panes(_) => plan.windows.last_end(pane),
            // A session that was given out is known to be so when it is complete again.
            Self::Sessions(_) => i64::MAX,
        }
    }

    /// Begins to give out what is complete at `watermark` and was not at `before`.
    pub(crate) fn closing(&self, plan: &Plan, before: i64, watermark: i64) -> Closing {
        Closing { from: plan.windows.first_open(before), watermark }
    }

    /// The next complete window.
    pub(crate) fn next(
        &mut self,
        plan: &Plan,
        closing: &mut Closing,
        ids: &mut Vec<usize>,
    ) -> Result<Option<ClosedWindow>> {
        let windows = plan.windows;
        match self {
            Self::Panes(panes) => {
                let starts =
                    panes.iter_mut().filter_map(|panes| panes.next_start(windows, closing.from, closing.watermark));
                let Some(start) = starts.min() else { return Ok(None) };
                let mut batches = Vec::with_capacity(panes.len());
                for (panes, input) in panes.iter_mut().zip(&plan.inputs) {
                    batches.push(panes.take(&input.aggregation, windows, start, ids)?);
                }
                closing.from = start.saturating_add(windows.slide);
                Ok(Some(ClosedWindow { start, end: windows.end_of(start), batches }))
            }
            Self::Sessions(sessions) => {
                let Some(input) = plan.inputs.first() else { return Ok(None) };
                let closed = sessions.close(&input.aggregation, closing.watermark, ids)?;
                Ok(closed.map(|(batch, end)| ClosedWindow { start: end, end, batches: vec![batch] }))
            }
        }
    }
}
