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
use crate::sql::{PlanSummary, compile};

/// Checks a pipeline without running it.
pub fn check(sql: &str) -> Result<PlanSummary, PipelineError> {
    Ok(compile(sql)?.summary())
}

/// Runs `sql` over files, one JSON row a line. `inputs` names the source table of each file; several files of one table
/// are its partitions. A file whose name ends in `.gz` is unpacked. Lines have no frame of a registry.
pub fn run_over_files(sql: &str, inputs: &[(String, PathBuf)], out: &mut dyn Write) -> Result<Counters, PipelineError> {
    let mut plan = compile(sql)?;
    let known = plan.source.name.clone();
    if let Some((table, _)) = inputs.iter().find(|(table, _)| !table.eq_ignore_ascii_case(&known)) {
        return Err(PipelineError::Input { table: table.clone(), known });
    }
    if inputs.is_empty() {
        return Err(PipelineError::Input { table: String::new(), known });
    }
    let options = &mut plan.source.options;
    options.format = options
        .format
        .of_lines()
        .ok_or_else(|| PipelineError::NotLines { table: known.clone(), format: options.format.name().to_owned() })?;
    let paths: Vec<PathBuf> = inputs.iter().map(|(_, path)| path.clone()).collect();
    let mut source = FileSource::open(&known, &paths, &[])?;
    let mut engine = Engine::new(Arc::new(plan), None)?;
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
