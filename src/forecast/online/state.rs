//! All that the online loop remembers. Rule: saved whole; a saved state of another format or version is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prescale_domain::{ServiceName, Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ensemble::{Ensemble, EnsembleSettings};
use crate::error::{ForecastCrateError, Result};
use crate::registry::Training;

use super::OnlineEvent;
use super::experts::Experts;
use super::job::PendingJob;
use super::score::Scores;
use super::settings::OnlineSettings;
use super::trial::Trial;

const FORMAT: &str = "prescale-online";
const VERSION: u32 = 4;
/// Older states that are read: what they lack begins anew.
const READ_FROM: u32 = 2;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    format: String,
    version: u32,
    shape: Shape,
    pub(super) services: BTreeMap<ServiceName, ServiceState>,
    /// The serving LSTM as it saves itself.
    #[serde(serialize_with = "write_model", deserialize_with = "read_model")]
    pub(super) lstm: Option<Arc<Vec<u8>>>,
    pub(super) pending: Option<PendingJob>,
    /// Trainings handed out so far.
    pub(super) jobs: u64,
    /// Those of the last full training: one that could not be learnt then is not tried again before the next.
    pub(super) attempted: BTreeSet<ServiceName>,
    pub(super) last_fit: Option<Timestamp>,
    pub(super) next_fit: Option<Timestamp>,
    pub(super) last_update: Option<Timestamp>,
    pub(super) drift_due: bool,
    /// When the models of the services were last fitted by a training, and whether the load has changed since.
    #[serde(default)]
    pub(super) experts_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) experts_due: bool,
    /// The next training that follows one after drift, and the time since that.
    #[serde(default)]
    pub(super) follow_up: Option<(Timestamp, Span)>,
    /// A model in the shadow of the serving one.
    #[serde(default)]
    pub(super) trial: Option<Trial>,
    /// The serving LSTM as it was when it was promoted, for when that of now can't be read.
    #[serde(default, serialize_with = "write_model", deserialize_with = "read_model")]
    pub(super) promoted: Option<Arc<Vec<u8>>>,
    /// Where the serving LSTM comes from.
    #[serde(default)]
    pub(super) lineage: Option<Lineage>,
    /// Counts the models that served, but for their small updates.
    #[serde(default)]
    pub(super) generation: u64,
    /// What happened outside of `observe` and is told there.
    #[serde(default)]
    pub(super) notices: Vec<OnlineEvent>,
}

/// Where a model comes from, and its number in the registry once it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// `initial`, `scheduled`, `drift`, `manual`.
    pub reason: String,
    pub training: Training,
    pub metrics: BTreeMap<String, f64>,
    /// The version that it started from.
    pub parent: Option<u64>,
    pub number: Option<u64>,
}

/// What makes saved scores and models comparable with new ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Shape {
    horizon_steps: u32,
    step: Span,
    levels: Vec<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ServiceState {
    pub(super) scores: Scores,
    #[serde(default)]
    pub(super) experts: Experts,
    /// Their mix, with the LSTM.
    #[serde(default)]
    pub(super) mix: Ensemble,
    /// Known values when the quick ones of them were last fitted on the way of a decision.
    pub(super) fitted_known: usize,
    /// The LSTM does worse than the simple models here ...
    pub(super) demoted: bool,
    /// ... for this reason, as a code.
    #[serde(default)]
    pub(super) demotion: Option<String>,
}

impl ServiceState {
    fn new(settings: &OnlineSettings) -> Self {
        let (scores, mix) = (Scores::new(settings), mix(settings));
        Self { scores, experts: Experts::default(), mix, fitted_known: 0, demoted: false, demotion: None }
    }

    /// Goes on with other settings of the same shape.
    fn adapt(&mut self, settings: &OnlineSettings) {
        self.scores.watch(settings);
        self.experts.keep(&settings.models);
        if self.mix.experts() != settings.models {
            self.mix = mix(settings);
        }
    }
}

fn mix(settings: &OnlineSettings) -> Ensemble {
    let experts = EnsembleSettings { experts: settings.models.clone(), ..EnsembleSettings::default() };
    Ensemble::new(&experts, &settings.levels, settings.step, settings.horizon())
}

impl State {
    pub(super) fn new(settings: &OnlineSettings, services: Vec<ServiceName>) -> Self {
        let shape =
            Shape { horizon_steps: settings.horizon_steps, step: settings.step, levels: settings.levels.clone() };
        Self {
            format: FORMAT.into(),
            version: VERSION,
            shape,
            services: services.into_iter().map(|service| (service, ServiceState::new(settings))).collect(),
            lstm: None,
            pending: None,
            jobs: 0,
            attempted: BTreeSet::new(),
            last_fit: None,
            next_fit: None,
            last_update: None,
            drift_due: false,
            experts_at: None,
            experts_due: false,
            follow_up: None,
            trial: None,
            promoted: None,
            lineage: None,
            generation: 0,
            notices: Vec::new(),
        }
    }

    pub(super) fn save(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("state is plain numbers and names")
    }

    pub(super) fn load(bytes: &[u8], settings: &OnlineSettings, services: Vec<ServiceName>) -> Result<Self> {
        #[derive(Deserialize)]
        struct Mark {
            format: String,
            version: u32,
        }
        let broken = |error: serde_json::Error| ForecastCrateError::Format(error.to_string());
        let mark: Mark = serde_json::from_slice(bytes).map_err(broken)?;
        if mark.format != FORMAT {
            return Err(ForecastCrateError::Format(format!("format is `{}`, expected `{FORMAT}`", mark.format)));
        }
        if !(READ_FROM..=VERSION).contains(&mark.version) {
            return Err(ForecastCrateError::Version { found: mark.version, expected: VERSION });
        }
        let mut state: Self = serde_json::from_slice(bytes).map_err(broken)?;
        state.version = VERSION;
        let fresh = Self::new(settings, services);
        if state.shape != fresh.shape {
            return Ok(fresh);
        }
        state.services.retain(|service, _| fresh.services.contains_key(service));
        state.services.values_mut().for_each(|own| own.adapt(settings));
        for (service, own) in fresh.services {
            state.services.entry(service).or_insert(own);
        }
        Ok(state)
    }
}

fn write_model<S: Serializer>(model: &Option<Arc<Vec<u8>>>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    // A model saves itself as text.
    model.as_ref().map(|bytes| String::from_utf8_lossy(bytes)).serialize(serializer)
}

fn read_model<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Arc<Vec<u8>>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|text| Arc::new(text.into_bytes())))
}

/// For models that are always there.
pub(super) fn write_bytes<S: Serializer>(model: &Arc<Vec<u8>>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    String::from_utf8_lossy(model).serialize(serializer)
}

pub(super) fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Arc<Vec<u8>>, D::Error> {
    Ok(Arc::new(String::deserialize(deserializer)?.into_bytes()))
}
