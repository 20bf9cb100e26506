//! The circuit breaker: closed, open, half-open. Rule: the same report is counted once, however often it is given; an open
//! breaker tries again by itself.

use prescale_domain::{ActuationReport, BreakerCause, BreakerMemory, BreakerSettings, BreakerState, Span, Timestamp};

/// How often the time to the next try doubles at most.
const DOUBLINGS_MAX: u32 = 6;

/// The breaker at `at`, after what is new in the report and the time that has passed.
pub fn breaker(
    memory: &BreakerMemory,
    settings: &BreakerSettings,
    report: Option<&ActuationReport>,
    at: Timestamp,
) -> BreakerMemory {
    let mut now = memory.clone();
    let is_new = |report: &&ActuationReport| report.at <= at && memory.reported_at.is_none_or(|seen| report.at > seen);
    if let Some(report) = report.filter(is_new) {
        count(&mut now, report, at);
    }
    now.changes.retain(|(moment, _)| *moment <= at && at.since(*moment) <= settings.within);
    let waited =
        |since: Option<Timestamp>| since.is_none_or(|since| since > at || at.since(since) >= settings.open_for);
    match (now.state, now.cause) {
        (BreakerState::Closed, _) => {
            if now.failures >= settings.failures.max(1) {
                open(&mut now, BreakerCause::Failures, at);
            } else if reversals(&now.changes) >= settings.reversals.max(1) {
                open(&mut now, BreakerCause::Reversals, at);
            }
        }
        (BreakerState::Open, _) if waited(now.since) => {
            (now.state, now.since, now.tried_at) = (BreakerState::HalfOpen, Some(at), None);
            now.changes.clear();
        }
        // One turn is enough to see that it goes on as before.
        (BreakerState::HalfOpen, Some(BreakerCause::Reversals)) => {
            if reversals(&now.changes) > 0 {
                open(&mut now, BreakerCause::Reversals, at);
            } else if waited(now.since) {
                close(&mut now, at);
            }
        }
        // Nobody said how the try ended: another one.
        (BreakerState::HalfOpen, _) if now.tried_at.is_some() && waited(now.tried_at) => now.tried_at = None,
        (BreakerState::Open | BreakerState::HalfOpen, _) => {}
    }
    now
}

/// The memory after a change was decided at `at`.
pub(crate) fn changed(mut memory: BreakerMemory, at: Timestamp, more: bool) -> BreakerMemory {
    memory.changes.push((at, more));
    if memory.state == BreakerState::HalfOpen && memory.tried_at.is_none() {
        memory.tried_at = Some(at);
    }
    memory
}

/// How many changes went the other way than the one before.
fn reversals(changes: &[(Timestamp, bool)]) -> u32 {
    let turns = changes.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
    u32::try_from(turns).unwrap_or(u32::MAX)
}

/// When the next try may be made after failures that did not open the breaker; `None` = now.
pub(crate) fn retry_at(memory: &BreakerMemory, settings: &BreakerSettings) -> Option<Timestamp> {
    let doubled = 1_i64 << memory.failures.saturating_sub(1).min(DOUBLINGS_MAX);
    let wait = Span::from_millis(settings.retry_after.millis().saturating_mul(doubled));
    memory.failed_at.filter(|_| memory.failures > 0).map(|failed| failed + wait)
}

fn count(memory: &mut BreakerMemory, report: &ActuationReport, at: Timestamp) {
    memory.reported_at = Some(report.at);
    let tried = memory.state == BreakerState::HalfOpen && memory.tried_at.is_some_and(|tried| tried <= report.at);
    let of_failures = memory.cause == Some(BreakerCause::Failures);
    if report.failed.is_some() {
        memory.failures = memory.failures.saturating_add(1);
        memory.failed_at = Some(report.at);
        if tried {
            open(memory, BreakerCause::Failures, at);
        }
        return;
    }
    (memory.failures, memory.failed_at) = (0, None);
    if memory.state != BreakerState::Closed && of_failures {
        close(memory, at);
    }
}

fn open(memory: &mut BreakerMemory, cause: BreakerCause, at: Timestamp) {
    (memory.state, memory.since, memory.cause, memory.tried_at) = (BreakerState::Open, Some(at), Some(cause), None);
}

