//! Shadow mode in a running service: follows the loop, keeps its book with the loop's snapshots, tells the API and writes a
//! file for each day. Rule: what is told follows from what the loop did and from its time alone, so that a replay gives the same files;
//! a file is whole or absent, and one that can't be written stops nobody.
//!
//! The book is kept, not made again from recorded decisions: those are many, and how long they are kept is no business of
//! the book's. It is written in the transaction that also says how far the loop has read, so that after a crash no window
//! counts twice and none is missing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prescale_controller::Follower;
use prescale_controller::view::ShadowReports;
use prescale_domain::{Decision, ServiceName, ShadowReport, Span, Timestamp};
use prescale_simulation::shadow::{Kept, Shadow, ShadowEvent, ShadowSettings};
use prescale_store::{Store, StoreError, Table, Write, prefix_end, service_time_key};
use prescale_telemetry::controller::ReportUnwritten;

use crate::config::{Config, Loaded};

/// How often the file of a day that is not over is written anew.
const FILES_EVERY: Span = Span::from_minutes(5);

/// The book of all services. Readers hold it for as long as one page takes.
pub(crate) struct Shadowing {
    folder: PathBuf,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    shadow: Shadow,
    /// The latest moment that the loop has told of, and that of the last files.
    now: Option<Timestamp>,
    written: Option<Timestamp>,
    /// Days whose file is not as the book is.
    behind: BTreeSet<Timestamp>,
}

/// What a file holds.
#[derive(serde::Serialize)]
struct DayFile<'a> {
    day: Timestamp,
    reports: &'a [ShadowReport],
}

impl Shadowing {
    /// The book as it is in `store`; `None` = shadow mode is off.
    pub(crate) fn of(loaded: &Loaded, store: &dyn Store) -> Result<Option<Arc<Self>>, StoreError> {
        let config = &loaded.config;
        if !config.shadow.enabled {
            return Ok(None);
        }
        let folder = match config.shadow.reports.as_str() {
            "" => loaded.directory.join(&config.state.dir).join("shadow"),
            reports => loaded.directory.join(reports),
        };
        let mut shadow = Shadow::new(settings(config));
        let damaged = |error: String| StoreError::Damaged { object: "shadow".to_owned(), error };
        shadow.restore(&read(config, store)?).map_err(|error| damaged(error.to_string()))?;
        // What a crash may have kept from its file: that of today and of the day before.
        let newest = shadow.day_before(None, Timestamp::MAX);
        let behind = newest.into_iter().chain(newest.and_then(|day| shadow.day_before(None, day))).collect();
        let book = Mutex::new(Book { shadow, behind, ..Book::default() });
        Ok(Some(Arc::new(Self { folder, book })))
    }

    /// Writes the files that are behind.
    pub(crate) fn write_files(&self) {
        self.write_due(&mut self.book(), Span::ZERO);
    }

    fn write_due(&self, book: &mut Book, every: Span) {
        let Some(now) = book.now else { return };
        if book.written.is_some_and(|written| now.since(written) < every) {
            return;
        }
        book.written = Some(now);
        let behind = std::mem::take(&mut book.behind);
        for day in behind {
            let path = self.folder.join(file_name(day));
            if let Err(error) = replace(&path, &DayFile { day, reports: &book.shadow.of_day(day) }) {
                book.behind.insert(day);
                ReportUnwritten { file: &path.display().to_string(), error: &error.to_string() }.emit();
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Sums are added one by one: a book that was left in the middle lacks a moment at most.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the book that the loop holds.
pub(crate) struct ShadowFollower(pub(crate) Arc<Shadowing>);

impl Follower for ShadowFollower {
    fn closed(&mut self, service: &ServiceName, start: Timestamp, end: Timestamp, load: Option<f64>) {
        let mut book = self.0.book();
        book.now = book.now.max(Some(end));
        book.shadow.take(service, ShadowEvent::Closed { start, end, load });
    }

    fn decided(&mut self, decision: &Decision) {
        let mut book = self.0.book();
        book.now = book.now.max(Some(decision.at));
        for event in ShadowEvent::of(decision) {
            book.shadow.take(&decision.service, event);
        }
    }

    fn take_writes(&mut self) -> Vec<Write> {
        let mut book = self.0.book();
        let changes = book.shadow.changes();
        book.behind.extend(changes.iter().filter_map(|kept| kept.day.filter(|_| kept.value.is_some())));
        self.0.write_due(&mut book, FILES_EVERY);
        changes.into_iter().map(write).collect()
    }
}

impl ShadowReports for Shadowing {
    fn totals(&self) -> Vec<ShadowReport> {
        self.book().shadow.totals()
    }

    fn day(&self, day: Timestamp) -> Vec<ShadowReport> {
        self.book().shadow.of_day(day)
    }

    fn day_before(&self, service: Option<&ServiceName>, before: Timestamp) -> Option<Timestamp> {
        self.book().shadow.day_before(service, before)
    }
}

fn settings(config: &Config) -> Vec<(ServiceName, ShadowSettings)> {
    let of_one = |service: &crate::config::ServiceConfig| {
        let policy = service.policy_settings(&config.policy);
        let settings = ShadowSettings {
            min: policy.min_units,
            max: policy.max_units,
            price_usd_hour: service.target.price_usd_hour(),
            budget_pct: Some(100.0 * policy.planning.violation_budget),
            observed_max_age: policy.blind_after,
        };
        (ServiceName::new(&service.name), settings)
    };
    config.services.iter().map(of_one).collect()
}

/// Before all days of a service.
const HEAD: Timestamp = Timestamp::MIN;

fn write(kept: Kept) -> Write {
    let key = service_time_key(&kept.service, kept.day.unwrap_or(HEAD));
    Write { table: Table::Shadow, key, value: kept.value.map(String::into_bytes) }
}

fn read(config: &Config, store: &dyn Store) -> Result<Vec<Kept>, StoreError> {
    let mut all = Vec::new();
    for service in &config.services {
        let service = ServiceName::new(&service.name);
        let head = service_time_key(&service, HEAD);
        let prefix = &head[..head.len() - size_of::<i64>()];
        for (key, value) in store.range(Table::Shadow, prefix, &prefix_end(prefix), usize::MAX, false)? {
            // Sign flipped, so that times sort: see `service_time_key`.
            let millis = key.last_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes) ^ i64::MIN);
            let day = millis.map(Timestamp::from_millis).filter(|day| *day != HEAD);
            let value = Some(String::from_utf8_lossy(&value).into_owned());
            all.push(Kept { service: service.clone(), day, value });
        }
    }
    Ok(all)
}

/// `2026-11-26.json`
fn file_name(day: Timestamp) -> String {
    let text = day.to_string();
    format!("{}.json", text.split_once('T').map_or(text.as_str(), |(date, _)| date))
}

/// Writes a file beside `path` and puts it in its place.
fn replace(path: &Path, value: &impl serde::Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(value)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = path.with_extension("json.part");
    let mut file = fs::File::create(&part)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}
