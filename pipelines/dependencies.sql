-- Calls between services by minute: how often each service called each other one, how often that failed, and how long it
-- took.
--
-- Input: as of `requests.sql`. `dependency` names the service that was called for the request; requests without one are
-- filtered. Rows go to a topic of their own, since there is one for each pair of services.
CREATE TABLE requests (
    ts TIMESTAMP NOT NULL,
    service TEXT NOT NULL,
    status INT,
    latency_ms DOUBLE,
    dependency TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (
    connector = 'kafka',
    type = 'source',
    bootstrap_servers = 'localhost:9092',
    topic = 'requests',
    format = 'json',
    'source.offset' = 'earliest',
    'source.group_id' = 'prescale-dependencies',
    bad_data = 'drop'
);

CREATE TABLE dependencies (
    service TEXT,
    dependency TEXT,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    calls BIGINT,
    calls_per_second DOUBLE,
    errors BIGINT,
    latency_ms_p50 DOUBLE,
    latency_ms_p99 DOUBLE
) WITH (
    connector = 'kafka',
    type = 'sink',
    bootstrap_servers = 'localhost:9092',
    topic = 'dependencies',
    format = 'json',
    'sink.key_field' = 'service'
);

INSERT INTO dependencies
SELECT
    service,
    dependency,
    window.start AS window_start,
    window.end AS window_end,
    calls,
    CAST(calls AS DOUBLE) / 60.0 AS calls_per_second,
    errors,
    latency_ms_p50,
    latency_ms_p99
FROM (
    SELECT
        service,
        dependency,
        tumble(INTERVAL '1 minute') AS window,
        count(*) AS calls,
        count(*) FILTER (WHERE status >= 500) AS errors,
        approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p50,
        approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY latency_ms) AS latency_ms_p99
    FROM requests
    WHERE dependency IS NOT NULL AND dependency <> service
    GROUP BY service, dependency, window
);
