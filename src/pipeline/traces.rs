//! The shipped access-log pipeline on real logs. Runs where `PRESCALE_TRACES` names the folder that holds them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use crate::{Counters, run_over_files};

/// What a log comes to: the pipeline's counters, and requests by minute.
fn run(name: &str) -> Option<(Counters, BTreeMap<String, u64>)> {
    let Some(folder) = std::env::var_os("PRESCALE_TRACES").map(PathBuf::from) else {
        tracing::warn!("skipped: PRESCALE_TRACES is not set");
        return None;
    };
    let path = folder.join("raw").join(name);
    let sql = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/access_log.sql")).unwrap();
    let mut out = Vec::new();
    let start = Instant::now();
    let counters = run_over_files(&sql, &[("access_log".to_owned(), path)], &mut out).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let rate = counters.read as f64 / seconds;
    println!("{name}: {} lines in {seconds:.2} s, {rate:.0} lines/s, {counters:?}", counters.read);
    let mut minutes = BTreeMap::new();
    for line in String::from_utf8(out).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        minutes.insert(row["window_start"].as_str().unwrap().to_owned(), row["requests"].as_u64().unwrap());
    }
    Some((counters, minutes))
}

#[test]
fn the_nasa_week() {
    let Some((counters, minutes)) = run("RECONSTRUCTED_nasa_clf_19950710_week.log.gz") else { return };
    assert_eq!(counters.read, 557_495);
    assert_eq!(minutes.len(), 10_080 - 47);
}

#[test]
fn debug_line() {
    let sql = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/access_log.sql")).unwrap();
    let plan = std::sync::Arc::new(crate::compile(&sql).unwrap());
    for c in &plan.source.computed { println!("{} = {}", c.field.name(), c.expr); }
    println!("wm {}", plan.source.watermark);
    let mut e = crate::Engine::new(plan, None).unwrap();
    let mut b = prescale_ingest::RawBatch::new("t".into(), 0);
    b.push(0, None, Some(br#"slip-4-12.ots.utexas.edu - - [10/Jul/1995:00:00:00 -0400] "GET /images/ksclogosmall.gif HTTP/1.0" 304 0"#));
    e.push(&b).unwrap();
    println!("{:?}", e.close(&crate::PartitionView { all_ended: true, ..Default::default() }).unwrap());
}
