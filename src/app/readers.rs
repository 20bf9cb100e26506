//! Threads that read topics into the loop's inbox. Rule: a poll is handed on only if it says something new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use prescale_controller::Event;
use prescale_domain::Span;
use prescale_ingest::kafka::{KafkaSource, KafkaSourceSettings};
use prescale_ingest::{Polled, Source as _, SourceError};
use tokio::sync::mpsc::Sender;

const WAIT: Span = Span::from_millis(100);

/// What is to be read, and for whom.
pub(crate) struct Readers {
    pub(crate) features: KafkaSourceSettings,
    pub(crate) events: KafkaSourceSettings,
    /// `None` = no target has units that can be taken away.
    pub(crate) capacity: Option<KafkaSourceSettings>,
    /// A replay knows all events of the topic before its first window; a live run takes them as they come.
    pub(crate) events_first: bool,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) inbox: Sender<Event>,
}

/// Readers at work.
pub(crate) struct Started {
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts the threads; they end with `stop`, with the loop, or with a failure that the loop is told.
    pub(crate) fn start(self) -> Started {
        let Self { features, events, capacity, events_first, stop, inbox } = self;
        let mut threads = Vec::new();
        if events_first {
            let work = move || {
                let bounded = KafkaSourceSettings { until_end: true, ..events };
                if read(bounded, &stop, &inbox, Event::Calendar) {
                    read(features, &stop, &inbox, Event::Features);
                }
            };
            threads.extend(thread::Builder::new().name("features".into()).spawn(work));
        } else {
            let mut all = vec![
                ("events", events, Event::Calendar as fn(Polled) -> Event),
                ("features", features, Event::Features),
            ];
            all.extend(capacity.map(|settings| ("capacity", settings, Event::Capacity as fn(Polled) -> Event)));
            for (name, settings, wrap) in all {
                let (stop, inbox) = (Arc::clone(&stop), inbox.clone());
                let work = move || {
                    read(settings, &stop, &inbox, wrap);
                };
                threads.extend(thread::Builder::new().name(name.into()).spawn(work));
            }
        }
        Started { threads }
    }
}

impl Started {
    /// Waits for the threads to end.
    pub(crate) fn join(self) {
        for thread in self.threads {
            // A reader that panicked has taken its sender along; the loop has seen that.
            drop(thread.join());
        }
    }
}

/// Reads until stopped, or to the end of a bounded source; says whether it may be followed by another.
fn read(settings: KafkaSourceSettings, stop: &AtomicBool, inbox: &Sender<Event>, wrap: fn(Polled) -> Event) -> bool {
    match try_read(settings, stop, inbox, wrap) {
        Ok(go_on) => go_on,
        Err(error) => {
            drop(inbox.blocking_send(Event::Failed(error)));
            false
        }
    }
}

fn try_read(
    settings: KafkaSourceSettings,
    stop: &AtomicBool,
    inbox: &Sender<Event>,
    wrap: fn(Polled) -> Event,
) -> Result<bool, SourceError> {
    let mut source = KafkaSource::open(settings)?;
    let mut last = (Vec::new(), Vec::new(), None);
    while !stop.load(Ordering::Relaxed) {
        let polled = source.poll(WAIT)?;
        let ended = polled.ended;
        let state = (polled.partitions.clone(), polled.at_end.clone(), polled.unreachable.clone());
        if !polled.batches.is_empty() || state != last {
            last = state;
            if inbox.blocking_send(wrap(polled)).is_err() {
                return Ok(false);
            }
        }
        if ended {
            return Ok(true);
        }
    }
    Ok(false)
}
