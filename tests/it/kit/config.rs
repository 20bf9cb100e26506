//! Configuration files of tests. Rule: each has topics and a state of its own; a test names only what it is about.

use std::path::PathBuf;

use toml::{Table, Value};

/// A target that needs nothing outside.
pub(crate) const SIMULATED: &str = r#"{ kind = "simulated" }"#;

/// A configuration file in a directory of its own, which also holds its state.
pub(crate) struct Setup {
    name: String,
    directory: tempfile::TempDir,
    table: Table,
}

impl Setup {
    /// Topics named after `name`, and an API on some free port; no pipeline and no service yet.
    pub(crate) fn new(kafka: &str, name: &str) -> Self {
        let (name, directory) = (super::unique(name), tempfile::tempdir().unwrap());
        let own = [
            "features",
            "events",
            "forecasts",
            "decisions",
            "actuations",
            "qos",
            "capacity",
            "weights",
            "dead-letters",
            "epochs",
        ];
        let topics: String = own.map(|kind| format!("{} = \"{name}-{kind}\"\n", kind.replace('-', "_"))).concat();
        let setup = Self { name, directory, table: Table::new() };
        let state = setup.directory.path().join("state");
        setup.with(&format!(
            "[kafka]\nbootstrap_servers = \"{kafka}\"\n[topics]\n{topics}[state]\ndir = \"{}\"\n[serve]\nlisten = \"127.0.0.1:0\"\n",
            state.display()
        ))
    }

    /// Puts the settings of a TOML text over those so far.
    #[track_caller]
    pub(crate) fn with(mut self, text: &str) -> Self {
        overlay(&mut self.table, text.parse().unwrap());
        self
    }

    /// Adds a service; `target` is an inline TOML table.
    #[track_caller]
    pub(crate) fn service(mut self, name: &str, unit_capacity: f64, target: &str) -> Self {
        let text = format!("name = \"{name}\"\nunit_capacity = {unit_capacity:?}\ntarget = {target}\n");
        let services = self.table.entry("services").or_insert_with(|| Value::Array(Vec::new()));
        services.as_array_mut().unwrap().push(Value::Table(text.parse().unwrap()));
        self
    }

    /// A file beside the configuration, where relative paths in it start.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.directory.path().join(name), text).unwrap();
        self
    }

    /// Writes the configuration and gives its path.
    #[track_caller]
    pub(crate) fn config(&self) -> String {
        let path = self.directory.path().join("prescale.toml");
        std::fs::write(&path, self.table.to_string()).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    pub(crate) fn topic(&self, kind: &str) -> String {
        format!("{}-{kind}", self.name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn overlay(base: &mut Table, more: Table) {
    for (key, value) in more {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(more)) => overlay(base, more),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}
