//! Session windows: rows of one key that follow each other by less than the gap. Rule: a session is the same whatever the
//! order in which its rows came, and rows are never kept.
//!
//! Rows are accumulated by pane, as for other windows. A pane is no wider than the gap, so that all rows of a key in it
//! are in one session, of which the pane remembers the first and the last moment. A pane that has ended by the watermark
//! is complete; in their order, panes are merged into the sessions that are open. A row that is not late is not before
//! the watermark, so that it can't join a session that ended at or before it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use datafusion::error::Result;

use crate::exec::groups::{Keys, Partial, States, take_states};
use crate::exec::pane::{self, Groups, Inputs, PaneStore};
use crate::exec::rows::take_all;
use crate::held::Held;
use crate::panes::{FirstRow, RowsOf};
use crate::partition::PartitionId;
use crate::sql::Aggregation;
use crate::stored::{Change, Content, Place, StoredPane};
use crate::window::{self, Windows};

/// The sessions of an aggregation.
pub(crate) struct Sessions {
    gap: i64,
    windows: Windows,
    /// Panes that are not complete.
    panes: BTreeMap<i64, BTreeMap<PartitionId, Gathered>>,
    /// Of all panes that hold rows of an open session.
    firsts: BTreeMap<i64, BTreeMap<PartitionId, FirstRow>>,
    open: Option<Open>,
    /// Sessions that were complete at this watermark were written by the run that wrote the checkpoint.
    written_until: i64,
    /// What is complete goes to the state store.
    stores: bool,
    /// Panes that an open session needs: stored, still to be stored, and stored but needed no more.
    stored: BTreeSet<i64>,
    unstored: BTreeMap<i64, Content>,
    gone: Vec<i64>,
    /// Arrays that parts of sessions stand in, while there are any.
    arrays: Vec<Weak<Partial>>,
}

/// Rows of one pane by key, with the first and the last moment of each.
struct Gathered {
    store: PaneStore,
    spans: Vec<(i64, i64)>,
}

/// Sessions of complete panes.
struct Open {
    keys: Keys,
    /// For each key the newest of its sessions.
    newest: Vec<usize>,
    sessions: Vec<Session>,
}

struct Session {
    key: usize,
    start: i64,
    /// A gap after its last row.
    end: i64,
    /// Where its first row is.
    first_pane: i64,
    /// What its panes had accumulated, in their order.
    parts: Vec<Part>,
}

/// A group of a pane, or of several panes of a session in one.
#[derive(Clone)]
struct Part {
    /// The pane, or the last of them.
    pane: i64,
    partial: Arc<Partial>,
    group: usize,
}

/// As soon as a session has so many parts, they are merged. That depends on the session alone, and so does the order of
/// sums of floating-point numbers.
const MOST_PARTS: usize = 8;

impl Sessions {
    /// Sessions that are complete at `written_until` are not given out.
    pub(crate) fn new(gap: i64, windows: Windows, written_until: i64, stores: bool) -> Self {
        Self {
            gap,
            windows,
            panes: BTreeMap::new(),
            firsts: BTreeMap::new(),
            open: None,
            written_until,
            stores,
            stored: BTreeSet::new(),
            unstored: BTreeMap::new(),
            gone: Vec::new(),
            arrays: Vec::new(),
        }
    }

