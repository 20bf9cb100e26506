//! `prescale plan`: what would be decided now, and why, acting on nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use prescale_controller::{Controller, Parts};
use prescale_domain::{Clock, Decision, Mode, ServiceName, SystemClock, Timestamp};
use prescale_store::{MemoryStore, RedbStore, Store, StoreError};

use super::{Failure, backtest, print, runtime};
use crate::app::{self, RunMode, histories};
use crate::config;

/// One forecast and decision for each service, with reasons, cost and what was weighed; nothing is changed.
///
/// Looks at the state directory of a service that is not running, at the histories of the configuration, and at --history.
/// Targets are observed. Exits with 1, and the refusal as JSON on stdout, where predictive scaling is impossible.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  prescale plan -c prescale.toml\n  prescale plan -c prescale.toml --history requests_1m.csv --at 2026-07-27T18:00:00Z --json"
)]
pub(crate) struct Arguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// A file of windows, as for `prescale backtest`, that counts instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    history: Vec<PathBuf>,
    /// The moment to decide at; what came later is not looked at. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Only this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Print the decisions as JSON.
    #[arg(long)]
    json: bool,
}

/// A clock that stands still.
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

pub(crate) fn plan(arguments: &Arguments) -> Result<(), Failure> {
    let mut loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    if let Some(refusal) = config::refusal(&loaded.config) {
        print(&refusal);
        return Err(Failure::No("the set-up is refused".to_owned()));
    }
    if let Some(name) = &arguments.service {
        loaded.config.services.retain(|service| service.name == *name);
        if loaded.config.services.is_empty() {
            return Err(Failure::Invalid(format!("service `{name}` is not in the configuration")));
        }
    }
    for service in &mut loaded.config.services {
        service.mode = Some(Mode::Recommend);
    }
    let clock: Arc<dyn Clock> = match arguments.at {
        Some(at) => Arc::new(At(at)),
        None => Arc::new(SystemClock),
    };
    let step = loaded.config.features.step;
    let store = store(&loaded)?;
    let mut back_fill = if arguments.history.is_empty() {
        histories::to_back_fill(&loaded, store.as_ref(), clock.as_ref())?
    } else {
        backtest::histories(&arguments.history, &loaded, false)?
    };
    if let Some(at) = arguments.at {
        for series in back_fill.values_mut() {
            let known = usize::try_from(at.since(series.start).millis() / step.millis().max(1)).unwrap_or(0);
            series.values.truncate(known);
        }
    }
    let mut settings = app::controller_settings(&loaded.config, RunMode { event_clock: false, until_end: false })?;
    settings.selector = loaded.config.selector.setup(&loaded.config, &loaded.directory).map_err(Failure::Invalid)?;
    let targets = app::build_targets(&settings, &prescale_actuate::Connections::default())?;
    let parts = Parts { settings, clock, store, sink: None, targets, back_fill, events: Vec::new(), models: None };
    let controller = Controller::new(parts).map_err(app::controller_failure)?;
    let decisions = runtime()?.block_on(controller.plan()).map_err(app::controller_failure)?;
    if arguments.json {
        let by_service: BTreeMap<&ServiceName, &Decision> = decisions.iter().map(|d| (&d.service, d)).collect();
        print(&serde_json::to_string_pretty(&by_service).map_err(|error| Failure::Bug(error.to_string()))?);
    } else {
        for decision in &decisions {
            print(prescale_decide::explain(decision).trim_end());
        }
    }
    Ok(())
}

/// The state of a service that is not running; nothing where there is none yet.
fn store(loaded: &config::Loaded) -> Result<Arc<dyn Store>, Failure> {
    let directory = loaded.directory.join(&loaded.config.state.dir);
    if !directory.exists() {
        return Ok(Arc::new(MemoryStore::default()));
    }
    match RedbStore::open(&directory) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error @ StoreError::Locked { .. }) => {
            let listen = &loaded.config.serve.listen;
            Err(Failure::Outside(format!(
                "{error}\nhint: the service that runs decides all the time: http://{listen}/api/v1/decisions"
            )))
        }
        Err(error) => Err(Failure::outside(error)),
    }
}
