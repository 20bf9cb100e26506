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
/// are its partitions. A file whose name ends in `.gz` is unpacked.
pub fn run_over_files(sql: &str, inputs: &[(String, PathBuf)], out: &mut dyn Write) -> Result<Counters, PipelineError> {
    let plan = Arc::new(compile(sql)?);
    let names = || plan.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some((table, _)) = inputs.iter().find(|(table, _)| plan.source(table).is_none()) {
        return Err(PipelineError::Input { table: table.clone(), known: names() });
    }
    let mut sources = Vec::with_capacity(plan.sources.len());
    for source in &plan.sources {
        let of = |(table, path): &(String, PathBuf)| table.eq_ignore_ascii_case(&source.name).then(|| path.clone());
        let paths: Vec<PathBuf> = inputs.iter().filter_map(of).collect();
        if paths.is_empty() {
            return Err(PipelineError::NoInput { table: source.name.clone() });
        }
        sources.push(FileSource::open(&source.name, &paths, &[])?);
    }
    let mut engine = Engine::new(plan, None)?;
    loop {
        let mut polled = Vec::with_capacity(sources.len());
        for (place, source) in sources.iter_mut().enumerate() {
            let read = source.poll(Span::ZERO)?;
            for batch in &read.batches {
                engine.push(place, batch)?;
            }
            polled.push(read);
        }
        let views: Vec<PartitionView<'_>> = polled
            .iter()
            .map(|polled| PartitionView {
                known: &polled.partitions,
                ended: &polled.at_end,
                all_ended: polled.ended,
                ..PartitionView::default()
            })
            .collect();
        for row in engine.close(&views)?.rows {
            out.write_all(&row.json)?;
            out.write_all(b"\n")?;
        }
        if views.iter().all(|view| view.all_ended) {
            out.flush()?;
            return Ok(engine.counters());
        }
    }
}
