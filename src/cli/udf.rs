//! `prescale udf`: Rust functions for feature SQL.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use prescale_pipeline::udf::{BuildSettings, Built, Profile, build};

use super::{Failure, pipeline_failure, print, say};

/// Where sources are, where no file is named.
const FOLDER: &str = "pipelines/udfs";

/// Work with Rust functions that feature SQL calls.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Build(BuildArguments),
}

/// Compile Rust functions in Arroyo's #[udf] form to libraries that feature SQL can call.
///
/// Each file holds one function of its own name. The libraries and what is known of them (NAME.udf.json) go to `target`
/// beside the sources, where `prescale sql` and `prescale run` look for them. The first build compiles the plugin's
/// dependencies: a minute or two. Cargo must be installed.
#[derive(Args)]
#[command(
    after_help = "Example:\n  prescale udf build\n  prescale udf build pipelines/udfs/route_template.rs --test\n  prescale udf build --locked --out libraries"
)]
pub(crate) struct BuildArguments {
    /// Sources, all of one folder [default: all in pipelines/udfs].
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the libraries go [default: `target` beside the sources].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How they are compiled: `dev` is quicker to build and slower to run.
    #[arg(long, value_enum, default_value = "release")]
    profile: ProfileArgument,
    /// Fail if Cargo.lock beside the sources would change.
    #[arg(long)]
    locked: bool,
    /// Run the unit tests in the files as well.
    #[arg(long)]
    test: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProfileArgument {
    Release,
    Dev,
}

pub(crate) fn udf(arguments: Arguments) -> Result<(), Failure> {
    let Command::Build(arguments) = arguments.command;
    let settings = BuildSettings {
        folder: folder(&arguments.files)?,
        files: arguments.files,
        out: arguments.out,
        profile: match arguments.profile {
            ProfileArgument::Release => Profile::Release,
            ProfileArgument::Dev => Profile::Dev,
        },
        locked: arguments.locked,
        test: arguments.test,
    };
    let built = build(&settings, &mut |line| say(line)).map_err(|error| pipeline_failure(error.into()))?;
    if arguments.json {
        let built: Vec<_> = built.iter().map(json).collect();
        print(&serde_json::json!({ "built": built }).to_string());
        return Ok(());
    }
    for Built { manifest, library } in &built {
        print(&format!("{}: {}", manifest.signature(), library.display()));
    }
    Ok(())
}

fn json(Built { manifest, library }: &Built) -> serde_json::Value {
    serde_json::json!({
        "name": manifest.name,
        "arguments": manifest.arguments,
        "returns": manifest.returns,
        "source_hash": manifest.source_hash,
        "library": library,
    })
}

/// The one folder of the sources.
fn folder(files: &[PathBuf]) -> Result<PathBuf, Failure> {
    let folder_of = |file: &Path| match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let Some(first) = files.first() else { return Ok(PathBuf::from(FOLDER)) };
    let folder = folder_of(first);
    match files.iter().find(|file| folder_of(file) != folder) {
        None => Ok(folder),
        Some(other) => Err(Failure::Invalid(format!(
            "`{}` and `{}` are in two folders\nhint: build each folder by itself: its UDFs share a Cargo.lock",
            first.display(),
            other.display()
        ))),
    }
}
