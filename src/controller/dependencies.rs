//! Services that call each other. Rule: what a caller's load does to those it calls is learnt from closed windows alone, and
//! lifts their forecasts; nothing is ever lowered by it.

use std::sync::Arc;

use prescale_decide::{DependencySettings, lift};
use prescale_domain::{Lifted, QuantileForecast, ServiceName, Timestamp};

use crate::Controller;

impl Controller {
    /// Takes in the window that has just closed for all services.
    pub(crate) fn learn_dependencies(&mut self, start: Timestamp) {
        let settings = DependencySettings { step: self.settings.step, ..DependencySettings::default() };
        for caller in &self.settings.services {
            for callee in &caller.calls {
                let load = |service: &ServiceName| self.features.series(service)?.at(start);
                let loads = (load(&caller.name), load(callee));
                let learners = self.state.dependencies.entry(callee.clone()).or_default();
                learners.entry(caller.name.clone()).or_default().observe(start, loads.0, loads.1, &settings);
            }
        }
    }

    /// A forecast as those who call the service lift it, and by whom.
    pub(crate) fn lifted(
        &mut self,
        forecast: Arc<QuantileForecast>,
        now: Timestamp,
    ) -> (Arc<QuantileForecast>, Vec<Lifted>) {
        let service = forecast.service.clone();
        let settings = DependencySettings { step: self.settings.step, ..DependencySettings::default() };
        let learnt: Vec<_> = self.state.dependencies.get(&service).into_iter().flatten().collect();
        let believed: Vec<_> = learnt
            .into_iter()
            .filter_map(|(caller, learner)| Some((caller.clone(), learner.dependency(&settings)?, learner.known())))
            .collect();
        let (mut forecast, mut by) = (forecast, Vec::new());
        for (caller, dependency, known) in believed {
            // Of services that call each other in a circle the one that is looked at last takes what is there.
            let ahead = if self.lifting.contains(&caller) {
                None
            } else {
                self.lifting.push(service.clone());
                let made = self.forecast(&caller, now).ok();
                self.lifting.pop();
                made
            };
            let Some((lifted, most)) = lift(&forecast, &dependency, &known, ahead.as_deref()) else { continue };
            let reason = format!("{}, lifted by {caller}", forecast.reason);
            forecast = Arc::new(QuantileForecast { reason, ..lifted });
            by.push(Lifted { caller, most, dependency });
        }
        (forecast, by)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prescale_domain::FeatureRow;
    use prescale_store::MemoryStore;

    use super::*;
    use crate::ClockMode;
    use crate::fixture::{Fixed, MINUTE, controller_with, minute, settings, web};
    use crate::intake::ClosedWindow;

    fn database() -> ServiceName {
        ServiceName::new("database")
    }

    /// A load that wanders, the same in each run.
    fn wandering(windows: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31) - 0.5
        };
        let mut level = 100.0;
        let mut next = || {
            level = 100.0 + 0.95 * (level - 100.0) + 12.0 * random();
            level + 2.0 * random()
        };
        (0..windows).map(|_| next()).collect()
    }

    /// Windows of `web` and of the `database` that it calls, which feels it two minutes later where it is `felt`; then `web`
    /// jumps, for the last window.
    async fn lived(felt: bool) -> Controller {
        let mut settings = settings(ClockMode::Wall);
        let mut other = settings.services[0].clone();
        other.name = database();
        settings.services[0].calls = vec![database()];
        settings.services.push(other);
        let store = Arc::new(MemoryStore::default());
        let mut controller = controller_with(settings, &store, Arc::new(Fixed(minute(700))), None);
        let (mut loads, apart) = (wandering(600, 7), wandering(600, 8));
        loads.push(260.0);
        for n in 0..loads.len() {
            let caused = if felt && n >= 2 { 0.5 * loads[n - 2] } else { 50.0 };
            let callee = caused + 0.1 * apart[n % 600];
            let row = |service: ServiceName, load: f64| {
                let measures = BTreeMap::from([("requests_per_second".to_owned(), Some(load))]);
                let start = minute(n as i64);
                let row = FeatureRow {
                    service: service.clone(),
                    window_start: start,
                    window_end: start + MINUTE,
                    labels: BTreeMap::new(),
                    measures,
                };
                (service, row)
            };
            let rows = BTreeMap::from([row(web(), loads[n]), row(database(), callee)]);
            let window = ClosedWindow { start: minute(n as i64), rows, is_gap: false };
            controller.close(&window, minute(n as i64 + 1)).await.unwrap();
        }
        controller
    }

    #[tokio::test]
    async fn a_callers_rise_lifts_the_forecast_of_those_it_calls_by_the_learnt_lag() {
        let now = minute(601);
        let mut controller = lived(true).await;
        let lifted = controller.forecast(&database(), now).unwrap();
        let by = controller.lifted[&database()].clone();
        assert_eq!(by.len(), 1, "{by:?}");
        let dependency = by[0].dependency;
        assert_eq!((by[0].caller.as_str(), dependency.lag), ("web", 2));
        assert!((dependency.ratio - 0.5).abs() < 0.05, "{dependency:?}");
        assert!(lifted.reason.ends_with("lifted by web"), "{}", lifted.reason);
        // The jump of 160 is known and is with it in the second window from now; in the first nothing has come yet.
        let median = |window: i64| lifted.at(minute(600 + window), 0.5).unwrap();
        assert!(median(1) < 90.0 && median(2) > 120.0, "{} {}", median(1), median(2));
        // The caller itself is forecast as before.
        assert!(controller.lifted[&web()].is_empty());
        let decision =
            controller.decide_one(&controller.settings.services[1].clone(), now, &crate::contention::Fleet::default());
        assert_eq!(decision.inputs.circumstances.lifted, by);
        assert!(
            prescale_decide::explain(&decision).contains("lifted    by "),
            "{}",
            prescale_decide::explain(&decision)
        );
    }

    #[tokio::test]
    async fn who_is_only_said_to_be_called_is_not_lifted() {
        let mut controller = lived(false).await;
        controller.forecast(&database(), minute(601)).unwrap();
        assert!(controller.lifted[&database()].is_empty(), "{:?}", controller.lifted);
    }

    #[tokio::test]
    async fn services_that_call_each_other_are_lifted_without_an_end() {
        let mut controller = lived(true).await;
        controller.settings.services[1].calls = vec![web()];
        controller.state.dependencies.insert(web(), controller.state.dependencies[&database()].clone());
        let learners = controller.state.dependencies.get_mut(&web()).unwrap();
        let learner = learners.remove(&web()).unwrap();
        learners.insert(database(), learner);
        assert!(controller.forecast(&database(), minute(601)).is_ok());
        assert!(controller.forecast(&web(), minute(601)).is_ok());
    }
}
