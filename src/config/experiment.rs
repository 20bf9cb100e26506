//! `[[experiments]]`: two ways to decide against each other on live services. Rule: the control decides as configured, the
//! treatment does the same but for what it says itself.

use std::collections::BTreeMap;

use prescale_controller::ExperimentSetup;
use prescale_decide::experiment::{Design, ExperimentSettings, Guard, Metric};
use prescale_domain::{PolicySettings, ServiceName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::planning_faults;
use super::shape::{Config, PolicyOverride, ServiceConfig};

/// What the arms are called.
const CONTROL: &str = "configured";
const TREATMENT: &str = "treatment";
/// Probability of a wrong verdict on the objective, and of stopping for harm that is none.
const ALPHA: f64 = 0.05;
/// More time short than this, in percent, is harm.
const GUARD_MARGIN: f64 = 1.0;
/// Pairs of periods at which the interval of a switchback is narrowest: three weeks of days.
const TUNED_AT: u32 = 20;

/// One experiment.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExperimentConfig {
    pub(crate) name: String,
    /// Default: all.
    #[serde(default)]
    pub(crate) services: Vec<String>,
    /// Nothing is assigned before `start` and from `end` on.
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// Draws who is in which arm, and when.
    #[serde(default)]
    pub(crate) seed: u64,
    pub(crate) design: Design,
    /// What the policy of the treatment does otherwise than that of the service.
    pub(crate) treatment: PolicyOverride,
    /// What is to become lower; default: cost in USD an hour.
    #[serde(default = "default_objective")]
    pub(crate) objective: Metric,
    /// Probability of a wrong verdict on it; default 0.05.
    #[serde(default = "default_alpha")]
    pub(crate) alpha: f64,
    /// What must not become worse; default: no more than one percent of time more short.
    #[serde(default = "default_guard")]
    pub(crate) guard: Guard,
    /// Pairs of periods at which the interval of a switchback is to be narrowest; default 20.
    #[serde(default = "default_tuned_at")]
    pub(crate) tuned_at: u32,
}

fn default_objective() -> Metric {
    Metric::CostUsdHour
}

fn default_alpha() -> f64 {
    ALPHA
}

fn default_guard() -> Guard {
    Guard { metric: Metric::TimePct, margin: GUARD_MARGIN, alpha: ALPHA }
}

fn default_tuned_at() -> u32 {
    TUNED_AT
}

impl ExperimentConfig {
    fn members<'a>(&self, config: &'a Config) -> Vec<&'a ServiceConfig> {
        let named = |service: &&ServiceConfig| self.services.is_empty() || self.services.contains(&service.name);
        config.services.iter().filter(named).collect()
    }

    fn treatment(&self, service: &ServiceConfig, config: &Config) -> PolicySettings {
        let policy = overlaid(&service.policy, &self.treatment);
        ServiceConfig { policy, ..service.clone() }.policy_settings(&config.policy)
    }

    pub(crate) fn settings(&self, config: &Config) -> ExperimentSettings {
        ExperimentSettings {
            name: self.name.clone(),
            seed: self.seed,
            start: self.start,
            end: self.end,
            control: CONTROL.to_owned(),
            treatment: TREATMENT.to_owned(),
            services: self.members(config).iter().map(|service| ServiceName::new(&service.name)).collect(),
            design: self.design,
            objective: self.objective,
            alpha: self.alpha,
            guard: self.guard,
            tuned_at: self.tuned_at,
        }
    }

    /// What the loop is told.
    pub(crate) fn setup(&self, config: &Config) -> ExperimentSetup {
        let treatments: BTreeMap<ServiceName, PolicySettings> = self
            .members(config)
            .into_iter()
            .map(|service| (ServiceName::new(&service.name), self.treatment(service, config)))
            .collect();
        ExperimentSetup { settings: self.settings(config), treatments }
    }

    /// Everything that is wrong with the experiment at this place of the list: where, and what.
    pub(super) fn faults(&self, index: usize, config: &Config) -> Vec<(String, String)> {
        let place = |key: &str| format!("[{index}]{key}");
        let mut faults = Vec::new();
        for name in self.services.iter().filter(|name| config.services.iter().all(|service| service.name != **name)) {
            faults.push((place(".services"), format!("`{name}` is no service of this configuration")));
        }
        faults.extend(self.settings(config).faults().into_iter().map(|text| (place(""), text)));
        let members = self.members(config);
        for earlier in config.experiments.iter().take(index) {
            if earlier.name == self.name {
                faults.push((place(".name"), format!("`{}` is there twice", self.name)));
            }
            let both = earlier.members(config).into_iter().find(|one| members.iter().any(|own| own.name == one.name));
            if let Some(both) = both {
                // After its verdict an experiment goes on to decide for its services, so other times do not help.
                let text = format!("`{}` is in the experiment `{}` too", both.name, earlier.name);
                faults.push((place(".services"), text));
            }
        }
        for service in members {
            let settings = self.treatment(service, config);
            if settings == service.policy_settings(&config.policy) {
                faults.push((place(".treatment"), format!("is what is configured for `{}`", service.name)));
            }
            let wrong = planning_faults(&settings.planning);
            faults.extend(wrong.into_iter().map(|(key, text)| (place(&format!(".treatment ({key})")), text)));
        }
        faults
    }
}

/// What `more` says, and otherwise what `base` says.
pub(super) fn overlaid(base: &PolicyOverride, more: &PolicyOverride) -> PolicyOverride {
    let said = |policy: &PolicyOverride| match serde_json::to_value(policy) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let is_said = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    let mut fields = said(base);
    fields.extend(said(more).into_iter().filter(|(_, value)| is_said(value)));
    serde_json::from_value(Value::Object(fields)).unwrap_or_else(|_| more.clone())
}
