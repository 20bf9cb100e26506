//! What an epoch writes. Rule: progress comes after the rows that it covers, in each partition of the features topic: a
//! reader that sees it has seen them.

use std::sync::Arc;

use prescale_domain::{Progress, Share, Timestamp};
use prescale_ingest::OutRecord;

use crate::engine::{EpochOutput, ProgressNote};
use crate::runner::RunnerSettings;

/// Rows, then dead letters.
pub(crate) fn of_rows(settings: &RunnerSettings, output: &EpochOutput) -> Vec<OutRecord> {
    let features: Arc<str> = Arc::from(&*settings.features_topic);
    let letters: Arc<str> = Arc::from(&*settings.dead_letter_topic);
    let rows = output.rows.iter().map(|row| record(&features, None, Some(row.key.clone()), row.json.clone()));
    rows.chain(output.dead_letters.iter().map(|letter| letter.record(Arc::clone(&letters)))).collect()
}

/// What the readers of rows are to be told, if they are told of event time at all. `news` is the watermark that a share
/// told last, if something else has changed with it.
pub(crate) fn progress(
    settings: &RunnerSettings,
    note: Option<&ProgressNote>,
    share: Option<Share>,
    news: Option<Timestamp>,
) -> Option<Progress> {
    if !settings.progress {
        return None;
    }
    let (watermark, gap, end) = match (note, news) {
        (Some(note), _) => (note.watermark, note.gap, note.end),
        (None, Some(watermark)) => (watermark, None, false),
        (None, None) => return None,
    };
    // Of the partition each gets a copy.
    Some(Progress { pipeline: settings.pipeline.clone(), partition: 0, watermark, gap, end, share })
}

/// A copy for each partition of the features topic.
pub(crate) fn to_each(features_topic: &str, partitions: i32, progress: Option<&Progress>) -> Vec<OutRecord> {
    let features: Arc<str> = Arc::from(features_topic);
    let copy = |partition, progress: &Progress| {
        let json = Progress { partition, ..progress.clone() }.to_json();
        record(&features, Some(partition), None, json)
    };
    progress.into_iter().flat_map(|progress| (0..partitions).map(move |partition| copy(partition, progress))).collect()
}

fn record(topic: &Arc<str>, partition: Option<i32>, key: Option<Vec<u8>>, value: Vec<u8>) -> OutRecord {
    OutRecord { topic: Arc::clone(topic), partition, key, value, headers: Vec::new() }
}
