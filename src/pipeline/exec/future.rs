//! Rows of the far future. Rule: whether a row is one depends on its own record alone, by how much its event time is after
//! the timestamp of the record, so that one wrong clock closes no window and every replay says the same.

use arrow::array::BooleanArray;
use prescale_domain::{Span, Timestamp};
use prescale_ingest::RawBatch;

use super::rows::Failure;

const MILLI: i64 = 1_000_000;

/// The latest time in nanoseconds that record `record` may speak of; a record without a timestamp may speak of any.
fn latest(limit_millis: i64, raw: &RawBatch, record: u32) -> i64 {
    match raw.timestamps.get(record as usize) {
        None | Some(&i64::MIN) => i64::MAX,
        Some(&timestamp) => timestamp.saturating_add(limit_millis).saturating_mul(MILLI),
    }
}

/// Which rows are of no far future, by their event times and the watermarks that they propose; `None` = all.
pub(super) fn kept(
    limit_millis: i64,
    raw: &RawBatch,
    index: &[u32],
    times: &[i64],
    watermarks: &[i64],
) -> Option<BooleanArray> {
    let rows = || index.iter().zip(times.iter().zip(watermarks));
    let is_kept =
        |(record, (time, watermark)): (&u32, (&i64, &i64))| *time.max(watermark) <= latest(limit_millis, raw, *record);
    (!rows().all(is_kept)).then(|| rows().map(is_kept).map(Some).collect())
}

/// What is told of the rows that are not kept.
pub(super) fn failures(
    limit_millis: i64,
    raw: &RawBatch,
    index: &[u32],
    times: &[i64],
    kept: &BooleanArray,
) -> Vec<Failure> {
    let rows = index.iter().zip(times).zip(kept.values());
    let gone = rows.filter_map(|((record, time), kept)| (!kept).then_some((*record, *time)));
    let limit = Span::from_millis(limit_millis);
    gone.map(|(record, time)| {
        let time = Timestamp::from_millis(time.div_euclid(MILLI));
        let sent = Timestamp::from_millis(raw.timestamps[record as usize]);
        (record, format!("event time is {time}, the record is of {sent}: more than {limit} ahead"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_may_be_ahead_of_its_record_by_the_limit_and_no_more() {
        let mut raw = RawBatch::new("t".into(), 0);
        for timestamp in [Some(1000), Some(1000), None, Some(i64::MAX), Some(1000)] {
            raw.push(0, timestamp, Some(b""));
        }
        let (limit, index) = (500, [0, 1, 2, 3, 4]);
        let times = [1500 * MILLI, 1500 * MILLI + 1, i64::MAX, i64::MAX, 0];
        let watermarks = [0, 0, 0, 0, 1501 * MILLI];
        let kept = kept(limit, &raw, &index, &times, &watermarks).unwrap();
        assert_eq!(kept, BooleanArray::from(vec![true, false, true, true, false]));
        let gone: Vec<u32> = failures(limit, &raw, &index, &times, &kept).iter().map(|(record, _)| *record).collect();
        assert_eq!(gone, [1, 4]);
        assert_eq!(super::kept(limit, &raw, &index[..1], &times[..1], &watermarks[..1]), None);
    }
}
