//! The Cargo workspace that a folder of UDFs is built in: a crate for each file, beside each other under one lockfile. Rule:
//! a file of the workspace is written only if it differs, so that cargo builds what changed and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::UdfError;
use super::source::UdfSource;

pub(super) const LOCKFILE: &str = "Cargo.lock";

/// The lockfile of the shipped UDFs: where a folder has none yet, it begins with these versions.
const SEED: &str = include_str!("../../../pipelines/udfs/Cargo.lock");

/// Folder of the crates in the workspace.
const CRATES: &str = "crates";
/// No function has this name.
const PINS_FOLDER: &str = "_pins";

/// A crate without code. `arroyo-udf-common` 0.2.1 is the version whose Arrow compiles, and it needs this chrono: without
/// the two lines a new dependency could make the resolver step back to a version that does not.
const PINS: &str = r#"[package]
name = "pins"
version = "0.0.0"
edition = "2021"
publish = false

[lib]
path = "lib.rs"

[dependencies]
arroyo-udf-common = "=0.2.1"
chrono = { version = ">=0.4.34, <0.4.40", default-features = false }
"#;

/// Crates that Arrow brings and no scalar function calls: not worth optimising.
const IDLE: &[&str] = &[
    "arrow-arith",
    "arrow-cast",
    "arrow-csv",
    "arrow-ipc",
    "arrow-json",
    "arrow-ord",
    "arrow-row",
    "arrow-select",
    "arrow-string",
    "flatbuffers",
    "syn",
];

/// Stands behind the source in each crate: tells the host what a panic said, in place of printing it.
const TELLER: &str = r#"
#[doc(hidden)]
mod __prescale {
    /// Has `tell` called with the words of each panic in this library.
    #[no_mangle]
    pub extern "C" fn __prescale_hear_panics(tell: extern "C" fn(*const u8, usize)) {
        ::std::panic::set_hook(::std::boxed::Box::new(move |info| {
            let payload = info.payload();
            let words = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<::std::string::String>()) {
                (Some(words), _) => *words,
                (_, Some(words)) => words.as_str(),
                _ => "no words",
            };
            let text = match info.location() {
                Some(place) => {
                    let file = place.file().rsplit(['/', '\\']).next().unwrap_or_default();
                    ::std::format!("{} (line {} of {})", words, place.line(), file)
                }
                None => words.into(),
            };
            tell(text.as_ptr(), text.len());
        }));
    }
}
"#;

/// A workspace on disk.
pub(super) struct Workspace {
    pub(super) folder: PathBuf,
}

impl Workspace {
    /// Writes the workspace of `sources` into `folder`; `lockfile` is the folder's own, where it has one.
    pub(super) fn write(folder: &Path, sources: &[UdfSource], lockfile: Option<&str>) -> Result<Self, UdfError> {
        let members: BTreeSet<&str> = sources.iter().map(|source| source.name.as_str()).chain([PINS_FOLDER]).collect();
        clear(&folder.join(CRATES), &members)?;
        put(&folder.join("Cargo.toml"), &manifest_of_all(&members))?;
        put(&folder.join(LOCKFILE), lockfile.unwrap_or(SEED))?;
        let crates = folder.join(CRATES);
        put(&crates.join(PINS_FOLDER).join("Cargo.toml"), PINS)?;
        put(&crates.join(PINS_FOLDER).join("lib.rs"), "")?;
        for source in sources {
            let own = crates.join(&source.name);
            put(&own.join("Cargo.toml"), &manifest_of(source))?;
            put(&own.join(format!("{}.rs", source.name)), &format!("{}\n{TELLER}", source.text))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.folder.join("Cargo.toml")
    }

    pub(super) fn lockfile(&self) -> Result<String, UdfError> {
        let path = self.folder.join(LOCKFILE);
        std::fs::read_to_string(&path).map_err(UdfError::file("read", &path))
    }
}

/// Where a function's source is in messages of the compiler.
pub(super) fn place_in_messages(name: &str) -> String {
    format!("{CRATES}/{name}/{name}.rs")
}

/// The name of a function's package.
pub(super) fn package(name: &str) -> String {
    format!("udf_{name}")
}

fn manifest_of_all(members: &BTreeSet<&str>) -> String {
    let table = |entries: Vec<(&str, Value)>| -> Table {
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    };
    let members = members.iter().map(|member| Value::from(format!("{CRATES}/{member}"))).collect::<Vec<_>>();
    let workspace = table(vec![("members", members.into()), ("resolver", "2".into())]);
    let idle: Table =
        IDLE.iter().map(|name| ((*name).to_owned(), table(vec![("opt-level", 0.into())]).into())).collect();
    let every = table(vec![("*", table(vec![("opt-level", 0.into())]).into())]);
    let release = table(vec![("opt-level", 3.into()), ("package", idle.into())]);
    let dev = table(vec![("opt-level", 1.into()), ("debug", false.into()), ("package", every.into())]);
    let profiles = table(vec![("release", release.into()), ("dev", dev.into())]);
    let all = table(vec![("workspace", workspace.into()), ("profile", profiles.into())]);
    format!("# Written by `prescale udf build`.\n{all}")
}

fn manifest_of(source: &UdfSource) -> String {
    let name = &source.name;
    // The library's name holds the hash: builds that share a target folder don't overwrite each other's.
    let library = format!("{}_{}", package(name), &source.hash[..8]);
    let mut dependencies = source.dependencies.clone();
    dependencies.insert("arroyo-udf-plugin".to_owned(), "=0.2.0".into());
    let dependencies = Table::from_iter([("dependencies".to_owned(), Value::Table(dependencies))]);
    format!(
        "[package]\nname = \"{}\"\nversion = \"0.0.0\"\nedition = \"2021\"\npublish = false\n\n[lib]\nname = \"{library}\"\npath = \"{name}.rs\"\ncrate-type = [\"cdylib\"]\ndoctest = false\n\n{dependencies}",
        package(name)
    )
}

/// Removes the crates of functions that are no more.
fn clear(folder: &Path, members: &BTreeSet<&str>) -> Result<(), UdfError> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(UdfError::file("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.join("Cargo.toml").is_file() && !members.contains(name) {
            std::fs::remove_dir_all(&path).map_err(UdfError::file("remove", &path))?;
        }
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<(), UdfError> {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(UdfError::file("create", folder))?;
    }
    std::fs::write(path, text).map_err(UdfError::file("write", path))
}
