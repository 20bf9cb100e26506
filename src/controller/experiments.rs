//! Experiments on live services: which arm a service is in, what comes of it, and what is known so far. Rule: the arm and the settings
//! that it decides by are in the inputs of each decision; what is measured is what was observed, in the loop's own time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use prescale_decide::experiment::{Arm, Experiment, ExperimentReport, ExperimentSettings, Sample, Verdict};
use prescale_domain::{InExperiment, PolicySettings, ServiceName, Span, Timestamp};
use prescale_telemetry::controller::ExperimentJudged;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Controller;
use crate::settings::ServiceSettings;
use crate::state::ServiceState;
use crate::units::unit_capacity;

/// An experiment, and how its treatment decides.
#[derive(Clone, Debug)]
pub struct ExperimentSetup {
    pub settings: ExperimentSettings,
    /// By service.
    pub treatments: BTreeMap<ServiceName, PolicySettings>,
}

/// An experiment as of the last closed window.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ExperimentView {
    pub settings: ExperimentSettings,
    pub report: ExperimentReport,
    /// The arm of each service now; without one outside the experiment's time.
    pub arms: BTreeMap<ServiceName, Option<Arm>>,
}

impl Controller {
    /// Goes on with the experiments that are configured as they were, and begins the others.
    pub(crate) fn begin_experiments(&mut self) {
        let known = std::mem::take(&mut self.state.experiments);
        let begun = self.settings.experiments.iter().map(|setup| {
            let same = known.iter().find(|known| *known.settings() == setup.settings);
            same.cloned().unwrap_or_else(|| Experiment::new(setup.settings.clone()))
        });
        self.state.experiments = begun.collect();
    }

    /// What decides for a service at this moment: the settings of the arm that it is in, or those that were selected, or its own.
    pub(crate) fn policy<'a>(
        &'a self,
        service: &'a ServiceSettings,
        now: Timestamp,
    ) -> (Cow<'a, PolicySettings>, Option<InExperiment>) {
        for (setup, experiment) in self.settings.experiments.iter().zip(&self.state.experiments) {
            let Some(arm) = experiment.arm(&service.name, now) else { continue };
            let treated = setup.treatments.get(&service.name).filter(|_| arm == Arm::Treatment);
            let policy = treated.map_or(Cow::Borrowed(&service.policy), |policy| Cow::Owned(policy.clone()));
            let name = setup.settings.name.clone();
            return (policy, Some(InExperiment { name, treatment: treated.is_some() }));
        }
        (Cow::Borrowed(self.selected(&service.name).unwrap_or(&service.policy)), None)
    }

    /// Counts what came of a service in a window that has just been closed.
    pub(crate) fn measure(&mut self, service: &ServiceSettings, start: Timestamp, load: Option<f64>) {
        if self.state.experiments.is_empty() {
            return;
        }
        let unit_capacity = unit_capacity(&self.state.units, service);
        let Some(state) = self.state.services.get_mut(&service.name) else { return };
        let sample = sample(service, state, unit_capacity, self.settings.step, load);
        state.asked = 0;
        if let Some(sample) = sample {
            self.state.experiments.iter_mut().for_each(|experiment| experiment.record(&service.name, start, &sample));
        }
    }

    /// Says what is known once all services of a window were measured.
    pub(crate) fn judge(&mut self, end: Timestamp) {
        let mut views = Vec::with_capacity(self.state.experiments.len());
        for experiment in &mut self.state.experiments {
            let settings = experiment.settings().clone();
            let arms = settings.services.iter().map(|name| (name.clone(), experiment.arm(name, end))).collect();
            let report = experiment.judge(end);
            if report.decided_at == Some(end) && report.verdict != Verdict::Running {
                ExperimentJudged { name: &settings.name, verdict: report.verdict.name() }.emit();
            }
            views.push(Arc::new(ExperimentView { settings, report, arms }));
        }
        self.show.experiments(views);
    }
}

/// `None` where load or capacity of the window is not known. Units on their way are paid for.
fn sample(
    service: &ServiceSettings,
    state: &ServiceState,
    unit_capacity: f64,
    step: Span,
    load: Option<f64>,
) -> Option<Sample> {
    let (load, target) = (load?, state.target?);
    let ready = target.ready.unwrap_or(target.desired);
    let missing = (load - f64::from(ready) * unit_capacity).max(0.0);
    let seconds = step.seconds();
    let price = service.rules.price_usd_hour;
    Some(Sample {
        seconds,
        // A hair's breadth is rounding, not a shortage.
        short_seconds: if missing > 1e-9 * load { seconds } else { 0.0 },
        demanded: load * seconds,
        missed: missing * seconds,
        cost_usd: price.map(|price| price * f64::from(target.desired.max(ready)) * seconds / 3600.0),
        actions: state.asked,
        ..Sample::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

    use super::*;
    use crate::fixture::{settings, web};
    use crate::settings::ClockMode;

    #[test]
    fn a_shortage_is_what_units_do_not_carry_by_what_was_learnt_of_them() {
        let settings = settings(ClockMode::Event);
        let service = settings.services.iter().find(|service| service.name == web()).unwrap();
        let target = prescale_domain::TargetState {
            desired: 10,
            ready: Some(8),
            min: None,
            max: None,
            observed_at: Timestamp::from_millis(0),
        };
        let state = ServiceState { target: Some(target), ..ServiceState::default() };
        let missed = |unit_capacity: f64| {
            sample(service, &state, unit_capacity, Span::from_minutes(1), Some(100.0)).map(|sample| sample.missed)
        };
        // The configured 10 would say that a fifth was missed.
        assert_eq!((missed(10.0), missed(12.5), missed(5.0)), (Some(20.0 * 60.0), Some(0.0), Some(60.0 * 60.0)));
        assert_eq!(sample(service, &state, 10.0, Span::from_minutes(1), None), None);
    }
}
