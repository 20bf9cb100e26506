//! What CloudWatch knows, as rows of the metrics topic. Rule: a datapoint is told once, when it is complete; what could not be
//! had is asked for again, for as long as it would still be of use.

use std::time::Duration;

use prescale_actuate::{CloudWatch, CloudWatchSettings};
use prescale_domain::{Clock, Span, SystemClock, Timestamp};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink};
use prescale_telemetry::ingest::PollFailed;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::polled::{Row, tell};
use crate::config::{CloudWatchSource, Config};

/// Datapoints that are older are of no use to a running service.
const BACK: Span = Span::from_minutes(30);

/// Begins to ask the sources of a configuration; the tasks end with the token.
pub(super) fn start(config: &Config, shutdown: &CancellationToken) -> Vec<JoinHandle<()>> {
    let begin = |source: &CloudWatchSource| {
        let (source, kafka, shutdown) = (source.clone(), super::kafka_settings(config), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follow(&source, &kafka, &SystemClock) => {}
            }
        })
    };
    config.cloudwatch_metrics.iter().map(begin).collect()
}

async fn follow(source: &CloudWatchSource, kafka: &KafkaSettings, clock: &dyn Clock) {
    let cloudwatch = CloudWatch::new(CloudWatchSettings {
        endpoint_url: source.endpoint_url.clone(),
        region: source.region.clone(),
        ..CloudWatchSettings::default()
    });
    let mut ticks = tokio::time::interval(source.interval.to_std().max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut told, mut sink) = (None, None);
    loop {
        ticks.tick().await;
        if let Err(error) = ask(source, &cloudwatch, kafka, &mut sink, &mut told, clock.now()).await {
            sink = None;
            PollFailed { source: &source.name, error: &error }.emit();
        }
    }
}

async fn ask(
    source: &CloudWatchSource,
    cloudwatch: &CloudWatch,
    kafka: &KafkaSettings,
    held: &mut Option<KafkaSink>,
    told: &mut Option<Timestamp>,
    now: Timestamp,
) -> Result<(), String> {
    // From the beginning of a period on: CloudWatch may begin its periods where it is asked from.
    let from = told.map_or(now - BACK, |last| last.max(now - BACK)).floor_to(source.query.period);
    let found = cloudwatch.get(std::slice::from_ref(&source.query), from, now).await;
    let points = found.map_err(|error| error.to_string())?.into_iter().next().unwrap_or_default();
    let fresh = complete(&points, *told, now - source.settle - source.query.period);
    let row = |(at, value): &(Timestamp, f64)| Row {
        ts: *at,
        service: &source.service,
        instance: "cloudwatch",
        name: &source.name,
        value: *value,
    };
    let rows: Vec<Row> = fresh.iter().map(row).collect();
    let Some(last) = fresh.last().map(|(at, _)| *at) else { return Ok(()) };
    tokio::task::block_in_place(|| {
        let sink = match held {
            Some(sink) => sink,
            None => held.insert(KafkaSink::open(kafka).map_err(|error| error.to_string())?),
        };
        tell(sink, &source.topic, &rows)
    })?;
    *told = Some(last);
    Ok(())
}

/// Datapoints after the last that was told, whose period began at `until` at the latest.
fn complete(points: &[(Timestamp, f64)], told: Option<Timestamp>, until: Timestamp) -> Vec<(Timestamp, f64)> {
    let mut fresh: Vec<_> = points
        .iter()
        .copied()
        .filter(|(at, value)| *at <= until && told.is_none_or(|told| *at > told) && value.is_finite())
        .collect();
    fresh.sort_by_key(|(at, _)| *at);
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datapoint_is_told_once_and_when_it_is_complete() {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let points = [(at(3), 3.0), (at(1), 1.0), (at(2), f64::NAN), (at(4), 4.0)];
        assert_eq!(complete(&points, None, at(3)), [(at(1), 1.0), (at(3), 3.0)]);
        assert_eq!(complete(&points, Some(at(1)), at(3)), [(at(3), 3.0)]);
        assert_eq!(complete(&points, Some(at(3)), at(3)), []);
    }
}
