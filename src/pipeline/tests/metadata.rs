//! What a record says about itself, as columns of a query.

use super::*;

/// Requests by key of the record; `column` declares it.
fn plan(column: &str) -> Arc<Plan> {
    let sql = format!(
        "CREATE TABLE t (
            at BIGINT NOT NULL, place BIGINT METADATA FROM 'offset_id', {column},
            ts TIMESTAMP NOT NULL GENERATED ALWAYS AS (to_timestamp(at)),
            WATERMARK FOR ts
        ) WITH (connector = 'kafka', type = 'source', topic = 't', format = 'json');
        CREATE TABLE features (service TEXT, window_start TIMESTAMP, window_end TIMESTAMP, n BIGINT, last BIGINT)
        WITH (connector = 'kafka', type = 'sink', topic = 'features', format = 'json');
        INSERT INTO features
        SELECT service, window.start, window.end, n, last FROM (
            SELECT coalesce(CAST(k AS TEXT), 'nobody') AS service, tumble(INTERVAL '10 seconds') AS window,
                count(*) AS n, max(place) AS last
            FROM t GROUP BY service, window);"
    );
    Arc::new(compile(&sql).unwrap())
}

/// Rows as `service n last`, and the offsets of dead letters with their error.
fn run(plan: Arc<Plan>, keys: &[Option<&[u8]>]) -> (Vec<String>, Vec<(i64, String)>) {
    let mut engine = Engine::new(plan, None).unwrap();
    let mut batch = RawBatch::new("t".into(), 0);
    for (offset, key) in (0..).zip(keys) {
        key.iter().for_each(|key| batch.push_key(key));
        batch.push(offset, None, Some(br#"{"at": 3}"#));
    }
    engine.push(0, &batch).unwrap();
    let closed = engine
        .close(&[PartitionView { known: &[0], ended: &[0], all_ended: true, ..PartitionView::default() }])
        .unwrap();
    let row = |row: &OutRow| {
        let json: serde_json::Value = serde_json::from_slice(&row.json).unwrap();
        format!("{} {} {}", json["service"].as_str().unwrap(), json["n"], json["last"])
    };
    let letters = closed.dead_letters.into_iter().map(|letter| (letter.offset, letter.error)).collect();
    (closed.rows.iter().map(row).collect(), letters)
}

#[test]
fn a_key_groups_as_text_or_as_bytes_and_is_null_where_there_is_none() {
    let keys = [Some(&b"a"[..]), Some(b"b"), None, Some(b"a"), Some("é".as_bytes())];
    let expected = ["a 2 3", "b 1 1", "nobody 1 2", "é 1 4"].map(str::to_owned).to_vec();
    for column in ["k TEXT METADATA FROM 'key'", "k BYTEA METADATA FROM 'key'"] {
        assert_eq!(run(plan(column), &keys), (expected.clone(), vec![]), "{column}");
    }
    // Not text: no key.
    assert_eq!(run(plan("k TEXT METADATA FROM 'key'"), &[Some(b"\xff")]).0, ["nobody 1 0"]);
}

#[test]
fn a_record_without_the_key_that_is_declared_not_null_is_a_dead_letter() {
    let (rows, letters) =
        run(plan("k TEXT NOT NULL METADATA FROM 'key'"), &[Some(b"a"), None, Some(b"\xff"), Some(b"a")]);
    assert_eq!(rows, ["a 2 3"]);
    let error = "metadata column `k` is NULL, declared NOT NULL".to_owned();
    assert_eq!(letters, [(1, error.clone()), (2, error)]);
}
