//! What the `features` topic has told so far. Rule: a window is handed out only when every pipeline, on every partition
//! of the topic, has said that it is closed; pure.

use std::collections::{BTreeMap, BTreeSet};

use prescale_domain::{FeatureRow, FeaturesRecord, Progress, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::shares::Shares;

/// Rows that wait for their window to close, and how far each pipeline has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Intake {
    /// By window start, then service.
    rows: BTreeMap<Timestamp, BTreeMap<ServiceName, FeatureRow>>,
    /// By pipeline, then partition of the features topic.
    progress: BTreeMap<String, BTreeMap<i32, Reached>>,
    /// The same of pipelines that several processes share; `progress` has what all shares come to.
    #[serde(default)]
    shares: BTreeMap<String, BTreeMap<i32, Shares>>,
    /// Event time that nobody knows anything about: `[from, to)`.
    gaps: BTreeSet<(Timestamp, Timestamp)>,
    /// The next window to hand out; `None` before the first row.
    next: Option<Timestamp>,
    /// Rows of early windows, by their start.
    #[serde(default)]
    early: BTreeMap<Timestamp, BTreeMap<ServiceName, FeatureRow>>,
    /// End of the last early window that was handed out.
    #[serde(default)]
    early_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Reached {
    watermark: Timestamp,
    end: bool,
}

/// A closed window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClosedWindow {
    pub(crate) start: Timestamp,
    pub(crate) rows: BTreeMap<ServiceName, FeatureRow>,
    /// Windows without a row are gaps, not zeros.
    pub(crate) is_gap: bool,
}

/// A part of the window that is open, which is over itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EarlyWindow {
    /// Of the window that it is a part of.
    pub(crate) window_start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) rows: BTreeMap<ServiceName, FeatureRow>,
    /// It is the first part of its window.
    pub(crate) is_first: bool,
}

impl Intake {
    /// Takes in one record. Rows of windows that were handed out already are repeats and change nothing. Windows of the
    /// length `early` are parts of those of the usual length.
    pub(crate) fn accept(&mut self, record: FeaturesRecord, early: Option<Span>) {
        match record {
            FeaturesRecord::Row(row) => {
                let is_early = early == Some(row.window_end.since(row.window_start));
                self.accept_row(row, is_early);
            }
            FeaturesRecord::Progress(progress) => self.accept_progress(progress),
        }
    }

    fn accept_row(&mut self, row: FeatureRow, is_early: bool) {
        let reached = if is_early { self.early_until.max(self.next) } else { self.next };
        if reached.is_some_and(|reached| row.window_start < reached) {
            return;
        }
        let windows = if is_early { &mut self.early } else { &mut self.rows };
        let services = windows.entry(row.window_start).or_default();
        match services.get_mut(&row.service) {
            // Several pipelines, or several metrics of one, may measure the same service and window.
            Some(known) => known.measures.extend(row.measures),
            None => drop(services.insert(row.service.clone(), row)),
        }
    }

    fn accept_progress(&mut self, progress: Progress) {
        let (mut reached, mut gap) = (Some(progress.watermark), progress.gap);
        let mut end = progress.end;
        match progress.share {
            Some(share) => {
                let shares = self.shares.entry(progress.pipeline.clone()).or_default();
                let shares = shares.entry(progress.partition).or_default();
                gap = shares.take(&progress, share);
                end = shares.ended();
                reached = shares.watermark().or(end.then_some(progress.watermark));
            }
            None => drop(self.shares.remove(&progress.pipeline)),
        }
        self.gaps.extend(gap);
        if let Some(watermark) = reached {
            let reached = Reached { watermark, end };
            self.progress.entry(progress.pipeline).or_default().insert(progress.partition, reached);
        }
    }

    /// The event time that all of `pipelines` have passed on all of `partitions`; `None` while one has not spoken. At
    /// the end of all input it is the end of the last window that has a row.
    pub(crate) fn watermark(&self, pipelines: &[String], partitions: &[i32], step: Span) -> Option<Timestamp> {
        let mut least = Timestamp::MAX;
        for pipeline in pipelines {
            let reached = self.progress.get(pipeline)?;
            for partition in partitions {
                least = least.min(reached.get(partition)?.watermark);
            }
        }
        if partitions.is_empty() || pipelines.is_empty() {
            return None;
        }
        if least == Timestamp::MAX {
            let last = self.rows.last_key_value().map(|(start, _)| *start + step);
            return last.or(self.next);
        }
        Some(least)
    }

    /// Whether all of `pipelines` have said, on all of `partitions`, that nothing follows.
    pub(crate) fn ended(&self, pipelines: &[String], partitions: &[i32]) -> bool {
        !partitions.is_empty()
            && pipelines.iter().all(|pipeline| {
                self.progress.get(pipeline).is_some_and(|reached| {
                    partitions.iter().all(|partition| reached.get(partition).is_some_and(|reached| reached.end))
                })
            })
    }

