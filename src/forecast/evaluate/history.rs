//! Traces as text, for tests, examples and benches of this crate; users' histories are read by `ingest`. Rule: what is not
//! a history is refused by line; nothing is guessed.

use std::io::Read;

use prescale_domain::{RowsError, Series, Span, Timestamp};

use crate::error::{ForecastCrateError, Result};

/// Reads `timestamp,value` lines with RFC 3339 times in any order of time; windows without a line or with an empty value
/// are gaps, a window that is named twice keeps the last.
///
/// # Errors
/// A line that is not of this form, a time that is no start of a window of width `step`, or an unreadable source.
pub fn parse_csv(mut source: impl Read, step: Span) -> Result<Series> {
    let fail = |line: usize, reason: String| ForecastCrateError::History { line, reason };
    let mut text = String::new();
    source.read_to_string(&mut text).map_err(|error| fail(0, error.to_string()))?;
    let mut rows: Vec<(Timestamp, Option<f64>)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim().trim_start_matches('\u{feff}'));
        if line.is_empty() || (index == 0 && line.starts_with("timestamp")) {
            continue;
        }
        let (time, value) = line.split_once(',').ok_or_else(|| fail(number, "has no comma".into()))?;
        let time: Timestamp =
            time.trim().parse().map_err(|error: prescale_domain::TimeError| fail(number, error.to_string()))?;
        let value = match value.split(',').next().unwrap_or("").trim() {
            "" => None,
            text => Some(
                text.parse::<f64>()
                    .ok()
                    .filter(|value| value.is_finite() && *value >= 0.0)
                    .ok_or_else(|| fail(number, format!("value `{text}` is not a number of at least 0")))?,
            ),
        };
        rows.push((time, value));
    }
    Series::of_rows(rows.iter().copied(), step).map_err(|error| match error {
        RowsError::Empty => fail(0, error.to_string()),
        RowsError::TooMany { count } => {
            fail(0, format!("{count} windows of {step} are too many; hint: is the step right?"))
        }
        RowsError::OffGrid { index, time, start } => {
            fail(index + 2, format!("{time} is no multiple of {step} after {start}; hint: choose another step"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_without_a_line_are_gaps() {
        let text = "timestamp,value\n2026-01-01T00:00:00Z,1\n2026-01-01T00:03:00Z,4\n2026-01-01T00:01:00Z,\n";
        let series = parse_csv(text.as_bytes(), Span::from_minutes(1)).unwrap();
        assert_eq!(series.values, [Some(1.0), None, None, Some(4.0)]);
    }

    #[track_caller]
    fn refused(text: &str, reason: &str) {
        let error = parse_csv(text.as_bytes(), Span::from_minutes(1)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn what_is_not_a_history_is_refused_by_line() {
        refused("", "there are no rows");
        refused("timestamp,value\nyesterday,1\n", "line 2");
        refused("2026-01-01T00:00:00Z;1\n", "line 1: has no comma");
        refused("2026-01-01T00:00:00Z,-1\n", "at least 0");
        refused("2026-01-01T00:00:00Z,1\n2026-01-01T00:00:30Z,1\n", "no multiple of 1m");
    }
}
