//! What can be asked. Rule: every answer has an age, and one that is too old is not given.

use std::sync::Arc;

use prescale_domain::{Clock, ServiceName, Span, Timestamp};
use thiserror::Error;
use tokio::sync::watch;

/// A value, and since when it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dated<T> {
    pub value: T,
    pub at: Timestamp,
}

/// How much of what is sent to a service may go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Admission {
    /// Share of the present rate; 1 = all.
    pub share: f64,
    /// The same in requests per second of all callers together, where it is known. It says more than the share, which
    /// also throttles what has fallen meanwhile.
    pub rate: Option<f64>,
}

/// What Prescale knows, by service; `None` = not known (yet). The date of a value is the moment at which it was last held to
/// be true, not that of its last change.
pub trait Answers: Send + Sync {
    fn services(&self) -> Vec<ServiceName>;
    /// Units that the service should have now, or will need so long from now.
    fn units(&self, service: &ServiceName, ahead: Option<Span>) -> Option<Dated<u32>>;
    /// Forecast of its load signal for so long from now; `None` = when units that are asked for now carry load.
    fn load(&self, service: &ServiceName, ahead: Option<Span>) -> Option<Dated<f64>>;
    /// Load that one unit carries, in the unit of the signal.
    fn unit_capacity(&self, service: &ServiceName) -> Option<Dated<f64>>;
    /// Whether the service should have any unit at all.
    fn active(&self, service: &ServiceName) -> Option<Dated<bool>>;
    fn admission(&self, service: &ServiceName) -> Option<Dated<Admission>>;
    /// Changes whenever one of the above may have.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Absent {
    #[error("service `{service}` is not known")]
    Service { service: String },
    #[error("{what} of service `{service}` is not known yet")]
    Value { what: &'static str, service: ServiceName },
    #[error("{what} of service `{service}` is {age} old, more than {limit}")]
    Stale { what: &'static str, service: ServiceName, age: Span, limit: Span },
}

/// Hands out answers that are fresh.
#[derive(Clone)]
pub struct Desk {
    answers: Arc<dyn Answers>,
    clock: Arc<dyn Clock>,
    stale_after: Span,
}

impl Desk {
    pub fn new(answers: Arc<dyn Answers>, clock: Arc<dyn Clock>, stale_after: Span) -> Self {
        Self { answers, clock, stale_after }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How long until an answer of this date is too old.
    pub(crate) fn fresh_for(&self, at: Timestamp) -> Span {
        (at + self.stale_after).since(self.now())
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.answers.changes()
    }

    pub(crate) fn services(&self) -> Vec<ServiceName> {
        let mut services = self.answers.services();
        services.sort();
        services
    }

    /// The service of a name that a caller sent.
    pub(crate) fn service(&self, name: &str) -> Result<ServiceName, Absent> {
        let known = self.answers.services().into_iter().find(|service| service.as_str() == name);
        known.ok_or_else(|| Absent::Service { service: name.to_owned() })
    }

    pub(crate) fn units(&self, service: &ServiceName, ahead: Option<Span>) -> Result<Dated<u32>, Absent> {
        self.fresh("the number of units", service, self.answers.units(service, ahead), |_| true)
    }

    pub(crate) fn load(&self, service: &ServiceName, ahead: Option<Span>) -> Result<Dated<f64>, Absent> {
        let sound = |load: &f64| load.is_finite() && *load >= 0.0;
        self.fresh("the forecast", service, self.answers.load(service, ahead), sound)
    }

    pub(crate) fn unit_capacity(&self, service: &ServiceName) -> Result<Dated<f64>, Absent> {
        let sound = |load: &f64| load.is_finite() && *load > 0.0;
        self.fresh("the capacity of a unit", service, self.answers.unit_capacity(service), sound)
    }

    pub(crate) fn active(&self, service: &ServiceName) -> Result<Dated<bool>, Absent> {
        self.fresh("whether it is active", service, self.answers.active(service), |_| true)
    }

    pub(crate) fn admission(&self, service: &ServiceName) -> Result<Dated<Admission>, Absent> {
        let sound = |admission: &Admission| {
            let rate = admission.rate.unwrap_or(0.0);
            admission.share >= 0.0 && rate.is_finite() && rate >= 0.0
        };
        self.fresh("the share that may go on", service, self.answers.admission(service), sound)
    }

    /// The answer if it is young enough and makes sense.
    fn fresh<T>(
        &self,
        what: &'static str,
        service: &ServiceName,
        answer: Option<Dated<T>>,
        sound: impl Fn(&T) -> bool,
    ) -> Result<Dated<T>, Absent> {
        let answer = answer.filter(|answer| sound(&answer.value));
        let answer = answer.ok_or_else(|| Absent::Value { what, service: service.clone() })?;
        let (age, limit) = (self.now().since(answer.at), self.stale_after);
        if age > limit {
            return Err(Absent::Stale { what, service: service.clone(), age, limit });
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{HandClock, Known, Scripted};

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_millis(0) + Span::from_minutes(minute)
    }

    fn desk(known: Known, now: Timestamp) -> Desk {
        Desk::new(Arc::new(Scripted::new([("web", known)])), Arc::new(HandClock::new(now)), Span::from_minutes(3))
    }

    #[test]
    fn an_answer_is_given_until_it_is_too_old() {
        let known = Known { at: minute(10), units: Some(3), ..Known::default() };
        let units = |now| desk(known.clone(), now).units(&ServiceName::new("web"), None);
        let fresh = Ok(Dated { value: 3, at: minute(10) });
        // Clocks of two machines differ: what is of a moment ahead is new.
        for now in [minute(9), minute(10), minute(13)] {
            assert_eq!(units(now), fresh, "{now}");
        }
        let stale = units(minute(13) + Span::from_millis(1)).unwrap_err();
        assert_eq!(stale.to_string(), "the number of units of service `web` is 180001ms old, more than 3m");
    }

    #[test]
    fn a_number_that_makes_no_sense_is_none() {
        let web = ServiceName::new("web");
        for number in [f64::NAN, f64::INFINITY, -1.0] {
            let admission = Some(Admission { share: 0.5, rate: Some(number) });
            let known = Known { load: Some(number), unit_capacity: Some(number), admission, ..Known::default() };
            let desk = desk(known, minute(0));
            assert!(matches!(desk.load(&web, None), Err(Absent::Value { .. })), "{number}");
            assert!(matches!(desk.unit_capacity(&web), Err(Absent::Value { .. })), "{number}");
            assert!(matches!(desk.admission(&web), Err(Absent::Value { .. })), "{number}");
        }
        let nothing = Known { unit_capacity: Some(0.0), ..Known::default() };
        assert!(desk(nothing, minute(0)).unit_capacity(&web).is_err(), "a unit that carries nothing");
        let unclear = Known { admission: Some(Admission { share: f64::NAN, rate: None }), ..Known::default() };
        assert!(desk(unclear, minute(0)).admission(&web).is_err());
    }
}
