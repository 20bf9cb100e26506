//! Histories from outside: CSV, NDJSON and Parquet files, and Prometheus. Rule: what is not a history is refused by line or
//! row with what to do about it; nothing is guessed, and a gap stays a gap.

mod columns;
mod instant;
mod prometheus;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use prescale_domain::{RowsError, Series, ServiceName, Span, Timestamp};
use thiserror::Error;

pub use self::columns::Columns;
pub use self::instant::{InstantError, InstantQuery, Sample, query_instant};
pub use self::prometheus::{PrometheusQuery, query_prometheus};

/// A history that can't be used.
#[derive(Debug, Error)]
#[error("history `{place}`{row}: {reason}\nhint: {hint}")]
pub struct HistoryError {
    place: String,
    /// Such as ` line 3`, or nothing.
    row: String,
    reason: String,
    hint: String,
    is_passing: bool,
}

impl HistoryError {
    /// Whether the same question may be answered later: a server is out of reach.
    pub fn is_passing(&self) -> bool {
        self.is_passing
    }
}

/// What is wrong, and what to do about it; the place comes later.
#[derive(Debug)]
struct Fault {
    /// `None` = the whole.
    row: Option<Row>,
    reason: String,
    hint: String,
    is_passing: bool,
}

/// Where in a source.
#[derive(Clone, Copy, Debug)]
enum Row {
    /// A line of text, from 1.
    Line(u64),
    /// A row of a table, from 1.
    Number(u64),
}

type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    fn whole(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { row: None, reason: reason.into(), hint: hint.into(), is_passing: false }
    }

    fn at(row: Row, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { row: Some(row), ..Self::whole(reason, hint) }
    }

    fn of(self, place: &str) -> HistoryError {
        let row = match self.row {
            None => String::new(),
            Some(Row::Line(number)) => format!(" line {number}"),
            Some(Row::Number(number)) => format!(" row {number}"),
        };
        let Self { reason, hint, is_passing, .. } = self;
        HistoryError { place: place.to_owned(), row, reason, hint, is_passing }
    }
}

const TIME_HINT: &str = "write times as RFC 3339, such as 2026-11-23T08:00:00Z";
const VALUE_HINT: &str = "write loads as numbers of at least 0, and nothing where the load is not known";

/// Rows of one source, by service where it names services.
#[derive(Debug, Default)]
pub struct Histories {
    place: String,
    is_text: bool,
    /// Under the empty name where there is no column for it.
    rows: BTreeMap<String, Vec<(Timestamp, Option<f64>, u32)>>,
    names_services: bool,
    /// It is what a server answered.
    is_asked: bool,
}

impl Histories {
    fn new(place: &str, is_text: bool) -> Self {
        Self { place: place.to_owned(), is_text, ..Self::default() }
    }

