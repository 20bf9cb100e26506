//! The last loads of one service. Rule: what they would have made one expect says which of them are usual.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Windows of the two means that stand for a load's past, beside its last loads.
const MEANS: [usize; 2] = [8, 20];

/// A load is not usual where it is further off what was expected, or on a steeper way, than so many times the mean: an outage
/// that two services share, or the hour in which both begin their day, is no proof. Of normal noise it is one in seven
/// hundred.
const LARGE: f64 = 4.0;
/// Windows after which one counts half in that mean, and how many there are to be.
const HALF_LIFE: f64 = 720.0;
const ENOUGH: f64 = 20.0;

/// Newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Loads {
    seen: VecDeque<Seen>,
    /// How far loads are off what was expected.
    off: Sizes,
    /// How far the two means are from each other.
    way: Sizes,
}

/// The mean of sizes, none taken for more than [`LARGE`] of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sizes {
    weight: f64,
    sum: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// `None` = not known.
    load: Option<f64>,
    /// Windows since one that was not usual, itself not counted.
    calm: u32,
}

impl Loads {
    /// One more window; so many are kept, besides those that tell of their past.
    pub(super) fn push(&mut self, load: Option<f64>, kept: usize) {
        let load = load.filter(|load| load.is_finite());
        let usual = match (load, self.means(0)) {
            (Some(load), Some([short, long])) => {
                // Where the line through both means points to.
                let middle = |windows: usize| (windows as f64 + 1.0) / 2.0;
                let way = short - long;
                let expected = short + way * middle(MEANS[0]) / (middle(MEANS[1]) - middle(MEANS[0]));
                let (near, flat) = (self.off.usual(load - expected), self.way.usual(way));
                near && flat
            }
            // What is not known is not unusual; what begins is.
            (None, _) => true,
            (Some(_), None) => false,
        };
        let before = self.seen.front().map_or(0, |seen| seen.calm);
        self.seen.push_front(Seen { load, calm: if usual { before.saturating_add(1) } else { 0 } });
        self.seen.truncate(kept + MEANS[1]);
    }

    /// The load so many windows back.
    pub(super) fn back(&self, windows: usize) -> Option<f64> {
        self.seen.get(windows)?.load
    }

    /// The same where it and its past are usual.
    pub(super) fn calm_back(&self, windows: usize) -> Option<f64> {
        self.seen.get(windows).filter(|seen| seen.calm as usize > MEANS[1])?.load
    }

    /// Means of what is known of the windows from so far back on; `None` = not half of one.
    pub(super) fn means(&self, from: usize) -> Option<[f64; 2]> {
        let mut found = [0.0; 2];
        for (mean, windows) in found.iter_mut().zip(MEANS) {
            let known = self.seen.iter().skip(from).take(windows).filter_map(|seen| seen.load);
            let (count, sum) = known.fold((0_usize, 0.0), |(count, sum), load| (count + 1, sum + load));
            if count * 2 < windows {
                return None;
            }
            *mean = sum / count as f64;
        }
        Some(found)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<f64>> {
        self.seen.iter().map(|seen| seen.load)
    }
}

impl Sizes {
    /// Whether a size is no large one. It is learnt.
    fn usual(&mut self, size: f64) -> bool {
        let known = self.weight >= ENOUGH && self.sum > 0.0;
        let most = if known { LARGE * self.sum / self.weight } else { f64::MAX };
        let keeps = 0.5_f64.powf(1.0 / HALF_LIFE);
        self.weight = self.weight * keeps + 1.0;
        self.sum = self.sum * keeps + size.abs().min(most);
        known && size.abs() <= most
    }
}
