//! Rows that are not what their record's key says: told, counted, and in no window.

use super::*;

#[test]
fn a_row_of_another_key_goes_to_the_dead_letters() {
    let mut plan = Arc::unwrap_or_clone(plan_of("requests"));
    plan.watch_keys(&BTreeMap::from([("Requests".to_owned(), "service".to_owned())]));
    let mut engine = Engine::new(Arc::new(plan), None).unwrap();
    let mut raw = RawBatch::new("input".into(), 0);
    for (offset, key, service) in
        [(0, Some("web"), "web"), (1, Some("api"), "web"), (2, None, "web"), (3, Some("web"), "web")]
    {
        let line = format!(
            r#"{{"ts":"2026-01-01T00:00:0{offset}Z","service":"{service}","status":200,"latency_ms":1.0,"bytes":1}}"#
        );
        if let Some(key) = key {
            raw.push_key(key.as_bytes());
        }
        raw.push(offset, None, Some(line.as_bytes()));
    }
    engine.push(0, &raw).unwrap();
    let closed = engine.close(&[PartitionView { known: &[0], all_ended: true, ..PartitionView::default() }]).unwrap();
    let told: Vec<_> = closed.dead_letters.iter().map(|l| (l.offset, l.reason.as_str(), l.error.as_str())).collect();
    let expected = [
        (1, "key", "`service` is `web`, the record's key is `api`"),
        (2, "key", "`service` is `web`, the record's key is nothing"),
    ];
    assert_eq!(told, expected);
    let counters = closed.counters;
    assert_eq!((counters.read, counters.windowed, counters.key, counters.bad()), (4, 2, 2, 2));
}
