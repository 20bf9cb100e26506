//! Keeps the memory of open windows within its limit. Rule: first partitions that are ahead of others wait, then the pipeline
//! ends with its checkpoint as it was.

use prescale_domain::Timestamp;
use prescale_ingest::Polled;
use prescale_telemetry::pipeline::PartitionsHeld;

use super::Runner;
use crate::PipelineError;
use crate::held::{Held, Load};

impl Runner<'_> {
    /// After an epoch was closed, and before it is written.
    pub(super) fn bound(&mut self, polled: &[Polled]) -> Result<(), PipelineError> {
        self.state = self.engine.held();
        let at_end: Vec<&[i32]> = polled.iter().map(|polled| &*polled.at_end).collect();
        let waiting = match self.state.load(self.settings.state_limit) {
            Load::Over => return Err(self.over_limit()),
            Load::Heavy => self.engine.ahead(&at_end),
            Load::Light => vec![Vec::new(); self.sources.len()],
        };
        let (pipeline, state_bytes) = (&self.settings.pipeline, self.state.bytes);
        for ((place, partitions), table) in waiting.iter().enumerate().zip(&self.settings.plan.sources) {
            let before = self.waiting.get(place).map_or(&[][..], Vec::as_slice);
            if before != partitions {
                PartitionsHeld { pipeline, table: &table.name, partitions, state_bytes }.emit();
            }
            if !before.is_empty() || !partitions.is_empty() {
                self.sources[place].hold(partitions);
            }
        }
        self.waiting = waiting;
        Ok(())
    }

    fn over_limit(&self) -> PipelineError {
        let (Held { bytes, groups, range, .. }, plan) = (self.state, &self.settings.plan);
        let moment = |nanos: i64| Timestamp::from_millis(nanos.div_euclid(1_000_000));
        let (from, to) = range.unwrap_or_default();
        PipelineError::StateLimit {
            pipeline: self.settings.pipeline.clone(),
            bytes,
            limit: self.settings.state_limit.unwrap_or(u64::MAX),
            groups,
            window: plan.summary().window,
            from: moment(from),
            to: moment(to),
        }
    }
}
