//! Scenarios with an objective: what load comes to which fleet, and when a run of it is good enough. Rule: a scenario says
//! nothing of who decides; [`Scenario::judge`] looks at what came of it alone.
//!
//! [`Scenario::fly`] lets Prescale decide, as it does in service: from windows that have closed, on a forecast that has seen
//! nothing later. The forecast is whatever the caller makes of the closed windows: [`UsualDay`], or a
//! [`ForecastStream`](crate::stream::ForecastStream) of the product's own models.

mod cases;
mod goal;
mod helm;
mod promises;
#[cfg(test)]
mod tests;
mod usual;

use prescale_domain::{CalendarEvent, Decision, Span, Timestamp};
use serde::Serialize;
use thiserror::Error;

pub use cases::{daily_spike, diurnal_peak, evening, gpu_week, gpu_week_on_spot, micro_bursts, rise_and_fall};
pub use goal::Goal;
pub use helm::{Configured, Made};
pub use promises::{Figures, Promise, Promised, Stand, flash_crowds, plain_day, promises, render};
pub use usual::UsualDay;

use crate::profile::{ProfileError, ProfileLoad, ProfileSettings};
use helm::Helm;

use crate::queueing::{
    Arrivals, Observation, QueueOutcome, RateSeries, RunSettings, SettingsError, simulate, simulate_fluid,
};

/// Where a scenario's load comes from; what lies before the run is its past, to learn from.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Generated, with a rate by `step`.
    Profile {
        profile: ProfileSettings,
        step: Span,
    },
    Given(RateSeries),
}

/// How a run is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fidelity {
    /// Request by request.
    Events,
    /// As a liquid.
    Fluid,
}

/// A load, a fleet that serves it, and what is asked of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub name: &'static str,
    pub load: Load,
    pub run: RunSettings,
    pub fidelity: Fidelity,
    /// Units of a fleet that is never scaled, to compare costs with.
    pub always_on: u32,
    pub goals: Vec<Goal>,
}

/// One goal and what a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub goal: String,
    /// `None` = could not be computed, and so was not met.
    pub found: Option<f64>,
    pub met: bool,
}

/// What a scenario says of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub scenario: String,
    pub checks: Vec<Check>,
    pub outcome: QueueOutcome,
}

/// A scenario that cannot be run.
#[derive(Debug, Error, PartialEq)]
pub enum ScenarioError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("there is nothing to fly")]
    Nothing,
}

impl Scenario {
    /// The rates that come during the run.
    ///
    /// # Errors
    /// A profile that cannot be generated.
    pub fn rates(&self) -> Result<RateSeries, ProfileError> {
        match &self.load {
            Load::Profile { profile, step } => Ok(ProfileLoad::new(profile.clone())?.rates_from(self.run.start, *step)),
            Load::Given(series) => {
                let before = self.run.start.since(series.start).steps_up(series.step);
                let per_second = series.per_second.iter().skip(before).copied().collect();
                Ok(RateSeries { start: self.run.start, step: series.step, per_second })
            }
        }
    }

    /// The windows of this width before the run, each with its end and its requests per second as they were counted.
    ///
    /// # Errors
    /// A profile that cannot be generated.
    pub fn past(&self, step: Span) -> Result<Vec<(Timestamp, f64)>, ProfileError> {
        let starts = |from: Timestamp| {
            let count = i64::try_from(self.run.start.since(from).steps_up(step)).unwrap_or(0);
            (0..count).map(move |back| self.run.start - Span::from_millis(step.millis() * (count - back)))
        };
        match &self.load {
            Load::Profile { profile, .. } => {
                let load = ProfileLoad::new(profile.clone())?;
                let count = |start: Timestamp| load.count(start, step) as f64 / step.seconds();
                Ok(starts(profile.start).map(|start| (start + step, count(start))).collect())
            }
            Load::Given(series) => {
                let arrivals = Arrivals::Rate(series.clone());
                let mean = |start: Timestamp| arrivals.mean_rate(start, start + step);
                Ok(starts(series.start).map(|start| (start + step, mean(start))).collect())
            }
        }
    }

    /// What was announced of the load.
    ///
    /// # Errors
    /// A profile that cannot be generated.
    pub fn events(&self) -> Result<Vec<CalendarEvent>, ProfileError> {
        match &self.load {
            Load::Profile { profile, .. } => Ok(ProfileLoad::new(profile.clone())?.events()),
            Load::Given(_) => Ok(Vec::new()),
        }
    }

    /// Runs it under `controller` and judges.
    ///
    /// # Errors
    /// A profile or settings that make no sense.
    pub fn run(&self, controller: impl FnMut(&Observation) -> Option<u32>) -> Result<Verdict, ScenarioError> {
        let arrivals = Arrivals::Rate(self.rates()?);
        let outcome = match self.fidelity {
            Fidelity::Events => simulate(&self.run, &arrivals, controller)?,
            Fidelity::Fluid => simulate_fluid(&self.run, &arrivals, controller)?,
        };
        Ok(self.judge(outcome))
    }

    /// Lets Prescale decide, and judges. `forecast` gets the end and the load of each window when it has closed, those of the
    /// past first, and answers with what is forecast then; `take` is told each decision.
    ///
    /// # Errors
    /// A profile or settings that make no sense.
    pub fn fly(
        &self,
        configured: &Configured,
        forecast: impl FnMut(Timestamp, f64) -> Made,
        take: impl FnMut(&Decision),
    ) -> Result<Verdict, ScenarioError> {
        let past = self.past(configured.step)?;
        let mut helm = Helm::new(self, configured, &past, forecast, take);
        self.run(|seen| helm.turn(seen))
    }

    /// Whether a run reached what was asked.
    pub fn judge(&self, outcome: QueueOutcome) -> Verdict {
        let checks = self.goals.iter().map(|goal| goal.check(self, &outcome)).collect();
        Verdict { scenario: self.name.to_owned(), checks, outcome }
    }

    /// What the fleet that is never scaled costs.
    pub fn always_on_usd(&self) -> f64 {
        let hours = self.run.end.since(self.run.start).seconds() / 3600.0;
        f64::from(self.always_on) * hours * self.run.prices.on_demand_usd_hour
    }

    /// Share of the cost of the fleet that is never scaled that no controller can save: that of the places which the
    /// load takes, if never one was empty.
    ///
    /// # Errors
    /// A profile that cannot be generated.
    pub fn least_cost_share(&self) -> Result<f64, ProfileError> {
        let series = self.rates()?;
        let requests = series.per_second.iter().sum::<f64>() * series.step.seconds();
        let unit_hours = requests / self.run.service.unit_rate() / 3600.0;
        Ok(unit_hours * self.run.prices.on_demand_usd_hour / self.always_on_usd())
    }
}

impl Verdict {
    pub fn is_met(&self) -> bool {
        self.checks.iter().all(|check| check.met)
    }

    /// The goals that were missed.
    pub fn missed(&self) -> Vec<&str> {
        self.checks.iter().filter(|check| !check.met).map(|check| check.goal.as_str()).collect()
    }
}
