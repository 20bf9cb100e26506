//! The forecasts of one service along a history, to be used again and again: they do not depend on what is decided. Rule:
//! what is read back is what was written, to the bit.

use std::collections::BTreeMap;

use prescale_domain::{QuantileForecast, ServiceName, Span, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"prscast1";
const NONE: u16 = u16::MAX;

/// One forecast, or the reason code for there being none, for each closed window.
#[derive(Clone, Debug, PartialEq)]
pub struct ForecastStream {
    pub service: ServiceName,
    pub step: Span,
    /// Start of the first window; the others follow step by step.
    pub start: Timestamp,
    pub levels: Vec<f64>,
    /// Steps of each forecast.
    pub horizon: usize,
    entries: Vec<Entry>,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// Index of the model's name; [`NONE`] = no forecast.
    model: u16,
    /// Index of the reason's name.
    reason: u16,
    values: Vec<f64>,
}

/// What stands before the numbers.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    service: ServiceName,
    step: Span,
    start: Timestamp,
    levels: Vec<f64>,
    horizon: usize,
    windows: usize,
    names: Vec<String>,
}

/// Bytes that are not a stream.
#[derive(Debug, Error)]
pub enum StreamError {
    #[error("stream of forecasts is of another format or version")]
    Format,
    #[error("stream of forecasts is damaged: {0}")]
    Damaged(String),
}

impl ForecastStream {
    pub fn new(service: ServiceName, start: Timestamp, step: Span, levels: Vec<f64>, horizon: usize) -> Self {
        Self { service, step, start, levels, horizon, entries: Vec::new(), names: Vec::new() }
    }

