//! The pipelines in `pipelines/` on the samples beside them.

use super::*;

/// Events in the sample lie at most this many places from where event time would put them.
pub(super) fn lines(name: &str, kind: &str) -> Vec<String> {
    let path = format!("{}/../../pipelines/{name}.{kind}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Feeds the sample in many ways; each must give the committed bytes. `kinds` are the files of the pipeline's sources.
#[track_caller]
fn same_bytes(name: &str, kinds: &[&str], late_and_bad: (u64, u64)) {
    let plan = plan_of(name);
    let whole: Vec<Vec<String>> = kinds.iter().map(|kind| lines(name, kind)).collect();
    // Each source on so many partitions, line by line.
    let dealt = |lines: &[Vec<String>], partitions: usize| -> Vec<Input> {
        let deal = |lines: &Vec<String>| {
            let mut input: Input = vec![Vec::new(); partitions];
            lines.iter().enumerate().for_each(|(place, line)| input[place % partitions].push(line.clone()));
            input
        };
        lines.iter().map(deal).collect()
    };
    let fed = |lines: &[Vec<String>], partitions: usize, feeding: &Feeding| {
        feed_all(&plan, &dealt(lines, partitions).iter().collect::<Vec<_>>(), feeding)
    };
    let outcome = fed(&whole, 1, &Feeding::plain());
    assert_eq!((outcome.counters.late, outcome.counters.bad()), late_and_bad);
    let expected = format!("{}/../../pipelines/{name}.expected.ndjson", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&expected, outcome.text()).unwrap();
    }
    let expected = std::fs::read_to_string(expected).unwrap();
    assert_eq!(outcome.text(), expected, "in order");
    for batch in [1, 7, 32] {
        let feeding = Feeding { batch, epoch: 3, ..Feeding::plain() };
        assert_eq!(fed(&whole, 1, &feeding).text(), expected, "batches of {batch}");
    }
    let feeding = Feeding { batch: 5, epoch: 2, restart_every: Some(1), turns: vec![0, 1] };
    let restarted = fed(&whole, 1, &feeding);
    assert_eq!(restarted.text(), expected, "restarted after every epoch");
    assert_eq!(restarted.counters, outcome.counters, "rows are counted once");
    // Neighbours change places: the disorder stays below the lateness.
    let mut shuffled = whole.clone();
    shuffled.iter_mut().for_each(|lines| lines.chunks_mut(2).for_each(<[String]>::reverse));
    assert_eq!(fed(&shuffled, 1, &Feeding::plain()).text(), expected, "in another order");
    // Read in turns of different length.
    for partitions in 1..=8 {
        for lines in [&whole, &shuffled] {
            let turns = vec![0, 2, 1, 1, 9, 0, 2, 5, 7, 3, 4, 6, 12];
            let feeding = Feeding { batch: 4, epoch: 3, restart_every: Some(5), turns };
            assert_eq!(fed(lines, partitions, &feeding).text(), expected, "{partitions} partitions");
        }
    }
}

#[test]
fn requests() {
    same_bytes("requests", &["input.ndjson"], (0, 2));
}

#[test]
fn requests_10s() {
    same_bytes("requests_10s", &["input.ndjson"], (0, 0));
}

#[test]
fn requests_5m() {
    same_bytes("requests_5m", &["input.ndjson"], (0, 1));
}

#[test]
fn metrics() {
    same_bytes("metrics", &["input.ndjson"], (0, 0));
}

#[test]
fn access_log() {
    same_bytes("access_log", &["input.log"], (0, 4));
}

#[test]
fn dependencies() {
    same_bytes("dependencies", &["input.ndjson"], (0, 1));
}

#[test]
fn campaigns() {
    same_bytes("campaigns", &["input.requests.ndjson", "input.event_minutes.ndjson"], (0, 0));
}
