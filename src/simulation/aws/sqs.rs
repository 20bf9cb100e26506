//! Queues (AWS JSON 1.0). Rule: standard queues: a message that was received is invisible for a time and comes again unless
//! it is deleted. A long poll that finds nothing answers after a second: the caller asks again.

use std::collections::{BTreeMap, VecDeque};

use md5::{Digest, Md5};
use prescale_domain::{Span, Timestamp};
use serde_json::{Map, Value, json};

use super::answer::Refusal;
use super::world::World;

/// A long poll that finds nothing is answered after so long, at most.
const POLL: Span = Span::from_secs(1);

/// AWS's default.
const VISIBILITY_SECS: i64 = 30;

#[derive(Clone, Debug)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
    visibility_secs: i64,
    created: Timestamp,
}

#[derive(Clone, Debug)]
struct Message {
    id: String,
    body: String,
    sent: Timestamp,
    visible: Timestamp,
    received: u32,
    receipt: Option<String>,
}

impl Queue {
    pub(super) fn new(created: Timestamp) -> Self {
        Self { messages: VecDeque::new(), visibility_secs: VISIBILITY_SECS, created }
    }
}

impl World {
    /// Sends a text to a queue; one that does not exist gets nothing, as an event whose target is gone.
    pub(super) fn enqueue(&mut self, queue: &str, body: String) {
        let id = self.uuid();
        let now = self.now;
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.messages.push_back(Message { id, body, sent: now, visible: now, received: 0, receipt: None });
        }
    }

    /// One call, and how much longer its answer takes.
    pub(super) fn sqs(&mut self, operation: &str, input: &Value) -> Result<(Value, Span), Refusal> {
        let at_once = |value| Ok((value, Span::ZERO));
        match operation {
            "CreateQueue" => at_once(self.create_queue(input)?),
            "GetQueueUrl" => {
                let name = text(input, "QueueName")?;
                if !self.queues.contains_key(name) {
                    return Err(no_queue());
                }
                at_once(json!({"QueueUrl": self.queue_url(name)}))
            }
            "SendMessage" => at_once(self.send_message(input)?),
            "ReceiveMessage" => self.receive_message(input),
            "DeleteMessage" => {
                let receipt = text(input, "ReceiptHandle")?.to_owned();
                let queue = self.queue_of(input)?;
                queue.messages.retain(|message| message.receipt.as_ref() != Some(&receipt));
                at_once(json!({}))
            }
            "GetQueueAttributes" => at_once(self.queue_attributes(input)?),
            other => {
                let message = format!("The action {other} is not valid for this web service.");
                Err(Refusal::new(400, "InvalidAction", message))
            }
        }
    }

    fn queue_url(&self, name: &str) -> String {
        format!("https://sqs.{}.amazonaws.com/{}/{name}", self.settings.region, self.settings.account)
    }

    fn queue_of(&mut self, input: &Value) -> Result<&mut Queue, Refusal> {
        let name = text(input, "QueueUrl")?.rsplit('/').next().unwrap_or_default();
        self.queues.get_mut(name).ok_or_else(no_queue)
    }

    fn create_queue(&mut self, input: &Value) -> Result<Value, Refusal> {
        let name = text(input, "QueueName")?.to_owned();
        let sound = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        if name.is_empty() || name.len() > 80 || !name.chars().all(sound) {
            let message = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
            return Err(Refusal::new(400, "InvalidParameterValue", message));
        }
        let visibility = input.pointer("/Attributes/VisibilityTimeout").and_then(Value::as_str);
        let visibility =
            visibility.map_or(Ok(VISIBILITY_SECS), str::parse::<i64>).ok().filter(|s| (0..=43_200).contains(s));
        let Some(visibility_secs) = visibility else {
            return Err(Refusal::new(
                400,
                "InvalidAttributeValue",
                "Invalid value for the parameter VisibilityTimeout.",
            ));
        };
        let now = self.now;
        let queue = self.queues.entry(name.clone()).or_insert_with(|| Queue { visibility_secs, ..Queue::new(now) });
        if queue.visibility_secs != visibility_secs && input.get("Attributes").is_some() {
            let message =
                "A queue already exists with the same name and a different value for attribute VisibilityTimeout";
            return Err(Refusal::new(400, "QueueNameExists", message));
        }
        Ok(json!({"QueueUrl": self.queue_url(&name)}))
    }

    fn send_message(&mut self, input: &Value) -> Result<Value, Refusal> {
        let body = text(input, "MessageBody")?.to_owned();
        if body.is_empty() {
            return Err(Refusal::new(400, "MissingParameter", "The request must contain the parameter MessageBody."));
        }
        let delay = Span::from_secs(input.get("DelaySeconds").and_then(Value::as_i64).unwrap_or(0).clamp(0, 900));
        let (id, now, digest) = (self.uuid(), self.now, md5(&body));
        let queue = self.queue_of(input)?;
        let message = Message { id: id.clone(), body, sent: now, visible: now + delay, received: 0, receipt: None };
        queue.messages.push_back(message);
        Ok(json!({"MessageId": id, "MD5OfMessageBody": digest}))
    }

    fn receive_message(&mut self, input: &Value) -> Result<(Value, Span), Refusal> {
        let number = |name: &str| input.get(name).and_then(Value::as_i64);
        let count = number("MaxNumberOfMessages").unwrap_or(1);
        if !(1..=10).contains(&count) {
            let message = format!(
                "Value {count} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
            );
            return Err(Refusal::new(400, "InvalidParameterValue", message));
        }
        let wait = Span::from_secs(number("WaitTimeSeconds").unwrap_or(0).clamp(0, 20));
        let (now, visibility) = (self.now, number("VisibilityTimeout"));
        self.queue_of(input)?;
        let mut receipts: Vec<String> = (0..count).map(|_| self.uuid()).collect();
        let queue = self.queue_of(input)?;
        let hidden = Span::from_secs(visibility.unwrap_or(queue.visibility_secs).clamp(0, 43_200));
        let mut found = Vec::new();
        for message in queue.messages.iter_mut().filter(|message| message.visible <= now) {
            let Some(receipt) = receipts.pop() else { break };
            message.visible = now + hidden;
            message.received += 1;
            message.receipt = Some(receipt.clone());
            let attributes: BTreeMap<&str, String> = BTreeMap::from([
                ("ApproximateReceiveCount", message.received.to_string()),
                ("SentTimestamp", message.sent.millis().to_string()),
            ]);
            found.push(json!({
                "MessageId": message.id,
                "ReceiptHandle": receipt,
                "MD5OfBody": md5(&message.body),
                "Body": message.body,
                "Attributes": attributes,
            }));
        }
        if found.is_empty() {
            return Ok((json!({}), wait.min(POLL)));
        }
        Ok((json!({"Messages": found}), Span::ZERO))
    }

    fn queue_attributes(&mut self, input: &Value) -> Result<Value, Refusal> {
        let name = text(input, "QueueUrl")?.rsplit('/').next().unwrap_or_default().to_owned();
        let (now, arn) = (self.now, self.arn("sqs", &name));
        let queue = self.queue_of(input)?;
        let hidden = queue.messages.iter().filter(|message| message.visible > now);
        let in_flight = hidden.clone().filter(|message| message.received > 0).count();
        let delayed = hidden.count() - in_flight;
        let all = [
            ("QueueArn", arn),
            ("ApproximateNumberOfMessages", (queue.messages.len() - in_flight - delayed).to_string()),
            ("ApproximateNumberOfMessagesNotVisible", in_flight.to_string()),
            ("ApproximateNumberOfMessagesDelayed", delayed.to_string()),
            ("VisibilityTimeout", queue.visibility_secs.to_string()),
            ("CreatedTimestamp", (queue.created.millis() / 1000).to_string()),
        ];
        let asked: Vec<&str> = input
            .get("AttributeNames")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let wanted = all.into_iter().filter(|(name, _)| asked.contains(&"All") || asked.contains(name));
        let attributes: Map<String, Value> = wanted.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        Ok(json!({"Attributes": attributes}))
    }
}

fn text<'a>(input: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let missing = || Refusal::new(400, "MissingParameter", format!("The request must contain the parameter {name}."));
    input.get(name).and_then(Value::as_str).ok_or_else(missing)
}

fn no_queue() -> Refusal {
    Refusal::new(400, "QueueDoesNotExist", "The specified queue does not exist.")
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
