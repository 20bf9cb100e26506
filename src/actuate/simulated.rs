//! A simulated fleet as a target. Rule: it lives in the time that it is told, so a replay of the same decisions is the same
//! fleet.

use std::sync::{Arc, Mutex, PoisonError};

use prescale_domain::{Decision, Outcome, TargetState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::refuse_unless_act;
use crate::target::Bounds;
use crate::{ActuateError, Actuator, Failure, Fleet, FleetSettings};

/// A simulated fleet, as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatedSettings {
    pub fleet: FleetSettings,
    /// Mode `act` may be replayed against this target on the event clock.
    pub allow_replay: bool,
}

impl SimulatedSettings {
    pub(crate) fn bounds(&self) -> Bounds {
        let FleetSettings { min, max, price_usd_hour, .. } = self.fleet;
        Bounds { min, max, price_usd_hour: Some(price_usd_hour), allow_replay: self.allow_replay }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        Vec::new()
    }

    pub(crate) fn describe(&self) -> String {
        "simulated fleet".to_owned()
    }
}

/// A fleet that several holders see; clones are the same fleet.
#[derive(Clone, Debug)]
pub struct Simulated {
    settings: FleetSettings,
    /// `None` until the first look, which is the fleet's first moment.
    fleet: Arc<Mutex<Option<Fleet>>>,
}

impl Simulated {
    pub fn new(settings: FleetSettings) -> Self {
        Self { settings, fleet: Arc::default() }
    }

    /// A copy of the fleet as it is, for those who count its capacity and its cost. A fleet that nobody has looked at yet
    /// starts at `now`.
    pub fn fleet(&self, now: Timestamp) -> Fleet {
        self.with(now, |fleet| fleet.clone())
    }

    /// The whole fleet as text, for a snapshot; `None` before the first look.
    pub fn snapshot(&self) -> Option<String> {
        let guard = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().and_then(|fleet| serde_json::to_string(fleet).ok())
    }

    /// Goes on from a snapshot.
    pub fn restore(&self, snapshot: &str) -> Result<(), ActuateError> {
        let fleet: Fleet = serde_json::from_str(snapshot).map_err(|error| {
            let detail = error.to_string();
            ActuateError::Invalid(Failure { operation: "restore", target: self.describe(), detail })
        })?;
        *self.fleet.lock().unwrap_or_else(PoisonError::into_inner) = Some(fleet);
        Ok(())
    }

    fn with<T>(&self, now: Timestamp, look: impl FnOnce(&mut Fleet) -> T) -> T {
        let mut guard = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        look(guard.get_or_insert_with(|| Fleet::new(self.settings, now)))
    }
}

impl Actuator for Simulated {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        Ok(self.with(now, |fleet| fleet.state(now)))
    }

    async fn apply(&self, decision: &Decision, now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        Ok(self.with(now, |fleet| {
            let before = fleet.desired();
            let units = fleet.set_desired(now, decision.desired);
            if units == before {
                Outcome::Unchanged { units }
            } else {
                Outcome::Applied { units, clamped: units != decision.desired }
            }
        }))
    }

    fn describe(&self) -> String {
        "simulated fleet".to_owned()
    }
}
