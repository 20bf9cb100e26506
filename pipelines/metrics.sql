-- Metrics by service, metric and minute: mean and maximum over instances.
--
-- Input: one JSON object a sample. `ts` is RFC 3339; extra fields, such as `labels`, are ignored.
CREATE TABLE metrics (
    ts TIMESTAMP NOT NULL,
    service TEXT NOT NULL,
    instance TEXT,
    name TEXT NOT NULL,
    value DOUBLE NOT NULL,
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (
    connector = 'kafka',
    type = 'source',
    bootstrap_servers = 'localhost:9092',
    topic = 'metrics',
    format = 'json',
    'source.offset' = 'earliest',
    'source.group_id' = 'prescale-metrics',
    bad_data = 'drop'
);

CREATE TABLE features (
    service TEXT,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    metric TEXT,
    mean DOUBLE,
    max DOUBLE
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
    metric,
    mean_value AS mean,
    max_value AS max
FROM (
    SELECT
        service,
        name AS metric,
        tumble(INTERVAL '1 minute') AS window,
        avg(value) AS mean_value,
        max(value) AS max_value
    FROM metrics
    GROUP BY service, metric, window
);
