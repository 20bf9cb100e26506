//! Keeps the events topic at what calendars outside Kafka say. Rule: others read the topic alone; a calendar that can't be
//! read changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prescale_domain::{CALENDAR_PREFIX, CalendarEvent, Clock, Span, SystemClock, Timestamp, Zone};
use prescale_ingest::feed::{self, FeedEvent, Holidays};
use prescale_ingest::kafka::{KafkaSettings, KafkaSink, KafkaSource, KafkaSourceSettings};
use prescale_ingest::{CalendarMessage, Polled, Source as _};
use prescale_telemetry::ingest::{CalendarUnread, CalendarsDelayed, CalendarsWritten};

use crate::config::Config;

const TIMEOUT: Span = Span::from_secs(20);
const POLL: Span = Span::from_millis(500);
/// Recurring events are told so far ahead.
const AHEAD: Span = Span::from_minutes(366 * 24 * 60);
/// Holidays are told from a year back.
const BACK: Span = Span::from_minutes(366 * 24 * 60);
/// A replay knows holidays from here on.
const REPLAYED_FROM: Timestamp = Timestamp::from_millis(631_152_000_000); // 1990-01-01

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Which calendars there are, and where what they say goes.
pub(crate) struct Calendars {
    kafka: KafkaSettings,
    topic: String,
    directory: PathBuf,
    files: Vec<String>,
    holidays: Vec<Holidays>,
    zone: Zone,
    refresh: Span,
}

impl Calendars {
    /// `None` = there are none.
    pub(crate) fn of(config: &Config, directory: &Path) -> Option<Self> {
        let calendars = &config.calendars;
        if calendars.files.is_empty() && calendars.holidays.is_empty() {
            return None;
        }
        Some(Self {
            kafka: super::kafka_settings(config),
            topic: config.topics.events.clone(),
            directory: directory.to_owned(),
            files: calendars.files.clone(),
            // Names were checked when the configuration was read.
            holidays: calendars.holidays.iter().filter_map(|country| Holidays::of(country).ok()).collect(),
            zone: calendars.time_zone.parse().unwrap_or(Zone::UTC),
            refresh: calendars.refresh,
        })
    }

    /// Follows the calendars on a thread of its own until `stop`; what fails is tried again.
    pub(crate) fn follow(self, stop: Arc<AtomicBool>) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("calendars".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = self.run(&SystemClock, &stop) {
                    CalendarsDelayed { topic: &self.topic, error: &error.to_string() }.emit();
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

    /// Writes what they say, once, with the holidays of all years that a replay may be of.
    pub(crate) fn once(&self, clock: &dyn Clock) -> Result<()> {
        let (sink, mut told) = (self.sink()?, BTreeMap::new());
        let reading = KafkaSourceSettings::new(self.kafka.clone(), self.topic.clone());
        let mut source = KafkaSource::open(KafkaSourceSettings { until_end: true, ..reading })?;
        loop {
            let polled = source.poll(POLL)?;
            take(&mut told, &polled);
            if polled.ended {
                return self.write(&sink, &mut told, clock.now(), REPLAYED_FROM);
            }
        }
    }

    fn run(&self, clock: &dyn Clock, stop: &AtomicBool) -> Result<()> {
        let (sink, mut told) = (self.sink()?, BTreeMap::new());
        let mut source = KafkaSource::open(KafkaSourceSettings::new(self.kafka.clone(), self.topic.clone()))?;
        let (mut next, mut is_complete) = (Timestamp::MIN, false);
        while !stop.load(Ordering::Relaxed) {
            let polled = source.poll(POLL)?;
            take(&mut told, &polled);
            // Until the topic has been read for the first time, nobody knows what is new.
            is_complete |= !polled.partitions.is_empty() && polled.at_end.len() == polled.partitions.len();
            let now = clock.now();
            if is_complete && now >= next {
                self.write(&sink, &mut told, now, now - BACK)?;
                next = now + self.refresh;
            }
        }
        Ok(())
    }

    fn sink(&self) -> Result<KafkaSink> {
        let sink = KafkaSink::open(&self.kafka)?;
        sink.ensure_lasting_topic(&self.topic, 1, TIMEOUT)?;
        Ok(sink)
    }

    /// Writes what differs from `told`, which then says it too: the records come back only later, and must not be told twice.
    fn write(
        &self,
        sink: &KafkaSink,
        told: &mut BTreeMap<String, CalendarEvent>,
        now: Timestamp,
        from: Timestamp,
    ) -> Result<()> {
        let mut readable = told.clone();
        let mut feeds: Vec<FeedEvent> = Vec::new();
        for file in &self.files {
            let read = || -> Result<Vec<FeedEvent>> {
                Ok(feed::read(file, &feed::fetch(file, &self.directory)?, self.zone, now + AHEAD)?)
            };
            match read() {
                Ok(events) => feeds.extend(events),
                Err(error) => {
                    CalendarUnread { calendar: file, error: &error.to_string() }.emit();
                    readable.retain(|id, _| !id.starts_with(&format!("{CALENDAR_PREFIX}{file}#")));
                }
            }
        }
        for holidays in &self.holidays {
            feeds.extend(holidays.events(self.zone, from, now + AHEAD));
        }
        let changes = feed::changes(&readable, &feeds, now);
        if changes.is_empty() {
            return Ok(());
        }
        let mut gone = 0;
        for change in &changes {
            match change {
                CalendarMessage::Event(event) => {
                    sink.send(&self.topic, None, Some(event.id.as_bytes()), &serde_json::to_vec(event)?, &[])?;
                }
                CalendarMessage::Delete(id) => {
                    gone += 1;
                    sink.send_tombstone(&self.topic, None, id.as_bytes())?;
                }
            }
        }
        sink.flush(TIMEOUT)?;
        CalendarsWritten { topic: &self.topic, told: changes.len() - gone, gone }.emit();
        changes.into_iter().for_each(|change| apply(told, change));
        Ok(())
    }
}

fn take(told: &mut BTreeMap<String, CalendarEvent>, polled: &Polled) {
    for batch in &polled.batches {
        for index in 0..batch.len() {
            // A record that is no event is told by the controller, which reads the topic too.
            if let Ok(message) = CalendarMessage::read(batch, index) {
                apply(told, message);
            }
        }
    }
}

fn apply(told: &mut BTreeMap<String, CalendarEvent>, message: CalendarMessage) {
    match message {
        CalendarMessage::Event(event) => {
            told.insert(event.id.clone(), event);
        }
        CalendarMessage::Delete(id) => {
            told.remove(&id);
        }
    }
}
