//! A topic of JSON requests, and pipelines over it. Rule: what is written depends on the numbers asked for alone.

use std::fmt::Write as _;

use prescale_domain::{Span, Timestamp};

use super::{Broker, Result, TIMEOUT};

/// 2026-11-23 is a Monday.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_392_000_000);
const ROUTES: [&str; 4] = ["/", "/cart", "/items/{id}", "/search"];

/// What to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests {
    pub(crate) records: u64,
    pub(crate) services: u64,
    /// Of the events, which are evenly spread over it.
    pub(crate) length: Span,
    pub(crate) partitions: i32,
}

/// What is in a topic.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    pub(crate) topic: String,
    pub(crate) records: u64,
    pub(crate) bytes: usize,
}

/// Writes requests in the order of their times, in turn to each partition, each of a service drawn anew.
pub(crate) fn fill(broker: &Broker, name: &str, requests: Requests) -> Result<Filled> {
    let Requests { records, services, length, partitions } = requests;
    let topic = broker.topic(name, partitions)?;
    let (mut draw, mut bytes, mut line) = (Draw(1), 0, String::new());
    for (number, partition) in (0..records).zip((0..partitions).cycle()) {
        let passed = i128::from(length.millis()) * i128::from(number) / i128::from(records);
        let moment = START + Span::from_millis(passed as i64);
        line.clear();
        write_request(&mut line, moment, draw.below(services), &mut draw)?;
        broker.sink.send(&topic, Some(partition), None, line.as_bytes(), &[])?;
        bytes += line.len();
    }
    broker.sink.flush(TIMEOUT)?;
    Ok(Filled { topic, records, bytes })
}

/// A request as `pipelines/requests.sql` reads it, of about 190 bytes.
pub(crate) fn write_request(line: &mut String, moment: Timestamp, service: u64, draw: &mut Draw) -> Result<()> {
    let route = ROUTES[draw.below(4) as usize];
    // Up to 320 ms, mostly below 100.
    let latency = (draw.below(320_000) * draw.below(1000)) as f64 / 1e6;
    let (status, size, instance) = (if draw.below(50) == 0 { 503 } else { 200 }, draw.below(20_000), draw.below(40));
    write!(
        line,
        r#"{{"ts":"{moment}","service":"service-{service:06}","type":"read","route":"{route}","priority":"normal","status":{status},"latency_ms":{latency:?},"bytes":{size},"instance":"i-{instance:04}"}}"#
    )?;
    Ok(())
}

/// A linear congruence is as good as any source of variety here (Knuth's MMIX).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Count, mean and 99th percentile of the latency by service and `window`, after `filter`; times may be out of order by
/// `lateness`.
pub(crate) fn pipeline(window: &str, filter: &str, lateness: &str) -> String {
    format!(
        "CREATE TABLE requests (
            ts TIMESTAMP NOT NULL, service TEXT NOT NULL, type TEXT, route TEXT, priority TEXT, status INT,
            latency_ms DOUBLE, bytes BIGINT, instance TEXT, WATERMARK FOR ts AS ts - INTERVAL '{lateness}'
        ) WITH (connector = 'kafka', type = 'source', bootstrap_servers = '', topic = 'requests', format = 'json',
            'source.offset' = 'earliest');
        CREATE TABLE features WITH (connector = 'kafka', type = 'sink', bootstrap_servers = '', topic = 'features',
            format = 'json');
        INSERT INTO features
        SELECT service, window.start AS window_start, window.end AS window_end, requests, latency_ms_avg, latency_ms_p99
        FROM (
            SELECT service, {window} AS window, count(*) AS requests, avg(latency_ms) AS latency_ms_avg,
                approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p99
            FROM requests {filter} GROUP BY service, window
        );"
    )
}
