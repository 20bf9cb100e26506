//! At most one replica acts at any moment, and somebody does in the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use prescale_domain::Timestamp;
use proptest::prelude::*;

use super::*;

const SETTINGS: LeaseSettings =
    LeaseSettings { duration: Span::from_secs(30), renew: Span::from_secs(5), margin: Span::from_secs(5) };

/// A replica whose clock started elsewhere and runs a little faster or slower.
struct Replica {
    candidate: Candidate,
    offset: i64,
    /// Thousandths by which its clock is fast.
    fast: i64,
}

impl Replica {
    fn local(&self, now: i64) -> Timestamp {
        Timestamp::from_millis(self.offset + now + now * self.fast / 1000)
    }

    fn acts(&self, now: i64) -> bool {
        self.candidate.tenure(self.local(now)).is_some()
    }
}

/// What a replica does at one moment.
#[derive(Clone, Debug)]
enum Step {
    /// Reads, and writes after a pause in which others may act.
    Turn {
        replica: usize,
        pause: usize,
    },
    /// Reads, but its write is lost, or its answer.
    Lost {
        replica: usize,
        took_effect: bool,
    },
    Release(usize),
    /// Dies and comes back as somebody else.
    Reborn(usize),
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        8 => (0usize..3, 0usize..3).prop_map(|(replica, pause)| Step::Turn { replica, pause }),
        2 => (0usize..3, any::<bool>()).prop_map(|(replica, took_effect)| Step::Lost { replica, took_effect }),
        1 => (0usize..3).prop_map(Step::Release),
        1 => (0usize..3).prop_map(Step::Reborn),
    ];
    prop::collection::vec((0i64..12_000, step), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Writes may be late, lost or unanswered, clocks may start anywhere and differ in speed by two per cent.
    #[test]
    fn never_two_act(
        steps in steps(), offsets in prop::array::uniform3(0i64..1_000_000_000), fast in prop::array::uniform3(-20i64..=20),
    ) {
        let mut lives = 0;
        let mut name = || { lives += 1; format!("replica {lives}") };
        let mut replicas: Vec<Replica> = (0..3)
            .map(|at| Replica { candidate: Candidate::new(&name(), SETTINGS), offset: offsets[at], fast: fast[at] })
            .collect();
        let mut place: Option<(LeaseRecord, u64)> = None;
        let mut version = 0;
        // Writes that are under way: when they arrive, by steps.
        let mut under_way: Vec<(usize, usize, Timestamp, LeaseRecord, Option<u64>, bool)> = Vec::new();
        let (mut now, mut terms) = (0, Vec::new());
        for (passed, step) in steps {
            now += passed;
            let mut turn = |replica: usize, pause: usize, answered: bool| {
                let local = replicas[replica].local(now);
                let next = replicas[replica].candidate.next(local, place.as_ref().map(|(record, _)| record));
                if let Some(record) = next {
                    let read = place.as_ref().map(|(_, version)| *version);
                    under_way.push((pause, replica, local, record, read, answered));
                }
            };
            match step {
                Step::Turn { replica, pause } => turn(replica, pause, true),
                Step::Lost { replica, took_effect: true } => turn(replica, 0, false),
                Step::Lost { replica, took_effect: false } => {
                    let local = replicas[replica].local(now);
                    replicas[replica].candidate.next(local, place.as_ref().map(|(record, _)| record));
                }
                Step::Release(replica) => {
                    if let (Some(record), Some((found, _))) = (replicas[replica].candidate.release(), &place)
                        && found.holder == record.holder
                    {
                        version += 1;
                        place = Some((record, version));
                    }
                }
                Step::Reborn(replica) => {
                    replicas[replica].candidate = Candidate::new(&name(), SETTINGS);
                    under_way.retain(|(_, who, ..)| *who != replica);
                }
            }
            let mut later = Vec::new();
            for (pause, replica, began, record, read, answered) in under_way.drain(..) {
                if pause > 0 {
                    later.push((pause - 1, replica, began, record, read, answered));
                    continue;
                }
                let fits = place.as_ref().map(|(_, version)| *version) == read;
                if fits {
                    version += 1;
                    terms.push(record.term);
                    place = Some((record.clone(), version));
                }
                if answered && fits {
                    replicas[replica].candidate.written(began, &record);
                } else if answered {
                    replicas[replica].candidate.outrun();
                }
            }
            under_way = later;
            let acting = replicas.iter().filter(|replica| replica.acts(now)).count();
            prop_assert!(acting <= 1, "{acting} act at {now}");
        }
        prop_assert!(terms.windows(2).all(|pair| pair[0] <= pair[1]), "terms go back: {terms:?}");
    }
}

