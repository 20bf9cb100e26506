//! The text of a calendar: a file, or what a URL answers. Calls block.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use ureq::Agent;

use crate::registry::tls;

/// For one request, from the look-up of the host's name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest text that is read.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A calendar that could not be had.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("read `{location}`: {error}")]
    File { location: String, error: std::io::Error },
    #[error("get `{location}`: {error}")]
    Url { location: String, error: Box<ureq::Error> },
}

/// Reads `location`: an `http://` or `https://` URL, else a file, relative to `directory`.
///
/// # Errors
/// It can't be reached, is longer than 16 MiB, is not UTF-8, or the server answers with an error.
pub fn fetch(location: &str, directory: &Path) -> Result<String, FetchError> {
    if !(location.starts_with("http://") || location.starts_with("https://")) {
        let text = std::fs::read_to_string(directory.join(location));
        return text.map_err(|error| FetchError::File { location: location.to_owned(), error });
    }
    let mut config = Agent::config_builder().timeout_global(Some(TIMEOUT));
    if location.starts_with("https://") {
        config = config.tls_config(tls());
    }
    let agent: Agent = config.build().into();
    let read = |location: &str| {
        let mut answer = agent.get(location).call()?;
        answer.body_mut().with_config().limit(BYTES_MAX).read_to_string()
    };
    read(location).map_err(|error| FetchError::Url { location: location.to_owned(), error: Box::new(error) })
}
