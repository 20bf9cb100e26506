//! What a unit carries, learnt while it serves. Rule: it moves slowly, by the time of the windows, and never far from what is
//! configured; what was learnt is in the inputs of each decision that it decides.

use std::collections::BTreeMap;

use prescale_decide::learn::capacity::CapacityLearner;
use prescale_domain::{FeatureRow, ServiceName, Span, TargetState, Timestamp};
use prescale_features::measure;
use prescale_forecast::online::OnlineEvent;
use serde::{Deserialize, Serialize};

use crate::Controller;
use crate::intake::ClosedWindow;
use crate::settings::ServiceSettings;

/// What is learnt lies within this factor of what is configured: beyond it the configuration, or the column, is wrong.
const APART_MAX: f64 = 4.0;
/// It moves by this share in a turn of the slow loop at most, so that no fleet jumps.
const TURN_MAX: f64 = 0.1;
/// A change below this share is not worth a word.
const TELL: f64 = 0.02;

/// What is known of the units of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Units {
    learner: CapacityLearner,
    /// Load that one carries, in place of what is configured; `None` until enough was seen.
    pub(crate) capacity: Option<f64>,
}

impl Units {
    /// Takes in a window: its `load`, its row, and the fleet in it. While units come or go nobody knows how many served.
    fn see(&mut self, service: &ServiceSettings, load: Option<f64>, row: Option<&FeatureRow>, target: TargetState) {
        let column = |name: &Option<String>| measure(&row?.measures, name.as_ref()?);
        let ready = target.ready.unwrap_or(target.desired);
        let (Some(load), Some(latency_ms)) = (load, column(&service.signals.latency)) else { return };
        if ready == 0 || ready != target.desired || !(0.0..=1e12).contains(&latency_ms) {
            return;
        }
        let errors = column(&service.signals.error_rate).unwrap_or(0.0);
        self.learner.observe(load / f64::from(ready), Span::from_millis(latency_ms.round() as i64), errors);
    }

    /// One turn: the capacity goes towards what was learnt. Gives it where it has changed.
    fn turn(&mut self, configured: f64, objective: Span) -> Option<f64> {
        let learnt = self.learner.capacity(objective)?.clamp(configured / APART_MAX, configured * APART_MAX);
        let before = self.capacity.unwrap_or(configured);
        let now = learnt.clamp(before * (1.0 - TURN_MAX), before * (1.0 + TURN_MAX));
        self.capacity = Some(now);
        ((now / before - 1.0).abs() > TELL).then_some(now)
    }
}

impl Controller {
    /// Learns from a window that has just been closed, where a service has an objective and a column of latencies.
    pub(crate) fn watch_units(&mut self, window: &ClosedWindow, now: Timestamp) {
        let end = window.start + self.settings.step;
        let slow = self.settings.cadence.slow;
        let turns = end.floor_to(slow) > window.start.floor_to(slow);
        let mut events = Vec::new();
        for service in &self.settings.services {
            let Some(objective) = service.latency_objective.filter(|_| service.signals.latency.is_some()) else {
                continue;
            };
            let state = self.state.services.get(&service.name);
            let Some(target) = state.and_then(|state| state.target) else { continue };
            let units = self.state.units.entry(service.name.clone()).or_default();
            units.see(service, state.and_then(|state| state.load), window.rows.get(&service.name), target);
            let configured = service.policy.unit_capacity;
            let changed = if turns { units.turn(configured, objective) } else { None };
            events.extend(changed.map(|capacity| OnlineEvent {
                at: now,
                kind: "unit-capacity".to_owned(),
                service: Some(service.name.clone()),
                text: format!("one unit carries {capacity:.4} within {objective}, {configured} are configured"),
            }));
        }
        self.record_model_events(now, events);
    }
}

/// What one unit of a service carries, where that was learnt.
pub(crate) fn learnt(units: &BTreeMap<ServiceName, Units>, service: &ServiceSettings) -> Option<f64> {
    // A column or objective that is not configured any more teaches nothing, and what it taught does not count.
    service.latency_objective.and(service.signals.latency.as_ref())?;
    units.get(&service.name)?.capacity
}

