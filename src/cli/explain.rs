//! `prescale explain`: a recorded decision in words and numbers, recomputed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use prescale_controller::StoredDecisions;
use prescale_controller::view::DecisionArchive as _;
use prescale_decide::recompute;
use prescale_domain::Decision;
use prescale_store::{RedbStore, StoreError};

use super::{Failure, print};
use crate::config;

/// Explain a recorded decision, and recompute it from its recorded inputs.
///
/// Reads the state directory, or asks the running service where that holds it. Exits with 1 if the decision is unknown
/// or if recomputing gives another one.
#[derive(Args)]
#[command(after_help = "Example:\n  prescale explain -c prescale.toml 'web@1995-07-11T04:01:00Z#0123456789abcdef'")]
pub(crate) struct Arguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The decision's id, as in logs, the API and the `decisions` topic.
    id: String,
    /// Print the decision and the verdict as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn explain(arguments: &Arguments) -> Result<(), Failure> {
    let loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    let directory = loaded.directory.join(&loaded.config.state.dir);
    let found = match RedbStore::open(&directory) {
        Ok(store) => StoredDecisions::new(Arc::new(store)).decision(&arguments.id).map_err(Failure::Outside)?,
        Err(StoreError::Locked { .. }) => ask(&loaded.config.serve.listen, &arguments.id)?,
        Err(error) => return Err(Failure::outside(error)),
    };
    let Some(decision) = found else { return Err(unknown(&arguments.id, &directory)) };
    let verdict = recompute(&decision);
    if arguments.json {
        let identical = verdict.is_ok();
        let body = serde_json::json!({ "decision": decision, "identical": identical });
        print(&body.to_string());
    } else {
        print(prescale_decide::explain(&decision).trim_end());
        if verdict.is_ok() {
            print("recomputed from its recorded inputs: identical");
        }
    }
    verdict.map_err(|difference| Failure::No(format!("recomputed from its recorded inputs: {difference}")))
}

fn unknown(id: &str, directory: &Path) -> Failure {
    Failure::No(format!(
        "decision `{id}` is not recorded in `{}`\nhint: ids are in the log, on the `decisions` topic and at /api/v1/decisions",
        directory.display()
    ))
}

/// Asks the service that holds the state directory.
fn ask(listen: &str, id: &str) -> Result<Option<Decision>, Failure> {
    let encoded: String = id
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let url = format!("http://{listen}/api/v1/decisions/{encoded}");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .build()
        .into();
    let fail = |error: String| Failure::Outside(format!("ask the running service at {url}: {error}"));
    let mut response = agent.get(&url).call().map_err(|error| fail(error.to_string()))?;
    if response.status() == 404 {
        return Ok(None);
    }
    let body = response.body_mut().read_to_string().map_err(|error| fail(error.to_string()))?;
    if !response.status().is_success() {
        return Err(fail(format!("{}: {body}", response.status())));
    }
    serde_json::from_str(&body).map(Some).map_err(|error| fail(error.to_string()))
}