/// A place in memory that can be out of order.
#[derive(Clone, Default)]
struct Shelf {
    record: Arc<Mutex<Option<(LeaseRecord, u64)>>>,
    hangs: Arc<AtomicU64>,
}

impl LeasePlace for Shelf {
    type Version = u64;

    async fn read(&self) -> Result<Option<(LeaseRecord, u64)>, ActuateError> {
        if self.hangs.load(Ordering::SeqCst) > 0 {
            self.hangs.fetch_sub(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Ok(self.record.lock().unwrap().clone())
    }

    async fn write(&self, record: &LeaseRecord, read: Option<&u64>) -> Result<bool, ActuateError> {
        let mut place = self.record.lock().unwrap();
        let fits = place.as_ref().map(|(_, version)| version) == read;
        if fits {
            *place = Some((record.clone(), read.copied().unwrap_or_default() + 1));
        }
        Ok(fits)
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_takes_over_when_the_first_is_gone() {
    let shelf = Shelf::default();
    let mut first = Keeper::new("first", SETTINGS, shelf.clone());
    let second = Keeper::new("second", SETTINGS, shelf.clone());
    let (one, other) = (first.watch(), second.watch());
    first.turn().await;
    assert_eq!(one.term(), Some(1));
    let waiting = tokio::spawn(second.run(std::future::pending()));
    for _ in 0..20 {
        tokio::time::sleep(SETTINGS.renew.to_std()).await;
        first.turn().await;
        assert!(one.left().is_ok());
        assert_eq!(other.left(), Err("replica `first` has the lease".to_owned()));
    }
    // From here on the first does nothing: it stops in time, and the other begins no earlier.
    let stopped = std::time::Duration::from_secs(25);
    tokio::time::sleep(stopped).await;
    assert!(one.left().is_err() && other.left().is_err());
    tokio::time::sleep(std::time::Duration::from_secs(16)).await;
    assert_eq!((one.term(), other.term()), (None, Some(2)));
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_taken_at_once_and_a_hanging_place_ends_a_tenure() {
    let shelf = Shelf::default();
    let (mut first, mut second) =
        (Keeper::new("a", SETTINGS, shelf.clone()), Keeper::new("b", SETTINGS, shelf.clone()));
    first.turn().await;
    first.release().await;
    assert!(first.watch().left().is_err());
    second.turn().await;
    assert_eq!(second.watch().term(), Some(2));
    shelf.hangs.store(6, Ordering::SeqCst);
    for _ in 0..6 {
        second.turn().await;
    }
    let fault = second.watch().left().unwrap_err();
    assert_eq!(fault, "the lease can't be renewed: no answer within 5s");
    second.turn().await;
    assert_eq!(second.watch().term(), Some(2));
}

#[test]
fn a_lease_that_is_too_short_is_told() {
    assert_eq!(LeaseSettings::default().faults(), Vec::<String>::new());
    let short = LeaseSettings { duration: Span::from_secs(10), renew: Span::from_secs(4), margin: Span::from_secs(3) };
    assert_eq!(short.faults().len(), 1);
    let none = LeaseSettings { renew: Span::ZERO, margin: Span::ZERO, ..SETTINGS };
    assert_eq!(none.faults(), ["renew 0s is not above 0s", "margin 0s is not above 0s"]);
}
