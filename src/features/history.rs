//! Regular history of every service. Rule: one entry for each closed window, written once, upserted by (service, window
//! start); a gap is a gap and a silent window of a known service is zero; silence takes nothing back that is known.

use std::collections::{BTreeMap, VecDeque};

use prescale_domain::{FeatureRow, Series, ServiceName, Span, Timestamp};
use prescale_store::{Store, Table, Write, prefix_end, service_time_key};
use serde::{Deserialize, Serialize};

use crate::FeatureError;
use crate::coarse::{self, CoarseWindow};
use crate::covariates::{Covariate, measure};

/// How long and how finely history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Width of a window.
    pub step: Span,
    /// Age, before the newest window, up to which windows are kept as they are.
    pub retention: Span,
    /// Age up to which hours of older ones are kept; zero = older windows are forgotten.
    pub coarse_retention: Span,
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

/// Histories of the load signals and of what is kept beside them, in memory for the models and in the store for restarts.
pub struct FeatureStore {
    settings: HistorySettings,
    signals: BTreeMap<ServiceName, String>,
    series: BTreeMap<ServiceName, Series>,
    /// By service in the order of the configuration: its name there, and what it is.
    covariates: BTreeMap<ServiceName, Vec<(String, Covariate)>>,
    /// By service and column; each begins with a known value, and may end before the load does.
    measures: BTreeMap<ServiceName, BTreeMap<String, Series>>,
    /// Start of the oldest hour that is kept of older windows.
    coarse_from: BTreeMap<ServiceName, Timestamp>,
    unwritten: VecDeque<Write>,
}

impl FeatureStore {
    /// An empty store for services and their load signals (names of feature columns).
    pub fn new(settings: HistorySettings, signals: impl IntoIterator<Item = (ServiceName, String)>) -> Self {
        Self {
            settings,
            signals: signals.into_iter().collect(),
            series: BTreeMap::new(),
            covariates: BTreeMap::new(),
            measures: BTreeMap::new(),
            coarse_from: BTreeMap::new(),
            unwritten: VecDeque::new(),
        }
    }

    /// The same with covariates, by service and as the configuration names them. Rows of former runs have them too, so that
    /// one that is named later has its past.
    pub fn with_covariates(mut self, names: impl IntoIterator<Item = (ServiceName, Vec<String>)>) -> Self {
        let parsed = |names: Vec<String>| {
            let each = names.into_iter().map(|name| {
                let Ok(covariate) = name.parse::<Covariate>();
                (name, covariate)
            });
            each.collect()
        };
        self.covariates = names.into_iter().map(|(service, names)| (service, parsed(names))).collect();
        self
    }

