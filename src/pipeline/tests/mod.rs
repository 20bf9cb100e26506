//! What the engine promises, on small inputs: the late rule and the conservation law against a naive oracle, and the
//! shipped pipelines under every way of feeding them; each shape of a query against an oracle.

mod broker;
mod future;
mod late_rule;
mod metadata;
mod shapes;
mod shipped;
mod traces;

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_ingest::{DeadLetter, RawBatch};

use crate::{Checkpoint, Counters, Engine, OutRow, PartitionView, Plan, compile};

/// Lines by partition; the offset of a line is its place.
type Input = Vec<Vec<String>>;

/// How an input is fed.
#[derive(Clone, Debug)]
struct Feeding {
    batch: usize,
    /// Batches before an epoch closes.
    epoch: usize,
    /// After every so many epochs, once it has got past what it read before, the engine is thrown away and made anew
    /// from its checkpoint.
    restart_every: Option<usize>,
    /// The order in which partitions take their turns.
    turns: Vec<usize>,
}

/// What came out; a row that was written twice is here once, and both copies were equal.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    rows: BTreeMap<(i64, Vec<u8>, String), String>,
    copies: usize,
    dead_letters: Vec<(i32, i64, String)>,
    counters: Counters,
}

impl Feeding {
    fn plain() -> Self {
        Self { batch: 512, epoch: 1, restart_every: None, turns: vec![0] }
    }
}

fn plan_of(name: &str) -> Arc<Plan> {
    let path = format!("{}/../../pipelines/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    Arc::new(compile(&std::fs::read_to_string(path).unwrap()).unwrap())
}

impl Outcome {
    #[track_caller]
    fn add(&mut self, rows: Vec<OutRow>, letters: Vec<DeadLetter>) {
        for row in rows {
            let json = String::from_utf8(row.json).unwrap();
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let metric = value["metric"].as_str().unwrap_or_default().to_owned();
            let before = self.rows.insert((row.window_start.millis(), row.key, metric), json.clone());
            assert!(before.is_none_or(|before| before == json), "a second copy differs: {json}");
            self.copies += 1;
        }
        self.dead_letters.extend(letters.into_iter().map(|letter| (letter.partition, letter.offset, letter.reason)));
    }

    fn text(&self) -> String {
        self.rows.values().map(|row| format!("{row}\n")).collect()
    }
}

/// Feeds an input to its end.
#[track_caller]
fn feed(plan: &Arc<Plan>, input: &Input, feeding: &Feeding) -> Outcome {
    let known: Vec<i32> = (0..input.len()).map(|partition| i32::try_from(partition).unwrap()).collect();
    let (mut engine, mut next) = (Engine::new(plan.clone(), None).unwrap(), vec![0; input.len()]);
    let (mut outcome, mut turns, mut epochs) = (Outcome::default(), feeding.turns.iter().cycle(), 0);
    let mut read_before = 0;
    loop {
        for _ in 0..feeding.epoch {
            let turn = *turns.next().unwrap() % input.len();
            let left = |partition: &usize| next[*partition] < input[*partition].len();
            let Some(partition) = (turn..input.len()).chain(0..turn).find(left) else { break };
            let mut batch = RawBatch::new("input".into(), known[partition]);
            for line in input[partition].iter().skip(next[partition]).take(feeding.batch) {
                batch.push(
                    i64::try_from(next[partition]).unwrap(),
                    None,
                    (line != "TOMBSTONE").then_some(line.as_bytes()),
                );
                next[partition] += 1;
            }
            engine.push(&batch).unwrap();
        }
        let ended: Vec<i32> =
            known.iter().copied().filter(|id| next[*id as usize] == input[*id as usize].len()).collect();
        let all_ended = ended.len() == known.len();
        let closed = engine
            .close(&PartitionView { known: &known, ended: &ended, all_ended, ..PartitionView::default() })
            .unwrap();
        outcome.add(closed.rows, closed.dead_letters);
        outcome.counters = closed.counters;
        if all_ended {
            outcome.dead_letters.sort();
            return outcome;
        }
        epochs += 1;
        let read = closed.counters.read + closed.counters.tombstones;
        if feeding.restart_every.is_some_and(|every| epochs % every == 0) && read > read_before {
            read_before = read;
            let saved = serde_json::to_vec(&engine.checkpoint()).unwrap();
            let checkpoint: Checkpoint = serde_json::from_slice(&saved).unwrap();
            next.fill(0);
            for start in checkpoint.starts() {
                next[start.partition as usize] = usize::try_from(start.offset.unwrap()).unwrap();
            }
            engine = Engine::new(plan.clone(), Some(checkpoint)).unwrap();
        }
    }
}
