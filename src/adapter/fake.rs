//! Answers that are set by hand, for tests and examples. Rule: what is set is what is answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prescale_domain::{Clock, ServiceName, Span, Timestamp};
use tokio::sync::watch;

use crate::{Admission, Answers, Dated};

/// What is known of one service, all of the same date.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    pub at: Timestamp,
    pub units: Option<u32>,
    /// Units needed at times ahead, by the last that is not later than what is asked for.
    pub units_ahead: Vec<(Span, u32)>,
    pub load: Option<f64>,
    pub load_ahead: Vec<(Span, f64)>,
    pub unit_capacity: Option<f64>,
    pub active: Option<bool>,
    pub admission: Option<Admission>,
}

/// Answers by hand.
#[derive(Debug)]
pub struct Scripted {
    known: Mutex<BTreeMap<ServiceName, Known>>,
    changes: watch::Sender<u64>,
}

/// A clock by hand.
#[derive(Debug, Default)]
pub struct HandClock(Mutex<Timestamp>);

impl Scripted {
    pub fn new(known: impl IntoIterator<Item = (&'static str, Known)>) -> Self {
        let known = known.into_iter().map(|(name, known)| (ServiceName::new(name), known)).collect();
        Self { known: Mutex::new(known), changes: watch::Sender::new(0) }
    }

    /// Changes what is known of a service, and tells those who wait.
    pub fn set(&self, service: &str, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(ServiceName::new(service)).or_default());
        drop(known);
        self.changes.send_modify(|version| *version += 1);
    }

    fn of<T>(&self, service: &ServiceName, value: impl FnOnce(&Known) -> Option<T>) -> Option<Dated<T>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(service)?;
        value(known).map(|value| Dated { value, at: known.at })
    }
}

/// The value of now, or the one of a time ahead.
fn of_time<T: Copy>(now: Option<T>, later: &[(Span, T)], ahead: Option<Span>) -> Option<T> {
    let Some(ahead) = ahead else { return now };
    later.iter().rev().find(|(from, _)| *from <= ahead).map(|(_, value)| *value).or(now)
}

impl Answers for Scripted {
    fn services(&self) -> Vec<ServiceName> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn units(&self, service: &ServiceName, ahead: Option<Span>) -> Option<Dated<u32>> {
        self.of(service, |known| of_time(known.units, &known.units_ahead, ahead))
    }

    fn load(&self, service: &ServiceName, ahead: Option<Span>) -> Option<Dated<f64>> {
        self.of(service, |known| of_time(known.load, &known.load_ahead, ahead))
    }

    fn unit_capacity(&self, service: &ServiceName) -> Option<Dated<f64>> {
        self.of(service, |known| known.unit_capacity)
    }

    fn active(&self, service: &ServiceName) -> Option<Dated<bool>> {
        self.of(service, |known| known.active)
    }

    fn admission(&self, service: &ServiceName) -> Option<Dated<Admission>> {
        self.of(service, |known| known.admission)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl HandClock {
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