fn close(memory: &mut BreakerMemory, at: Timestamp) {
    (memory.state, memory.since, memory.cause, memory.tried_at) = (BreakerState::Closed, Some(at), None, None);
    (memory.failures, memory.failed_at) = (0, None);
    memory.changes.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn after(secs: i64) -> Timestamp {
        START + Span::from_secs(secs)
    }

    fn report(secs: i64, ok: bool) -> ActuationReport {
        ActuationReport { at: after(secs), failed: (!ok).then(|| "timeout".to_owned()) }
    }

    fn step(memory: &BreakerMemory, report: &ActuationReport, secs: i64) -> BreakerMemory {
        breaker(memory, &BreakerSettings::default(), Some(report), after(secs))
    }

    fn opened() -> BreakerMemory {
        let once = step(&BreakerMemory::default(), &report(0, false), 0);
        let twice = step(&once, &report(60, false), 60);
        assert_eq!((twice.state, twice.failures), (BreakerState::Closed, 2));
        step(&twice, &report(120, false), 120)
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_the_same_report_counts_once() {
        let mut same = BreakerMemory::default();
        for secs in [0, 15, 30, 45] {
            same = step(&same, &report(0, false), secs);
        }
        assert_eq!((same.state, same.failures), (BreakerState::Closed, 1));
        assert_eq!((opened().state, opened().cause), (BreakerState::Open, Some(BreakerCause::Failures)));
        let between = step(&step(&same, &report(50, true), 50), &report(60, false), 60);
        assert_eq!((between.state, between.failures), (BreakerState::Closed, 1));
    }

    #[test]
    fn it_tries_again_by_itself_and_closes_when_the_try_succeeds() {
        let last = report(120, false);
        assert_eq!(step(&opened(), &last, 419).state, BreakerState::Open);
        let half = step(&opened(), &last, 420);
        assert_eq!((half.state, half.tried_at), (BreakerState::HalfOpen, None));
        let tried = changed(half, after(420), true);
        assert_eq!(
            step(&tried, &report(421, true), 435),
            BreakerMemory { since: Some(after(435)), reported_at: Some(after(421)), ..BreakerMemory::default() }
        );
        let again = step(&tried, &report(421, false), 435);
        assert_eq!((again.state, again.since), (BreakerState::Open, Some(after(435))));
        // Nobody said how it ended.
        assert_eq!(step(&tried, &last, 719).tried_at, Some(after(420)));
        assert_eq!(step(&tried, &last, 720).tried_at, None);
    }

    #[test]
    fn turning_to_and_fro_opens_it_too() {
        let mut memory = BreakerMemory::default();
        for turn in 0..5 {
            memory = breaker(&memory, &BreakerSettings::default(), None, after(turn * 60));
            assert_eq!(memory.state, BreakerState::Closed);
            memory = changed(memory, after(turn * 60), turn % 2 == 0);
        }
        memory = breaker(&memory, &BreakerSettings::default(), None, after(300));
        assert_eq!((memory.state, memory.cause), (BreakerState::Open, Some(BreakerCause::Reversals)));
        let half = breaker(&memory, &BreakerSettings::default(), None, after(600));
        assert_eq!(half.state, BreakerState::HalfOpen);
        let turned = changed(changed(half.clone(), after(600), true), after(660), false);
        assert_eq!(breaker(&turned, &BreakerSettings::default(), None, after(700)).state, BreakerState::Open);
        let steady = changed(half, after(600), true);
        assert_eq!(breaker(&steady, &BreakerSettings::default(), None, after(900)).state, BreakerState::Closed);
    }

    #[test]
    fn turns_that_are_long_ago_do_not_count() {
        let mut memory = BreakerMemory::default();
        for turn in 0..20 {
            memory = breaker(&memory, &BreakerSettings::default(), None, after(turn * 600));
            memory = changed(memory, after(turn * 600), turn % 2 == 0);
            assert_eq!((memory.state, memory.changes.len() <= 3), (BreakerState::Closed, true));
        }
    }

    #[test]
    fn the_time_to_the_next_try_doubles() {
        let settings = BreakerSettings::default();
        let wait = |failures: u32| {
            let memory = BreakerMemory { failures, failed_at: Some(START), ..BreakerMemory::default() };
            retry_at(&memory, &settings).map(|at| at.since(START).to_string())
        };
        assert_eq!(wait(0), None);
        assert_eq!(wait(1).as_deref(), Some("15s"));
        assert_eq!(wait(2).as_deref(), Some("30s"));
        assert_eq!(wait(u32::MAX).as_deref(), Some("16m"));
    }
}
