//! Tells single events on their topic, for the API. Rule: what is told as done, the brokers have; what failed is not sent
//! later.

use std::sync::{Arc, Mutex, PoisonError};

use prescale_controller::view::EventLog;
use prescale_domain::{CalendarEvent, Clock, Span};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, SinkError};

/// Each of making sure of the topic and of waiting for the brokers' word.
const TIMEOUT: Span = Span::from_secs(5);

/// The topic of events, to be written to.
pub(crate) struct EventTopic {
    kafka: KafkaSettings,
    topic: String,
    partitions: i32,
    clock: Arc<dyn Clock>,
    /// Of its own, so that its failures are not those of other records; opened when it is first needed.
    sink: Mutex<Option<KafkaSink>>,
}

impl EventTopic {
    pub(crate) fn new(kafka: KafkaSettings, topic: &str, partitions: i32, clock: Arc<dyn Clock>) -> Self {
        Self { kafka, topic: topic.to_owned(), partitions, clock, sink: Mutex::new(None) }
    }

    /// Sends one record and waits for the brokers' word.
    fn write(&self, send: impl FnOnce(&KafkaSink) -> Result<(), SinkError>) -> Result<(), SinkError> {
        let mut held = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let sink = match held.take() {
            Some(sink) => sink,
            None => {
                let sink = KafkaSink::open(&self.kafka)?;
                sink.ensure_lasting_topic(&self.topic, self.partitions, TIMEOUT)?;
                sink
            }
        };
        send(&sink)?;
        sink.flush(TIMEOUT)?;
        // After a failure it is dropped, and with it what it would still have sent.
        *held = Some(sink);
        Ok(())
    }
}

impl EventLog for EventTopic {
    fn tell(&self, event: CalendarEvent) -> Result<CalendarEvent, String> {
        let event = CalendarEvent { known_at: self.clock.now(), ..event };
        let value = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
        self.write(|sink| sink.send(&self.topic, None, Some(event.id.as_bytes()), &value, &[]))
            .map_err(|error| error.to_string())?;
        Ok(event)
    }

    fn take_back(&self, id: &str) -> Result<(), String> {
        self.write(|sink| sink.send_tombstone(&self.topic, None, id.as_bytes())).map_err(|error| error.to_string())
    }
}
