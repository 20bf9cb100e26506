//! From sources to libraries, by cargo. Rule: a library appears in the output folder only after all were compiled, and
//! with a manifest that names its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use super::error::UdfError;
use super::manifest::{Manifest, write_whole};
use super::source::UdfSource;
use super::workspace::{LOCKFILE, Workspace, package, place_in_messages};

/// Where libraries are put, in the folder of their sources.
pub(super) const OUTPUT: &str = "target";

const NO_CARGO: &str = "install Rust (rustup.rs), or build on another machine of this kind and copy the output folder";
const CARGO_FAILED: &str =
    "cargo's messages above say why; the first build needs the crate registry, later ones work offline";

/// How cargo optimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    #[default]
    Release,
    /// Quicker to build, slower to run.
    Dev,
}

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// Folder of the sources.
    pub folder: PathBuf,
    /// Of those in the folder; empty = all.
    pub files: Vec<PathBuf>,
    /// `None` = `target` in the folder.
    pub out: Option<PathBuf>,
    pub profile: Profile,
    /// Fail where the lockfile would change.
    pub locked: bool,
    /// Run the unit tests in the files too.
    pub test: bool,
}

/// A library that was built.
#[derive(Clone, Debug)]
pub struct Built {
    pub manifest: Manifest,
    pub library: PathBuf,
}

/// Builds; `say` gets a line for people now and then. Cargo's own progress goes to stderr.
pub fn build(settings: &BuildSettings, say: &mut dyn FnMut(&str)) -> Result<Vec<Built>, UdfError> {
    let (sources, whole) = read_sources(settings, say)?;
    let chosen: Vec<&UdfSource> = sources.iter().filter(|source| is_chosen(settings, source)).collect();
    if chosen.is_empty() {
        let message = format!("`{}` holds no .rs file", settings.folder.display());
        let hint = "prescale udf build FILE…, with a function in Arroyo's #[udf] form in each".to_owned();
        return Err(UdfError::Nothing { message, hint });
    }
    let out = settings.out.clone().unwrap_or_else(|| settings.folder.join(OUTPUT));
    std::fs::create_dir_all(&out).map_err(UdfError::file("create", &out))?;
    let out = out.canonicalize().map_err(UdfError::file("open", &out))?;
    let _only_one = lock(&out)?;
    let own_lockfile = settings.folder.join(LOCKFILE);
    let before = std::fs::read_to_string(&own_lockfile).ok();
    let workspace = Workspace::write(&out.join("workspace"), &sources, before.as_deref())?;
    say(&format!("building {} of {} in {}", chosen.len(), count(sources.len()), workspace.folder.display()));
    let libraries = compile(settings, &workspace, &chosen)?;
    if settings.test {
        test(settings, &workspace, &chosen)?;
    }
    let after = workspace.lockfile()?;
    if whole && !settings.locked && before.as_deref() != Some(after.as_str()) {
        write_whole(&own_lockfile, after.as_bytes())?;
        say(&format!("wrote {}: commit it, so that others build the same", own_lockfile.display()));
    }
    let mut built = Vec::new();
    for (source, library) in chosen.iter().zip(libraries) {
        let bytes = std::fs::read(&library).map_err(UdfError::file("read", &library))?;
        let manifest = Manifest::new(source, &bytes);
        let library = out.join(&manifest.library);
        let replaced = Manifest::read(&Manifest::path(&out, &source.name)).ok();
        write_whole(&library, &bytes)?;
        manifest.write(&out)?;
        if let Some(replaced) = replaced.filter(|replaced| replaced.library != manifest.library) {
            // Who has it open keeps it. One that is gone already is no loss.
            drop(std::fs::remove_file(out.join(replaced.library)));
        }
        built.push(Built { manifest, library });
    }
    Ok(built)
}

fn count(udfs: usize) -> String {
    if udfs == 1 { "1 udf".to_owned() } else { format!("{udfs} udfs") }
}

/// All sources of the folder, so that they have one lockfile, and whether none had to be left out.
fn read_sources(settings: &BuildSettings, say: &mut dyn FnMut(&str)) -> Result<(Vec<UdfSource>, bool), UdfError> {
    let mut sources = Vec::new();
    let mut whole = true;
    for path in rust_files(&settings.folder)? {
        match UdfSource::read(&path).and_then(named_well) {
            Ok(source) => sources.push(source),
            Err(error) if settings.files.is_empty() || settings.files.iter().any(|file| same(file, &path)) => {
                return Err(error);
            }
            Err(error) => {
                whole = false;
                say(&format!("left out: {error}"));
            }
        }
    }
    for file in &settings.files {
        if !sources.iter().any(|source| same(file, &source.path)) {
            // Says what is wrong with it: it is absent, or no Rust file of this folder.
            let source = UdfSource::read(file)?;
            let message = format!("`{}` is not a .rs file of `{}`", file.display(), settings.folder.display());
            let hint = format!("put `{}.rs` into the folder of the others", source.name);
            return Err(UdfError::Nothing { message, hint });
        }
    }
    Ok((sources, whole))
}

