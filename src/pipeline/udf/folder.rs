//! The functions of a folder, and why others of it can't be called. Rule: a function whose text has changed since it was
//! built does not run; what is wrong with a function is told to who calls it, and does not stop the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{OUTPUT, rust_files};
use super::error::UdfError;
use super::library::Library;
use super::manifest::{Manifest, SUFFIX};
use super::source::{hash_of, is_plain};

/// A function that can be called.
#[derive(Debug)]
pub struct Udf {
    manifest: Manifest,
    pub(super) library: Library,
}

impl Udf {
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The text that it was built from, for an engine elsewhere.
    pub fn source(&self) -> &str {
        &self.manifest.source
    }
}

/// Why a function of the folder can't be called, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// The functions that a pipeline may call beside those of the dialect.
#[derive(Clone, Debug, Default)]
pub struct Udfs {
    entries: BTreeMap<String, Result<Arc<Udf>, Problem>>,
}

impl Udfs {
    /// Loads what was built of `folder`: a folder of sources with their libraries in `target`, or one of libraries alone.
    /// Where there is no such folder there are no functions.
    pub fn open(folder: &Path) -> Result<Self, UdfError> {
        let mut sources = BTreeMap::new();
        for path in rust_files(folder)? {
            if let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_plain(stem)) {
                sources.insert(name.to_owned(), path);
            }
        }
        let mut entries = BTreeMap::new();
        for (name, path) in manifests(folder)? {
            let built = load(&path, folder, sources.remove(&name).as_deref());
            entries.insert(name, built);
        }
        for (name, path) in manifests(&folder.join(OUTPUT))? {
            // A library whose source was deleted is forgotten.
            if let Some(source) = sources.remove(&name) {
                entries.insert(name, load(&path, &folder.join(OUTPUT), Some(&source)));
            }
        }
        for (name, path) in sources {
            let message = format!("udf `{name}` is not built");
            entries.insert(name, Err(Problem { code: "udf-not-built", message, hint: build_hint(&path) }));
        }
        for name in entries.keys() {
            crate::sql::check_udf_name(name)?;
        }
        Ok(Self { entries })
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those that can be called, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Udf>> {
        self.entries.values().filter_map(|entry| entry.as_ref().ok())
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Udf>> {
        self.entries.get(name)?.as_ref().ok()
    }

    pub(crate) fn problem(&self, name: &str) -> Option<&Problem> {
        self.entries.get(name)?.as_ref().err()
    }
}

fn build_hint(source: &Path) -> String {
    format!("run `prescale udf build {}`", source.display())
}

/// Manifests by the names of their functions; none where there is no folder.
fn manifests(folder: &Path) -> Result<Vec<(String, PathBuf)>, UdfError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(UdfError::file("read", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(UdfError::file("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
        if let Some(name) = name.map(str::to_owned) {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

fn load(manifest: &Path, folder: &Path, source: Option<&Path>) -> Result<Arc<Udf>, Problem> {
    let unusable = |error: UdfError| match error {
        UdfError::Function { name, message, hint } => {
            Problem { code: "udf-library", message: format!("udf `{name}`: {message}"), hint }
        }
        other => Problem {
            code: "udf-library",
            message: other.to_string().lines().next().unwrap_or_default().to_owned(),
            hint: source.map_or_else(|| "run `prescale udf build`".to_owned(), build_hint),
        },
    };
    let manifest = Manifest::read(manifest).map_err(unusable)?;
    if let Some(source) = source {
        let text = std::fs::read(source).map_err(UdfError::file("read", source)).map_err(unusable)?;
        if hash_of(&text) != manifest.source_hash {
            let message = format!("udf `{}` was built from another text than `{}`", manifest.name, source.display());
            return Err(Problem { code: "udf-stale", message, hint: build_hint(source) });
        }
    }
    let library =
        manifest.checked_library(folder).and_then(|path| Library::open(&path, &manifest)).map_err(unusable)?;
    Ok(Arc::new(Udf { manifest, library }))
}
