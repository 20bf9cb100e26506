//! The pipelines in `pipelines/` on the samples beside them.

use super::*;

/// Events in the sample lie at most this many places from where event time would put them.
pub(super) fn lines(name: &str, kind: &str) -> Vec<String> {
    let path = format!("{}/../../pipelines/{name}.{kind}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Feeds the sample in many ways; each must give the committed bytes.
#[track_caller]
fn same_bytes(name: &str, kind: &str, late_and_bad: (u64, u64)) {
    let plan = plan_of(name);
    let lines = lines(name, kind);
    let outcome = feed(&plan, &vec![lines.clone()], &Feeding::plain());
    assert_eq!((outcome.counters.late, outcome.counters.bad()), late_and_bad);
    let expected = format!("{}/../../pipelines/{name}.expected.ndjson", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&expected, outcome.text()).unwrap();
    }
    let expected = std::fs::read_to_string(expected).unwrap();
    assert_eq!(outcome.text(), expected, "in order");
    for batch in [1, 7, 32] {
        let feeding = Feeding { batch, epoch: 3, ..Feeding::plain() };
        assert_eq!(feed(&plan, &vec![lines.clone()], &feeding).text(), expected, "batches of {batch}");
    }
    let feeding = Feeding { batch: 5, epoch: 2, restart_every: Some(1), turns: vec![0] };
    let restarted = feed(&plan, &vec![lines.clone()], &feeding);
    assert_eq!(restarted.text(), expected, "restarted after every epoch");
    assert_eq!(restarted.counters, outcome.counters, "rows are counted once");
    // Dealt out to three partitions, read in turns of different length.
    let mut dealt: Input = vec![Vec::new(); 3];
    lines.iter().enumerate().for_each(|(place, line)| dealt[place % 3].push(line.clone()));
    let feeding = Feeding { batch: 4, epoch: 3, restart_every: Some(5), turns: vec![0, 2, 1, 1, 0, 2] };
    assert_eq!(feed(&plan, &dealt, &feeding).text(), expected, "three partitions");
    // Neighbours change places: the disorder stays below the lateness.
    let mut shuffled = lines;
    shuffled.chunks_mut(2).for_each(<[String]>::reverse);
    assert_eq!(feed(&plan, &vec![shuffled], &Feeding::plain()).text(), expected, "in another order");
}

#[test]
fn requests() {
    same_bytes("requests", "input.ndjson", (0, 2));
}

#[test]
fn requests_5m() {
    same_bytes("requests_5m", "input.ndjson", (0, 1));
}

#[test]
fn metrics() {
    same_bytes("metrics", "input.ndjson", (0, 0));
}

#[test]
fn access_log() {
    same_bytes("access_log", "input.log", (0, 4));
}
