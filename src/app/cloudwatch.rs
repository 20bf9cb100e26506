//! What was decided and forecast, to CloudWatch. Rule: it goes out in batches beside the loop, which never waits for it; what
//! can't be sent in time is given up and counted.

use std::time::Duration;

use prescale_actuate::{CloudWatch, CloudWatchSettings, Measure, measures};
use prescale_controller::Follower;
use prescale_domain::{Decision, ServiceName, Timestamp};
use prescale_store::Write;
use prescale_telemetry::actuate::MeasuresGivenUp;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Decisions that wait to be sent, at most: some minutes of a large fleet.
const WAITING_MAX: usize = 4096;
/// CloudWatch charges by the call and shows minutes.
const EVERY: Duration = Duration::from_secs(60);
/// What CloudWatch takes in one call.
const BATCH: usize = 1000;

/// The loop's part of it.
pub(super) struct CloudWatchFollower {
    waiting: Sender<Vec<Measure>>,
}

/// A follower, and the task that sends what it hears; the task ends once the follower is gone and all is sent.
pub(super) fn start(settings: CloudWatchSettings) -> (CloudWatchFollower, JoinHandle<()>) {
    let (waiting, heard) = channel(WAITING_MAX);
    (CloudWatchFollower { waiting }, tokio::spawn(send(CloudWatch::new(settings), heard)))
}

impl Follower for CloudWatchFollower {
    fn closed(&mut self, _: &ServiceName, _: Timestamp, _: Timestamp, _: Option<f64>) {}

    fn decided(&mut self, decision: &Decision) {
        let measures = measures(decision);
        let count = measures.len();
        if self.waiting.try_send(measures).is_err() {
            MeasuresGivenUp { count, error: "too many wait to be sent" }.emit();
        }
    }

    fn take_writes(&mut self) -> Vec<Write> {
        Vec::new()
    }
}

async fn send(cloudwatch: CloudWatch, mut heard: Receiver<Vec<Measure>>) {
    let mut batch = Vec::new();
    let mut due = Instant::now() + EVERY;
    loop {
        let more = tokio::select! {
            measures = heard.recv() => measures,
            () = sleep_until(due), if !batch.is_empty() => Some(Vec::new()),
        };
        let ends = more.is_none();
        batch.extend(more.unwrap_or_default());
        if ends || batch.len() >= BATCH || Instant::now() >= due {
            put(&cloudwatch, &batch).await;
            batch.clear();
            due = Instant::now() + EVERY;
        }
        if ends {
            return;
        }
    }
}

async fn put(cloudwatch: &CloudWatch, batch: &[Measure]) {
    if batch.is_empty() {
        return;
    }
    match cloudwatch.put(batch).await {
        Ok(sent) if sent.left_out > 0 => {
            MeasuresGivenUp { count: sent.left_out, error: "CloudWatch has no room for such numbers" }.emit();
        }
        Ok(_) => {}
        Err(error) => MeasuresGivenUp { count: batch.len(), error: &error.to_string() }.emit(),
    }
}
