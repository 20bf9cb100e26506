//! Recorded decisions and actuations in the store. Rule: keys sort by service and time; a repeat overwrites its equal.

use std::sync::Arc;

use prescale_domain::{Actuation, Decision, Outcome, ServiceName, Timestamp};
use prescale_store::{Store, Table, Write, prefix_end, service_time_key};

use crate::ControllerError;
use crate::view::DecisionArchive;

/// Reads decisions from the store.
pub struct StoredDecisions {
    store: Arc<dyn Store>,
}

impl StoredDecisions {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

impl StoredDecisions {
    /// The last attempt of each service that was begun and not recorded as ended, with the units that it asked for.
    pub(crate) fn interrupted<'a>(
        &self,
        services: impl Iterator<Item = &'a ServiceName>,
    ) -> Result<Vec<(Actuation, u32)>, ControllerError> {
        let corrupt = |error: String| ControllerError::Corrupt { error };
        let mut open = Vec::new();
        for service in services {
            let (from, to) = (service_time_key(service, Timestamp::MIN), service_time_key(service, Timestamp::MAX));
            let last = self.store.range(Table::Actuations, &from, &to, 1, true)?;
            let Some((_, bytes)) = last.first() else { continue };
            let last: Actuation = serde_json::from_slice(bytes)
                .map_err(|error| corrupt(format!("recorded actuation of `{service}` is unreadable: {error}")))?;
            if last.outcome == Outcome::Started
                && let Some(decision) = self.decision(&last.decision.0).map_err(corrupt)?
            {
                open.push((last, decision.desired));
            }
        }
        Ok(open)
    }
}

/// `recorded` is its [recorded form](decision_bytes).
pub(crate) fn decision_write(decision: &Decision, recorded: Vec<u8>) -> Write {
    Write { table: Table::Decisions, key: service_time_key(&decision.service, decision.at), value: Some(recorded) }
}

/// The recorded form of a decision: what is stored, published and compared.
pub fn decision_bytes(decision: &Decision) -> Vec<u8> {
    // Maps have text keys and numbers are finite: serialising can't fail.
    serde_json::to_vec(decision).unwrap_or_default()
}

pub(crate) fn actuation_write(actuation: &Actuation) -> Write {
    let mut key = service_time_key(&actuation.service, actuation.at);
    key.push(u8::from(actuation.outcome != Outcome::Started));
    Write { table: Table::Actuations, key, value: serde_json::to_vec(actuation).ok() }
}

impl DecisionArchive for StoredDecisions {
    fn decision(&self, id: &str) -> Result<Option<Decision>, String> {
        // An id is `<service>@<time>#<hash>`; service names may hold an `@`, times and hashes do not.
        let Some((service, rest)) = id.rsplit_once('@') else { return Ok(None) };
        let Some(at) = rest.split_once('#').and_then(|(time, _)| time.parse::<Timestamp>().ok()) else {
            return Ok(None);
        };
        let key = service_time_key(&ServiceName::new(service), at);
        let Some(bytes) = self.store.get(Table::Decisions, &key).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let decision: Decision = parse(&bytes)?;
        Ok((decision.id.0 == id).then_some(decision))
    }

    fn decisions(
        &self,
        service: Option<&ServiceName>,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Decision>, String> {
        let until = before.unwrap_or(Timestamp::MAX);
        let (from, to) = match service {
            Some(service) => (service_time_key(service, Timestamp::MIN), service_time_key(service, until)),
            None => (Vec::new(), prefix_end(&[u8::MAX; 8])),
        };
        let all = if service.is_some() { limit } else { usize::MAX };
        let found = self.store.range(Table::Decisions, &from, &to, all, true).map_err(|error| error.to_string())?;
        let mut decisions = found.iter().map(|(_, bytes)| parse(bytes)).collect::<Result<Vec<Decision>, _>>()?;
        decisions.retain(|decision| decision.at < until);
        decisions.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.service.cmp(&b.service)));
        decisions.truncate(limit);
        Ok(decisions)
    }
}

fn parse(bytes: &[u8]) -> Result<Decision, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("recorded decision is unreadable: {error}"))
}