    /// Reads back what [`FeatureStore::take_writes`] handed out for writing.
    pub fn load(&mut self, store: &dyn Store) -> Result<(), FeatureError> {
        self.series.clear();
        self.measures.clear();
        self.coarse_from.clear();
        for (name, signal) in &self.signals {
            let prefix = service_time_key(name, Timestamp::MIN)[..=name.as_str().len()].to_vec();
            for (key, value) in store.range(Table::History, &prefix, &prefix_end(&prefix), usize::MAX, false)? {
                let corrupt = |error: String| FeatureError::Corrupt { service: name.to_string(), error };
                let time: [u8; 8] = key[prefix.len()..].try_into().map_err(|_| corrupt("key of odd length".into()))?;
                let start = Timestamp::from_millis(i64::from_be_bytes(time) ^ i64::MIN);
                let entry: Entry = serde_json::from_slice(&value).map_err(|error| corrupt(error.to_string()))?;
                let load = load_of(&entry, signal);
                place(&mut self.series, name, self.settings.step, start, load);
                let covariates = self.covariates.get(name).map_or(&[][..], Vec::as_slice);
                measured(&mut self.measures, name, (covariates, &entry), (start, self.settings.step));
            }
            if let Some(oldest) = coarse::oldest(store, name)? {
                self.coarse_from.insert(name.clone(), oldest);
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
            Some(row) => Entry::Row { measures: self.completed(service, signal, row, is_gap) },
            None if !self.series.contains_key(service) => return Ok(Closed::Unknown),
            None if is_gap => Entry::Gap,
            None => Entry::Zero,
        };
        let load = load_of(&entry, signal);
        let closed = |load| match entry {
            Entry::Row { .. } => Closed::Row(load),
            Entry::Zero => Closed::Zero(load),
            Entry::Gap => Closed::Gap,
        };
        if let Some(held) = self.series.get(service) {
            let known = held.at(window_start);
            let mut own = self.measures.get(service).into_iter().flat_map(BTreeMap::values);
            let is_known = known.is_some() || own.any(|measure| measure.at(window_start).is_some());
            if is_known && row.is_none() {
                return Ok(Closed::Row(known));
            }
            // A back-fill has brought newer windows; these would be retired at once.
            if window_start < held.start.min(self.fine_from(held.end())) {
                return Ok(closed(load));
            }
        }
        place(&mut self.series, service, step, window_start, load);
        let covariates = self.covariates.get(service).map_or(&[][..], Vec::as_slice);
        measured(&mut self.measures, service, (covariates, &entry), (window_start, step));
        self.unwritten.push_back(written(service, window_start, &entry)?);
        let closed = closed(load);
        self.retire(service)?;
        Ok(closed)
    }

    /// What `look` makes of the history of a service with one more window, which is not closed yet and of which `load` is
    /// known so far; the history is afterwards what it was. `None` = there is no history, or it has that window.
    pub fn ahead<T>(
        &mut self,
        service: &ServiceName,
        window_start: Timestamp,
        load: f64,
        look: impl FnOnce(&Self, &Series) -> T,
    ) -> Option<T> {
        let mut series = self.series.remove(service)?;
        let known = series.values.len();
        let missing = window_start.since(series.end()).millis() / self.settings.step.millis().max(1);
        let made = usize::try_from(missing).ok().filter(|_| window_start >= series.end()).map(|missing| {
            series.values.resize(known + missing, None);
            series.values.push(Some(load));
            let made = look(self, &series);
            series.values.truncate(known);
            made
        });
        self.series.insert(service.clone(), series);
        made
    }

    /// The measures of a row, with the zeros of counts that were known before and that it does not have: the pipeline that
    /// counts was silent where another had something to say.
    fn completed(
        &self,
        service: &ServiceName,
        signal: &str,
        row: &FeatureRow,
        is_gap: bool,
    ) -> BTreeMap<String, Option<f64>> {
        let mut measures = row.measures.clone();
        if is_gap {
            return measures;
        }
        let was_known = |held: Option<&Series>| held.is_some_and(|held| held.values.iter().rev().any(Option::is_some));
        if counts_events(signal) && !measures.contains_key(signal) && was_known(self.series.get(service)) {
            measures.insert(signal.to_owned(), Some(0.0));
        }
        for column in self.measures.get(service).into_iter().flat_map(BTreeMap::keys) {
            if counts_events(column) && !measures.contains_key(column) {
                measures.insert(column.clone(), Some(0.0));
            }
        }
        measures
    }

    /// Enters a history from elsewhere: what it has before all windows that are held of `service`. So a history can be
    /// offered again and again, and nothing that was heard itself is replaced. Windows that are older than the retention
    /// become hours. Says how many known windows were taken.
    ///
    /// # Errors
    /// Windows that are not those of this store.
    pub fn back_fill(&mut self, service: &ServiceName, history: &Series) -> Result<usize, FeatureError> {
        let Some(signal) = self.signals.get(service).cloned() else { return Ok(0) };
        let step = self.settings.step;
        if history.step != step || history.start.floor_to(step) != history.start {
            return Err(FeatureError::Misaligned {
                service: service.to_string(),
                window_start: history.start.to_string(),
                step: step.to_string(),
            });
        }
        let held = self.series.get(service);
        let offered = held.map_or(&history.values[..], |held| history.before(held.start));
        let Some(first) = offered.iter().position(Option::is_some) else { return Ok(0) };
        let last = offered.iter().rposition(Option::is_some).unwrap_or(first);
        let at = |index: usize| history.start + Span::from_millis(step.millis() * index as i64);
        let end = held.map_or(at(last + 1), Series::end);
        // The hour that the held history begins in stays together.
        let whole = held.map_or(end, |held| held.start.floor_to(coarse::grain(step)));
        let fine_from = self.fine_from(end).min(whole);
        let old = fine_from.since(at(first)).steps_up(step).min(last + 1 - first) + first;
        let mut hours = coarse::summaries(at(first), step, &offered[first..old]);
        hours.retain(|hour| self.coarse_from.get(service).is_none_or(|kept_from| hour.start < *kept_from));
        let mut taken = self.write_hours(service, hours, (fine_from, end))?;
        for (index, value) in offered[..=last].iter().enumerate().skip(old) {
            let entry = match value {
                Some(_) => Entry::Row { measures: BTreeMap::from([(signal.clone(), *value)]) },
                None => Entry::Gap,
            };
            self.unwritten.push_back(written(service, at(index), &entry)?);
            taken += usize::from(value.is_some());
        }
        if old <= last {
            // From the oldest on: makes room once.
            for (index, value) in offered[..=last].iter().enumerate().skip(old) {
                place(&mut self.series, service, step, at(index), *value);
            }
        }
        Ok(taken)
    }

    /// The load of `service` in all closed windows; `None` before its first.
    pub fn series(&self, service: &ServiceName) -> Option<&Series> {
        self.series.get(service)
    }

    /// What there is of the covariates of `service`, by name, in the order of the configuration: a measure begins with its
    /// first known window, the load of another service is all of its history. One that was never measured is left out.
    pub fn covariates<'a>(&'a self, service: &ServiceName) -> impl Iterator<Item = (&'a str, &'a Series)> + use<'a> {
        let own = self.measures.get(service);
        let named = self.covariates.get(service).into_iter().flatten();
        named.filter_map(move |(name, covariate)| {
            let series = match covariate {
                Covariate::Measure(column) => own?.get(column)?,
                Covariate::Load(other) => self.series.get(other)?,
            };
            Some((name.as_str(), series))
        })
    }

    /// What of the history of `service` was known at `now`: the start of its first window, and the load of all that had
    /// ended by then. Whatever comes later does not change it, but that old windows are retired.
    pub fn known(&self, service: &ServiceName, now: Timestamp) -> Option<(Timestamp, &[Option<f64>])> {
        let series = self.series.get(service)?;
        let ended = series.before(now - series.step + Span::from_millis(1));
        (!ended.is_empty()).then_some((series.start, ended))
    }

    /// The load of `service` by hour, for reports over a longer time than models look at: hours of windows that were
    /// retired, as `store` has them, and then those of the windows that are still held, the last of them under way.
    ///
    /// # Errors
    /// A store that can't be read.
    pub fn hours(&self, store: &dyn Store, service: &ServiceName) -> Result<Vec<CoarseWindow>, FeatureError> {
        let Some(signal) = self.signals.get(service) else { return Ok(Vec::new()) };
        let held = self.series.get(service);
        let until = held.map_or(Timestamp::MAX, |held| held.start.floor_to(coarse::grain(held.step)));
        let mut hours = coarse::read(store, (service, signal), Timestamp::MIN, until)?;
        hours.extend(held.map(|held| coarse::summaries(held.start, held.step, &held.values)).unwrap_or_default());
        Ok(hours)
    }

    /// All histories, by service.
    pub fn all(&self) -> &BTreeMap<ServiceName, Series> {
        &self.series
    }

    /// Changes since the last call, to be written together with whatever was derived from them.
    pub fn take_writes(&mut self) -> Vec<Write> {
        self.unwritten.drain(..).collect()
    }

    /// The start of the first window that stays fine in a history that ends at `end`: whole hours leave it.
    fn fine_from(&self, end: Timestamp) -> Timestamp {
        (end - self.settings.retention).floor_to(coarse::grain(self.settings.step))
    }

    /// Moves windows older than the retention into hours, a day at a time.
    fn retire(&mut self, service: &ServiceName) -> Result<(), FeatureError> {
        const SLACK: Span = Span::from_minutes(24 * 60);
        let step = self.settings.step;
        let Some(series) = self.series.get(service) else { return Ok(()) };
        let (start, end) = (series.start, series.end());
        let surplus = self.fine_from(end).since(start).steps_up(step).min(series.values.len());
        if surplus < SLACK.steps_up(step) {
            return Ok(());
        }
        for index in 0..surplus {
            let start = start + Span::from_millis(step.millis() * index as i64);
            let key = service_time_key(service, start);
            self.unwritten.push_back(Write { table: Table::History, key, value: None });
        }
        if let Some(measures) = self.measures.get_mut(service) {
            let fine_from = start + Span::from_millis(step.millis() * surplus as i64);
            measures.values_mut().for_each(|measure| forget(measure, fine_from));
            measures.retain(|_, measure| !measure.values.is_empty());
        }
        let Some(series) = self.series.get_mut(service) else { return Ok(()) };
        let old: Vec<Option<f64>> = series.values.drain(..surplus).collect();
        series.start = start + Span::from_millis(step.millis() * surplus as i64);
        let fine_from = series.start;
        self.write_hours(service, coarse::summaries(start, step, &old), (fine_from, end))?;
        Ok(())
    }

    /// Writes hours of windows before `fine_from`, and forgets those that are too old for a history that ends at `end`.
    /// Says how many known windows are in what was written.
    fn write_hours(
        &mut self,
        service: &ServiceName,
        mut hours: Vec<CoarseWindow>,
        (fine_from, end): (Timestamp, Timestamp),
    ) -> Result<usize, FeatureError> {
        let Some(signal) = self.signals.get(service) else { return Ok(0) };
        let grain = coarse::grain(self.settings.step);
        let kept_from = (end - self.settings.coarse_retention).floor_to(grain).min(fine_from);
        hours.retain(|hour| hour.start >= kept_from);
        for hour in &hours {
            self.unwritten.push_back(coarse::kept(service, signal, hour)?);
        }
        let oldest = self.coarse_from.entry(service.clone()).or_insert(fine_from);
        *oldest = hours.first().map_or(*oldest, |hour| hour.start.min(*oldest));
        while *oldest < kept_from {
            self.unwritten.push_back(coarse::forgotten(service, *oldest));
            *oldest = *oldest + grain;
        }
        Ok(hours.iter().map(|hour| hour.known as usize).sum())
    }
}

