//! How far the shares of a pipeline have come together. Rule: event time is the least of all shares that hear something,
//! once all have spoken; a share that nobody works on holds it, and where nobody hears anything it stands still. Pure.

use std::collections::BTreeMap;

use prescale_domain::{Progress, Share, Timestamp};
use serde::{Deserialize, Serialize};

/// What one partition of the features topic has told of the shares of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shares {
    /// By number.
    told: BTreeMap<i32, Told>,
    /// How many there are; a topic never has fewer partitions than it had.
    of: i32,
    /// Where all of them have been.
    watermark: Option<Timestamp>,
    /// None of them heard anything when event time last came to a stand.
    silent: bool,
    /// The first window of those that were heard since.
    back: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    watermark: Timestamp,
    idle: bool,
    end: bool,
}

impl Shares {
    /// Takes in what a share says; what is returned is event time of which nobody knows anything.
    pub(crate) fn take(&mut self, progress: &Progress, share: Share) -> Option<(Timestamp, Timestamp)> {
        self.of = self.of.max(share.of).max(share.partition.saturating_add(1));
        let told = Told { watermark: progress.watermark, idle: share.idle, end: progress.end };
        let before = self.told.insert(share.partition, told);
        if self.silent {
            // A share that never had a row does not know from where on it was silent: up to its first word at the most.
            let is_first = before.is_none_or(|before| before.watermark.is_beginning());
            let first = Some(told.watermark).filter(|first| is_first && !first.is_beginning());
            let first = progress.gap.map(|(_, to)| to).or(first);
            self.back = self.back.into_iter().chain(first).min();
        }
        self.advance()
    }

    /// Where all shares have been; `None` until all have spoken.
    pub(crate) fn watermark(&self) -> Option<Timestamp> {
        self.watermark
    }

    /// Whether nothing follows of any share.
    pub(crate) fn ended(&self) -> bool {
        self.all_spoke() && self.told.values().all(|told| told.end)
    }

    fn all_spoke(&self) -> bool {
        i32::try_from(self.told.len()).is_ok_and(|spoke| spoke >= self.of)
    }

