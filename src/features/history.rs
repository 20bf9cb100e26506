//! Regular history of every service. Rule: one entry for each closed window, written once, upserted by (service, window
//! start); a gap is a gap and a silent window of a known service is zero.

use std::collections::{BTreeMap, VecDeque};

use prescale_domain::{FeatureRow, Series, ServiceName, Span, Timestamp};
use prescale_store::{Store, Table, Write, prefix_end, service_time_key};
use serde::{Deserialize, Serialize};

use crate::FeatureError;

/// How long and how finely history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Width of a window.
    pub step: Span,
    pub retention: Span,
}

/// What a closed window turned out to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Closed {
    /// A row came; its load signal, where it has one.
    Row(Option<f64>),
    /// No row although the watermark passed by rows: nothing happened in this window.
    Zero(Option<f64>),
    /// Not known: the source was silent or out of reach.
    Gap,
    /// The service has not been seen yet.
    Unknown,
}

impl Closed {
    /// The load of the window; `None` where it is not known.
    pub fn load(self) -> Option<f64> {
        match self {
            Self::Row(load) | Self::Zero(load) => load,
            Self::Gap | Self::Unknown => None,
        }
    }
}

/// A stored window.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Entry {
    Row { measures: BTreeMap<String, Option<f64>> },
    Zero,
    Gap,
}

/// Histories of the load signals, in memory for the models and in the store for restarts.
pub struct FeatureStore {
    settings: HistorySettings,
    signals: BTreeMap<ServiceName, String>,
    series: BTreeMap<ServiceName, Series>,
    unwritten: VecDeque<Write>,
}

impl FeatureStore {
    /// An empty store for services and their load signals (names of feature columns).
    pub fn new(settings: HistorySettings, signals: impl IntoIterator<Item = (ServiceName, String)>) -> Self {
        Self { settings, signals: signals.into_iter().collect(), series: BTreeMap::new(), unwritten: VecDeque::new() }
    }

    /// Reads back what [`FeatureStore::take_writes`] handed out for writing.
    pub fn load(&mut self, store: &dyn Store) -> Result<(), FeatureError> {
        self.series.clear();
        for (name, signal) in &self.signals {
            let prefix = service_time_key(name, Timestamp::MIN)[..=name.as_str().len()].to_vec();
            for (key, value) in store.range(Table::History, &prefix, &prefix_end(&prefix), usize::MAX, false)? {
                let corrupt = |error: String| FeatureError::Corrupt { service: name.to_string(), error };
                let time: [u8; 8] = key[prefix.len()..].try_into().map_err(|_| corrupt("key of odd length".into()))?;
                let start = Timestamp::from_millis(i64::from_be_bytes(time) ^ i64::MIN);
                let entry: Entry = serde_json::from_slice(&value).map_err(|error| corrupt(error.to_string()))?;
                let load = load_of(&entry, signal);
                place(&mut self.series, name, self.settings.step, start, load);
            }
        }
        Ok(())
    }

    /// Enters the window `[window_start, window_start + step)` of `service`, which is closed: with its row, as zero, or
    /// as a gap.
    pub fn close(
        &mut self,
        service: &ServiceName,
        window_start: Timestamp,
        row: Option<&FeatureRow>,
        is_gap: bool,
    ) -> Result<Closed, FeatureError> {
        let step = self.settings.step;
        let Some(signal) = self.signals.get(service) else { return Ok(Closed::Unknown) };
        if window_start.floor_to(step) != window_start {
            return Err(FeatureError::Misaligned {
                service: service.to_string(),
                window_start: window_start.to_string(),
                step: step.to_string(),
            });
        }
        let entry = match row {
            Some(row) => Entry::Row { measures: row.measures.clone() },
            None if !self.series.contains_key(service) => return Ok(Closed::Unknown),
            None if is_gap => Entry::Gap,
            None => Entry::Zero,
        };
        let load = load_of(&entry, signal);
        place(&mut self.series, service, step, window_start, load);
        let value = serde_json::to_vec(&entry)
            .map_err(|error| FeatureError::Corrupt { service: service.to_string(), error: error.to_string() })?;
        let key = service_time_key(service, window_start);
        self.unwritten.push_back(Write { table: Table::History, key, value: Some(value) });
        self.retire(service);
        Ok(match entry {
            Entry::Row { .. } => Closed::Row(load),
            Entry::Zero => Closed::Zero(load),
            Entry::Gap => Closed::Gap,
        })
    }

    /// Enters a whole history at once, as if its windows had been closed one by one.
    pub fn back_fill(&mut self, service: &ServiceName, history: &Series) -> Result<(), FeatureError> {
        let Some(signal) = self.signals.get(service).cloned() else { return Ok(()) };
        for (index, value) in history.values.iter().enumerate() {
            let start = history.start + Span::from_millis(history.step.millis() * index as i64);
            let row = value.map(|load| FeatureRow {
                service: service.clone(),
                window_start: start,
                window_end: start + self.settings.step,
                labels: BTreeMap::new(),
                measures: BTreeMap::from([(signal.clone(), Some(load))]),
            });
            self.close(service, start, row.as_ref(), row.is_none())?;
        }
        Ok(())
    }

