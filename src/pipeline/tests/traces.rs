//! The shipped access-log pipeline on real logs. Runs where `PRESCALE_TRACES` names the folder that holds them.

use std::path::PathBuf;
use std::time::Instant;

use super::*;
use crate::run_over_files;
use crate::udf::Udfs;

/// The pipeline's counters and requests by minute; `None` where the log is absent.
fn run(name: &str) -> Option<(Counters, BTreeMap<String, u64>)> {
    let path = std::env::var_os("PRESCALE_TRACES").map(|folder| PathBuf::from(folder).join("raw").join(name));
    let Some(path) = path.filter(|path| path.exists()) else {
        #[allow(clippy::print_stderr, reason = "a skipped test is named")]
        {
            eprintln!("skipped: {name} is not in PRESCALE_TRACES");
        }
        return None;
    };
    let sql = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/access_log.sql")).unwrap();
    let (mut out, start) = (Vec::new(), Instant::now());
    let counters = run_over_files(&sql, &Udfs::default(), &[("access_log".to_owned(), path)], &mut out).unwrap();
    #[allow(clippy::print_stderr, reason = "a measurement for whoever runs it by hand")]
    {
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{name}: {} lines, {:.0} lines/s", counters.read, counters.read as f64 / seconds);
    }
    let mut minutes = BTreeMap::new();
    for line in String::from_utf8(out).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        minutes.insert(row["window_start"].as_str().unwrap().to_owned(), row["requests"].as_u64().unwrap());
    }
    Some((counters, minutes))
}

/// The strict grammar by hand, without a regular expression: the line's minute in its own zone, or nothing.
fn minute(line: &str) -> Option<&str> {
    let (host, rest) = line.split_once(' ')?;
    let (ident, rest) = rest.split_once(' ')?;
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] ")?;
    let rest = quoted(rest)?.strip_prefix(' ')?;
    let (status, rest) = rest.split_once(' ')?;
    let (size, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let tail = rest.is_empty() || quoted(quoted(rest)?.strip_prefix(' ')?)?.is_empty();
    let whole = [host, ident, user].iter().all(|part| !part.is_empty() && !part.contains(' '));
    let sound = whole && status.len() == 3 && digits(status) && (size == "-" || digits(size)) && tail;
    (sound && time.len() == 26).then(|| &time[..17])
}

/// What follows a text in double quotes, in which a backslash escapes.
fn quoted(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?.char_indices();
    while let Some((at, char)) = rest.next() {
        match char {
            '"' => return Some(&text[at + 2..]),
            '\\' => drop(rest.next()?),
            _ => {}
        }
    }
    None
}

/// Requests of each minute by the hand-written grammar, and the lines that it refuses.
fn count(name: &str) -> (Vec<u64>, u64) {
    let path = PathBuf::from(std::env::var_os("PRESCALE_TRACES").unwrap()).join("raw").join(name);
    let mut source = prescale_ingest::file::FileSource::open("log", &[path], &[]).unwrap();
    let (mut minutes, mut refused) = (BTreeMap::<String, (usize, u64)>::new(), 0);
    loop {
        let polled = prescale_ingest::Source::poll(&mut source, prescale_domain::Span::ZERO).unwrap();
        for batch in &polled.batches {
            for index in 0..batch.len() {
                match std::str::from_utf8(batch.bytes(index)).ok().and_then(minute) {
                    Some(minute) => {
                        let place = minutes.len();
                        minutes.entry(minute.to_owned()).or_insert((place, 0)).1 += 1;
                    }
                    None => refused += 1,
                }
            }
        }
        if polled.ended {
            let mut by_place: Vec<_> = minutes.into_values().collect();
            by_place.sort_unstable();
            return (by_place.into_iter().map(|(_, requests)| requests).collect(), refused);
        }
    }
}

#[track_caller]
fn as_counted_by_hand(name: &str) -> Option<(Counters, BTreeMap<String, u64>)> {
    let (counters, minutes) = run(name)?;
    let (expected, refused) = count(name);
    let mut found: Vec<u64> = minutes.values().copied().collect();
    let mut sorted = expected;
    found.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    assert_eq!((counters.bad(), counters.late), (refused, 0));
    Some((counters, minutes))
}

#[test]
fn the_week_of_common_log_lines() {
    let name = "RECONSTRUCTED_nasa_clf_19950710_week.log.gz";
    let Some((counters, minutes)) = as_counted_by_hand(name) else { return };
    assert_eq!(counters.read, 557_495);
    assert_eq!(minutes.len(), 7 * 1440 - 47, "47 minutes are empty");
    // The log is in order: its minutes are those of the hand count one by one.
    assert_eq!(minutes.values().copied().collect::<Vec<_>>(), count(name).0);
}

#[test]
fn the_combined_log() {
    let Some((counters, _)) = as_counted_by_hand("apache_combined_semicomplete_2015.log.gz") else { return };
    assert_eq!((counters.read, counters.bad()), (10_000, 1));
}

#[test]
fn lines_of_the_original_log() {
    as_counted_by_hand("nasa_access_log_aug95_first_lines.log.gz");
}
