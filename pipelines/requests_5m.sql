-- Requests by service over the last five minutes, every minute: rate, errors, bytes and latency percentiles.
--
-- Input: as of `requests.sql`. Measures end in `_5m` and rows go to a topic of their own, because a window of five
-- minutes is written when it ends, four minutes after the row of `requests.sql` with the same start.
CREATE TABLE requests (
    ts TIMESTAMP NOT NULL,
    service TEXT NOT NULL,
    type TEXT,
    route TEXT,
    priority TEXT,
    status INT,
    latency_ms DOUBLE,
    bytes BIGINT,
    instance TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (
    connector = 'kafka',
    type = 'source',
    bootstrap_servers = 'localhost:9092',
    topic = 'requests',
    format = 'json',
    'source.offset' = 'earliest',
    'source.group_id' = 'prescale-requests-5m',
    bad_data = 'drop'
);

CREATE TABLE features (
    service TEXT,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    requests_5m BIGINT,
    requests_per_second_5m DOUBLE,
    errors_5m BIGINT,
    bytes_5m BIGINT,
    latency_ms_p50_5m DOUBLE,
    latency_ms_p90_5m DOUBLE,
    latency_ms_p99_5m DOUBLE
) WITH (
    connector = 'kafka',
    type = 'sink',
    bootstrap_servers = 'localhost:9092',
    topic = 'features-5m',
    format = 'json',
    'sink.key_field' = 'service'
);

INSERT INTO features
SELECT
    service,
    window.start AS window_start,
    window.end AS window_end,
    requests,
    CAST(requests AS DOUBLE) / 300.0 AS requests_per_second,
    errors,
    bytes,
    latency_ms_p50,
    latency_ms_p90,
    latency_ms_p99
FROM (
    SELECT
        service,
        hop(INTERVAL '1 minute', INTERVAL '5 minutes') AS window,
        count(*) AS requests,
        count(*) FILTER (WHERE status >= 500) AS errors,
        coalesce(sum(bytes), 0) AS bytes,
        approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p50,
        approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p90,
        approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p99
    FROM requests
    GROUP BY service, window
);
