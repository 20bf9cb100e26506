//! The promise of this crate, for any course of things: what a reader at a moment sees is never changed by what happens
//! after it, whatever is closed, told, taken back or started again.

use std::collections::BTreeMap;

use prescale_domain::{CalendarEvent, FeatureRow, Series, ServiceName, Span, Timestamp};
use prescale_store::{MemoryStore, Store as _};
use proptest::prelude::*;

use crate::{EventBook, FeatureStore, HistorySettings};

const STEP: Span = Span::from_minutes(1);
const SETTINGS: HistorySettings =
    HistorySettings { step: STEP, retention: Span::from_minutes(90), coarse_retention: Span::from_minutes(600) };

/// What may happen in one window, before it is closed.
#[derive(Clone, Debug)]
enum Happening {
    /// An event is told; it was known so many minutes ago.
    Told {
        id: u8,
        known_before: i64,
        starts_in: i64,
    },
    TakenBack {
        id: u8,
    },
    /// The process ends and starts again; all that was written is there.
    Restart,
    /// A history from elsewhere is offered again at a start.
    BackFill {
        from: i64,
        length: i64,
    },
}

/// How a window is closed: with a row, silently, or as a gap; the third may jump ahead of windows that nobody closes.
type Close = (Option<f64>, bool, u8);

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..3_u8, prop_oneof![4 => Just(0_i64), 1 => 0..30_i64], -20..200_i64)
            .prop_map(|(id, known_before, starts_in)| Happening::Told { id, known_before, starts_in }),
        (0..3_u8).prop_map(|id| Happening::TakenBack { id }),
        Just(Happening::Restart),
        (-400..400_i64, 1..300_i64).prop_map(|(from, length)| Happening::BackFill { from, length }),
    ]
}

fn close() -> impl Strategy<Value = Close> {
    let row = prop_oneof![3 => (0.0..1e6_f64).prop_map(Some), 1 => Just(None)];
    // Sometimes a day passes, so that windows are retired.
    (row, any::<bool>(), prop_oneof![20 => Just(0_u8), 1 => 1..9_u8])
}

fn minute(n: i64) -> Timestamp {
    Timestamp::from_millis(n * STEP.millis())
}

fn web() -> ServiceName {
    ServiceName::new("web")
}

/// Calls `web`.
fn shop() -> ServiceName {
    ServiceName::new("shop")
}

fn row(service: ServiceName, n: i64, load: f64) -> FeatureRow {
    // Now and then the second is not measured.
    let latency = (n % 5 != 0).then_some(load.sqrt());
    FeatureRow {
        service,
        window_start: minute(n),
        window_end: minute(n + 1),
        labels: BTreeMap::new(),
        measures: BTreeMap::from([("requests".to_owned(), Some(load)), ("latency_ms_p90".to_owned(), latency)]),
    }
}

/// The values that are known of a series.
type Values = BTreeMap<Timestamp, f64>;
/// What a reader sees: the loads that are known, covariates by name, and events.
type Seen = (Values, BTreeMap<String, Values>, Vec<CalendarEvent>);

/// The two stores, and the bytes behind them.
struct Kept {
    features: FeatureStore,
    events: EventBook,
    memory: MemoryStore,
}

impl Kept {
    fn new() -> Self {
        let signals = [web(), shop()].map(|service| (service, "requests".to_owned()));
        let covariates = [(web(), vec!["latency_ms_p90".to_owned(), "service:shop".to_owned()])];
        let features = FeatureStore::new(SETTINGS, signals).with_covariates(covariates);
        Self { features, events: EventBook::default(), memory: MemoryStore::default() }
    }

    fn write(&mut self) {
        let mut writes = self.features.take_writes();
        writes.extend(self.events.take_writes());
        self.memory.write(&writes).unwrap();
    }

    fn restart(&mut self) {
        self.write();
        let memory = std::mem::take(&mut self.memory);
        *self = Self { memory, ..Self::new() };
        self.features.load(&self.memory).unwrap();
        self.events.load(&self.memory).unwrap();
    }

