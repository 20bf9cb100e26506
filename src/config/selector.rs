//! `[selector]`: which ready-made policy decides for which service, by what was learnt in the simulator. Rule: off by default;
//! what is configured decides until a trained selector has been shown to be better.

use std::path::Path;

use prescale_controller::SelectorSetup;
use prescale_decide::selector::Selector;
use prescale_domain::{PolicySettings, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::experiment::overlaid;
use super::shape::{Config, ServiceConfig};
use super::template;

/// The arm that decides otherwise.
const CONFIGURED: &str = "configured";

/// A selector of policies.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelectorConfig {
    pub(crate) enabled: bool,
    /// What `prescale selector train` wrote; relative to the configuration file.
    pub(crate) file: String,
    /// The ready-made policies that it may choose in place of what is configured.
    pub(crate) templates: Vec<String>,
}

impl SelectorConfig {
    /// The names of what is chosen between: what is configured first.
    pub(crate) fn arms(&self) -> Vec<String> {
        std::iter::once(CONFIGURED.to_owned()).chain(self.templates.iter().cloned()).collect()
    }

    /// The settings of each arm for one service.
    pub(crate) fn policies(&self, service: &ServiceConfig, config: &Config) -> Vec<PolicySettings> {
        let of_template = |name: &String| {
            let policy = overlaid(&service.policy, &template::named(name)?);
            Some(ServiceConfig { policy, ..service.clone() }.policy_settings(&config.policy))
        };
        let templates = self.templates.iter().filter_map(of_template);
        std::iter::once(service.policy_settings(&config.policy)).chain(templates).collect()
    }

    /// What the loop is told; `None` where it is off.
    ///
    /// # Errors
    /// The file can't be read, or was not trained for these templates.
    pub(crate) fn setup(&self, config: &Config, directory: &Path) -> Result<Option<SelectorSetup>, String> {
        if !self.enabled {
            return Ok(None);
        }
        let path = directory.join(&self.file);
        let hint = "hint: train it with `prescale selector train -c CONFIG`";
        let bytes =
            std::fs::read(&path).map_err(|error| format!("selector.file `{}`: {error}\n{hint}", path.display()))?;
        let wrong = |text: &str| format!("selector.file `{}`: {text}\n{hint}", path.display());
        let selector: Selector = serde_json::from_slice(&bytes).map_err(|error| wrong(&error.to_string()))?;
        let arms = self.arms();
        if !selector.fits(&arms) {
            return Err(wrong(&format!("was not trained to choose between {}", arms.join(", "))));
        }
        let of = |service: &ServiceConfig| (ServiceName::new(&service.name), self.policies(service, config));
        let policies = config.services.iter().map(of).collect();
        Ok(Some(SelectorSetup { selector: selector.switched(true), policies }))
    }

    /// Everything that is wrong with it: where, and what.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.file.trim().is_empty() {
            faults.push(("file".to_owned(), "is empty".to_owned()));
        }
        for (index, name) in self.templates.iter().enumerate() {
            if template::named(name).is_none() {
                let text = format!("`{name}` is none of {}", template::names().join(", "));
                faults.push((format!("templates[{index}]"), text));
            } else if self.templates[..index].contains(name) {
                faults.push((format!("templates[{index}]"), format!("`{name}` is there twice")));
            }
        }
        faults
    }
}
