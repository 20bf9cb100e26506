//! How far a source partition has come. Rule: rows that are read again after a restart see the watermarks that they saw
//! the first time.

use crate::checkpoint::PartitionCheckpoint;
use crate::panes::FirstRow;
use crate::watermark::{self, UNSTARTED};

/// A source's place among the sources of the plan, and the number of one of its partitions.
pub(crate) type PartitionId = (usize, i32);

/// One source partition.
pub(crate) struct Partition {
    /// The first offset not read yet; `None` = no row was seen.
    pub(crate) next: Option<i64>,
    /// Records before this offset were counted by the run that wrote the checkpoint.
    pub(crate) live_from: i64,
    /// The watermark to go on with at `live_from`.
    live_watermark: i64,
    pub(crate) watermark: i64,
    /// The watermark by this partition's rows alone; kept only where panes have segments.
    own: i64,
    /// The same at `live_from`.
    live_own: i64,
    /// By offset; those before the oldest row that an open window needs are forgotten.
    lifts: Vec<Lift>,
}

/// Before the row at `offset` the partition's watermark was lifted to at least `watermark`, not by its own rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lift {
    offset: i64,
    watermark: i64,
}

impl Partition {
    pub(crate) fn fresh(watermark: i64) -> Self {
        Self {
            next: None,
            live_from: i64::MIN,
            live_watermark: UNSTARTED,
            watermark,
            own: UNSTARTED,
            live_own: UNSTARTED,
            lifts: Vec::new(),
        }
    }

    /// As a checkpoint left it, with its lifts as `(offset, watermark)`.
    pub(crate) fn resumed(at: PartitionCheckpoint, lifts: &[(i64, i64)]) -> Self {
        Self {
            next: Some(at.oldest),
            live_from: at.next,
            live_watermark: at.watermark,
            watermark: if at.oldest < at.next { at.oldest_watermark } else { at.watermark },
            // Checkpoints of versions without segments know only the watermark, which is the same where nothing was lifted.
            own: if at.oldest < at.next {
                at.oldest_own.unwrap_or(at.oldest_watermark)
            } else {
                at.own.unwrap_or(at.watermark)
            },
            live_own: at.own.unwrap_or(at.watermark),
            lifts: lifts.iter().map(|&(offset, watermark)| Lift { offset, watermark }).collect(),
        }
    }

    /// Lifts the watermark to at least `watermark`, and remembers where, for when these rows are read again.
    pub(crate) fn lift(&mut self, watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        let Some(offset) = self.next else { return };
        match self.lifts.binary_search_by_key(&offset, |lift| lift.offset) {
            Ok(at) => self.lifts[at].watermark = watermark,
            Err(at) => self.lifts.insert(at, Lift { offset, watermark }),
        }
    }

    /// Forgets lifts that no row which may be read again can see; `oldest` is the first row that an open window needs.
    pub(crate) fn forget(&mut self, oldest: impl Fn() -> Option<FirstRow>) {
        if !self.lifts.is_empty() {
            let oldest = oldest().map_or(i64::MAX, |first| first.offset).min(self.next.unwrap_or(i64::MAX));
            self.lifts.retain(|lift| lift.offset > oldest);
        }
    }

    pub(crate) fn lifts(&self) -> Option<Vec<(i64, i64)>> {
        (!self.lifts.is_empty()).then(|| self.lifts.iter().map(|lift| (lift.offset, lift.watermark)).collect())
    }

    /// Walks rows that propose `watermarks`: `before[i]` becomes the watermark before row i. Row i is record `index[i]` of
    /// a batch whose records stand at `offsets`.
    pub(crate) fn advance(&mut self, offsets: &[i64], index: &[u32], watermarks: &[i64], before: &mut Vec<i64>) {
        before.clear();
        let reached = offsets.last().map_or(i64::MIN, |last| last.saturating_add(1));
        let mut lifts = self.lifts.clone();
        let live = Lift { offset: self.live_from, watermark: self.live_watermark };
        lifts.insert(lifts.partition_point(|lift| lift.offset < live.offset), live);
        lifts.push(Lift { offset: i64::MAX, watermark: UNSTARTED });
        let mut from = 0;
        for lift in lifts {
            let until = index.partition_point(|record| offsets[*record as usize] < lift.offset).max(from);
            self.watermark = watermark::advance(self.watermark, &watermarks[from..until], before);
            if lift.offset <= reached {
                self.watermark = self.watermark.max(lift.watermark);
            }
            from = until;
        }
    }

    /// Walks the same rows for the watermark by the partition's rows alone.
    pub(crate) fn advance_own(&mut self, offsets: &[i64], index: &[u32], watermarks: &[i64], before: &mut Vec<i64>) {
        before.clear();
        let live = index.partition_point(|record| offsets[*record as usize] < self.live_from);
        self.own = watermark::advance(self.own, &watermarks[..live], before);
        if offsets.last().is_some_and(|last| last.saturating_add(1) >= self.live_from) {
            // Records that were there the first time may be gone.
            self.own = self.own.max(self.live_own);
        }
        self.own = watermark::advance(self.own, &watermarks[live..], before);
    }

    /// The watermark by its own rows at the offset that a checkpoint names as the next one.
    pub(crate) fn own_reached(&self) -> i64 {
        if self.is_catching_up() { self.live_own } else { self.own.max(self.live_own) }
    }

    /// Whether rows that were read before the restart are being read again.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.next.is_some_and(|next| next < self.live_from)
    }

    /// Whether rows of a segment that ends at `end` were stored before the restart.
    pub(crate) fn had_completed(&self, end: i64) -> bool {
        self.live_own >= end
    }

    /// `None` before the first row. `oldest` is the first row that has to be read again, `needed` the first that an open window
    /// holds.
    pub(crate) fn checkpoint(
        &self,
        oldest: Option<FirstRow>,
        needed: Option<FirstRow>,
        has_segments: bool,
    ) -> Option<PartitionCheckpoint> {
        let reached = self.next?;
        // While rows before `live_from` are being read again, the old promise about them still stands.
        let (next, watermark) = if reached < self.live_from {
            (self.live_from, self.live_watermark)
        } else {
            (reached, self.watermark.max(self.live_watermark))
        };
        let own = self.own_reached();
        let (oldest, oldest_watermark, oldest_own) = match oldest {
            Some(first) if first.offset < reached => (first.offset, first.watermark_before, first.own_before),
            _ if reached < self.live_from => (reached, self.watermark, self.own),
            _ => (next, watermark, own),
        };
        let if_cut = |own: i64| has_segments.then_some(own);
        let (own, oldest_own) = (if_cut(own), if_cut(oldest_own));
        let needed = needed.map(|first| first.offset).filter(|needed| *needed < oldest);
        Some(PartitionCheckpoint { next, watermark, oldest, oldest_watermark, own, oldest_own, needed })
    }
}
