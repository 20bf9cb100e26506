//! What the loop reads from its topics. Rule: a record that can't be understood is left out and said.

use prescale_domain::{FeaturesRecord, Timestamp};
use prescale_ingest::{CalendarMessage, Polled, RawBatch};
use prescale_telemetry::controller as happenings;

use crate::settings::ClockMode;
use crate::{Controller, ControllerError};

impl Controller {
    pub(crate) async fn take_features(&mut self, polled: Polled) -> Result<(), ControllerError> {
        self.show.degrade("features-topic", polled.unreachable.as_ref().map(|text| format!("features topic: {text}")));
        if !polled.partitions.is_empty() {
            self.partitions = polled.partitions;
        }
        self.at_end = !self.partitions.is_empty() && self.partitions.iter().all(|p| polled.at_end.contains(p));
        for batch in &polled.batches {
            for index in 0..batch.len() {
                match FeaturesRecord::from_json(batch.bytes(index)) {
                    Ok(record) => self.state.intake.accept(record, self.settings.early_step),
                    Err(error) => bad_record(batch, index, &error.to_string()),
                }
            }
            if let Some(last) = batch.offsets.last() {
                self.state.features_offsets.insert(batch.partition, last + 1);
            }
        }
        self.advance().await
    }

    pub(crate) fn take_calendar(&mut self, polled: Polled) {
        self.show.degrade("events-topic", polled.unreachable.as_ref().map(|text| format!("events topic: {text}")));
        for batch in &polled.batches {
            for index in 0..batch.len() {
                match CalendarMessage::read(batch, index) {
                    Ok(CalendarMessage::Event(event)) => self.events.upsert(event),
                    Ok(CalendarMessage::Delete(id)) => self.events.remove(&id, told_at(batch, index, self.clock.now())),
                    Err(error) => bad_record(batch, index, &error),
                }
            }
            if let Some(last) = batch.offsets.last() {
                self.state.events_offsets.insert(batch.partition, last + 1);
            }
        }
        self.unwritten.extend(self.events.take_writes());
        if !polled.batches.is_empty() && self.settings.clock == ClockMode::Wall {
            // Who has told an event sees it at once, not only with the next decision.
            self.show.events(self.events.known(self.clock.now()));
        }
    }
}

/// When a record was written: a replay takes an event back at that moment, not before.
fn told_at(batch: &RawBatch, index: usize, now: Timestamp) -> Timestamp {
    let millis = batch.timestamps.get(index).copied().filter(|millis| *millis != i64::MIN);
    millis.map_or(now, Timestamp::from_millis)
}

pub(crate) fn bad_record(batch: &RawBatch, index: usize, error: &str) {
    let (topic, partition, offset) = (batch.topic.to_string(), batch.partition, batch.offsets[index]);
    happenings::BadRecord { topic, partition, offset, error: error.to_owned() }.emit();
}
