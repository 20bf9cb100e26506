//! The loop's own record of what the fleet has changed and what a service has cost. Rule: bounded; what was not seen is not
//! guessed, and what was seen last is taken to go on until the next look.

use std::collections::VecDeque;

use prescale_decide::month_end;
use prescale_domain::{FleetChange, FleetChangeSettings, ServiceName, Span, TargetState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Controller;
use crate::settings::ServiceSettings;

/// Changes of all services that were asked for of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChangeBook {
    /// Oldest first.
    changes: VecDeque<Change>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    at: Timestamp,
    service: ServiceName,
    /// Units added or removed.
    units: u32,
}

impl ChangeBook {
    /// A change is asked for, from `before` to `after` units.
    pub(crate) fn ask(&mut self, at: Timestamp, service: &ServiceName, before: u32, after: u32) {
        let units = before.abs_diff(after);
        if units > 0 {
            self.changes.push_back(Change { at, service: service.clone(), units });
        }
    }

    /// The change that was asked for at that moment has failed.
    pub(crate) fn fail(&mut self, at: Timestamp, service: &ServiceName) {
        self.changes.retain(|change| change.at != at || change.service != *service);
    }

    /// Forgets what no interval reaches back to.
    pub(crate) fn forget(&mut self, now: Timestamp, interval: Span) {
        while self.changes.front().is_some_and(|change| now.since(change.at) >= interval) {
            self.changes.pop_front();
        }
    }

    /// How much may still change at `now`; `None` = any number.
    pub(crate) fn at(&self, now: Timestamp, settings: FleetChangeSettings) -> Option<FleetChange> {
        let limit = settings.units?;
        let recent = self.changes.iter().filter(|change| now.since(change.at) < settings.interval);
        let used = recent.map(|change| change.units).fold(0, u32::saturating_add);
        Some(FleetChange { limit, interval: settings.interval, used })
    }
}

/// What a service has cost since the month began, or since it was first seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spending {
    usd: f64,
    month_ends: Option<Timestamp>,
    /// The last look, and the units that were paid for then.
    seen: Option<(Timestamp, u32)>,
}

impl Spending {
    /// A target was looked at in the month that ends at `month_ends`, where a unit costs `price_usd_hour`.
    pub(crate) fn look(
        &mut self,
        now: Timestamp,
        target: Option<TargetState>,
        price_usd_hour: f64,
        month_ends: Option<Timestamp>,
    ) {
        let (ended, mut since) = (self.month_ends.filter(|ends| *ends <= now), None);
        if let Some(ended) = ended {
            self.usd = 0.0;
            since = Some(ended);
        }
        if let Some((at, units)) = self.seen {
            let from = since.map_or(at, |ended| ended.max(at));
            let hours = now.since(from).seconds() / 3600.0;
            self.usd += f64::from(units) * price_usd_hour * hours;
        }
        self.month_ends = month_ends;
        // Units that are still on their way are paid for, and so are those that have not gone yet.
        let paid = target.map(|target| target.ready.map_or(target.desired, |ready| ready.max(target.desired)));
        let units = paid.or(self.seen.map(|(_, units)| units));
        self.seen = units.map(|units| (now, units));
    }

    /// `None` before the first look.
    pub(crate) fn spent_month_usd(&self) -> Option<f64> {
        self.seen.map(|_| self.usd)
    }
}

impl Controller {
    /// Enters what is known of `services` at this moment, before they are decided for.
    pub(crate) fn keep_books(&mut self, services: &[ServiceSettings], now: Timestamp) {
        self.state.changes.forget(now, self.settings.fleet_change.interval);
        for ServiceSettings { name, rules, .. } in services {
            let (Some(price), Some(state)) = (rules.price_usd_hour, self.state.services.get_mut(name)) else {
                continue;
            };
            state.spending.look(now, state.target, price, month_end(now, rules.zone));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn target(desired: u32, ready: u32) -> Option<TargetState> {
        Some(TargetState { desired, ready: Some(ready), min: None, max: None, observed_at: Timestamp::default() })
    }

    #[test]
    fn changes_of_all_services_count_for_an_interval() {
        let settings = FleetChangeSettings { units: Some(10), interval: Span::from_minutes(5) };
        let (mut book, start) = (ChangeBook::default(), at("2026-11-26T12:00:00Z"));
        let used = |book: &ChangeBook, minutes: i64| {
            book.at(start + Span::from_minutes(minutes), settings).map(|change| (change.limit, change.used))
        };
        assert_eq!(used(&book, 0), Some((10, 0)));
        book.ask(start, &"web".into(), 4, 7);
        book.ask(start, &"shop".into(), 9, 5);
        book.ask(start, &"idle".into(), 2, 2);
        book.ask(start + Span::from_minutes(2), &"web".into(), 7, 8);
        assert_eq!((used(&book, 2), used(&book, 5)), (Some((10, 8)), Some((10, 1))));
        // What has failed has changed nothing.
        book.fail(start, &"shop".into());
        assert_eq!(used(&book, 2), Some((10, 4)));
        book.forget(start + Span::from_minutes(7), settings.interval);
        assert_eq!(book, ChangeBook::default());
        assert_eq!(book.at(start, FleetChangeSettings { units: None, ..settings }), None);
    }

    #[test]
    fn a_month_costs_what_was_seen_of_it() {
        let mut spending = Spending::default();
        let (november, december) = (Some(at("2026-12-01T00:00:00Z")), Some(at("2027-01-01T00:00:00Z")));
        assert_eq!(spending.spent_month_usd(), None);
        spending.look(at("2026-11-30T20:00:00Z"), target(4, 2), 0.5, november);
        assert_eq!(spending.spent_month_usd(), Some(0.0));
        spending.look(at("2026-11-30T21:00:00Z"), target(2, 4), 0.5, november);
        assert_eq!(spending.spent_month_usd(), Some(2.0));
        // A look that fails changes nothing but the time.
        spending.look(at("2026-11-30T22:00:00Z"), None, 0.5, november);
        assert_eq!(spending.spent_month_usd(), Some(4.0));
        // The month ends in the middle: of four hours three are of the new one.
        spending.look(at("2026-12-01T03:00:00Z"), target(2, 2), 0.5, december);
        assert_eq!(spending.spent_month_usd(), Some(6.0));
        // A look back in time costs nothing.
        spending.look(at("2026-12-01T02:00:00Z"), target(2, 2), 0.5, december);
        assert_eq!(spending.spent_month_usd(), Some(6.0));
    }
}
