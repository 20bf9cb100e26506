//! The queue that tells of spot instances that will be taken away: EventBridge puts their notices there. Rule: a message is told
//! until it is deleted, so that one that was read and not acted on comes again.

use std::sync::Arc;

use prescale_domain::Span;
use prescale_telemetry::actuate::CloudCall;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws::{Account, Connections, Place};
use crate::aws_error::from_sdk;
use crate::{ActuateError, AwsResource, Failure, Permission};

/// AWS: the longest poll, and the most messages of one.
const WAIT_MAX: Span = Span::from_secs(20);
const MESSAGES_MAX: i32 = 10;
/// An answer comes at the end of the poll at the latest; beyond that it is late.
const LATE: Span = Span::from_secs(5);

/// Where notices arrive, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpotQueueSettings {
    /// Such as `https://sqs.eu-west-1.amazonaws.com/123456789012/spot-notices`.
    pub queue_url: String,
    /// The URL's own, where it is not set and the URL names one.
    #[serde(default)]
    pub region: Option<String>,
    /// Another endpoint than the region's.
    #[serde(default)]
    pub endpoint_url: Option<String>,
}

/// A message, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMessage {
    /// An event of EventBridge, as JSON.
    pub body: String,
    /// What deletes it; of this time that it was received only.
    pub receipt: String,
}

/// A queue to read from. Clones are the same.
#[derive(Clone, Debug)]
pub struct SpotQueue {
    settings: Arc<SpotQueueSettings>,
    account: Arc<Account>,
}

impl SpotQueueSettings {
    /// Everything that is wrong with these settings, as sentences.
    pub fn faults(&self) -> Vec<String> {
        let is_url = self.queue_url.starts_with("https://") || self.queue_url.starts_with("http://");
        let is_named = self.name().is_some_and(|name| !name.is_empty());
        if is_url && is_named {
            return Vec::new();
        }
        vec![format!("queue_url `{}` is not the URL of a queue", self.queue_url)]
    }

    /// What AWS must allow for the queue to be read.
    pub fn permissions(&self) -> Vec<Permission> {
        let name = self.name().unwrap_or_default().to_owned();
        let resource = AwsResource::Queue { name, region: self.region() };
        ["sqs:ReceiveMessage", "sqs:DeleteMessage"]
            .map(|action| Permission { action, resource: Some(resource.clone()) })
            .to_vec()
    }

    fn name(&self) -> Option<&str> {
        let (_, rest) = self.queue_url.split_once("://")?;
        rest.split_once('/').and_then(|(_, path)| path.rsplit('/').next())
    }

    fn region(&self) -> Option<String> {
        let of_url = || {
            let (_, rest) = self.queue_url.split_once("://sqs.")?;
            let (region, rest) = rest.split_once('.')?;
            rest.starts_with("amazonaws.").then(|| region.to_owned())
        };
        self.region.clone().or_else(of_url)
    }
}

impl SpotQueue {
    /// The queue, in an account that it shares with other queues of `connections`. Nothing is connected to before its first use.
    pub fn new(settings: SpotQueueSettings, connections: &Connections) -> Self {
        let place = Place {
            endpoint_url: settings.endpoint_url.clone(),
            region: settings.region(),
            timeout: WAIT_MAX + LATE + LATE,
            attempt_timeout: WAIT_MAX + LATE,
            max_attempts: 3,
        };
        Self { account: connections.account(place), settings: Arc::new(settings) }
    }

    /// Up to ten messages; none where none came within `wait`, of which twenty seconds count at most.
    ///
    /// # Errors
    /// Where AWS did not answer, or refused. Nothing is lost by that: what was not deleted comes again.
    pub async fn receive(&self, wait: Span) -> Result<Vec<QueueMessage>, ActuateError> {
        let seconds = wait.min(WAIT_MAX).max(Span::ZERO).millis() / 1000;
        let call = self.account.sqs(&self.describe()).await?.receive_message().queue_url(&self.settings.queue_url);
        let call = call.max_number_of_messages(MESSAGES_MAX);
        let call = call.wait_time_seconds(i32::try_from(seconds).unwrap_or_default());
        let answer = call.send().await.map_err(|error| from_sdk(&error, self.failure("receive messages")));
        CloudCall { operation: "ReceiveMessage", failure: answer.as_ref().err().map(ActuateError::code) }.emit();
        let of = |message: &aws_sdk_sqs::types::Message| {
            let body = message.body().unwrap_or_default().to_owned();
            Some(QueueMessage { body, receipt: message.receipt_handle()?.to_owned() })
        };
        Ok(answer?.messages().iter().filter_map(of).collect())
    }

    /// Deletes the message that came with this receipt; one that is gone already is no error.
    ///
    /// # Errors
    /// Where AWS did not answer, or refused: the message may come again.
    pub async fn delete(&self, receipt: &str) -> Result<(), ActuateError> {
        let call = self.account.sqs(&self.describe()).await?.delete_message().queue_url(&self.settings.queue_url);
        let answer = call.receipt_handle(receipt).send().await;
        let answer = answer.map_err(|error| from_sdk(&error, self.failure("delete message")));
        CloudCall { operation: "DeleteMessage", failure: answer.as_ref().err().map(ActuateError::code) }.emit();
        answer.map(drop)
    }

    /// The queue in a few words.
    pub fn describe(&self) -> String {
        format!("queue `{}`", self.settings.name().unwrap_or(&self.settings.queue_url))
    }

    fn failure(&self, operation: &'static str) -> Failure {
        Failure { operation, target: self.describe(), detail: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(queue_url: &str, region: Option<&str>) -> SpotQueueSettings {
        SpotQueueSettings { queue_url: queue_url.to_owned(), region: region.map(str::to_owned), endpoint_url: None }
    }

    #[test]
    fn a_url_names_the_queue_and_its_region() {
        let known = settings("https://sqs.eu-west-1.amazonaws.com/123456789012/notices", None);
        let resource = known.permissions()[0].resource.clone().unwrap();
        assert_eq!(resource.arn("us-east-1", "123456789012"), "arn:aws:sqs:eu-west-1:123456789012:notices");
        let other = settings("http://localhost:4566/000000000000/notices", None);
        assert_eq!(other.permissions()[1].resource.clone().unwrap().arn("r", "a"), "arn:aws:sqs:r:a:notices");
        assert_eq!(settings(&known.queue_url, Some("eu-north-1")).region().as_deref(), Some("eu-north-1"));
        assert!(known.faults().is_empty() && other.faults().is_empty());
        for wrong in ["", "notices", "https://sqs.eu-west-1.amazonaws.com", "https://sqs.eu-west-1.amazonaws.com/"] {
            assert_eq!(settings(wrong, None).faults(), [format!("queue_url `{wrong}` is not the URL of a queue")]);
        }
    }
}
