//! Batches that are prepared on several cores.

use prescale_ingest::RawBatch;
use rayon::ThreadPoolBuilder;

use super::plan_of;
use crate::{Engine, EpochOutput, PartitionView};

const PARTITIONS: i32 = 6;
const ROWS: i64 = 1_500;

/// A batch of each partition: requests of three services, some of them late, some bad.
fn batches() -> Vec<RawBatch> {
    let batch = |partition: i32| {
        let mut batch = RawBatch::new("requests".into(), partition);
        for row in 0..ROWS {
            let seconds = if row % 100 == 99 { 0 } else { row / 8 };
            let (minute, second, service) = (seconds / 60, seconds % 60, (row + i64::from(partition)) % 3);
            let latency = if row % 70 == 69 { "\"slow\"".to_owned() } else { format!("{}.{partition}", row % 13) };
            let line = format!(
                r#"{{"ts":"2026-11-23T08:{minute:02}:{second:02}Z","service":"s{service}","status":200,"latency_ms":{latency},"bytes":{row}}}"#
            );
            batch.push(row, None, Some(line.as_bytes()));
        }
        batch
    };
    (0..PARTITIONS).map(batch).collect()
}

fn output(feed: impl FnOnce(&mut Engine, &[RawBatch])) -> EpochOutput {
    let mut engine = Engine::new(plan_of("requests"), None).unwrap();
    feed(&mut engine, &batches());
    let known: Vec<i32> = (0..PARTITIONS).collect();
    engine.close(&[PartitionView { known: &known, ended: &known, all_ended: true, ..Default::default() }]).unwrap()
}

#[test]
fn bytes_do_not_depend_on_how_many_cores_prepare_them() {
    let one_by_one = output(|engine, batches| batches.iter().for_each(|batch| engine.push(0, batch).unwrap()));
    assert!(one_by_one.counters.late > 0 && one_by_one.counters.bad() > 0 && one_by_one.rows.len() > 6);
    for threads in 1..=4 {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let together = output(|engine, batches| pool.install(|| engine.push_all(0, batches).unwrap()));
        assert_eq!(together, one_by_one, "{threads} threads");
    }
}