    fn advance(&mut self) -> Option<(Timestamp, Timestamp)> {
        if !self.all_spoke() {
            return None;
        }
        let heard = self.told.values().filter(|told| !told.idle && !told.end).map(|told| told.watermark).min();
        let reached = match heard {
            Some(least) => least,
            None if self.ended() => self.told.values().map(|told| told.watermark).max()?,
            None => {
                self.silent |= self.watermark.is_some();
                return None;
            }
        };
        if reached.is_beginning() || self.watermark.is_some_and(|before| reached <= before) {
            return None;
        }
        let from = self.watermark.replace(reached);
        let (silent, to) = (std::mem::take(&mut self.silent), self.back.take());
        from.zip(to).filter(|(from, to)| silent && from < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_millis(n * 60_000)
    }

    /// What a share says: its watermark, whether it is idle, and its first window after a silence.
    #[derive(Clone, Copy)]
    struct Says(i64, bool, Option<i64>);

    fn take(shares: &mut Shares, partition: i32, of: i32, Says(watermark, idle, first): Says) -> Option<(i64, i64)> {
        let share = Share { partition, of, idle };
        let progress = Progress {
            pipeline: "p".into(),
            partition: 0,
            watermark: if watermark < 0 { Timestamp::MIN } else { minute(watermark) },
            gap: first.map(|first| (minute(0), minute(first))),
            end: false,
            share: Some(share),
        };
        let gap = shares.take(&progress, share);
        gap.map(|(from, to)| (from.millis() / 60_000, to.millis() / 60_000))
    }

    fn reached(shares: &Shares) -> Option<i64> {
        shares.watermark().map(|watermark| watermark.millis() / 60_000)
    }

    /// All orders in which shares can be heard, each share's own words in their order.
    fn interleavings(words: &[&[Says]]) -> Vec<Vec<(i32, Says)>> {
        let mut all = Vec::new();
        for share in 0..words.len() {
            let Some((first, rest)) = words[share].split_first() else { continue };
            let mut left = words.to_vec();
            left[share] = rest;
            let first = (i32::try_from(share).unwrap(), *first);
            all.extend(interleavings(&left).into_iter().map(|order| [vec![first], order].concat()));
        }
        if all.is_empty() { vec![Vec::new()] } else { all }
    }

    #[test]
    fn in_any_order_event_time_is_that_of_the_slowest_and_never_ahead_of_it() {
        let words: [&[Says]; 3] = [
            &[Says(1, false, None), Says(4, false, None), Says(9, false, None)],
            &[Says(-1, false, None), Says(3, false, None), Says(8, false, None)],
            &[Says(2, false, None), Says(2, true, None), Says(7, false, None)],
        ];
        let orders = interleavings(&words);
        assert_eq!(orders.len(), 1680);
        for order in orders {
            let (mut shares, mut last, mut expected) = (Shares::default(), vec![None; words.len()], None);
            for (partition, word) in order {
                assert_eq!(take(&mut shares, partition, 3, word), None, "one of them always hears something");
                last[usize::try_from(partition).unwrap()] = Some(word);
                let slowest = last.iter().flatten().filter(|says| !says.1).map(|says| says.0).min();
                let slowest = slowest.filter(|slowest| *slowest >= 0 && last.iter().all(Option::is_some));
                expected = expected.max(slowest);
                assert_eq!(reached(&shares), expected);
            }
            // More where share 2 was idle while the others went on.
            assert!(reached(&shares) >= Some(7));
        }
    }

    #[test]
    fn what_all_did_not_hear_is_a_gap_up_to_the_first_window_of_whoever_is_back() {
        let mut shares = Shares::default();
        for (partition, says) in [(0, Says(5, false, None)), (1, Says(6, false, None)), (0, Says(5, true, None))] {
            assert_eq!(take(&mut shares, partition, 2, says), None);
        }
        assert_eq!(reached(&shares), Some(6), "an idle share holds nothing back");
        assert_eq!(take(&mut shares, 1, 2, Says(6, true, None)), None);
        assert_eq!(reached(&shares), Some(6), "nobody hears anything");
        assert_eq!(take(&mut shares, 1, 2, Says(6, false, None)), None, "it is back, but its windows are not complete");
        assert_eq!(take(&mut shares, 1, 2, Says(21, false, Some(20))), Some((6, 20)));
        assert_eq!(take(&mut shares, 1, 2, Says(22, false, None)), None, "told once");
        assert_eq!(take(&mut shares, 0, 2, Says(30, false, Some(25))), None, "the other heard something meanwhile");
        assert_eq!(reached(&shares), Some(22));
    }

    #[test]
    fn of_two_that_come_back_the_one_with_the_earlier_window_ends_the_gap() {
        let mut shares = Shares::default();
        for partition in [0, 1] {
            take(&mut shares, partition, 2, Says(5, false, None));
        }
        for partition in [0, 1] {
            take(&mut shares, partition, 2, Says(5, true, None));
        }
        take(&mut shares, 1, 2, Says(5, false, None));
        assert_eq!(take(&mut shares, 0, 2, Says(31, false, Some(30))), None, "share 1 may have earlier ones");
        assert_eq!(take(&mut shares, 1, 2, Says(11, false, Some(10))), Some((5, 10)));
        assert_eq!(reached(&shares), Some(11));
    }

    #[test]
    fn new_shares_hold_event_time_until_they_have_spoken() {
        let mut shares = Shares::default();
        take(&mut shares, 0, 1, Says(5, false, None));
        assert_eq!(reached(&shares), Some(5));
        take(&mut shares, 0, 3, Says(9, false, None));
        take(&mut shares, 2, 3, Says(8, false, None));
        assert_eq!(reached(&shares), Some(5), "share 1 has not spoken");
        // It began before it knew of the growth.
        take(&mut shares, 1, 2, Says(-1, false, None));
        assert_eq!(reached(&shares), Some(5), "share 1 has no rows yet");
        take(&mut shares, 1, 3, Says(7, false, None));
        assert_eq!(reached(&shares), Some(7));
    }

    #[test]
    fn shares_that_ended_leave_the_minimum_and_the_end_is_that_of_the_last() {
        let mut shares = Shares::default();
        let end = |shares: &mut Shares, partition, watermark| {
            let share = Share { partition, of: 2, idle: false };
            let progress = Progress {
                pipeline: "p".into(),
                partition: 0,
                watermark: minute(watermark),
                gap: None,
                end: true,
                share: Some(share),
            };
            shares.take(&progress, share)
        };
        take(&mut shares, 1, 2, Says(3, false, None));
        assert_eq!(end(&mut shares, 0, 4), None);
        assert_eq!((reached(&shares), shares.ended()), (Some(3), false));
        assert_eq!(end(&mut shares, 1, 9), None);
        assert_eq!((reached(&shares), shares.ended()), (Some(9), true));
    }
}
