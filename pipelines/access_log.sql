-- Requests by minute from the raw lines of a web server: NCSA Common and Combined log format.
--
-- One pattern takes each line apart and leaves `time|status|size`. A line that does not match keeps its text, which is no
-- time: it fails there and goes to the dead letters. The size `-` is NULL. A generated column may not use another one, so
-- the pattern is repeated; it is evaluated once. `service` is a literal: set it to the name of the service that the log
-- is of.
CREATE TABLE access_log (
    value TEXT NOT NULL,
    fields TEXT NOT NULL GENERATED ALWAYS AS (
        regexp_replace(value, '^[^ ]+ [^ ]+ [^ ]+ \[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\] "(?:[^"\\]|\\.)*" ([0-9]{3}) ([0-9]{1,18}|-)(?: "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*")?$', '\1|\2|\3')
    ),
    event_time TIMESTAMP NOT NULL GENERATED ALWAYS AS (
        to_timestamp(split_part(
            regexp_replace(value, '^[^ ]+ [^ ]+ [^ ]+ \[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\] "(?:[^"\\]|\\.)*" ([0-9]{3}) ([0-9]{1,18}|-)(?: "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*")?$', '\1|\2|\3'),
            '|', 1), '%d/%b/%Y:%H:%M:%S %z')
    ),
    WATERMARK FOR event_time AS coalesce(
        to_timestamp(split_part(
            regexp_replace(value, '^[^ ]+ [^ ]+ [^ ]+ \[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4})\] "(?:[^"\\]|\\.)*" ([0-9]{3}) ([0-9]{1,18}|-)(?: "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*")?$', '\1|\2|\3'),
            '|', 1), '%d/%b/%Y:%H:%M:%S %z'),
        TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '60 seconds'
) WITH (
    connector = 'kafka',
    type = 'source',
    bootstrap_servers = 'localhost:9092',
    topic = 'access-log',
    format = 'raw_string',
    'source.offset' = 'earliest',
    'source.group_id' = 'prescale-access-log',
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
    CAST(NULL AS DOUBLE) AS latency_ms_p50,
    CAST(NULL AS DOUBLE) AS latency_ms_p90,
    CAST(NULL AS DOUBLE) AS latency_ms_p99
FROM (
    SELECT
        'web' AS service,
        tumble(INTERVAL '1 minute') AS window,
        count(*) AS requests,
        count(*) FILTER (WHERE status >= 500) AS errors,
        coalesce(sum(size), 0) AS bytes
    FROM (
        SELECT
            CAST(split_part(fields, '|', 2) AS INT) AS status,
            CAST(nullif(split_part(fields, '|', 3), '-') AS BIGINT) AS size
        FROM access_log
    ) AS lines
    GROUP BY window
);
