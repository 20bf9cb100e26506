//! Carrying decisions out. Rule: recorded before and after; nothing is called without a lease that outlasts the call; what a
//! crash left open is settled by looking, never by guessing.

use futures::future::join_all;
use prescale_domain::{Actuation, Decision, Outcome, Span, TargetState, Timestamp};

use crate::{ActuateError, Actuator, Failure, TenureWatch};

/// A call is not begun with less time than this left of the lease.
const LEAST: Span = Span::from_secs(1);

/// How calls go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All at once: a target that hangs delays no other.
    Together,
    /// One after another, where the order is part of what is replayed.
    InTurn,
}

/// Carries out `due` at `now`. `record` writes what is about to be done, before anything is called, and what became of it.
/// The outcomes, in the order of `due`.
///
/// # Errors
/// Those of `record`. Where the first record fails nothing was called. Where the second does the calls were made, and
/// [`settle`] finds out what they did.
pub async fn carry_out<A, E>(
    due: &[(&Decision, &A)],
    now: Timestamp,
    lease: &TenureWatch,
    order: Order,
    mut record: impl FnMut(&[Actuation]) -> Result<(), E>,
) -> Result<Vec<Actuation>, E>
where
    A: Actuator + Sync,
{
    let all = |outcome: &Outcome| -> Vec<Actuation> {
        due.iter().map(|(decision, target)| of(decision, *target, now, outcome.clone())).collect()
    };
    if due.is_empty() {
        return Ok(Vec::new());
    }
    if let Err(reason) = permitted(lease) {
        let held: Vec<Actuation> =
            due.iter().map(|(decision, target)| of(decision, *target, now, held(decision, &reason))).collect();
        record(&held)?;
        return Ok(held);
    }
    record(&all(&Outcome::Started))?;
    let attempts = due.iter().map(|(decision, target)| attempt(decision, *target, now, lease));
    let outcomes = match order {
        Order::Together => join_all(attempts).await,
        Order::InTurn => {
            let mut outcomes = Vec::with_capacity(due.len());
            for attempt in attempts {
                outcomes.push(attempt.await);
            }
            outcomes
        }
    };
    let ended: Vec<Actuation> =
        due.iter().zip(outcomes).map(|((decision, target), outcome)| of(decision, *target, now, outcome)).collect();
    record(&ended)?;
    Ok(ended)
}

/// What became of a decision that was begun and not recorded as ended, given the target as it is now; a target that can't be
/// seen leaves it open.
pub fn settle(begun: &Actuation, desired: u32, found: &TargetState) -> Actuation {
    let outcome = if found.desired == desired {
        Outcome::Applied { units: desired, clamped: false }
    } else {
        let error = format!(
            "the attempt was interrupted; the target wants {} units, not {desired}: the next decision goes on from there",
            found.desired
        );
        Outcome::Failed { code: "interrupted".to_owned(), error }
    };
    Actuation { outcome, ..begun.clone() }
}

async fn attempt<A: Actuator>(decision: &Decision, target: &A, now: Timestamp, lease: &TenureWatch) -> Outcome {
    // The record may have taken its time, and so may those before it.
    let left = match permitted(lease) {
        Ok(left) => left,
        Err(reason) => return held(decision, &reason),
    };
    let result = tokio::time::timeout(left.to_std(), target.apply(decision, now)).await.unwrap_or_else(|_| {
        let detail = "the lease ran out before the target answered".to_owned();
        Err(ActuateError::Timeout(Failure { operation: "apply decision", target: target.describe(), detail }))
    });
    result.unwrap_or_else(|error| Outcome::Failed { code: error.code().to_owned(), error: error.to_string() })
}

fn permitted(lease: &TenureWatch) -> Result<Span, String> {
    let left = lease.left()?;
    if left < LEAST { Err("the lease is about to end".to_owned()) } else { Ok(left) }
}

fn held(decision: &Decision, reason: &str) -> Outcome {
    let units = decision.inputs.target.map_or(decision.desired, |target| target.desired);
    Outcome::Held { units, reason: reason.to_owned() }
}

