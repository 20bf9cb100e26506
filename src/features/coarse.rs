//! What is kept of windows that are too old for the models: their means by hour. Rule: an hour is made once, when all of
//! it leaves the fine history, and says how many of its windows were known.

use prescale_domain::{ServiceName, Span, Timestamp};
use prescale_store::{Store, StoreError, Table, Write, service_time_key};
use serde::{Deserialize, Serialize};

use crate::FeatureError;

/// Width of a coarse window; a step that is longer stays as it is.
const HOUR: Span = Span::from_minutes(60);

/// The load of the windows that begin in one hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoarseWindow {
    pub start: Timestamp,
    /// Of the windows that are known.
    pub mean: f64,
    pub min: f64,
    pub max: f64,
    /// How many of its windows are known, at least one.
    pub known: u32,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// Of which feature column: that of a service may change.
    signal: String,
    mean: f64,
    min: f64,
    max: f64,
    known: u32,
}

/// Width of the coarse windows of a history of this step.
pub(crate) fn grain(step: Span) -> Span {
    step.max(HOUR)
}

/// The coarse windows of consecutive windows from `start` on; an hour of which nothing is known has none.
pub(crate) fn summaries(start: Timestamp, step: Span, values: &[Option<f64>]) -> Vec<CoarseWindow> {
    let mut made: Vec<CoarseWindow> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let Some(value) = *value else { continue };
        let hour = (start + Span::from_millis(step.millis() * index as i64)).floor_to(grain(step));
        match made.last_mut() {
            Some(last) if last.start == hour => {
                last.known += 1;
                // The mean so far, moved by its share of the difference: sums of many large values are never needed.
                last.mean += (value - last.mean) / f64::from(last.known);
                (last.min, last.max) = (last.min.min(value), last.max.max(value));
            }
            _ => made.push(CoarseWindow { start: hour, mean: value, min: value, max: value, known: 1 }),
        }
    }
    made
}

/// `<service> 0x01 <time>`: beside the fine windows, whose keys have 0x00 there.
fn key(service: &ServiceName, start: Timestamp) -> Vec<u8> {
    let mut key = service_time_key(service, start);
    key[service.as_str().len()] = 1;
    key
}

/// The change that keeps a coarse window.
pub(crate) fn kept(service: &ServiceName, signal: &str, window: &CoarseWindow) -> Result<Write, FeatureError> {
    let CoarseWindow { start, mean, min, max, known } = *window;
    let entry = Entry { signal: signal.to_owned(), mean, min, max, known };
    let value = serde_json::to_vec(&entry)
        .map_err(|error| FeatureError::Corrupt { service: service.to_string(), error: error.to_string() })?;
    Ok(Write { table: Table::History, key: key(service, start), value: Some(value) })
}

/// The change that forgets it.
pub(crate) fn forgotten(service: &ServiceName, start: Timestamp) -> Write {
    Write { table: Table::History, key: key(service, start), value: None }
}

/// The start of the oldest that is kept.
pub(crate) fn oldest(store: &dyn Store, service: &ServiceName) -> Result<Option<Timestamp>, StoreError> {
    let (from, to) = (key(service, Timestamp::MIN), key(service, Timestamp::MAX));
    let found = store.range(Table::History, &from, &to, 1, false)?;
    Ok(found.first().and_then(|(key, _)| start_of(service, key)))
}

/// All that are kept of one signal and start in `[from, until)`.
pub(crate) fn read(
    store: &dyn Store,
    (service, signal): (&ServiceName, &str),
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<CoarseWindow>, FeatureError> {
    let mut found = Vec::new();
    for (key, value) in store.range(Table::History, &key(service, from), &key(service, until), usize::MAX, false)? {
        let Some(start) = start_of(service, &key) else { continue };
        let entry: Entry = serde_json::from_slice(&value)
            .map_err(|error| FeatureError::Corrupt { service: service.to_string(), error: error.to_string() })?;
        let Entry { signal: of, mean, min, max, known } = entry;
        if of == signal {
            found.push(CoarseWindow { start, mean, min, max, known });
        }
    }
    Ok(found)
}

/// The time in a key; `None` where it is not one of `service`, but of another whose name begins alike.
fn start_of(service: &ServiceName, key: &[u8]) -> Option<Timestamp> {
    let time: [u8; 8] = key.get(service.as_str().len() + 1..)?.try_into().ok()?;
    Some(Timestamp::from_millis(i64::from_be_bytes(time) ^ i64::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_says_what_is_known_of_it() {
        let minute = |n: i64| Timestamp::from_millis(n * 60_000);
        let mut values = vec![Some(1.0); 30];
        values.extend([None, Some(9.0), Some(2.0)]);
        values.extend([None; 90]);
        values.push(Some(5.0));
        let hours = summaries(minute(58), Span::from_minutes(1), &values);
        let first = CoarseWindow { start: minute(0), mean: 1.0, min: 1.0, max: 1.0, known: 2 };
        let second = CoarseWindow { start: minute(60), mean: 39.0 / 30.0, min: 1.0, max: 9.0, known: 30 };
        let last = CoarseWindow { start: minute(180), mean: 5.0, min: 5.0, max: 5.0, known: 1 };
        assert_eq!((hours[0], hours[2], hours.len()), (first, last, 3));
        assert!((hours[1].mean - second.mean).abs() < 1e-12);
        assert_eq!(CoarseWindow { mean: second.mean, ..hours[1] }, second);
    }
}