    fn push(&mut self, service: &str, row: (Timestamp, Option<f64>), number: u64) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let entry = (row.0, row.1, number);
        match self.rows.get_mut(service) {
            Some(rows) => rows.push(entry),
            None => drop(self.rows.insert(service.to_owned(), vec![entry])),
        }
    }

    /// Whether there are rows of `service`: of it by name, or any where services are not named.
    pub fn has(&self, service: &ServiceName) -> bool {
        self.rows.contains_key(if self.names_services { service.as_str() } else { "" })
    }

    /// Whether rows are told apart by service.
    pub fn names_services(&self) -> bool {
        self.names_services
    }

    /// The services that are named.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The history of `service` in windows of `step`. Without services in the source it is all of it; without a `service`
    /// it is that of the only one. Windows without a row are gaps; of several rows of one window the last counts.
    ///
    /// # Errors
    /// The service is not there, several are and none was asked for, or a time is no start of a window after the first.
    pub fn series(&self, service: Option<&ServiceName>, step: Span) -> std::result::Result<Series, HistoryError> {
        let chosen = self.chosen(service).and_then(|rows| {
            Series::of_rows(rows.iter().map(|(time, value, _)| (*time, *value)), step).map_err(|error| match error {
                RowsError::Empty => Fault::whole("there are no rows", self.empty_hint()),
                RowsError::TooMany { count } => {
                    let reason = format!("{count} windows of {step} are too many");
                    Fault::whole(reason, "is the step right, and are all times of the same era?")
                }
                RowsError::OffGrid { index, time, start } => {
                    let number = u64::from(rows[index].2);
                    let row = if self.is_text { Row::Line(number) } else { Row::Number(number) };
                    let hint = format!("name the step of the data, or bring it to windows of {step} first");
                    Fault::at(row, format!("{time} is no multiple of {step} after {start}"), hint)
                }
            })
        });
        chosen.map_err(|fault| fault.of(&self.place))
    }

    fn empty_hint(&self) -> &'static str {
        if self.is_asked {
            "see in Prometheus that the query has values in that time"
        } else {
            "name a file that has some"
        }
    }

    fn chosen(&self, service: Option<&ServiceName>) -> Result<&[(Timestamp, Option<f64>, u32)]> {
        const SHOWN: usize = 10;
        let names = || {
            let shown: Vec<_> = self.services().take(SHOWN).collect();
            let more = self.rows.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", shown.join(", "))
        };
        if !self.names_services {
            return Ok(self.rows.get("").map_or(&[], Vec::as_slice));
        }
        if let Some(service) = service {
            let rows = self.rows.get(service.as_str()).map(Vec::as_slice);
            let reason = || format!("it has no rows of service `{service}`, but of: {}", names());
            return rows.ok_or_else(|| Fault::whole(reason(), "name the service as the history does"));
        }
        match self.rows.len() {
            0 | 1 => Ok(self.rows.values().next().map_or(&[], Vec::as_slice)),
            count => Err(Fault::whole(format!("it has {count} services: {}", names()), "name one of them")),
        }
    }
}

/// Reads a file: Parquet (`.parquet`), NDJSON (`.ndjson`, `.jsonl`, `.json`) or CSV (any other); text may be packed (`.gz`).
/// `signals` are further names that the column of the load may have.
///
/// # Errors
/// The first line or row that is none of a history.
pub fn read_history(path: &Path, columns: &Columns, signals: &[&str]) -> std::result::Result<Histories, HistoryError> {
    let place = path.display().to_string();
    let read = || {
        let unread = |error: std::io::Error| Fault::whole(error.to_string(), "name a file that can be read");
        let file = File::open(path).map_err(unread)?;
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let (name, is_packed) = name.strip_suffix(".gz").map_or((name.as_str(), false), |inner| (inner, true));
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".parquet"]) {
            if is_packed {
                let hint = "unpack it; Parquet packs its columns itself";
                return Err(Fault::whole("a Parquet file in .gz can't be read from its end", hint));
            }
            let read = || table::read_parquet(file, Histories::new(&place, false), columns, signals);
            // The reader of Parquet takes what a damaged file says for granted in places.
            return catch_unwind(AssertUnwindSafe(read))
                .unwrap_or_else(|_| Err(Fault::whole("the file is damaged", "write the file again")));
        }
        let bytes: Box<dyn Read> = if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let (source, histories) = (BufReader::with_capacity(1 << 16, bytes), Histories::new(&place, true));
        if ends(&[".ndjson", ".jsonl", ".json"]) {
            text::read_ndjson(source, histories, columns, signals)
        } else {
            text::read_csv(source, histories, columns, signals)
        }
    };
    read().map_err(|fault: Fault| fault.of(&place))
}

/// A load as text; empty = not known.
fn load(text: &str, row: Row) -> Result<Option<f64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Fault::at(row, format!("value `{text}` is not a number of at least 0"), VALUE_HINT);
    checked(text.parse::<f64>().map_err(|_| wrong())?, row).map(Some)
}

/// A load that is one.
fn checked(value: f64, row: Row) -> Result<f64> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(Fault::at(row, format!("value `{value}` is not a number of at least 0"), VALUE_HINT))
}

fn time(text: &str, row: Row) -> Result<Timestamp> {
    text.parse().map_err(|_| Fault::at(row, format!("`{text}` is no time"), TIME_HINT))
}
