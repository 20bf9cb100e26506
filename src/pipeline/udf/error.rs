//! What can go wrong with a UDF before it runs. Rule: each error names the file or the function, and what to do.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a UDF can't be built or used.
#[derive(Debug, Error)]
pub enum UdfError {
    /// The text is not a UDF.
    #[error("{}:{line}:{column}: {message}\nhint: {hint}", path.display())]
    Source { path: PathBuf, line: usize, column: usize, message: String, hint: String },
    /// The functions of a folder don't go together with each other or with the dialect.
    #[error("udf `{name}`: {message}\nhint: {hint}")]
    Function { name: String, message: String, hint: String },
    #[error("{message}\nhint: {hint}")]
    Nothing { message: String, hint: String },
    /// The compiler refused it and has said why.
    #[error("{} did not compile\nhint: the compiler's messages above name the lines", named(names))]
    Compile { names: Vec<String> },
    #[error("the unit tests of {} failed\nhint: their output is above", named(names))]
    Tests { names: Vec<String> },
    #[error("{what} `{}`: {error}", path.display())]
    File { what: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{message}\nhint: {hint}")]
    Cargo { message: String, hint: &'static str },
}

impl UdfError {
    /// Whether a system outside failed, and not what was written into a file.
    pub fn is_outside(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Cargo { .. })
    }

    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::File { what, path: path.to_owned(), error }
    }
}

fn named(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("udf `{name}`")).collect();
    names.join(", ")
}
