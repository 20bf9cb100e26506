//! Pages of decisions, newest first, out of the view and the archive. Rule: following `next` gives each decision once,
//! also where several were made at the same moment.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use prescale_controller::view::{DecisionArchive, View};
use prescale_domain::{Decision, ServiceName, Span, Timestamp};

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) service: Option<ServiceName>,
    pub(crate) before: Option<Before>,
    pub(crate) limit: usize,
}

/// Where a page begins: after everything at or later than a moment, or after one decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Moment(Timestamp),
    Decision { at: Timestamp, id: String },
}

/// The order of all pages, read from its end: newest first, at one moment by id.
type Key = (Timestamp, String);

impl Before {
    /// A time (RFC 3339), or the id of a decision, as `next` gives it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::Moment(at));
        }
        let at = text.rsplit_once('@').and_then(|(_, rest)| rest.split_once('#')).and_then(|(at, _)| at.parse().ok());
        match at {
            Some(at) => Ok(Self::Decision { at, id: text.to_owned() }),
            None => Err(format!("before `{text}` is neither an RFC 3339 time nor the id of a decision")),
        }
    }

    fn admits(&self, decision: &Decision) -> bool {
        match self {
            Self::Moment(moment) => decision.at < *moment,
            Self::Decision { at, id } => (decision.at, &decision.id.0) < (*at, id),
        }
    }

    /// The earliest moment before which nothing is left out.
    fn bound(&self) -> Timestamp {
        match self {
            Self::Moment(moment) => *moment,
            Self::Decision { at, .. } => *at + Span::from_millis(1),
        }
    }
}

/// The decisions of a page and the `before` of the next one, if there is more.
pub(crate) fn page(
    view: &View,
    archive: &dyn DecisionArchive,
    page: &Page,
) -> Result<(Vec<Decision>, Option<String>), String> {
    let mut found: BTreeMap<Key, Decision> = BTreeMap::new();
    let mut keep = |decision: &Decision| {
        let wanted = page.service.as_ref().is_none_or(|service| *service == decision.service);
        if wanted && page.before.as_ref().is_none_or(|before| before.admits(decision)) {
            found.entry((decision.at, decision.id.0.clone())).or_insert_with(|| decision.clone());
        }
    };
    view.services.values().flat_map(|service| &service.decisions).for_each(|decision| keep(decision));
    archived(archive, page)?.iter().for_each(&mut keep);
    let more = found.len() > page.limit;
    let decisions: Vec<Decision> = found.into_values().rev().take(page.limit).collect();
    let next = decisions.last().filter(|_| more).map(|decision| decision.id.0.clone());
    Ok((decisions, next))
}

/// At least one more than the page holds of what the archive has. The last moment of a cut answer may be incomplete, so
/// it is left out and more is asked for until enough whole moments are there.
fn archived(archive: &dyn DecisionArchive, page: &Page) -> Result<Vec<Decision>, String> {
    let bound = page.before.as_ref().map(Before::bound);
    let mut ask = page.limit.saturating_add(32);
    loop {
        let mut read = archive.decisions(page.service.as_ref(), bound, ask)?;
        let cut = read.len() >= ask;
        if let Some(last) = read.last().map(|decision| decision.at).filter(|_| cut) {
            read.retain(|decision| decision.at > last);
        }
        read.retain(|decision| page.before.as_ref().is_none_or(|before| before.admits(decision)));
        if !cut || read.len() > page.limit {
            return Ok(read);
        }
        ask = ask.saturating_mul(2);
    }
}
