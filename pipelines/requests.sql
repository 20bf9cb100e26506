-- Requests by service and minute: rate, errors, bytes and latency percentiles.
--
-- Input: one JSON object a request. `ts` is RFC 3339; extra fields are ignored; a missing nullable field is NULL.
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
    'source.group_id' = 'prescale-requests',
    bad_data = 'drop'
);

CREATE TABLE features (
    service TEXT,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    requests BIGINT,
    requests_per_second DOUBLE,
    errors BIGINT,
    bytes BIGINT,
    latency_ms_p50 DOUBLE,
    latency_ms_p90 DOUBLE,
    latency_ms_p99 DOUBLE
) WITH (
    connector = 'kafka',
    type = 'sink',
    bootstrap_servers = 'localhost:9092',
    topic = 'features',
    format = 'json',
    'sink.key_field' = 'service'
);

INSERT INTO features
SELECT
    service,
    window.start AS window_start,
    window.end AS window_end,
    requests,
    CAST(requests AS DOUBLE) / 60.0 AS requests_per_second,
    errors,
    bytes,
    latency_ms_p50,
    latency_ms_p90,
    latency_ms_p99
FROM (
    SELECT
        service,
        tumble(INTERVAL '1 minute') AS window,
        count(*) AS requests,
        count(*) FILTER (WHERE status >= 500) AS errors,
        coalesce(sum(bytes), 0) AS bytes,
        approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p50,
        approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p90,
        approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p99
    FROM requests
    GROUP BY service, window
);
