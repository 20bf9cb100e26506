//! `prescale config schema`.

use clap::Subcommand;

use super::{Failure, print};
use crate::config;

#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Print the JSON Schema of the configuration file.
    #[command(after_help = "Example:\n  prescale config schema > prescale.schema.json")]
    Schema,
    /// Print every setting with its default and what it means.
    #[command(after_help = "Example:\n  prescale config defaults")]
    Defaults,
}

pub(crate) fn config(arguments: &Arguments) -> Result<(), Failure> {
    match arguments {
        Arguments::Schema => print(&format!("{:#}", config::schema())),
        Arguments::Defaults => print(config::DEFAULTS.trim_end()),
    }
    Ok(())
}
