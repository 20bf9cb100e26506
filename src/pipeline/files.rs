//! A pipeline over files: the same engine as over topics, all rows read, all windows closed. Rule: the output depends on
//! the rows alone and is ordered by window start and key.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use prescale_domain::Span;
use prescale_ingest::Source;
use prescale_ingest::file::FileSource;

use crate::PipelineError;
use crate::checkpoint::Counters;
use crate::engine::{Engine, PartitionView};
use crate::sql::{PlanSummary, compile_with};
use crate::udf::Udfs;

/// Checks a pipeline without running it.
pub fn check(sql: &str, udfs: &Udfs) -> Result<PlanSummary, PipelineError> {
    Ok(compile_with(sql, udfs)?.summary())
}

/// Runs `sql` over files, one JSON row a line. `inputs` names the source table of each file; several files of one table
/// are its partitions. A file whose name ends in `.gz` is unpacked.
pub fn run_over_files(
    sql: &str,
    udfs: &Udfs,
    inputs: &[(String, PathBuf)],
    out: &mut dyn Write,
) -> Result<Counters, PipelineError> {
    let plan = Arc::new(compile_with(sql, udfs)?);
    let known = plan.source.name.clone();
    if let Some((table, _)) = inputs.iter().find(|(table, _)| !table.eq_ignore_ascii_case(&known)) {
        return Err(PipelineError::Input { table: table.clone(), known });
    }
    if inputs.is_empty() {
        return Err(PipelineError::Input { table: String::new(), known });
    }
    let paths: Vec<PathBuf> = inputs.iter().map(|(_, path)| path.clone()).collect();
    let mut source = FileSource::open(&known, &paths, &[])?;
    let mut engine = Engine::new(plan, None)?;
    loop {
        let polled = source.poll(Span::ZERO)?;
        for batch in &polled.batches {
            engine.push(batch)?;
        }
        let view = PartitionView {
            known: &polled.partitions,
            ended: &polled.at_end,
            all_ended: polled.ended,
            ..PartitionView::default()
        };
        for row in engine.close(&view)?.rows {
            out.write_all(&row.json)?;
            out.write_all(b"\n")?;
        }
        if polled.ended {
            out.flush()?;
            return Ok(engine.counters());
        }
    }
}