    /// Adds rows of one pane and partition, and their times; `ids` is scratch space.
    pub(crate) fn add(
        &mut self,
        aggregation: &Aggregation,
        RowsOf { pane, partition, first, .. }: RowsOf,
        (share, times): (&Inputs, &[i64]),
        ids: &mut Vec<usize>,
    ) -> Result<()> {
        self.firsts.entry(pane).or_default().entry(partition).or_insert(first);
        let gathered = match self.panes.entry(pane).or_default().entry(partition) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(none) => none.insert(Gathered::new(aggregation)?),
        };
        gathered.store.update(share, ids)?;
        gathered.span(ids, times.iter().map(|time| (*time, *time)));
        Ok(())
    }

    /// The first row of a partition that an open session needs; `stored`: and that is in no complete pane.
    pub(crate) fn oldest(&self, partition: PartitionId, stored: bool) -> Option<FirstRow> {
        let parts = self.firsts.iter().filter(|(pane, _)| !stored || self.panes.contains_key(pane));
        parts.filter_map(|(_, pane)| pane.get(&partition)).copied().min_by_key(|first| first.offset)
    }

    /// What of these sessions is stored once the changes are.
    pub(crate) fn listed(&self, list: &mut Vec<StoredPane>) {
        let panes = self.stored.iter().chain(self.unstored.keys()).copied().collect::<BTreeSet<i64>>();
        list.extend(panes.into_iter().map(|pane| StoredPane { input: 0, pane, part: None }));
    }

    /// The changes since they were asked for last.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let place = |pane| Place { input: 0, pane, segment: None };
        let gone = self.gone.drain(..).map(|pane| Change { place: place(pane), content: None });
        let mut changes: Vec<Change> = gone.collect();
        for (pane, content) in std::mem::take(&mut self.unstored) {
            self.stored.insert(pane);
            changes.push(Change { place: place(pane), content: Some(content) });
        }
        changes
    }

    /// Takes back a pane that was stored; panes come in their order.
    pub(crate) fn restore(
        &mut self,
        aggregation: &Aggregation,
        pane: i64,
        content: Content,
        ids: &mut Vec<usize>,
    ) -> Result<()> {
        self.stored.insert(pane);
        let firsts = content.firsts.iter().map(|(id, offset)| (*id, FirstRow::stored(*offset)));
        self.firsts.insert(pane, firsts.collect());
        self.extend(aggregation, pane, &content, ids)
    }

    /// Memory held.
    pub(crate) fn held(&mut self) -> Held {
        let ends = self.firsts.first_key_value().zip(self.firsts.last_key_value());
        let range = ends.map(|((first, _), (last, _))| (*first, *last));
        let mut held = Held { panes: self.panes.len(), range, ..Held::default() };
        for part in self.panes.values().flat_map(BTreeMap::values) {
            let (bytes, groups) = part.store.size();
            held.add(bytes + size_of_val(&*part.spans), groups);
        }
        self.arrays.retain(|partial| partial.strong_count() > 0);
        held.add(self.arrays.iter().filter_map(Weak::upgrade).map(|partial| partial.bytes).sum(), 0);
        if let Some(open) = &self.open {
            held.add(open.keys.size() + open.sessions.len() * size_of::<Session>(), open.sessions.len());
        }
        held
    }

    /// The sessions that are complete at `watermark` and were not given out before, by their end, then by key; and the end
    /// of the last one.
    pub(crate) fn close(
        &mut self,
        aggregation: &Aggregation,
        watermark: i64,
        ids: &mut Vec<usize>,
    ) -> Result<Option<(RecordBatch, i64)>> {
        // Until then rows are read again, and those of a pane may come from another partition yet.
        if watermark <= self.written_until {
            return Ok(None);
        }
        while let Some((&pane, _)) = self.panes.first_key_value()
            && window::is_closed(self.windows.pane_end(pane), watermark)
        {
            let parts = self.panes.remove(&pane).unwrap_or_default();
            let (partial, spans) = merged(aggregation, parts, ids)?;
            let firsts = self.firsts.get(&pane).into_iter().flatten().map(|(id, first)| (*id, first.offset));
            let content = Content { partial: Arc::new(partial), spans: Arc::new(spans), firsts: firsts.collect() };
            self.extend(aggregation, pane, &content, ids)?;
            if self.stores {
                self.unstored.insert(pane, content);
            }
        }
        let complete = self.complete(aggregation, watermark, ids)?;
        let oldest = self.open.iter().flat_map(|open| &open.sessions).map(|session| session.first_pane).min();
        let panes = &self.panes;
        let is_needed = |pane: i64| oldest.is_some_and(|oldest| pane >= oldest);
        self.firsts.retain(|pane, _| is_needed(*pane) || panes.contains_key(pane));
        self.unstored.retain(|pane, _| is_needed(*pane));
        self.gone.extend(self.stored.iter().filter(|pane| !is_needed(**pane)));
        self.stored.retain(|pane| is_needed(*pane));
        Ok(complete)
    }

    /// Gives what a complete pane holds to its sessions; panes come in their order.
    fn extend(&mut self, aggregation: &Aggregation, pane: i64, content: &Content, ids: &mut Vec<usize>) -> Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::new(aggregation)?),
        };
        self.arrays.push(Arc::downgrade(&content.partial));
        open.extend(pane, content, self.gap, ids)?;
        self.arrays.extend(open.compact(aggregation)?.map(|partial| Arc::downgrade(&partial)));
        Ok(())
    }

    /// Takes the complete sessions out of the open ones. Until the pane in which a session ends is complete, it may hold
    /// a row that goes on with it.
    fn complete(
        &mut self,
        aggregation: &Aggregation,
        watermark: i64,
        ids: &mut Vec<usize>,
    ) -> Result<Option<(RecordBatch, i64)>> {
        let windows = self.windows;
        let complete_at = move |session: &Session| windows.pane_end(windows.pane_of(session.end.saturating_sub(1)));
        let is_complete = |session: &Session| window::is_closed(complete_at(session), watermark);
        let Some(open) = &mut self.open else { return Ok(None) };
        if !open.sessions.iter().any(is_complete) {
            return Ok(None);
        }
        let keys = open.keys.emit()?;
        let (done, left): (Vec<Session>, Vec<Session>) =
            std::mem::take(&mut open.sessions).into_iter().partition(is_complete);
        let key_of = |sessions: &[Session]| {
            let keys_of = sessions.iter().map(|session| u32::try_from(session.key).unwrap_or(u32::MAX));
            take_all(&keys, &keys_of.collect::<Vec<_>>().into())
        };
        self.open = if left.is_empty() { None } else { Some(Open::of(aggregation, &key_of(&left)?, left, ids)?) };
        let is_new = |session: &Session| !window::is_closed(complete_at(session), self.written_until);
        let done: Vec<Session> = done.into_iter().filter(is_new).collect();
        let Some(last_end) = done.iter().map(|session| session.end).max() else { return Ok(None) };
        let (mut states, of) = merge(aggregation, &done.iter().collect::<Vec<_>>())?;
        let values = take_states(&[states.values()?], &of)?.pop().unwrap_or_default();
        let moments = |of: fn(&Session) -> i64| -> ArrayRef {
            Arc::new(TimestampNanosecondArray::from_iter_values(done.iter().map(of)))
        };
        let (starts, ends) = (moments(|session| session.start), moments(|session| session.end));
        let windows = pane::windows(starts, ends.clone());
        let groups = Groups { keys: key_of(&done)?, values, windows };
        Ok(Some((pane::output(aggregation, &[ends], groups)?, last_end)))
    }
}