    /// Whether `watermark` closes a window.
    pub(crate) fn closes(&self, watermark: Timestamp, step: Span) -> bool {
        self.open(step).is_some_and(|start| start + step <= watermark)
    }

    /// Start of the window that is handed out next.
    fn open(&self, step: Span) -> Option<Timestamp> {
        let of_part = || self.early.keys().next().map(|start| start.floor_to(step));
        let first = || self.rows.keys().next().copied().into_iter().chain(of_part()).min();
        self.next.or_else(first)
    }

    /// The next window that `watermark` has closed, oldest first.
    pub(crate) fn next_window(&mut self, watermark: Timestamp, step: Span) -> Option<ClosedWindow> {
        let start = self.open(step).filter(|_| self.closes(watermark, step))?;
        self.next = Some(start + step);
        let rows = self.rows.remove(&start).unwrap_or_default();
        let is_gap = self.gaps.iter().any(|(from, to)| *from <= start && start < *to);
        self.gaps.retain(|(_, to)| start < *to);
        self.early = self.early.split_off(&(start + step));
        Some(ClosedWindow { start, rows, is_gap })
    }

    /// The next part, `early` long, of the open window that `watermark` has passed and that ends before the window does.
    pub(crate) fn next_early(&mut self, watermark: Timestamp, step: Span, early: Span) -> Option<EarlyWindow> {
        let window_start = self.open(step)?;
        let start = self.early_until.map_or(window_start, |until| until.max(window_start));
        let end = start + early;
        if end > watermark || end >= window_start + step {
            return None;
        }
        self.early_until = Some(end);
        let rows = self.early.remove(&start).unwrap_or_default();
        self.early = self.early.split_off(&end);
        Some(EarlyWindow { window_start, end, rows, is_first: start == window_start })
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::Share;

    use super::*;

    const STEP: Span = Span::from_minutes(1);

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_millis(n * STEP.millis())
    }

    fn row(service: &str, n: i64, requests: f64) -> FeaturesRecord {
        FeaturesRecord::Row(FeatureRow {
            service: service.into(),
            window_start: minute(n),
            window_end: minute(n + 1),
            labels: BTreeMap::new(),
            measures: BTreeMap::from([("requests".to_owned(), Some(requests))]),
        })
    }

    fn progress(partition: i32, watermark: Timestamp, gap: Option<(i64, i64)>) -> FeaturesRecord {
        FeaturesRecord::Progress(Progress {
            pipeline: "p".into(),
            partition,
            watermark,
            gap: gap.map(|(from, to)| (minute(from), minute(to))),
            end: watermark == Timestamp::MAX,
            share: None,
        })
    }

    /// What a share of two says on both partitions of the topic.
    fn share(number: i32, watermark: i64, idle: bool) -> Vec<FeaturesRecord> {
        let of = |record: FeaturesRecord| match record {
            FeaturesRecord::Progress(progress) => {
                let share = Some(Share { partition: number, of: 2, idle });
                FeaturesRecord::Progress(Progress { share, ..progress })
            }
            row => row,
        };
        [0, 1].map(|partition| of(progress(partition, minute(watermark), None))).into()
    }

    /// All windows that close after `records`, as `start:service=requests` with `gap` where it is one.
    fn closed(records: Vec<FeaturesRecord>) -> Vec<String> {
        let (pipelines, partitions) = (["p".to_owned()], [0, 1]);
        let (mut intake, mut out) = (Intake::default(), Vec::new());
        for record in records {
            intake.accept(record, None);
            let Some(watermark) = intake.watermark(&pipelines, &partitions, STEP) else { continue };
            while let Some(window) = intake.next_window(watermark, STEP) {
                let rows: Vec<_> =
                    window.rows.iter().map(|(s, row)| format!("{s}={:?}", row.measures["requests"])).collect();
                let gap = if window.is_gap { " gap" } else { "" };
                out.push(format!("{}:{}{gap}", window.start.millis() / STEP.millis(), rows.join(",")));
            }
        }
        out
    }

    #[test]
    fn a_window_waits_for_all_partitions_and_silent_windows_come_in_order() {
        let records = vec![
            row("a", 5, 1.0),
            progress(0, minute(8), None),
            row("b", 5, 2.0),
            row("b", 7, 3.0),
            progress(1, minute(8), None),
        ];
        assert_eq!(closed(records), ["5:a=Some(1.0),b=Some(2.0)", "6:", "7:b=Some(3.0)"]);
    }

