//! Batches of raw records to rows at the doors of the inputs that read them. Rule: what comes out depends on the batch
//! alone, so that batches can be prepared on all cores, in any order.

use prescale_ingest::RawBatch;
use prescale_ingest::decode::{BadRecord, Decoder};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::error::PipelineError;
use crate::exec::rows::Failure;
use crate::exec::source_rows::SourceStep;
use crate::routing::{Routed, route};
use crate::sql::Plan;

/// Fewer records are prepared sooner by one core alone.
const FOR_ALL_CORES: usize = 4_096;

/// How records of one source become rows.
pub(crate) struct Intake {
    pub(crate) decoder: Decoder,
    pub(crate) step: SourceStep,
}

/// What came of a batch.
pub(crate) struct Prepared {
    pub(crate) bad: Vec<BadRecord>,
    /// Of all rows of the source's table, whatever became of them afterwards.
    pub(crate) rows: Times,
    pub(crate) null_times: Vec<u32>,
    pub(crate) future: Vec<Failure>,
    /// Rows that are not what their record's key says.
    pub(crate) strange: Vec<Failure>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) routed: Routed,
}

/// Rows and their times.
pub(crate) struct Times {
    /// For each row the index of its record.
    pub(crate) index: Vec<u32>,
    /// Event time in nanoseconds.
    pub(crate) times: Vec<i64>,
    /// The watermark that the row proposes.
    pub(crate) watermarks: Vec<i64>,
}

impl Intake {
    /// All batches, in their order.
    pub(crate) fn prepare_all(
        &self,
        plan: &Plan,
        source: usize,
        batches: &[RawBatch],
    ) -> Vec<Result<Prepared, PipelineError>> {
        let prepare = |raw: &RawBatch| self.prepare(plan, source, raw);
        if batches.len() < 2 || batches.iter().map(RawBatch::len).sum::<usize>() < FOR_ALL_CORES {
            batches.iter().map(prepare).collect()
        } else {
            batches.par_iter().map(prepare).collect()
        }
    }

    fn prepare(&self, plan: &Plan, source: usize, raw: &RawBatch) -> Result<Prepared, PipelineError> {
        let Some(table) = plan.sources.get(source) else {
            return Err(PipelineError::Engine(format!("the plan has no source {source}")));
        };
        let decoded = self.decoder.decode(raw);
        let rows = self.step.rows(table, raw, decoded.batch, decoded.rows)?;
        let times = Times { index: rows.rows.index.clone(), times: rows.times, watermarks: rows.watermarks };
        Ok(Prepared {
            bad: decoded.bad,
            rows: times,
            null_times: rows.null_times,
            future: rows.future,
            strange: rows.strange,
            failures: rows.failures,
            routed: route(plan, source, rows.rows)?,
        })
    }
}
