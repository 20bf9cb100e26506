//! What survives a restart. Rule: one value holds all of it, so that a snapshot is whole or absent.

use std::collections::BTreeMap;

use prescale_decide::DependencyLearner;
use prescale_decide::experiment::Experiment;
use prescale_decide::learn::lead::LeadLearner;
use prescale_decide::selector::Choice;
use prescale_decide::spot::SpotKeeper;
use prescale_domain::{
    ActuationReport, CapacityRecord, DecisionMemory, PoolWeight, ServiceName, TargetState, Timestamp,
};
use prescale_store::{Store, StoreError, Table, Write};
use serde::{Deserialize, Serialize};

use crate::ControllerError;
use crate::early::Early;
use crate::intake::Intake;
use crate::ledger::{ChangeBook, Spending};
use crate::pause::Pauses;
use crate::signals::Heard;
use crate::units::Units;

const KEY: &[u8] = b"controller";
const FORMAT: u32 = 1;

/// The controller at one moment, but for history, which has a table of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) format: u32,
    pub(crate) intake: Intake,
    /// Next offset to read of each partition of the features topic.
    pub(crate) features_offsets: BTreeMap<i32, i64>,
    pub(crate) events_offsets: BTreeMap<i32, i64>,
    #[serde(default)]
    pub(crate) capacity_offsets: BTreeMap<i32, i64>,
    /// What the capacity topic has told since the last decisions.
    #[serde(default)]
    pub(crate) told: Vec<CapacityRecord>,
    pub(crate) services: BTreeMap<ServiceName, ServiceState>,
    /// End of the last closed window.
    pub(crate) window_end: Option<Timestamp>,
    #[serde(default)]
    pub(crate) experiments: Vec<Experiment>,
    /// What callers' loads do to those they call, by callee and caller.
    #[serde(default)]
    pub(crate) dependencies: BTreeMap<ServiceName, BTreeMap<ServiceName, DependencyLearner>>,
    /// What the fleet has changed of late.
    #[serde(default)]
    pub(crate) changes: ChangeBook,
    /// What is known of the units of services, where it is looked for.
    #[serde(default)]
    pub(crate) units: BTreeMap<ServiceName, Units>,
    /// Which policy decides for each service, where a selector chooses.
    #[serde(default)]
    pub(crate) selected: BTreeMap<ServiceName, Choice>,
    /// Who is paused.
    #[serde(default)]
    pub(crate) pauses: Pauses,
}

/// What the loop remembers of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceState {
    pub(crate) memory: DecisionMemory,
    /// As last observed, or as asked for on the event clock.
    pub(crate) target: Option<TargetState>,
    /// Load of the last closed window; `None` = gap or not known yet.
    pub(crate) load: Option<f64>,
    /// Other features of that window that rules look at.
    #[serde(default)]
    pub(crate) signals: BTreeMap<String, f64>,
    /// What happens around it.
    #[serde(default)]
    pub(crate) heard: Heard,
    /// Of the window after that one, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) early: Option<Early>,
    /// End of the last window whose load is known.
    pub(crate) load_window_end: Option<Timestamp>,
    /// How the last actuation ended.
    #[serde(default)]
    pub(crate) actuation: Option<ActuationReport>,
    /// How long its units took so far.
    #[serde(default)]
    pub(crate) lead: LeadLearner,
    /// How its wish is split, where its target has spot units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) split: Option<Box<SpotKeeper>>,
    /// Since when the units of a target that takes them away by name are there, as far as it was seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) units_since: BTreeMap<String, Timestamp>,
    /// Since when the units of such a target serve, and what part of the traffic its pools have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ready_since: BTreeMap<String, Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) weights: Vec<PoolWeight>,
    /// Changes that were asked for since the last window.
    #[serde(default)]
    pub(crate) asked: u64,
    /// What it has cost this month.
    #[serde(default)]
    pub(crate) spending: Spending,
    /// A simulated fleet as a whole: it has no other home.
    pub(crate) fleet: Option<String>,
}

impl Snapshot {
    /// The last snapshot and the state of the models with it; `None` on a fresh store.
    pub(crate) fn load(store: &dyn Store) -> Result<Option<(Self, Vec<u8>)>, ControllerError> {
        let Some(bytes) = store.get(Table::Snapshots, KEY)? else { return Ok(None) };
        let snapshot: Self =
            serde_json::from_slice(&bytes).map_err(|error| ControllerError::Corrupt { error: error.to_string() })?;
        if snapshot.format != FORMAT {
            let error = format!("snapshot has format {}, this version reads {FORMAT}", snapshot.format);
            return Err(ControllerError::Corrupt { error });
        }
        let models = store.get(Table::Snapshots, b"models")?.unwrap_or_default();
        Ok(Some((snapshot, models)))
    }

    /// The changes that record this snapshot.
    pub(crate) fn writes(&mut self, models: Vec<u8>) -> Result<Vec<Write>, StoreError> {
        self.format = FORMAT;
        let write = |key: &[u8], value| Write { table: Table::Snapshots, key: key.to_vec(), value: Some(value) };
        let bytes = serde_json::to_vec(self)
            .map_err(|error| StoreError::File { path: "snapshot".into(), error: error.to_string() })?;
        Ok(vec![write(KEY, bytes), write(b"models", models)])
    }
}
