-- Requests by service and minute, with what the calendar of events said of that minute when it began: whether a campaign
-- was on, how much load it was expected to bring, and how long the next one was away.
--
-- Input: `requests` as of `requests.sql`, and `event_minutes`, which Prescale makes of the `events` topic: one row for each
-- service and minute, with the events that were known when the minute began. Event time of both is the minute, so that
-- the rows meet in their window; a service of which the calendar says nothing has no campaign.
CREATE TABLE requests (
    ts TIMESTAMP NOT NULL,
    service TEXT NOT NULL,
    status INT,
    latency_ms DOUBLE,
    bytes BIGINT,
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (
    connector = 'kafka',
    type = 'source',
    bootstrap_servers = 'localhost:9092',
    topic = 'requests',
    format = 'json',
    'source.offset' = 'earliest',
    'source.group_id' = 'prescale-campaigns',
    bad_data = 'drop'
);

CREATE TABLE event_minutes (
    minute TIMESTAMP NOT NULL,
    service TEXT NOT NULL,
    campaign_active BOOLEAN NOT NULL,
    expected_uplift DOUBLE,
    minutes_to_start BIGINT,
    WATERMARK FOR minute AS minute
) WITH (
    connector = 'kafka',
    type = 'source',
    bootstrap_servers = 'localhost:9092',
    topic = 'event-minutes',
    format = 'json',
    'source.offset' = 'earliest',
    'source.group_id' = 'prescale-campaigns-events',
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
    latency_ms_p99 DOUBLE,
    campaign_active BOOLEAN,
    expected_uplift DOUBLE,
    minutes_to_start BIGINT
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
    r.service AS service,
    r.window.start AS window_start,
    r.window.end AS window_end,
    r.requests AS requests,
    CAST(r.requests AS DOUBLE) / 60.0 AS requests_per_second,
    r.errors AS errors,
    r.bytes AS bytes,
    r.latency_ms_p50 AS latency_ms_p50,
    r.latency_ms_p90 AS latency_ms_p90,
    r.latency_ms_p99 AS latency_ms_p99,
    coalesce(e.campaign_active, false) AS campaign_active,
    e.expected_uplift AS expected_uplift,
    e.minutes_to_start AS minutes_to_start
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
) AS r
LEFT JOIN (
    SELECT
        service,
        tumble(INTERVAL '1 minute') AS window,
        bool_or(campaign_active) AS campaign_active,
        max(expected_uplift) AS expected_uplift,
        min(minutes_to_start) AS minutes_to_start
    FROM event_minutes
    GROUP BY service, window
) AS e ON r.service = e.service AND r.window = e.window;
