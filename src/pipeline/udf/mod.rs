//! Rust functions in SQL, in Arroyo's `#[udf]` form: from a source file to a library, from a library to a function that
//! the planner knows. Rule: one file is one function of its own name, and what runs was built from the text that stands
//! there.
//!
//! | module | what |
//! | --- | --- |
//! | `source` | a file: its one `#[udf]` function, types and dependencies |
//! | `kind` | the types that a function may take and give |
//! | `manifest` | what is known of a library: `NAME.udf.json` |
//! | `workspace`, `build` | the generated Cargo workspace, and cargo |
//! | `folder` | the functions of a folder, and why some can't be called |
//! | `library` | loading and calling; all that is unsafe |
//! | `function` | a library as a function of DataFusion |

mod build;
mod error;
mod folder;
mod function;
mod kind;
mod library;
mod manifest;
mod source;
#[cfg(test)]
mod tests;
mod workspace;

pub use build::{BuildSettings, Built, Profile, build};
pub use error::UdfError;
pub use folder::{Udf, Udfs};
pub use kind::{Kind, Typed};
pub use manifest::Manifest;
pub use source::UdfSource;

pub(crate) use function::{Function, WRONG_TYPES};