fn of<A: Actuator>(decision: &Decision, target: &A, now: Timestamp, outcome: Outcome) -> Actuation {
    Actuation {
        decision: decision.id.clone(),
        service: decision.service.clone(),
        at: now,
        target: target.describe(),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use prescale_domain::{Mode, ServiceName};

    use super::*;
    use crate::tests::decision;
    use crate::{Candidate, Keeper, LeasePlace, LeaseRecord, LeaseSettings};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// A target that counts its calls and takes its time.
    #[derive(Default)]
    struct Counted {
        calls: AtomicU32,
        takes: u64,
    }

    impl Actuator for Counted {
        async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
            Ok(TargetState { desired: 4, ready: None, min: None, max: None, observed_at: now })
        }

        async fn apply(&self, decision: &Decision, _: Timestamp) -> Result<Outcome, ActuateError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_secs(self.takes)).await;
            Ok(Outcome::Applied { units: decision.desired, clamped: false })
        }

        fn describe(&self) -> String {
            "counted".to_owned()
        }
    }

    /// Nobody else is there, and the place can be taken away.
    #[derive(Default)]
    struct Place(Mutex<Option<(LeaseRecord, u32)>>);

    impl LeasePlace for Place {
        type Version = u32;

        async fn read(&self) -> Result<Option<(LeaseRecord, u32)>, ActuateError> {
            Ok(self.0.lock().unwrap().clone())
        }

        async fn write(&self, record: &LeaseRecord, read: Option<&u32>) -> Result<bool, ActuateError> {
            *self.0.lock().unwrap() = Some((record.clone(), read.map_or(0, |version| version + 1)));
            Ok(true)
        }
    }

    fn kinds(actuations: &[Actuation]) -> Vec<String> {
        let kind = |outcome: &Outcome| serde_json::to_value(outcome).unwrap()["kind"].as_str().unwrap().to_owned();
        actuations.iter().map(|actuation| kind(&actuation.outcome)).collect()
    }

    #[tokio::test]
    async fn what_is_begun_is_recorded_first_and_its_end_after() {
        let (target, wish) = (Counted::default(), decision(9, Mode::Act));
        let mut records = Vec::new();
        let write = |batch: &[Actuation]| {
            records.push((target.calls.load(Ordering::SeqCst), kinds(batch)));
            Ok::<(), String>(())
        };
        let due = [(&wish, &target), (&wish, &target)];
        let ended = carry_out(&due, NOW, &TenureWatch::default(), Order::InTurn, write).await.unwrap();
        assert_eq!(kinds(&ended), ["applied", "applied"]);
        let started = vec!["started".to_owned(); 2];
        assert_eq!(records, [(0, started), (2, kinds(&ended))]);
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_is_not_done() {
        let (target, wish) = (Counted::default(), decision(9, Mode::Act));
        let write = |_: &[Actuation]| Err("disk full");
        let result = carry_out(&[(&wish, &target)], NOW, &TenureWatch::default(), Order::Together, write).await;
        assert_eq!((result.unwrap_err(), target.calls.load(Ordering::SeqCst)), ("disk full", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_lease_nothing_is_called_and_a_call_ends_with_it() {
        let (target, wish) = (Counted { takes: 60, ..Counted::default() }, decision(9, Mode::Act));
        let mut keeper = Keeper::new("me", LeaseSettings::default(), Place::default());
        let lease = keeper.watch();
        let due = [(&wish, &target)];
        let record = |_: &[Actuation]| Ok::<(), String>(());
        let held = carry_out(&due, NOW, &lease, Order::Together, record).await.unwrap();
        let Outcome::Held { reason, .. } = &held[0].outcome else { panic!("{held:?}") };
        assert_eq!((reason.as_str(), target.calls.load(Ordering::SeqCst)), ("nobody has the lease yet", 0));
        keeper.turn().await;
        let began = tokio::time::Instant::now();
        let ended = carry_out(&due, NOW, &lease, Order::Together, record).await.unwrap();
        let Outcome::Failed { code, error } = &ended[0].outcome else { panic!("{ended:?}") };
        assert_eq!(code, "timeout", "{error}");
        assert_eq!((began.elapsed().as_secs(), target.calls.load(Ordering::SeqCst)), (25, 1));
        assert_eq!(kinds(&carry_out(&due, NOW, &lease, Order::Together, record).await.unwrap()), ["held"]);
        assert_eq!(target.calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_a_crash_left_open_is_settled_by_what_is_found() {
        let wish = decision(9, Mode::Act);
        let begun = Actuation {
            decision: wish.id.clone(),
            service: ServiceName::new("web"),
            at: NOW,
            target: "counted".to_owned(),
            outcome: Outcome::Started,
        };
        let found = |desired| TargetState { desired, ready: None, min: None, max: None, observed_at: NOW };
        assert_eq!(settle(&begun, 9, &found(9)).outcome, Outcome::Applied { units: 9, clamped: false });
        let Outcome::Failed { code, .. } = settle(&begun, 9, &found(4)).outcome else { panic!() };
        assert_eq!(code, "interrupted");
        // A candidate that has read nothing yet may not act.
        assert_eq!(Candidate::new("me", LeaseSettings::default()).tenure(NOW), None);
    }
}