fn named_well(source: UdfSource) -> Result<UdfSource, UdfError> {
    crate::sql::check_udf_name(&source.name).map(|()| source)
}

fn is_chosen(settings: &BuildSettings, source: &UdfSource) -> bool {
    settings.files.is_empty() || settings.files.iter().any(|file| same(file, &source.path))
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// The Rust files of a folder, by name; none where there is no folder.
pub(super) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, UdfError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(UdfError::file("read", folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(UdfError::file("read", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Held while a build writes into `out`.
fn lock(out: &Path) -> Result<File, UdfError> {
    let path = out.join(".lock");
    let file = File::create(&path).map_err(UdfError::file("create", &path))?;
    file.lock().map_err(UdfError::file("lock", &path))?;
    Ok(file)
}

fn cargo(settings: &BuildSettings, workspace: &Workspace, verb: &str, chosen: &[&UdfSource]) -> Command {
    let mut command = Command::new("cargo");
    command.arg(verb).arg("--manifest-path").arg(workspace.manifest()).stdin(Stdio::null());
    if settings.profile == Profile::Release {
        command.arg("--release");
    }
    if settings.locked {
        command.arg("--locked");
    }
    for source in chosen {
        command.arg("--package").arg(package(&source.name));
    }
    command
}

fn start_failure(error: std::io::Error) -> UdfError {
    let message = match error.kind() {
        std::io::ErrorKind::NotFound => "cargo is not there: no program of this name on the PATH".to_owned(),
        _ => format!("start cargo: {error}"),
    };
    UdfError::Cargo { message, hint: NO_CARGO }
}

/// The library of each of `chosen`, in their order.
fn compile(settings: &BuildSettings, workspace: &Workspace, chosen: &[&UdfSource]) -> Result<Vec<PathBuf>, UdfError> {
    let mut command = cargo(settings, workspace, "build", chosen);
    command.arg("--message-format=json-diagnostic-rendered-ansi").stdout(Stdio::piped());
    let mut child = command.spawn().map_err(start_failure)?;
    let (mut libraries, mut refused) = (BTreeMap::new(), BTreeSet::new());
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(UdfError::file("read the output of", Path::new("cargo")))?;
            let Ok(message) = serde_json::from_str::<Json>(&line) else { continue };
            let target = message["target"]["name"].as_str().unwrap_or_default();
            let source = chosen.iter().find(|source| {
                target.starts_with(&format!("{}_", package(&source.name))) && target.ends_with(&source.hash[..8])
            });
            match message["reason"].as_str() {
                Some("compiler-artifact") => {
                    let mut files = message["filenames"].as_array().into_iter().flatten().filter_map(Json::as_str);
                    let library = files.rfind(|file| file.ends_with(std::env::consts::DLL_SUFFIX));
                    if let (Some(source), Some(library)) = (source, library) {
                        libraries.insert(source.name.as_str(), PathBuf::from(library));
                    }
                }
                Some("compiler-message") => {
                    let name = source.map(|source| source.name.as_str());
                    show(&message["message"], source);
                    if message["message"]["level"] == "error" {
                        refused.insert(name.unwrap_or(target).to_owned());
                    }
                }
                _ => {}
            }
        }
    }
    let status = child.wait().map_err(start_failure)?;
    if !refused.is_empty() {
        return Err(UdfError::Compile { names: refused.into_iter().collect() });
    }
    let found: Option<Vec<PathBuf>> = chosen.iter().map(|source| libraries.remove(source.name.as_str())).collect();
    match found {
        Some(found) if status.success() => Ok(found),
        Some(_) => Err(UdfError::Cargo { message: format!("cargo build ended with {status}"), hint: CARGO_FAILED }),
        None if status.success() => {
            Err(UdfError::Cargo { message: "cargo build made no library".to_owned(), hint: CARGO_FAILED })
        }
        None => Err(UdfError::Cargo { message: format!("cargo build ended with {status}"), hint: CARGO_FAILED }),
    }
}

/// Passes on a message of the compiler, with the source's own path in it.
fn show(message: &Json, source: Option<&&UdfSource>) {
    use std::io::{IsTerminal, Write};
    let mut text = message["rendered"].as_str().unwrap_or_default().to_owned();
    if let Some(source) = source {
        text = text.replace(&place_in_messages(&source.name), &source.path.display().to_string());
    }
    let mut stderr = std::io::stderr().lock();
    if !stderr.is_terminal() {
        text = without_colours(&text);
    }
    // Who does not listen to stderr misses nothing but words.
    drop(stderr.write_all(text.as_bytes()));
}

fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let sequence = &rest[at + 2..];
        rest = sequence.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &sequence[end + 1..]);
    }
    plain + rest
}

fn test(settings: &BuildSettings, workspace: &Workspace, chosen: &[&UdfSource]) -> Result<(), UdfError> {
    let mut command = cargo(settings, workspace, "test", chosen);
    // Their output is no result of ours.
    command.stdout(Stdio::from(std::io::stderr()));
    let status = command.status().map_err(start_failure)?;
    if status.success() {
        return Ok(());
    }
    Err(UdfError::Tests { names: chosen.iter().map(|source| source.name.clone()).collect() })
}