/// The parts of each session in one, and the group of each session. An accumulator takes every group to have been in a
/// batch by the time that it is counted, so that groups are numbered as they come.
fn merge(aggregation: &Aggregation, sessions: &[&Session]) -> Result<(States, Vec<usize>)> {
    // Parts that stand in the same arrays are merged together.
    let mut batches = BTreeMap::<(i64, usize), (&Part, Vec<(usize, usize)>)>::new();
    for (number, session) in sessions.iter().enumerate() {
        for part in &session.parts {
            let arrays = Arc::as_ptr(&part.partial) as usize;
            batches.entry((part.pane, arrays)).or_insert_with(|| (part, Vec::new())).1.push((part.group, number));
        }
    }
    let (mut states, mut groups, mut count) = (States::new(aggregation)?, vec![None; sessions.len()], 0);
    for (part, rows) in batches.values() {
        let positions: Vec<usize> = rows.iter().map(|(group, _)| *group).collect();
        let mut group_of = |number: &usize| {
            *groups[*number].get_or_insert_with(|| {
                count += 1;
                count - 1
            })
        };
        let ids: Vec<usize> = rows.iter().map(|(_, number)| group_of(number)).collect();
        states.merge(&take_states(&part.partial.states, &positions)?, &ids, count)?;
    }
    // Each session has a part.
    Ok((states, groups.into_iter().map(Option::unwrap_or_default).collect()))
}

