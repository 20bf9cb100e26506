//! Who is in which arm, and when. Rule: a function of the seed, the experiment's name, its services and the time; their
//! order does not matter.

use std::collections::BTreeMap;

use prescale_domain::{ServiceName, Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ExperimentSettings;

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    Control = 0,
    Treatment = 1,
}

/// How services and times are given to the arms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Design {
    /// Some services are in the treatment all the time, the others in control.
    ServiceSplit {
        /// Share of the services in the treatment.
        share: f64,
        /// Time until the first look; further ones when it has doubled again.
        first_look: Span,
    },
    /// Every service is in one arm for a period, then in the other.
    Switchback {
        period: Span,
        /// The beginning of each period, in which the other arm still has effects: not counted. Source: Bojinov,
        /// Simchi-Levi and Zhao, Design and analysis of switchback experiments, Management Science 69 (2023).
        washout: Span,
    },
}

/// Where a service is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub arm: Arm,
    /// The pair of periods, from 0; `None` in a service split.
    pub pair: Option<u64>,
    /// Outside the washout.
    pub counted: bool,
}

/// The services of an experiment, each with the arm that a service split gives it; drawn once, since ranks need them all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roster(BTreeMap<ServiceName, Arm>);

impl Roster {
    /// The services with the lowest draws are in the treatment: as many as the share says, at least one in each arm.
    pub fn draw(settings: &ExperimentSettings) -> Self {
        let mut services: Vec<_> =
            settings.services.iter().map(|name| (draw(settings, name, 0), name.clone())).collect();
        services.sort();
        services.dedup();
        let share = match settings.design {
            Design::ServiceSplit { share, .. } => share,
            Design::Switchback { .. } => 0.0,
        };
        let wanted = (share * services.len() as f64).round() as usize;
        let treated = wanted.clamp(1, services.len().saturating_sub(1).max(1));
        let arm = |rank: usize| if rank < treated { Arm::Treatment } else { Arm::Control };
        Self(services.into_iter().enumerate().map(|(rank, (_, name))| (name, arm(rank))).collect())
    }

    /// Where `service` is at `at`; `None` outside the experiment.
    pub fn assign(&self, settings: &ExperimentSettings, service: &ServiceName, at: Timestamp) -> Option<Assignment> {
        let drawn = *self.0.get(service)?;
        if at < settings.start || at >= settings.end {
            return None;
        }
        match settings.design {
            Design::ServiceSplit { .. } => Some(Assignment { arm: drawn, pair: None, counted: true }),
            Design::Switchback { period, washout } => {
                let into = at.since(settings.start).millis();
                let period = period.millis().max(1);
                let number = u64::try_from(into / period).ok()?;
                let pair = number / 2;
                let treatment_first = draw(settings, service, pair + 1) & 1 == 1;
                let arm = if number.is_multiple_of(2) == treatment_first { Arm::Treatment } else { Arm::Control };
                Some(Assignment { arm, pair: Some(pair), counted: into % period >= washout.millis() })
            }
        }
    }

    pub fn contains(&self, service: &ServiceName) -> bool {
        self.0.contains_key(service)
    }

    /// The arm of a service in a service split.
    pub fn arm(&self, service: &ServiceName) -> Option<Arm> {
        self.0.get(service).copied()
    }
}

fn draw(settings: &ExperimentSettings, service: &ServiceName, number: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    // Lengths keep the parts apart.
    for part in [settings.name.as_bytes(), service.as_str().as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.update(&settings.seed.to_le_bytes()).update(&number.to_le_bytes());
    let hash = hasher.finalize();
    hash.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
