//! A pipeline over files, or over what topics hold: the same engine as in service, all rows read, all windows closed. Rule:
//! the output depends on the rows alone and is ordered by window start and key.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prescale_domain::Span;
use prescale_ingest::file::FileSource;
use prescale_ingest::{Polled, RawBatch, Source};

use crate::PipelineError;
use crate::checkpoint::Counters;
use crate::engine::{Engine, PartitionView};
use crate::schemas::Schemas;
use crate::sql::{Plan, PlanSummary, SourceTable, compile_with};
use crate::udf::Udfs;

/// Windows are closed after so many records, or when no more are there.
const EPOCH_RECORDS: usize = 8192;
/// How long a poll waits for records.
const POLL_WAIT: Span = Span::from_millis(100);

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
    let mut sources: Vec<Box<dyn Source>> = Vec::with_capacity(plan.sources.len());
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
        sources.push(Box::new(FileSource::open(&source.name, &paths, &[])?));
    }
    run_to_end(plan, sources, out)
}

/// Runs a pipeline over bounded sources, those of the plan in its order, to the end of all, one JSON row a line. Event time
/// alone counts: a partition holds windows open until it has been read to its end, however long that takes. Where the records
/// name their schemas by id, the registry is waited for.
///
/// # Errors
/// A source that can't go on, or an output that takes nothing more.
pub fn run_to_end(
    plan: Plan,
    mut sources: Vec<Box<dyn Source>>,
    out: &mut dyn Write,
) -> Result<Counters, PipelineError> {
    let schemas = |table: &SourceTable| Schemas::new(&table.name, &table.name, &table.options);
    let mut schemas = plan.sources.iter().map(schemas).collect::<Result<Vec<_>, _>>()?;
    let mut engine = Engine::new(Arc::new(plan), None)?;
    let (never, mut turn) = (AtomicBool::new(false), 0);
    loop {
        let mut records = 0;
        let polled: Vec<Polled> = loop {
            let before = records;
            let mut polled = Vec::with_capacity(sources.len());
            for (place, source) in sources.iter_mut().enumerate() {
                // One source is waited for as long as none has brought anything, each in its turn.
                let wait = if records == 0 && place == turn { POLL_WAIT } else { Span::ZERO };
                let read = source.poll(wait)?;
                for batch in &read.batches {
                    if let (Some(decoder), Some(schemas)) = (engine.decoder_mut(place), schemas.get_mut(place)) {
                        schemas.supply(decoder, batch, &never);
                    }
                }
                engine.push_all(place, &read.batches)?;
                records += read.batches.iter().map(RawBatch::len).sum::<usize>();
                polled.push(read);
            }
            turn = (turn + 1) % sources.len().max(1);
            let ended = polled.iter().all(|polled| polled.ended);
            if ended || records == before || records >= EPOCH_RECORDS {
                break polled;
            }
        };
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