    /// The load of `service` in all closed windows; `None` before its first.
    pub fn series(&self, service: &ServiceName) -> Option<&Series> {
        self.series.get(service)
    }

    /// All histories, by service.
    pub fn all(&self) -> &BTreeMap<ServiceName, Series> {
        &self.series
    }

    /// Changes since the last call, to be written together with whatever was derived from them.
    pub fn take_writes(&mut self) -> Vec<Write> {
        self.unwritten.drain(..).collect()
    }

    /// Forgets windows older than the retention, a day at a time.
    fn retire(&mut self, service: &ServiceName) {
        const SLACK: Span = Span::from_minutes(24 * 60);
        let step = self.settings.step;
        let Some(series) = self.series.get_mut(service) else { return };
        let keep = self.settings.retention.steps_up(step);
        if series.values.len() < keep + SLACK.steps_up(step) {
            return;
        }
        let surplus = series.values.len() - keep;
        for index in 0..surplus {
            let start = series.start + Span::from_millis(step.millis() * index as i64);
            let key = service_time_key(service, start);
            self.unwritten.push_back(Write { table: Table::History, key, value: None });
        }
        series.values.drain(..surplus);
        series.start = series.start + Span::from_millis(step.millis() * surplus as i64);
    }
}

/// Puts a value at its place; windows in between that nobody closed are gaps, windows before the first are ignored.
fn place(
    all: &mut BTreeMap<ServiceName, Series>,
    service: &ServiceName,
    step: Span,
    start: Timestamp,
    load: Option<f64>,
) {
    let series = all.entry(service.clone()).or_insert_with(|| Series { start, step, values: Vec::new() });
    let Some(index) = series.index_of(start) else { return };
    if index >= series.values.len() {
        series.values.resize(index + 1, None);
    }
    series.values[index] = load;
}

fn load_of(entry: &Entry, signal: &str) -> Option<f64> {
    match entry {
        Entry::Row { measures } => measures.get(signal).copied().flatten().filter(|load| load.is_finite()),
        Entry::Zero => counts_events(signal).then_some(0.0),
        Entry::Gap => None,
    }
}

/// Whether a signal is zero when nothing happens (counts and rates), or unknown (latency, utilization).
fn counts_events(signal: &str) -> bool {
    matches!(signal, "requests" | "errors" | "bytes") || signal.ends_with("_per_second") || signal.ends_with("_count")
}

#[cfg(test)]
mod tests {
    use prescale_store::MemoryStore;
    use proptest::prelude::*;

    use super::*;

    const STEP: Span = Span::from_minutes(1);

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_millis(n * STEP.millis())
    }

    fn store_of(signal: &str) -> FeatureStore {
        let settings = HistorySettings { step: STEP, retention: Span::from_minutes(60) };
        FeatureStore::new(settings, [(ServiceName::new("web"), signal.to_owned())])
    }

    fn row(n: i64, load: f64) -> FeatureRow {
        FeatureRow {
            service: "web".into(),
            window_start: minute(n),
            window_end: minute(n + 1),
            labels: BTreeMap::new(),
            measures: BTreeMap::from([("requests".to_owned(), Some(load)), ("latency_ms_p50".to_owned(), Some(3.0))]),
        }
    }

    #[test]
    fn a_silent_window_is_zero_for_counts_and_unknown_for_latency_and_a_gap_is_a_gap() {
        let web = ServiceName::new("web");
        for (signal, silent) in [("requests", Some(0.0)), ("latency_ms_p50", None)] {
            let mut features = store_of(signal);
            assert_eq!(features.close(&web, minute(0), None, false).unwrap(), Closed::Unknown);
            features.close(&web, minute(1), Some(&row(1, 7.0)), false).unwrap();
            assert_eq!(features.close(&web, minute(2), None, false).unwrap(), Closed::Zero(silent));
            assert_eq!(features.close(&web, minute(3), None, true).unwrap(), Closed::Gap);
            let series = features.series(&web).unwrap();
            assert_eq!((series.start, &series.values[1..]), (minute(1), &[silent, None][..]));
        }
    }

    #[test]
    fn a_window_off_the_grid_is_refused_with_its_reason() {
        let mut features = store_of("requests");
        let error = features.close(&"web".into(), Timestamp::from_millis(1), Some(&row(0, 1.0)), false).unwrap_err();
        assert!(error.to_string().contains("does not start at a multiple of the step 1m"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_read_back_equals_what_was_kept(windows in prop::collection::vec(prop_oneof![
            Just(None), Just(Some(None)), (0.0..1e6_f64).prop_map(|load| Some(Some(load)))], 1..400))
        {
            let web = ServiceName::new("web");
            let (mut kept, memory) = (store_of("requests"), MemoryStore::default());
            for (n, window) in windows.iter().enumerate() {
                let n = n as i64;
                let found = window.flatten().map(|load| row(n, load));
                kept.close(&web, minute(n), found.as_ref(), window.is_none()).unwrap();
                memory.write(&kept.take_writes()).unwrap();
            }
            let mut read = store_of("requests");
            read.load(&memory).unwrap();
            prop_assert_eq!(read.series(&web), kept.series(&web));
        }
    }
}
