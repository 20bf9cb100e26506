//! The house style, where a machine can tell. Rule: each complaint names the file and what to do instead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::kit;
use crate::layers::product_code;

/// A file that answers one question is shorter; tests are not counted.
const LINES_MAX: usize = 600;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// What does not belong into product code.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", ".unwrap()"];

/// What does not belong into tests either.
const EVASIVE: &[&str] = &["#[ignore", "#[should_panic"];

/// Clocks other than the one of `prescale_domain`. A monotonic one may measure how long the process itself takes.
const CLOCKS: &[&str] = &["SystemTime::now", "Utc::now", "Local::now"];
const CLOCK_HOME: &str = "src/domain/time.rs";

/// Settings come from the configuration, which alone reads the environment.
const ENVIRONMENT: &[&str] = &["env::var", "env::vars", "env::set_var"];
const ENVIRONMENT_HOME: &str = "src/config/";

/// Folders and files of the repository whose text is ours.
const OURS: &[&str] = &[
    ".ci",
    ".config",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "README.md",
    "benches",
    "clippy.toml",
    "config",
    "deny.toml",
    "docker",
    "docs",
    "legacy",
    "pipelines",
    "rustfmt.toml",
    "schemas",
    "src",
    "tests",
];

/// All files below a path of the repository, with their names from its root.
fn files(below: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut left = vec![kit::root().join(below)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let made = |name: &Path| name.ends_with("__pycache__") || name.ends_with("target");
            left.extend(
                std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).filter(|name| !made(name)),
            );
        } else if path.is_file() {
            found.push((path.strip_prefix(kit::root()).unwrap().to_str().unwrap().to_owned(), path));
        }
    }
    found.sort();
    found
}

