//! Attempts at one thing, ever further apart. Rule: each failure is told; a wait ends when the pipeline is stopped.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prescale_ingest::kafka::SinkError;
use prescale_telemetry::pipeline::{OutputDelayed, OutputResumed};

pub(crate) struct Attempts<'a> {
    pipeline: &'a str,
    stop: &'a AtomicBool,
    failures: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(pipeline: &'a str, stop: &'a AtomicBool) -> Self {
        Self { pipeline, stop, failures: 0 }
    }

    /// Sends and flushes until both succeed. Records that are still queued are waited for, others are sent again.
    pub(crate) fn until_done(
        &mut self,
        send: impl Fn() -> Result<bool, SinkError>,
        flush: impl Fn() -> Result<(), SinkError>,
    ) -> bool {
        let mut queued = false;
        loop {
            let outcome = if queued { flush() } else { send().and_then(|any| if any { flush() } else { Ok(()) }) };
            match outcome {
                Ok(()) => return true,
                Err(error) => {
                    queued = matches!(error, SinkError::Unacknowledged { .. });
                    if !self.failed(&error) {
                        return false;
                    }
                }
            }
        }
    }

    /// Waits for the next attempt; `false` when stopped.
    pub(crate) fn failed(&mut self, error: &dyn Display) -> bool {
        const STEP: Duration = Duration::from_millis(50);
        self.failures += 1;
        OutputDelayed { pipeline: self.pipeline, attempt: self.failures, error: &error.to_string() }.emit();
        for _ in 0..(1_u32 << self.failures.min(6)) {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(STEP);
        }
        true
    }

    pub(crate) fn succeeded(&self) {
        if self.failures > 0 {
            OutputResumed { pipeline: self.pipeline, attempts: self.failures + 1 }.emit();
        }
    }
}
