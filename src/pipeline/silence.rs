//! Times in which nothing was heard. Rule: what lies between the watermark at which a source fell silent and its first
//! row afterwards is a gap; nobody knows what happened in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A silence that is not over, or that has not been told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The query watermark when it began, in nanoseconds; `None` = there is none.
    from: Option<i64>,
    /// By table that fell silent, the first window that had a row of it afterwards.
    back: BTreeMap<String, Option<i64>>,
}

impl Silence {
    pub(crate) fn is_open(&self) -> bool {
        self.from.is_some()
    }

    /// Some tables are silent at this watermark.
    pub(crate) fn begin<'a>(&mut self, watermark: i64, tables: impl Iterator<Item = &'a str>) {
        self.from.get_or_insert(watermark);
        for table in tables {
            if !self.back.contains_key(table) {
                self.back.insert(table.to_owned(), None);
            }
        }
    }

    /// A table has rows again, the first in the window that starts at `start`.
    pub(crate) fn back(&mut self, table: &str, start: Option<i64>) {
        if let (Some(start), Some(known)) = (start, self.back.get_mut(table)) {
            *known = Some(known.map_or(start, |known| known.min(start)));
        }
    }

    /// From where to where nothing was heard, if something is heard again; the silence is over with that.
    pub(crate) fn end(&mut self) -> Option<(i64, i64)> {
        let to = self.back.values().filter_map(|start| *start).max()?;
        let from = self.from.take()?;
        self.back.clear();
        Some((from, to))
    }
}
