//! Notices of spot units, from queues to the capacity topic. Rule: a message is deleted once the brokers have what it said, so
//! that none is lost; what was told twice changes nothing.

use std::time::Duration;

use prescale_actuate::{Connections, QueueMessage, SpotQueue, SpotQueueSettings};
use prescale_decide::spot::eventbridge;
use prescale_domain::{CapacityKind, CapacityRecord, Span, SpotNotice, SpotNoticeKind};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink};
use prescale_telemetry::ingest::PollFailed;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// SQS's longest wait.
const WAIT: Span = Span::from_secs(20);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);
const TIMEOUT: Span = Span::from_secs(10);

/// Begins to read the queues of a configuration; the tasks end with the token.
pub(super) fn start(config: &Config, shutdown: &CancellationToken) -> Vec<JoinHandle<()>> {
    let connections = Connections::default();
    let begin = |settings: &SpotQueueSettings| {
        let queue = SpotQueue::new(settings.clone(), &connections);
        let (name, kafka, topic) =
            (settings.queue_url.clone(), super::kafka_settings(config), config.topics.capacity.clone());
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follow(&name, &queue, &kafka, &topic) => {}
            }
        })
    };
    config.notices.iter().map(begin).collect()
}

async fn follow(name: &str, queue: &SpotQueue, kafka: &KafkaSettings, topic: &str) {
    let mut sink = None;
    loop {
        let taken = match queue.receive(WAIT).await {
            Ok(messages) => take(name, queue, &messages, &mut sink, kafka, topic).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = taken {
            // What a failed sink would still send is told again by the queue.
            sink = None;
            PollFailed { source: name, error: &error }.emit();
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn take(
    name: &str,
    queue: &SpotQueue,
    messages: &[QueueMessage],
    sink: &mut Option<KafkaSink>,
    kafka: &KafkaSettings,
    topic: &str,
) -> Result<(), String> {
    if messages.is_empty() {
        return Ok(());
    }
    let records: Vec<CapacityRecord> = messages.iter().filter_map(|message| read(name, message)).collect();
    if !records.is_empty() {
        tokio::task::block_in_place(|| tell(&records, sink, kafka, topic))?;
    }
    for message in messages {
        queue.delete(&message.receipt).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What a message says; one that is no notice is said and not read again.
fn read(name: &str, message: &QueueMessage) -> Option<CapacityRecord> {
    match eventbridge::parse(message.body.as_bytes()) {
        Ok(notice) => Some(record(notice)),
        Err(error) => {
            PollFailed { source: name, error: &format!("a message is left out: {error}") }.emit();
            None
        }
    }
}

fn record(notice: SpotNotice) -> CapacityRecord {
    let SpotNotice { instance, pool, kind, at, lost_at } = notice;
    let kind = match kind {
        SpotNoticeKind::Rebalance => CapacityKind::Rebalance,
        SpotNoticeKind::Interruption => CapacityKind::Interruption,
    };
    let (instance_type, zone) = pool.map(|pool| (pool.instance_type, pool.zone)).unzip();
    CapacityRecord {
        at,
        kind,
        service: None,
        instance: Some(instance),
        instance_type,
        zone,
        lost_at,
        units: None,
        usd_hour: None,
    }
}

fn tell(
    records: &[CapacityRecord],
    held: &mut Option<KafkaSink>,
    kafka: &KafkaSettings,
    topic: &str,
) -> Result<(), String> {
    let sink = match held {
        Some(sink) => sink,
        None => held.insert(KafkaSink::open(kafka).map_err(|error| error.to_string())?),
    };
    for record in records {
        let value = serde_json::to_vec(record).map_err(|error| error.to_string())?;
        let key = record.instance.as_deref().map(str::as_bytes);
        sink.send(topic, None, key, &value, &[]).map_err(|error| error.to_string())?;
    }
    sink.flush(TIMEOUT).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails")]

    use super::*;

    #[test]
    fn a_message_becomes_a_record_that_says_the_same() {
        let body = r#"{"source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning",
            "time": "2026-11-23T08:00:00Z", "detail": {"instance-id": "i-1", "instance-action": "terminate"}}"#;
        let message = |body: &str| QueueMessage { body: body.to_owned(), receipt: "r".to_owned() };
        let record = read("queue", &message(body)).unwrap();
        assert_eq!(record.notice(), Some(eventbridge::parse(body.as_bytes()).unwrap()));
        assert_eq!(record.lost_at, Some("2026-11-23T08:02:00Z".parse().unwrap()));
        assert!(read("queue", &message("hello")).is_none());
    }
}