    #[test]
    fn the_end_closes_the_last_window_with_a_row_and_nothing_after_it() {
        let records = vec![
            row("a", 1, 1.0),
            row("a", 3, 1.0),
            progress(0, Timestamp::MAX, None),
            progress(1, Timestamp::MAX, None),
        ];
        assert_eq!(closed(records), ["1:a=Some(1.0)", "2:", "3:a=Some(1.0)"]);
    }

    #[test]
    fn repeats_of_closed_windows_change_nothing_and_gaps_are_marked() {
        let records = vec![
            row("a", 1, 1.0),
            progress(0, minute(2), None),
            progress(1, minute(2), None),
            row("a", 1, 1.0),
            row("a", 4, 2.0),
            progress(0, minute(5), Some((2, 4))),
            progress(1, minute(5), Some((2, 4))),
        ];
        assert_eq!(closed(records), ["1:a=Some(1.0)", "2: gap", "3: gap", "4:a=Some(2.0)"]);
    }

    #[test]
    fn shares_in_any_order_give_the_windows_of_one_process() {
        let one = vec![
            row("a", 1, 1.0),
            row("b", 1, 2.0),
            row("a", 2, 3.0),
            row("b", 4, 4.0),
            progress(0, minute(5), None),
            progress(1, minute(5), None),
        ];
        let of_a = [vec![row("a", 1, 1.0)], share(0, 2, false), vec![row("a", 2, 3.0)], share(0, 5, false)];
        let of_b = [vec![row("b", 1, 2.0)], share(1, 2, false), vec![row("b", 4, 4.0)], share(1, 5, false)];
        let expected = closed(one);
        assert_eq!(expected, ["1:a=Some(1.0),b=Some(2.0)", "2:a=Some(3.0)", "3:", "4:b=Some(4.0)"]);
        // Each bit of the mask says whose transaction comes next.
        for mask in (0_u32..256).filter(|mask| mask.count_ones() == 4) {
            let (mut a, mut b, mut order) = (of_a.iter(), of_b.iter(), Vec::new());
            for bit in 0..8 {
                let next = if mask & (1 << bit) == 0 { a.next() } else { b.next() };
                order.extend(next.into_iter().flatten().cloned());
            }
            assert_eq!(closed(order), expected, "{mask:08b}");
        }
    }

    #[test]
    fn a_snapshot_from_before_there_were_shares_is_read() {
        let old = r#"{"rows":{},"progress":{"p":{"0":{"watermark":"2026-01-01T00:00:00Z","end":false}}},"gaps":[],"next":null}"#;
        let intake: Intake = serde_json::from_str(old).unwrap();
        assert_eq!(intake.progress.len(), 1);
    }

    #[test]
    fn parts_of_the_open_window_come_in_order_before_it_and_none_after_it() {
        let part = Span::from_secs(20);
        let early = |n: i64, place: i64, requests: f64| {
            let FeaturesRecord::Row(mut row) = row("a", n, requests) else { unreachable!() };
            row.window_start = minute(n) + Span::from_secs(20 * place);
            row.window_end = row.window_start + part;
            FeaturesRecord::Row(row)
        };
        let mut intake = Intake::default();
        let told = |intake: &mut Intake, seconds: i64| {
            let (watermark, mut out) = (Timestamp::from_millis(seconds * 1000), Vec::new());
            loop {
                if let Some(part) = intake.next_early(watermark, STEP, part) {
                    let first = if part.is_first { " first" } else { "" };
                    let of = part.rows.values().map(|row| row.measures["requests"].unwrap().to_string());
                    let of = of.collect::<Vec<_>>().join(",");
                    let (end, start) = (part.end.millis() / 1000, part.window_start.millis() / 1000);
                    out.push(format!("{end}s of {start}s:{of}{first}"));
                } else if let Some(window) = intake.next_window(watermark, STEP) {
                    out.push(format!("closed {}s", window.start.millis() / 1000));
                } else {
                    return out.join("; ");
                }
            }
        };
        intake.accept(early(5, 0, 1.0), Some(part));
        assert_eq!(told(&mut intake, 319), "");
        assert_eq!(told(&mut intake, 320), "320s of 300s:1 first");
        // A repeat, one without a row, and the last third, which is over with the window.
        for record in [early(5, 0, 9.0), early(5, 2, 3.0), row("a", 5, 4.0), early(6, 1, 5.0)] {
            intake.accept(record, Some(part));
        }
        assert_eq!(told(&mut intake, 359), "340s of 300s:");
        assert_eq!(told(&mut intake, 401), "closed 300s; 380s of 360s: first; 400s of 360s:5");
        // Without parts in the settings such a row is one like others.
        let mut plain = Intake::default();
        plain.accept(early(5, 0, 1.0), None);
        assert_eq!((plain.rows.len(), plain.early.len()), (1, 0));
    }
}