/// What one unit of a service carries, learnt or configured.
pub(crate) fn unit_capacity(units: &BTreeMap<ServiceName, Units>, service: &ServiceSettings) -> f64 {
    learnt(units, service).unwrap_or(service.policy.unit_capacity)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prescale_domain::SignalColumns;
    use prescale_store::MemoryStore;

    use super::*;
    use crate::fixture::{controller_with, minute, settings, web};
    use crate::settings::ClockMode;

    /// A window with a load on the units of the fleet, and the latency of units that are full at 15 and serve in 10 ms.
    fn window(n: i64, load: f64, units: f64) -> ClosedWindow {
        let latency_ms = 10.0 / (1.0 - load / units / 15.0);
        let measures =
            [("requests_per_second".to_owned(), Some(load)), ("latency_ms_p95".to_owned(), Some(latency_ms))];
        let row = FeatureRow {
            service: web(),
            window_start: minute(n),
            window_end: minute(n + 1),
            labels: BTreeMap::new(),
            measures: measures.into(),
        };
        ClosedWindow { start: minute(n), rows: [(web(), row)].into(), is_gap: false }
    }

    /// Closes so many windows of loads from a third to nearly all of the units; gives the capacity that each decision was
    /// made with, and the events.
    fn watched(latency_objective: Option<Span>, windows: i64) -> (Vec<f64>, Vec<String>) {
        let mut settings = settings(ClockMode::Event);
        let service = &mut settings.services[0];
        service.latency_objective = latency_objective;
        service.signals = SignalColumns { latency: Some("latency_ms_p95".to_owned()), ..SignalColumns::default() };
        let store = Arc::new(MemoryStore::default());
        let mut controller = controller_with(settings.clone(), &store, Arc::new(prescale_domain::SystemClock), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut used = Vec::new();
        runtime.block_on(controller.observe_targets(&settings.services, minute(0)));
        for n in 0..windows {
            let target = controller.state.services[&web()].target.unwrap();
            let units = f64::from(target.ready.unwrap_or(target.desired));
            let load = units * (5.0 + 7.0 * ((n * 37) % 100) as f64 / 100.0);
            runtime.block_on(controller.close(&window(n, load, units), minute(n + 1))).unwrap();
            let fleet = controller.fleet(&settings.services, minute(n + 1));
            let decision = controller.decide_one(&settings.services[0], minute(n + 1), &fleet);
            used.push(decision.inputs.settings.unit_capacity);
        }
        let kept: Units = controller.state.units.get(&web()).cloned().unwrap_or_default();
        let read: Units = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(read, kept);
        let texts = controller.unwritten.iter().filter_map(|write| write.value.as_ref());
        let texts = texts.filter_map(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok());
        let texts = texts.filter(|event| event["kind"] == "unit-capacity").map(|event| event["text"].to_string());
        (used, texts.collect())
    }

    #[test]
    fn decisions_come_to_be_made_with_what_a_unit_carries() {
        // 10 / (1 - x / 15) = 40 at x = 11.25; 10 are configured.
        let (used, told) = watched(Some(Span::from_millis(40)), 600);
        assert_eq!(used[..20], [10.0; 20]);
        let last = used[599];
        assert!((last / 11.25 - 1.0).abs() < 0.05, "{last}");
        // In turns of five minutes, each of a tenth at most.
        let turned: Vec<usize> = (1..600).filter(|n| used[*n] != used[n - 1]).collect();
        assert!(!turned.is_empty() && turned.iter().all(|n| n % 5 == 4), "{turned:?}");
        assert!(used.windows(2).all(|pair| (pair[1] / pair[0] - 1.0).abs() <= TURN_MAX + 1e-12), "{used:?}");
        assert!(!told.is_empty() && told[0].contains("within 40ms, 10 are configured"), "{told:?}");
    }

    #[test]
    fn without_an_objective_nothing_is_learnt() {
        let (used, told) = watched(None, 300);
        assert!(used.iter().all(|used| *used == 10.0) && told.is_empty());
    }

    #[test]
    fn a_column_that_means_something_else_moves_it_by_a_factor_of_four_at_most() {
        let mut units = Units::default();
        for n in 0..4000 {
            let load = 1000.0 + 500.0 * f64::from(n * 37 % 100) / 100.0;
            let latency = Span::from_millis((10.0 / (1.0 - load / 2000.0)).round() as i64);
            units.learner.observe(load, latency, 0.0);
        }
        let objective = Span::from_millis(40);
        assert!(units.learner.capacity(objective).unwrap() > 1000.0);
        (0..100).for_each(|_| {
            units.turn(10.0, objective);
        });
        assert_eq!(units.capacity, Some(40.0));
    }
}
