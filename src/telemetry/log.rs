//! Where log lines go: standard error, filtered by `RUST_LOG`, as text or JSON. Rule: results go to stdout, logs never.

use tracing_subscriber::EnvFilter;

/// Sets up logging for the process; a second call changes nothing. `default` is the filter when `RUST_LOG` is not set.
pub fn init(default: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // An error means that logging is set up already, as in tests.
    let _already_set_up = if json { builder.json().try_init() } else { builder.try_init() };
}
