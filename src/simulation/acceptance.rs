//! Scenarios with an objective: what load comes to which fleet, and when a run of it is good enough. Rule: a scenario says
//! nothing of who decides; [`Scenario::judge`] looks at what came of it alone.

mod cases;
mod goal;
#[cfg(test)]
mod tests;

use prescale_domain::{CalendarEvent, Span};
use serde::Serialize;
use thiserror::Error;

pub use cases::{diurnal_peak, gpu_week, micro_bursts, rise_and_fall};
pub use goal::Goal;

use crate::profile::{ProfileError, ProfileLoad, ProfileSettings};
use crate::queueing::{
    Arrivals, Observation, QueueOutcome, RateSeries, RunSettings, SettingsError, simulate, simulate_fluid,
};

/// Where a scenario's load comes from.
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
}

impl Scenario {
    /// The rates that come.
    ///
    /// # Errors
    /// A profile that cannot be generated.
    pub fn rates(&self) -> Result<RateSeries, ProfileError> {
        match &self.load {
            Load::Profile { profile, step } => Ok(ProfileLoad::new(profile.clone())?.rates(*step)),
            Load::Given(series) => Ok(series.clone()),
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
