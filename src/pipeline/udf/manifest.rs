//! What is known of a library: the plugin exports no name and no types, so they stand beside it in `NAME.udf.json`. Rule:
//! a library is loaded only if it is, byte for byte, the one that its manifest was written for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::UdfError;
use super::kind::{Typed, list};
use super::source::{UdfSource, hash_of};

/// How the name of a manifest ends.
pub(super) const SUFFIX: &str = ".udf.json";

/// Of the form of this file and of what the library exports.
const VERSION: u32 = 1;

const REBUILD: &str = "run `prescale udf build`";

/// One function and its library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub name: String,
    pub arguments: Vec<Typed>,
    pub returns: Typed,
    pub source_hash: String,
    /// A file beside the manifest. Its name holds a hash: a process that has an older one open goes on with that.
    pub library: String,
    pub library_hash: String,
    /// The text that it was built from: an engine elsewhere builds its own library from it.
    pub source: String,
}

impl Manifest {
    pub(super) fn new(source: &UdfSource, library: &[u8]) -> Self {
        let library_hash = hash_of(library);
        Self {
            version: VERSION,
            name: source.name.clone(),
            arguments: source.arguments.clone(),
            returns: source.returns.clone(),
            source_hash: source.hash.clone(),
            library: format!("{}-{}{}", source.name, &library_hash[..16], std::env::consts::DLL_SUFFIX),
            library_hash,
            source: source.text.clone(),
        }
    }

    /// `name(TEXT, BIGINT) -> TEXT`.
    pub fn signature(&self) -> String {
        format!("{}{} -> {}", self.name, list(self.arguments.iter()), self.returns.kind.sql_name())
    }

    pub(super) fn path(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}{SUFFIX}"))
    }

    pub(super) fn read(path: &Path) -> Result<Self, UdfError> {
        let text = std::fs::read_to_string(path).map_err(UdfError::file("read", path))?;
        let found: Self = serde_json::from_str(&text).map_err(|error| UdfError::Source {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            message: format!("this is no manifest of a udf: {error}"),
            hint: REBUILD.to_owned(),
        })?;
        let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
        let wrong =
            |message: String| UdfError::Function { name: found.name.clone(), message, hint: REBUILD.to_owned() };
        if found.version != VERSION {
            return Err(wrong(format!("its manifest has version {}, expected {VERSION}", found.version)));
        }
        if stem != Some(found.name.as_str()) || Path::new(&found.library).components().count() != 1 {
            return Err(wrong(format!("`{}` is not its manifest", path.display())));
        }
        if hash_of(found.source.as_bytes()) != found.source_hash || found.arguments.is_empty() {
            return Err(wrong("its manifest contradicts itself".to_owned()));
        }
        Ok(found)
    }

    /// The library's path, once it has been seen to be the right one.
    pub(super) fn checked_library(&self, folder: &Path) -> Result<PathBuf, UdfError> {
        let path = folder.join(&self.library);
        // A bare name would be looked for where the system's libraries are.
        let path = path.canonicalize().map_err(UdfError::file("read", &path))?;
        let bytes = std::fs::read(&path).map_err(UdfError::file("read", &path))?;
        if hash_of(&bytes) != self.library_hash {
            return Err(UdfError::Function {
                name: self.name.clone(),
                message: format!("`{}` is not the library that its manifest names", path.display()),
                hint: REBUILD.to_owned(),
            });
        }
        Ok(path)
    }

    /// Writes it beside the library, whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<(), UdfError> {
        let path = Self::path(folder, &self.name);
        let text = format!("{:#}\n", serde_json::json!(self));
        write_whole(&path, text.as_bytes())
    }
}

/// Writes a file that nobody sees half.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), UdfError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&beside, bytes).map_err(UdfError::file("write", &beside))?;
    std::fs::rename(&beside, path).map_err(UdfError::file("write", path))
}
