//! What the engine promises, on small inputs: the late rule and the conservation law against a naive oracle, and the
//! shipped pipelines under every way of feeding them; each shape of a query against an oracle.

mod broker;
mod formats;
mod future;
mod joins;
mod late_rule;
mod metadata;
mod sessions;
mod shapes;
mod shipped;
mod stored;
mod strange;
mod threads;
mod traces;

use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_ingest::{DeadLetter, RawBatch};

use prescale_store::{MemoryStore, Store as _};

use crate::stored::StoredPanes;
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

/// What a restart is left with beside its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// Nothing: all rows of open windows are read again.
    Nothing,
    /// The panes that are complete.
    Panes,
    /// Nothing at first; from the third restart on, panes.
    PanesLater,
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
            // What tells rows of one service and window apart.
            let label = value["metric"].as_str().or(value["dependency"].as_str()).unwrap_or_default().to_owned();
            let before = self.rows.insert((row.window_start.millis(), row.key, label), json.clone());
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
    feed_all(plan, &[input], feeding)
}

/// Feeds the inputs of a plan's sources to their end; partitions take their turns in the order of the sources. Restarts
/// come to the same whatever they are left with.
#[track_caller]
fn feed_all(plan: &Arc<Plan>, inputs: &[&Input], feeding: &Feeding) -> Outcome {
    let outcome = feed_stored(plan, inputs, feeding, Stored::Panes).0;
    if feeding.restart_every.is_some() {
        let stored =
            if (feeding.batch + inputs[0].len()).is_multiple_of(2) { Stored::Nothing } else { Stored::PanesLater };
        let other = feed_stored(plan, inputs, feeding, stored).0;
        assert_eq!(other.text(), outcome.text(), "{stored:?}, {feeding:?}");
        assert_eq!(other.dead_letters, outcome.dead_letters, "{stored:?}, {feeding:?}");
        assert_eq!(other.counters, outcome.counters, "{stored:?}, {feeding:?}");
    }
    outcome
}

/// What came out, and how many records were read again after restarts.
#[track_caller]
fn feed_stored(plan: &Arc<Plan>, inputs: &[&Input], feeding: &Feeding, stored: Stored) -> (Outcome, usize) {
    let (store, mut again, mut restarts) = (MemoryStore::default(), 0, 0);
    let panes = StoredPanes { store: &store, pipeline: "p" };
    let known: Vec<Vec<i32>> =
        inputs.iter().map(|input| (0..input.len()).map(|id| i32::try_from(id).unwrap()).collect()).collect();
    let places: Vec<(usize, usize)> =
        (0..).zip(inputs).flat_map(|(source, input)| (0..input.len()).map(move |id| (source, id))).collect();
    let mut engine = match stored {
        Stored::Panes => Engine::with_panes(plan.clone(), None, &panes).unwrap(),
        _ => Engine::new(plan.clone(), None).unwrap(),
    };
    let mut next: Vec<Vec<usize>> = inputs.iter().map(|input| vec![0; input.len()]).collect();
    let (mut outcome, mut turns, mut epochs) = (Outcome::default(), feeding.turns.iter().cycle(), 0);
    let mut read_before = 0;
    loop {
        for _ in 0..feeding.epoch {
            let turn = *turns.next().unwrap() % places.len();
            let left = |place: &usize| {
                let (source, id) = places[*place];
                next[source][id] < inputs[source][id].len()
            };
            let Some(place) = (turn..places.len()).chain(0..turn).find(left) else { break };
            let (source, id) = places[place];
            let next = &mut next[source][id];
            let mut batch = RawBatch::new("input".into(), known[source][id]);
            for line in inputs[source][id].iter().skip(*next).take(feeding.batch) {
                batch.push(i64::try_from(*next).unwrap(), None, (line != "TOMBSTONE").then_some(line.as_bytes()));
                *next += 1;
            }
            engine.push(source, &batch).unwrap();
        }
        let ended = |source: usize| -> Vec<i32> {
            let ended = |id: &i32| next[source][*id as usize] == inputs[source][*id as usize].len();
            known[source].iter().copied().filter(ended).collect()
        };
        let ended: Vec<Vec<i32>> = (0..inputs.len()).map(ended).collect();
        let views: Vec<PartitionView<'_>> = known
            .iter()
            .zip(&ended)
            .map(|(known, ended)| PartitionView {
                known,
                ended,
                all_ended: ended.len() == known.len(),
                ..PartitionView::default()
            })
            .collect();
        let closed = engine.close(&views).unwrap();
        outcome.add(closed.rows, closed.dead_letters);
        outcome.counters = closed.counters;
        if views.iter().all(|view| view.all_ended) {
            outcome.dead_letters.sort();
            return (outcome, again);
        }
        epochs += 1;
        let read = closed.counters.read + closed.counters.tombstones;
        if feeding.restart_every.is_some_and(|every| epochs % every == 0) && read > read_before {
            read_before = read;
            let saved = serde_json::to_vec(&engine.checkpoint()).unwrap();
            store.write(&engine.pane_writes(&panes).unwrap()).unwrap();
            let checkpoint: Checkpoint = serde_json::from_slice(&saved).unwrap();
            for (source, next) in plan.sources.iter().zip(&mut next) {
                let reached = next.iter().sum::<usize>();
                next.fill(0);
                for start in checkpoint.starts(&source.name) {
                    next[start.partition as usize] = usize::try_from(start.offset.unwrap()).unwrap();
                }
                again += reached - next.iter().sum::<usize>();
            }
            restarts += 1;
            engine = match stored {
                Stored::Nothing => Engine::new(plan.clone(), Some(checkpoint)).unwrap(),
                Stored::PanesLater if restarts < 3 => Engine::new(plan.clone(), Some(checkpoint)).unwrap(),
                _ => Engine::with_panes(plan.clone(), Some(checkpoint), &panes).unwrap(),
            };
        }
    }
}