impl Gathered {
    fn new(aggregation: &Aggregation) -> Result<Self> {
        Ok(Self { store: PaneStore::new(aggregation)?, spans: Vec::new() })
    }

    fn span(&mut self, groups: &[usize], spans: impl Iterator<Item = (i64, i64)>) {
        for (&group, (start, last)) in groups.iter().zip(spans) {
            match self.spans.get_mut(group) {
                Some(span) => *span = (span.0.min(start), span.1.max(last)),
                // Groups are numbered in the order in which they are first seen.
                None => self.spans.push((start, last)),
            }
        }
    }
}

/// All partitions in one, in their order.
fn merged(
    aggregation: &Aggregation,
    parts: BTreeMap<PartitionId, Gathered>,
    ids: &mut Vec<usize>,
) -> Result<(Partial, Vec<(i64, i64)>)> {
    let mut parts = parts.into_values();
    let Some(mut all) = parts.next() else { return Ok((PaneStore::new(aggregation)?.into_partial()?, Vec::new())) };
    for part in parts {
        all.store.merge(&part.store.into_partial()?, ids)?;
        all.span(ids, part.spans.into_iter());
    }
    Ok((all.store.into_partial()?, all.spans))
}

impl Open {
    fn new(aggregation: &Aggregation) -> Result<Self> {
        Ok(Self { keys: Keys::new(aggregation)?, newest: Vec::new(), sessions: Vec::new() })
    }

    /// Sessions and their keys; of two with the same key, the later one stands later.
    fn of(aggregation: &Aggregation, keys: &[ArrayRef], sessions: Vec<Session>, ids: &mut Vec<usize>) -> Result<Self> {
        let mut open = Self { sessions, ..Self::new(aggregation)? };
        open.keys.intern(keys, open.sessions.len(), ids)?;
        for (number, key) in ids.iter().enumerate() {
            open.sessions[number].key = *key;
            open.set_newest(*key, number);
        }
        Ok(open)
    }

    fn set_newest(&mut self, key: usize, session: usize) {
        match self.newest.get_mut(key) {
            Some(newest) => *newest = session,
            // Keys are numbered in the order in which they are first seen.
            None => self.newest.push(session),
        }
    }

    /// Gives the groups of a pane to the sessions that they go on with, or begins new ones; panes come in their order.
    fn extend(&mut self, pane: i64, content: &Content, gap: i64, ids: &mut Vec<usize>) -> Result<()> {
        let Content { partial, spans, .. } = content;
        self.keys.intern(&partial.keys, partial.count, ids)?;
        for ((group, &key), &(start, last)) in ids.iter().enumerate().zip(spans.iter()) {
            let (part, end) = (Part { pane, partial: partial.clone(), group }, last.saturating_add(gap));
            match self.newest.get(key).map(|session| &mut self.sessions[*session]) {
                Some(session) if start < session.end => {
                    session.end = session.end.max(end);
                    session.parts.push(part);
                }
                _ => {
                    self.set_newest(key, self.sessions.len());
                    self.sessions.push(Session { key, start, end, first_pane: pane, parts: vec![part] });
                }
            }
        }
        Ok(())
    }

    /// Merges the parts of sessions that have many, so that a pane's arrays are not kept for long; returns the new arrays.
    fn compact(&mut self, aggregation: &Aggregation) -> Result<Option<Arc<Partial>>> {
        let mut long: Vec<&mut Session> =
            self.sessions.iter_mut().filter(|session| session.parts.len() >= MOST_PARTS).collect();
        if long.is_empty() {
            return Ok(None);
        }
        let (mut states, of) = merge(aggregation, &long.iter().map(|session| &**session).collect::<Vec<_>>())?;
        let partial = Arc::new(Partial::new(Vec::new(), states.take()?, long.len()));
        for (group, session) in of.into_iter().zip(&mut long) {
            let pane = session.parts.last().map_or(session.first_pane, |part| part.pane);
            session.parts = vec![Part { pane, partial: partial.clone(), group }];
        }
        Ok(Some(partial))
    }
}
