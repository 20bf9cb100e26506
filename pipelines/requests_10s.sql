-- Requests by service in parts of a minute: the rate, for `features.early_step = "10s"` beside `requests.sql`.
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
    'source.group_id' = 'prescale-requests-10s',
    bad_data = 'drop'
);

CREATE TABLE features (
    service TEXT,
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    requests BIGINT,
    requests_per_second DOUBLE
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
    CAST(requests AS DOUBLE) / 10.0 AS requests_per_second
FROM (
    SELECT
        service,
        tumble(INTERVAL '10 seconds') AS window,
        count(*) AS requests
    FROM requests
    GROUP BY service, window
);
