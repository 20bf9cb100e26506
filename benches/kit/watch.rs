//! What a run of a source took, on the clock and of the processor. Rule: from the first poll, which connects, until the
//! source is let go.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use prescale_domain::Span;
use prescale_ingest::kafka::{KafkaSource, KafkaSourceSettings};
use prescale_ingest::{Polled, RawBatch, Source, SourceError};

use super::Result;
use super::usage::Process;

/// Seconds of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) wall: f64,
    /// User and system time of this process, librdkafka's threads included.
    pub(crate) cpu: f64,
}

/// From the first poll of a source until it is let go.
#[derive(Default)]
pub(crate) struct Watch(Arc<[OnceLock<(Instant, f64)>; 2]>);

pub(crate) struct Watched {
    source: KafkaSource,
    moments: Arc<[OnceLock<(Instant, f64)>; 2]>,
}

impl Watch {
    pub(crate) fn source(&self, settings: KafkaSourceSettings) -> Result<Watched> {
        Ok(Watched { source: KafkaSource::open(settings)?, moments: Arc::clone(&self.0) })
    }

    pub(crate) fn took(&self) -> Result<Took> {
        let [from, to] = &*self.0;
        let (from, to) = from.get().zip(to.get()).ok_or("the source was not read")?;
        Ok(Took { wall: to.0.duration_since(from.0).as_secs_f64(), cpu: to.1 - from.1 })
    }
}

fn now() -> (Instant, f64) {
    (Instant::now(), Process::This.cpu_seconds().unwrap_or(f64::NAN))
}

impl Source for Watched {
    fn poll(&mut self, wait: Span) -> std::result::Result<Polled, SourceError> {
        self.moments[0].get_or_init(now);
        self.source.poll(wait)
    }

    fn commit(&mut self, oldest_needed: &[(i32, i64)]) -> std::result::Result<(), SourceError> {
        self.source.commit(oldest_needed)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.moments[1].get_or_init(now);
    }
}

/// Reads a topic to its end and does nothing with it; there must be `records` in it.
pub(crate) fn consume(settings: KafkaSourceSettings, records: u64) -> Result<Took> {
    let topic = settings.topic.clone();
    let watch = Watch::default();
    let mut source = watch.source(settings)?;
    let mut read = 0;
    loop {
        let polled = source.poll(Span::from_millis(100))?;
        read += polled.batches.iter().map(RawBatch::len).sum::<usize>() as u64;
        if polled.ended {
            break;
        }
    }
    drop(source);
    if read != records {
        return Err(format!("{topic}: {read} records consumed, {records} sent").into());
    }
    watch.took()
}