    fn seen(&self, now: Timestamp) -> Seen {
        let (start, loads) = self.features.known(&web(), now).map_or((now, &[][..]), |known| known);
        let at = |index: usize| start + Span::from_millis(STEP.millis() * index as i64);
        let loads = loads.iter().enumerate().filter_map(|(index, load)| Some((at(index), (*load)?)));
        let covariates = self.features.covariates(&web()).map(|(name, series)| {
            let ended = series.before(now - STEP + Span::from_millis(1)).iter().enumerate();
            let at = |index: usize| series.start + Span::from_millis(STEP.millis() * index as i64);
            (name.to_owned(), ended.filter_map(|(index, value)| Some((at(index), (*value)?))).collect())
        });
        (loads.collect(), covariates.collect(), self.events.known(now))
    }
}

/// What a reader saw, but for what has been retired since and what a back-fill has told of the time before.
#[track_caller]
fn the_same(kept: &Kept, now: Timestamp, seen: &Seen) -> Result<(), TestCaseError> {
    let (loads, covariates, events) = kept.seen(now);
    let held_from = |service: &ServiceName| kept.features.series(service).map_or(now, |series| series.start);
    let unchanged = |name: &str, first: Timestamp, seen: &Values, found: Option<&Values>| {
        let before: Vec<_> = seen.range(first..).collect();
        let oldest = seen.keys().next().copied().unwrap_or(now);
        let after: Vec<_> = found.into_iter().flat_map(|found| found.range(oldest.max(first)..)).collect();
        if !before.is_empty() {
            prop_assert_eq!(before, after, "{} at {}", name, now);
        }
        Ok(())
    };
    unchanged("loads", held_from(&web()), &seen.0, Some(&loads))?;
    for (name, seen) in &seen.1 {
        let first = if name == "service:shop" { held_from(&shop()) } else { held_from(&web()) };
        unchanged(name, first, seen, covariates.get(name))?;
    }
    prop_assert_eq!(&events, &seen.2, "events at {}", now);
    Ok(())
}

proptest! {
    #[test]
    fn what_a_reader_saw_is_never_changed_by_what_happens_later(
        course in prop::collection::vec((prop::collection::vec(happening(), 0..3), close()), 1..80),
    ) {
        let mut kept = Kept::new();
        let mut readers = BTreeMap::new();
        let mut n = 500_i64;
        for (happenings, (load, is_gap, jump)) in course {
            let now = minute(n);
            for happening in happenings {
                match happening {
                    Happening::Told { id, known_before, starts_in } => {
                        let known_at = now - Span::from_minutes(known_before);
                        // What had been known all along may be seen by readers of that time: they are asked anew.
                        readers.retain(|at, _| *at < known_at);
                        kept.events.upsert(CalendarEvent {
                            id: format!("event {id}"),
                            kind: "sale".to_owned(),
                            services: vec![],
                            start: now + Span::from_minutes(starts_in),
                            end: now + Span::from_minutes(starts_in + 30),
                            expected_uplift: None,
                            known_at,
                        });
                    }
                    Happening::TakenBack { id } => {
                        readers.remove(&now);
                        kept.events.remove(&format!("event {id}"), now);
                    }
                    Happening::Restart => kept.restart(),
                    Happening::BackFill { from, length } => {
                        let values = (from..from + length).map(|n| (n % 7 != 0).then_some(n.abs() as f64)).collect();
                        let told = Series { start: minute(from), step: STEP, values };
                        // Nothing of it is of the future.
                        if from + length <= n {
                            kept.restart();
                            kept.features.back_fill(&web(), &told).unwrap();
                        }
                    }
                }
            }
            readers.insert(now, kept.seen(now));
            n += i64::from(jump) * 300;
            let called = (n % 3 != 0).then(|| row(shop(), n, n as f64));
            kept.features.close(&shop(), minute(n), called.as_ref(), is_gap).unwrap();
            let row = load.map(|load| row(web(), n, load));
            kept.features.close(&web(), minute(n), row.as_ref(), is_gap).unwrap();
            for (now, seen) in &readers {
                the_same(&kept, *now, seen)?;
            }
            n += 1;
        }
        kept.restart();
        for (now, seen) in &readers {
            the_same(&kept, *now, seen)?;
        }
    }
}
