//! Writes the calendar of events as rows to their topic, for pipelines that join it. Rule: a minute is written once, whole,
//! as soon as it has begun; which one is next is asked of the topic itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prescale_domain::{Clock, ServiceName, Span, SystemClock, Timestamp};
use prescale_ingest::event_minutes::{EventMinute, EventMinutes, MINUTE};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSource, KafkaSourceSettings, TransactionalSink};
use prescale_ingest::{CalendarMessage, OutRecord, Polled, Source as _};
use prescale_telemetry::ingest::EventMinutesDelayed;

const TIMEOUT: Span = Span::from_secs(20);
const POLL: Span = Span::from_millis(500);
/// Minutes in one transaction, when many are to be made up for.
const AT_ONCE: usize = 240;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where the calendar comes from and where its rows go.
#[derive(Clone)]
pub(crate) struct Expansion {
    pub(crate) kafka: KafkaSettings,
    pub(crate) events: String,
    pub(crate) topic: String,
    pub(crate) services: Vec<ServiceName>,
}

impl Expansion {
    /// Follows the present on a thread of its own until `stop`; what fails is tried again.
    pub(crate) fn follow(self, stop: Arc<AtomicBool>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("event minutes".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = self.run(&SystemClock, &stop) {
                    EventMinutesDelayed { topic: &self.topic, error: &error.to_string() }.emit();
                    for _ in 0..20 {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })
    }

    /// Writes all minutes of all events that the topic holds now, of whatever time they are: for a replay.
    pub(crate) fn all(&self) -> Result<()> {
        let producer = self.producer()?;
        let (mut minutes, next) = (EventMinutes::new(self.services.clone()), self.next()?);
        let settings = KafkaSourceSettings { until_end: true, ..self.reading(&self.events) };
        let mut source = KafkaSource::open(settings)?;
        loop {
            let polled = source.poll(POLL)?;
            take(&mut minutes, &polled);
            if polled.ended {
                break;
            }
        }
        let Some((first, last)) = minutes.range() else { return Ok(()) };
        self.write(&producer, &minutes, next.map_or(first, |next| next.max(first)), last)
    }

    fn run(&self, clock: &dyn Clock, stop: &AtomicBool) -> Result<()> {
        let producer = self.producer()?;
        let mut next = self.next()?.unwrap_or_else(|| clock.now().floor_to(MINUTE));
        let (mut minutes, mut source) =
            (EventMinutes::new(self.services.clone()), KafkaSource::open(self.reading(&self.events))?);
        let mut is_complete = false;
        while !stop.load(Ordering::Relaxed) {
            let polled = source.poll(POLL)?;
            take(&mut minutes, &polled);
            // Until the calendar has been read for the first time, nobody knows what it says.
            is_complete |= !polled.partitions.is_empty() && polled.at_end.len() == polled.partitions.len();
            let end = clock.now().floor_to(MINUTE) + MINUTE;
            if is_complete && next < end {
                self.write(&producer, &minutes, next, end)?;
                next = end;
            }
        }
        Ok(())
    }

    fn reading(&self, topic: &str) -> KafkaSourceSettings {
        KafkaSourceSettings::new(self.kafka.clone(), topic)
    }

    /// Shuts out a forerunner that still lives, and ends what it left open: only then can the topic be asked how far it has
    /// come.
    fn producer(&self) -> Result<TransactionalSink> {
        let sink = KafkaSink::open(&self.kafka)?;
        // One partition: its order is the order of minutes.
        sink.ensure_topic(&self.topic, 1, TIMEOUT)?;
        sink.ensure_lasting_topic(&self.events, 1, TIMEOUT)?;
        let producer = TransactionalSink::open(&self.kafka, &format!("prescale-{}", self.topic))?;
        producer.init(TIMEOUT)?;
        Ok(producer)
    }

    /// The minute after the last one in the topic.
    fn next(&self) -> Result<Option<Timestamp>> {
        let settings = KafkaSourceSettings { until_end: true, ..self.reading(&self.topic) };
        let (mut source, mut last) = (KafkaSource::open(settings)?, None);
        loop {
            let polled = source.poll(POLL)?;
            for batch in &polled.batches {
                let rows =
                    (0..batch.len()).filter_map(|row| serde_json::from_slice::<EventMinute>(batch.bytes(row)).ok());
                last = rows.map(|row| row.minute).max().max(last);
            }
            if polled.ended {
                return Ok(last.map(|minute| minute + MINUTE));
            }
        }
    }

    /// Writes the minutes from `next` up to `end`.
    fn write(
        &self,
        producer: &TransactionalSink,
        minutes: &EventMinutes,
        next: Timestamp,
        end: Timestamp,
    ) -> Result<()> {
        let mut all =
            std::iter::successors(Some(next), |minute| Some(*minute + MINUTE)).take_while(|minute| *minute < end);
        let topic: Arc<str> = Arc::from(self.topic.as_str());
        loop {
            let rows: Vec<EventMinute> = all.by_ref().take(AT_ONCE).flat_map(|minute| minutes.rows(minute)).collect();
            if rows.is_empty() {
                return Ok(());
            }
            producer.begin()?;
            for row in rows {
                producer.send(&OutRecord {
                    topic: Arc::clone(&topic),
                    partition: Some(0),
                    key: Some(row.service.as_str().as_bytes().to_vec()),
                    value: serde_json::to_vec(&row)?,
                    headers: Vec::new(),
                })?;
            }
            producer.flush(TIMEOUT)?;
            producer.commit(TIMEOUT)?;
        }
    }
}

fn take(minutes: &mut EventMinutes, polled: &Polled) {
    for batch in &polled.batches {
        for (index, told_at) in batch.timestamps.iter().enumerate() {
            // A record that is no event is told by the controller, which reads the topic too.
            if let Ok(message) = CalendarMessage::read(batch, index) {
                minutes.take(message, Timestamp::from_millis(*told_at));
            }
        }
    }
}