/// The start of the first window that `store` holds of `service`.
///
/// # Errors
/// A store that can't be read.
pub fn first_window(store: &dyn Store, service: &ServiceName) -> Result<Option<Timestamp>, FeatureError> {
    let (from, to) = (service_time_key(service, Timestamp::MIN), service_time_key(service, Timestamp::MAX));
    let found = store.range(Table::History, &from, &to, 1, false)?;
    let time = found.first().and_then(|(key, _)| key.last_chunk::<8>().copied());
    Ok(time.map(|time| Timestamp::from_millis(i64::from_be_bytes(time) ^ i64::MIN)))
}

/// The change that keeps one window.
fn written(service: &ServiceName, start: Timestamp, entry: &Entry) -> Result<Write, FeatureError> {
    let value = serde_json::to_vec(entry)
        .map_err(|error| FeatureError::Corrupt { service: service.to_string(), error: error.to_string() })?;
    Ok(Write { table: Table::History, key: service_time_key(service, start), value: Some(value) })
}

/// Puts a value at its place; windows in between that nobody closed are gaps.
fn place(
    all: &mut BTreeMap<ServiceName, Series>,
    service: &ServiceName,
    step: Span,
    start: Timestamp,
    load: Option<f64>,
) {
    put(all.entry(service.clone()).or_insert_with(|| Series { start, step, values: Vec::new() }), start, load);
}

