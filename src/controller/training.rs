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

/// The result of the training under way; never, without one.
pub(crate) async fn finished(training: &mut Option<Training>) -> Result<TrainingResult, String> {
    match training {
        Some(training) => training.finished().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::{Duration, Instant};

    use prescale_domain::{Clock, Span};
    use prescale_store::MemoryStore;
    use tokio::sync::mpsc;

    use super::*;
    use crate::ClockMode;
    use crate::fixture::{DAY, controller_with, history, minute, polled, settings, web};
    use crate::view::View;

    /// A clock that is moved by hand.
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    /// Whether the LSTM is trained just now.
    fn trains(view: &View) -> bool {
        let events = &view.services[&web()].model_events;
        let started = events.iter().rev().find(|event| event.kind != "drift");
        started.is_some_and(|event| event.kind == "training-started" && event.text.contains("the LSTM"))
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the figures, for who wants to see them")]
    fn no_decision_waits_for_a_training() {
        let start = 10 * DAY;
        let clock = Arc::new(Hands(AtomicI64::new(minute(start).millis())));
        let mut settings = settings(ClockMode::Wall);
        settings.online.min_history = Span::from_minutes(DAY);
        // Seconds of work.
        settings.online.budget.first_samples = 64_000;
        let store = Arc::new(MemoryStore::default());
        let told = Some(history(0, start));
        let controller = controller_with(settings, &store, Arc::clone(&clock) as Arc<dyn Clock>, told);
        let mut handle = controller.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut meanwhile, mut lasted) = (Vec::new(), Duration::ZERO);
        runtime.block_on(async {
            let (sender, inbox) = mpsc::channel(16);
            let running = tokio::spawn(controller.run(inbox, false));
            let mut began = None;
            for n in start..start + 20_000 {
                let end = minute(n + 1);
                clock.0.store(end.millis(), Ordering::Relaxed);
                let asked = Instant::now();
                sender.send(polled(n, n + 1)).await.unwrap();
                let decided = |view: &View| {
                    let decision = view.services[&web()].decisions.back();
                    decision.is_some_and(|decision| decision.inputs.load_window_end == Some(end))
                };
                let decision = async {
                    while !decided(&handle.view.borrow_and_update()) {
                        handle.view.changed().await.unwrap();
                    }
                };
                tokio::time::timeout(Duration::from_secs(60), decision).await.unwrap();
                let took = asked.elapsed();
                if trains(&handle.view.borrow()) {
                    began.get_or_insert(asked);
                    meanwhile.push(took);
                } else if let Some(began) = began {
                    lasted = asked.duration_since(began);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(sender);
            running.await.unwrap().unwrap();
        });
        meanwhile.sort_unstable();
        let (count, slowest) = (meanwhile.len(), meanwhile.last().copied().unwrap_or_default());
        let median = meanwhile.get(count / 2).copied().unwrap_or_default();
        let told =
            format!("{count} decisions in a training of {lasted:.1?}: median {median:.1?}, slowest {slowest:.1?}");
        println!("{told}");
        assert!(count >= 20 && slowest < lasted / 4, "{told}");
    }
}
