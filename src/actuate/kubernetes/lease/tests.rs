//! Replicas that share a lease, on clocks that differ, over a way that delays, repeats and loses. Method: the decisions are
//! those of the code; only the API is played, with the one promise that it keeps: a write of an old version is refused.

use proptest::prelude::*;

use super::*;

const DURATION: Span = Span::from_secs(15);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn record(holder: Option<&str>, transitions: u32, version: u64) -> Record {
    Record { holder: holder.map(str::to_owned), duration: DURATION, transitions, version: version.to_string() }
}

#[test]
fn a_free_lease_is_acquired_and_an_own_one_renewed() {
    let seen = |holder| Seen { record: record(holder, 3, 1), since: at(0) };
    assert_eq!(next(&seen(None), "a", at(1)), Next::Acquire);
    assert_eq!(next(&seen(Some("a")), "a", at(1)), Next::Renew);
    assert_eq!(next(&seen(Some("a")), "a", at(99_000)), Next::Renew);
    assert_eq!(next(&seen(Some("b")), "a", at(14_999)), Next::Wait { until: at(15_000) });
    assert_eq!(next(&seen(Some("b")), "a", at(15_000)), Next::Acquire);
}

#[test]
fn only_a_new_holder_raises_the_token() {
    assert_eq!(claim(&record(None, 3, 1), "a", DURATION, Next::Acquire).transitions, 4);
    assert_eq!(claim(&record(Some("a"), 4, 1), "a", DURATION, Next::Renew).transitions, 4);
    assert_eq!(claim(&record(Some("b"), u32::MAX, 1), "a", DURATION, Next::Acquire).transitions, u32::MAX);
}

#[test]
fn a_record_stands_from_the_first_look_at_it() {
    let first = Seen::after(None, record(Some("b"), 1, 1), at(1000));
    let same = Seen::after(Some(first.clone()), record(Some("b"), 1, 1), at(9000));
    assert_eq!(same, first);
    let renewed = Seen::after(Some(same), record(Some("b"), 1, 2), at(9000));
    assert_eq!(renewed.since, at(9000));
}

/// One step of one replica: when it begins, how long its calls take, and whether it learns of the answer.
#[derive(Clone, Debug)]
struct Step {
    who: usize,
    pause_millis: i64,
    read_millis: i64,
    /// From the decision until the API has the write.
    way_millis: i64,
    answered: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..3_usize, 0..9_000_i64, 0..4_000_i64, 0..20_000_i64, prop::bool::weighted(0.8));
    let step = step.prop_map(|(who, pause_millis, read_millis, way_millis, answered)| Step {
        who,
        pause_millis,
        read_millis,
        way_millis,
        answered,
    });
    prop::collection::vec(step, 1..120)
}

/// A write on its way to the API.
#[derive(Clone, Debug)]
struct Underway {
    arrives: i64,
    who: usize,
    record: Record,
    asked: Timestamp,
    answered: bool,
}

/// When a replica acts, in the time of the world, and with which token.
#[derive(Clone, Copy, Debug)]
struct Acts {
    who: usize,
    from: i64,
    until: i64,
    token: u32,
}

/// What the API does with the writes that have arrived by `now`.
fn deliver(now: i64, underway: &mut Vec<Underway>, stored: &mut (Record, u64), skews: [i64; 3], acts: &mut Vec<Acts>) {
    underway.sort_by_key(|write| write.arrives);
    while underway.first().is_some_and(|write| write.arrives <= now) {
        let write = underway.remove(0);
        if write.record.version != stored.0.version {
            continue;
        }
        stored.1 += 1;
        stored.0 = Record { version: stored.1.to_string(), ..write.record };
        if write.answered {
            let until = reliable_until(write.asked, DURATION).millis() - skews[write.who];
            acts.push(Acts { who: write.who, from: write.arrives, until, token: stored.0.transitions });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn never_two_at_once_and_tokens_only_rise(steps in steps(), skews in prop::array::uniform3(-90_000..90_000_i64)) {
        let names = ["a", "b", "c"];
        let (mut now, mut stored) = (0, (record(None, 0, 1), 1));
        let (mut seen, mut underway, mut acts) = ([None, None, None], Vec::new(), Vec::new());
        for step in steps {
            now += step.pause_millis;
            deliver(now, &mut underway, &mut stored, skews, &mut acts);
            // The answer is of before, the clock is read after it has come.
            let answer = stored.0.clone();
            now += step.read_millis;
            let own = at(now + skews[step.who]);
            let current = Seen::after(seen[step.who].take(), answer, own);
            let decided = next(&current, names[step.who], own);
            if let Next::Acquire | Next::Renew = decided {
                underway.push(Underway {
                    arrives: now + step.way_millis,
                    who: step.who,
                    record: claim(&current.record, names[step.who], DURATION, decided),
                    asked: own,
                    answered: step.answered,
                });
            }
            seen[step.who] = Some(current);
        }
        deliver(i64::MAX, &mut underway, &mut stored, skews, &mut acts);
        for (index, one) in acts.iter().enumerate() {
            for other in &acts[index + 1..] {
                prop_assert!(one.token <= other.token, "{one:?} then {other:?}");
                if one.who != other.who {
                    prop_assert!(one.token < other.token, "{one:?} then {other:?}");
                    let overlap = one.from.max(other.from) < one.until.min(other.until);
                    prop_assert!(!overlap, "{one:?} and {other:?}");
                }
            }
        }
    }

    /// Whoever dies, the others go on: at the latest one duration after they have looked.
    #[test]
    fn a_lease_that_nobody_renews_is_taken_over(first_look in 0..60_000_i64, skew in -90_000..90_000_i64) {
        let stored = record(Some("dead"), 7, 1);
        let seen = Seen::after(None, stored.clone(), at(first_look + skew));
        let before = at(first_look + skew) + DURATION - Span::from_millis(1);
        prop_assert!(matches!(next(&seen, "a", before), Next::Wait { .. }), "it waits for the whole duration");
        let later = Seen::after(Some(seen), stored, before);
        prop_assert_eq!(next(&later, "a", before + Span::from_millis(1)), Next::Acquire);
    }
}