    /// Adds what was said after the next window. A forecast of another shape counts as none.
    pub fn push(&mut self, made: Result<&QuantileForecast, &str>) {
        let entry = match made {
            Ok(forecast) if self.fits(forecast) => {
                let values = forecast.values.iter().flatten().copied().collect();
                Entry { model: self.name(&forecast.model), reason: self.name(&forecast.reason), values }
            }
            Ok(_) => Entry { model: NONE, reason: self.name("forecast-invalid"), values: Vec::new() },
            Err(reason) => Entry { model: NONE, reason: self.name(reason), values: Vec::new() },
        };
        self.entries.push(entry);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first end of a window after which something was said.
    pub fn reaches_from(&self) -> Timestamp {
        self.start + self.step
    }

    /// The last end of a window after which something was said.
    pub fn end(&self) -> Timestamp {
        self.start + Span::from_millis(self.step.millis().saturating_mul(self.entries.len() as i64))
    }

    /// What was said when the window that ended at `end` had closed.
    pub fn after(&self, end: Timestamp) -> Result<QuantileForecast, &str> {
        let origin = end - self.step;
        let index = origin.millis().checked_sub(self.start.millis()).map(|ahead| ahead / self.step.millis().max(1));
        let entry = index.and_then(|index| self.entries.get(usize::try_from(index).ok()?)).ok_or("no-history")?;
        let name = |index: u16| self.names.get(usize::from(index)).map_or("", String::as_str);
        if entry.model == NONE {
            return Err(name(entry.reason));
        }
        Ok(QuantileForecast {
            service: self.service.clone(),
            origin,
            step: self.step,
            model: name(entry.model).to_owned(),
            reason: name(entry.reason).to_owned(),
            levels: self.levels.clone(),
            values: entry.values.chunks(self.levels.len().max(1)).map(<[f64]>::to_vec).collect(),
        })
    }

    /// How often each model served, and each reason for none was given.
    pub fn models(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for entry in &self.entries {
            let index = if entry.model == NONE { entry.reason } else { entry.model };
            *counts.entry(self.names[usize::from(index)].clone()).or_default() += 1;
        }
        counts
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let header = Header {
            service: self.service.clone(),
            step: self.step,
            start: self.start,
            levels: self.levels.clone(),
            horizon: self.horizon,
            windows: self.entries.len(),
            names: self.names.clone(),
        };
        // Names and finite numbers: serialising can't fail.
        let header = serde_json::to_vec(&header).unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        for entry in &self.entries {
            bytes.extend(entry.model.to_le_bytes());
            bytes.extend(entry.reason.to_le_bytes());
            entry.values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
        bytes
    }

    /// # Errors
    /// Another format, or bytes that end too early or go on too long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StreamError> {
        let damaged = |what: &str| StreamError::Damaged(what.to_owned());
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(StreamError::Format)?;
        let mut take = |count: usize| -> Result<&[u8], StreamError> {
            let (taken, left) = rest.split_at_checked(count).ok_or_else(|| damaged("it ends too early"))?;
            rest = left;
            Ok(taken)
        };
        let length = u64::from_le_bytes(take(8)?.try_into().map_err(|_| damaged("no length"))?);
        let length = usize::try_from(length).map_err(|_| damaged("a length beyond memory"))?;
        let header: Header =
            serde_json::from_slice(take(length)?).map_err(|error| StreamError::Damaged(error.to_string()))?;
        let cells = header.levels.len().checked_mul(header.horizon).ok_or_else(|| damaged("a shape beyond memory"))?;
        let mut entries = Vec::new();
        for _ in 0..header.windows {
            let head = take(4)?;
            let (model, reason) = (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
            let known = |index: u16| index == NONE || usize::from(index) < header.names.len();
            if !known(model) || reason == NONE || !known(reason) {
                return Err(damaged("a name that is not there"));
            }
            let count = if model == NONE { 0 } else { cells };
            let numbers = take(count.checked_mul(8).ok_or_else(|| damaged("a shape beyond memory"))?)?;
            let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap_or_default());
            entries.push(Entry { model, reason, values: numbers.chunks_exact(8).map(number).collect() });
        }
        if !rest.is_empty() {
            return Err(damaged("it goes on after its end"));
        }
        let Header { service, step, start, levels, horizon, names, .. } = header;
        Ok(Self { service, step, start, levels, horizon, entries, names })
    }

    fn fits(&self, forecast: &QuantileForecast) -> bool {
        forecast.levels == self.levels
            && forecast.values.len() == self.horizon
            && forecast.values.iter().all(|values| values.len() == self.levels.len())
    }

    fn name(&mut self, text: &str) -> u16 {
        let index = self.names.iter().position(|known| known == text).unwrap_or_else(|| {
            self.names.push(text.to_owned());
            self.names.len() - 1
        });
        u16::try_from(index).unwrap_or(NONE - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Span = Span::from_minutes(1);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    fn forecast(minute: i64, model: &str) -> QuantileForecast {
        QuantileForecast {
            service: "checkout".into(),
            origin: at(minute),
            step: MINUTE,
            model: model.to_owned(),
            reason: "champion".to_owned(),
            levels: vec![0.5, 0.9],
            values: vec![vec![minute as f64 / 3.0, 2.0], vec![0.1 + 0.2, 4.0]],
        }
    }

    fn stream() -> ForecastStream {
        let mut stream = ForecastStream::new("checkout".into(), at(10), MINUTE, vec![0.5, 0.9], 2);
        stream.push(Err("cold-start"));
        stream.push(Ok(&forecast(11, "mix")));
        stream.push(Ok(&forecast(12, "lstm")));
        stream.push(Ok(&QuantileForecast { values: vec![], ..forecast(13, "mix") }));
        stream
    }

    #[test]
    fn each_window_has_what_was_said_after_it() {
        let stream = stream();
        assert_eq!(stream.after(at(11)), Err("cold-start"));
        assert_eq!(stream.after(at(12)), Ok(forecast(11, "mix")));
        assert_eq!(stream.after(at(13)), Ok(forecast(12, "lstm")));
        assert_eq!(stream.after(at(14)), Err("forecast-invalid"));
        assert_eq!((stream.after(at(10)), stream.after(at(15))), (Err("no-history"), Err("no-history")));
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        let bytes = stream().to_bytes();
        assert_eq!(ForecastStream::from_bytes(&bytes).unwrap(), stream());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = stream().to_bytes();
        assert!(matches!(ForecastStream::from_bytes(b"something"), Err(StreamError::Format)));
        for end in 8..bytes.len() {
            assert!(matches!(ForecastStream::from_bytes(&bytes[..end]), Err(StreamError::Damaged(_))), "{end}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(ForecastStream::from_bytes(&longer).is_err());
    }
}