/// Files that are compiled for tests only, as their parents say.
fn test_modules(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, text) in sources {
        let parent = Path::new(name);
        let folder = match parent.file_stem().unwrap().to_str().unwrap() {
            "lib" | "main" | "mod" => parent.parent().unwrap().to_owned(),
            _ => parent.with_extension(""),
        };
        for rest in text.split("#[cfg(test)]\n").skip(1) {
            let line = rest.lines().next().unwrap_or_default();
            let module = line.trim().trim_start_matches("pub(crate) ").strip_prefix("mod ");
            if let Some(module) = module.and_then(|module| module.strip_suffix(';')) {
                found.insert(folder.join(module).with_extension("rs").to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Name and text of each Rust file, and whether it is a test.
fn sources() -> Vec<(String, String, bool)> {
    let all = ["src", "tests", "benches"].into_iter().flat_map(files);
    let rust = all.filter(|(name, _)| name.ends_with(".rs"));
    let read: Vec<_> = rust.map(|(name, path)| (name, std::fs::read_to_string(path).unwrap())).collect();
    let tests = test_modules(&read);
    let is_test = |name: &String| {
        // `fake` modules are public, for the tests of other crates.
        !name.starts_with("src/")
            || tests.contains(name)
            || name.ends_with("/tests.rs")
            || name.contains("/tests/")
            || name.contains("/fake")
            || name.contains("/examples/")
    };
    let marked = read.into_iter().map(|(name, text)| {
        let test = is_test(&name);
        (name, text, test)
    });
    let found: Vec<_> = marked.collect();
    assert!(found.len() > 20);
    found
}

#[track_caller]
fn no_complaints(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn each_source_file_starts_with_what_it_is_for() {
    let bare = sources().into_iter().filter(|(_, text, _)| !text.starts_with("//!"));
    let complaints = bare.map(|(name, ..)| format!("{name}: start with `//!`: what it does, which rule it keeps"));
    no_complaints(&complaints.collect::<Vec<_>>());
}

#[test]
fn files_are_short_and_named_by_what_they_do() {
    let mut complaints = Vec::new();
    for (name, text, test) in sources() {
        let stem = Path::new(&name).file_stem().unwrap().to_str().unwrap();
        let folder = Path::new(&name).parent().and_then(Path::file_name).and_then(|folder| folder.to_str());
        if EMPTY_NAMES.contains(&stem) || folder.is_some_and(|folder| EMPTY_NAMES.contains(&folder)) {
            complaints.push(format!("{name}: name it by what it does"));
        }
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
        if !test && product > LINES_MAX {
            complaints.push(format!("{name}: {product} lines, split it below {LINES_MAX}"));
        }
    }
    no_complaints(&complaints);
}

#[test]
fn nothing_is_unfinished_or_evaded() {
    let mut complaints = Vec::new();
    for (name, text, test) in sources() {
        let code = product_code(&text);
        let found = |words: &[&str], text: &str| {
            words.iter().filter(|word| text.contains(**word)).map(|w| w.to_string()).collect::<Vec<_>>()
        };
        if !test {
            complaints.extend(found(UNFINISHED, &code).iter().map(|word| format!("{name}: `{word}` in product code")));
        }
        if name != "tests/it/tidy.rs" {
            complaints.extend(found(EVASIVE, &text).iter().map(|word| format!("{name}: `{word}`")));
        }
    }
    no_complaints(&complaints);
}

#[test]
fn the_wall_clock_has_one_reader() {
    let mut complaints = Vec::new();
    for (name, text, test) in sources() {
        let code = product_code(&text);
        for word in CLOCKS {
            if !test && name != CLOCK_HOME && code.contains(word) {
                complaints.push(format!("{name}: `{word}`: take `now: Timestamp`, or a `Clock`"));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn the_environment_is_read_by_the_configuration_alone() {
    let mut complaints = Vec::new();
    for (name, text, test) in sources() {
        let code = product_code(&text);
        if !test && !name.starts_with(ENVIRONMENT_HOME) && ENVIRONMENT.iter().any(|word| code.contains(word)) {
            complaints.push(format!("{name}: reads the environment: take a setting of `{ENVIRONMENT_HOME}`"));
        }
    }
    no_complaints(&complaints);
}

#[test]
fn an_exception_to_a_lint_has_a_reason() {
    let mut complaints = Vec::new();
    for (name, text, _) in sources() {
        if name == "tests/it/tidy.rs" {
            continue;
        }
        for word in ["allow(", "expect("] {
            for (at, _) in text.match_indices(word) {
                let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
                let line = text[line_start..at].trim_start();
                let attribute = line.starts_with("#[") || line.starts_with("#![");
                let end = text[at..].find(")]").map_or(text.len(), |end| at + end);
                if attribute && !text[at..end].contains("reason") {
                    complaints.push(format!("{name}: {}…) has no reason", &text[line_start..at + word.len()].trim()));
                }
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    // In halves, so that this file does not name them.
    let halves = [
        ["/wor", "k/"],
        ["/ro", "ot/"],
        ["/hom", "e/"],
        ["crates", ".io"],
        ["pypi", ".org"],
        ["npmjs", ".org"],
        ["repo1.", "maven"],
        ["repo.", "maven"],
        ["proxy.", "golang"],
        ["deb.", "debian"],
    ];
    let words: Vec<_> = halves.iter().map(|halves| halves.concat()).collect();
    let mut complaints = Vec::new();
    // A lockfile is cargo's.
    let ours = OURS.iter().flat_map(|below| files(below)).filter(|(name, _)| !name.ends_with("Cargo.lock"));
    for (name, path) in ours {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                complaints.push(format!("{name}:{}: `{word}`", number + 1));
            }
        }
    }
    no_complaints(&complaints);
}

#[test]
fn each_pipeline_and_example_is_named_in_a_document() {
    let mut documents = String::new();
    for below in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs"] {
        for (_, path) in files(below) {
            documents += &std::fs::read_to_string(path).unwrap_or_default();
        }
    }
    let shipped = ["pipelines", "config/examples"].into_iter().flat_map(files);
    let unnamed = shipped.filter(|(name, _)| {
        let file = Path::new(name).file_name().unwrap().to_str().unwrap();
        let sample = name.starts_with("pipelines/") && !file.ends_with(".sql");
        !sample && !documents.contains(file)
    });
    let complaints: Vec<_> = unnamed.map(|(name, _)| format!("{name}: no document names it")).collect();
    no_complaints(&complaints);
}
