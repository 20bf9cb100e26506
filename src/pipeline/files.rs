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
use crate::sql::{Plan, PlanSummary, compile_with};
use crate::udf::Udfs;

/// Checks a pipeline without running it.
pub fn check(sql: &str, udfs: &Udfs) -> Result<PlanSummary, PipelineError> {
    Ok(compile_with(sql, udfs)?.summary())
}

/// Runs a pipeline over files, one JSON row a line. `inputs` names the source table of each file; several files of one
/// table are its partitions, and a table without any is read from the file that the SQL names. A file whose name ends in
/// `.gz` is unpacked. Lines have no frame of a registry.
pub fn run_over_files(
    mut plan: Plan,
    inputs: &[(String, PathBuf)],
    out: &mut dyn Write,
) -> Result<Counters, PipelineError> {
    let names = || plan.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some((table, _)) = inputs.iter().find(|(table, _)| plan.source(table).is_none()) {
        return Err(PipelineError::Input { table: table.clone(), known: names() });
    }
    let mut sources = Vec::with_capacity(plan.sources.len());
    for source in &mut plan.sources {
        let (table, format) = (source.name.clone(), source.options.format.name().to_owned());
        source.options.format = source.options.format.of_lines().ok_or(PipelineError::NotLines { table, format })?;
        let of = |(table, path): &(String, PathBuf)| table.eq_ignore_ascii_case(&source.name).then(|| path.clone());
        let mut paths: Vec<PathBuf> = inputs.iter().filter_map(of).collect();
        if paths.is_empty() {
            paths.extend(source.options.file.as_ref().map(PathBuf::from));
        }
        if paths.is_empty() {
            return Err(PipelineError::NoInput { table: source.name.clone() });
        }
        sources.push(FileSource::open(&source.name, &paths, &[])?);
    }
    let mut engine = Engine::new(Arc::new(plan), None)?;
    loop {
        let mut polled = Vec::with_capacity(sources.len());
        for (place, source) in sources.iter_mut().enumerate() {
            let read = source.poll(Span::ZERO)?;
            engine.push_all(place, &read.batches)?;
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