/// Puts what a window says of covariates at its place. Nothing is kept of one that was never measured.
fn measured(
    all: &mut BTreeMap<ServiceName, BTreeMap<String, Series>>,
    service: &ServiceName,
    (covariates, entry): (&[(String, Covariate)], &Entry),
    (start, step): (Timestamp, Span),
) {
    for (_, covariate) in covariates {
        let Covariate::Measure(column) = covariate else { continue };
        let value = load_of(entry, column);
        let Some(own) = all.get_mut(service).and_then(|own| own.get_mut(column)) else {
            // The zero of a silent window is no measure.
            if value.is_some() && matches!(entry, Entry::Row { .. }) {
                let series = Series { start, step, values: vec![value] };
                all.entry(service.clone()).or_default().insert(column.clone(), series);
            }
            continue;
        };
        if value.is_some() || own.at(start).is_some() {
            put(own, start, value);
        }
    }
}

/// Forgets the windows before `from`, and gaps after them up to the next known one.
fn forget(series: &mut Series, from: Timestamp) {
    let old = series.before(from).len();
    let gaps = series.values[old..].iter().position(Option::is_some).unwrap_or(series.values.len() - old);
    series.values.drain(..old + gaps);
    series.start = series.start + Span::from_millis(series.step.millis() * (old + gaps) as i64);
}

fn put(series: &mut Series, start: Timestamp, load: Option<f64>) {
    if start < series.start {
        let missing = series.start.since(start).steps_up(series.step);
        series.values.splice(..0, std::iter::repeat_n(None, missing));
        series.start = start;
    }
    let Some(index) = series.index_of(start) else { return };
    if index >= series.values.len() {
        series.values.resize(index + 1, None);
    }
    series.values[index] = load;
}

fn load_of(entry: &Entry, signal: &str) -> Option<f64> {
    match entry {
        Entry::Row { measures } => measure(measures, signal),
        Entry::Zero => counts_events(signal).then_some(0.0),
        Entry::Gap => None,
    }
}

/// Whether a signal is zero when nothing happens (counts and rates), or unknown (latency, utilization).
fn counts_events(signal: &str) -> bool {
    matches!(signal, "requests" | "errors" | "bytes") || signal.ends_with("_per_second") || signal.ends_with("_count")
}

#[cfg(test)]
mod tests;
