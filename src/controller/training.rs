//! Trainings run in a thread of their own, one at a time. Rule: no decision waits for one on the wall clock; on the event
//! clock its result takes effect at its event time, neither earlier nor later.

use std::panic::{AssertUnwindSafe, catch_unwind};

use prescale_domain::Timestamp;
use prescale_forecast::online::{TrainingJob, TrainingResult};
use tokio::sync::oneshot;

/// A training under way.
pub(crate) struct Training {
    pub(crate) effective: Timestamp,
    result: oneshot::Receiver<Result<TrainingResult, String>>,
}

impl Training {
    /// Starts `job` on a thread of its own.
    pub(crate) fn start(job: TrainingJob) -> Self {
        let (send, result) = oneshot::channel();
        let effective = job.effective;
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| job.run())).map_err(|panic| {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
            });
            // The loop may have stopped meanwhile; then nobody wants the result.
            drop(send.send(outcome));
        };
        // Without a thread there is no training, which the receiver sees as a failed one.
        drop(std::thread::Builder::new().name("training".into()).spawn(work));
        Self { effective, result }
    }

    /// Waits for the result.
    pub(crate) async fn finished(&mut self) -> Result<TrainingResult, String> {
        (&mut self.result).await.unwrap_or_else(|_| Err("the training thread could not be started or died".to_owned()))
    }
}
