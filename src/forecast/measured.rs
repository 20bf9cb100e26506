//! What tests have measured, for who wants to know: printed where `PRESCALE_MEASURE` is set (with `--nocapture`).

use std::fmt::Display;
use std::io::Write as _;

/// Prints a line on request.
pub(crate) fn tell(what: impl Display) {
    if std::env::var_os("PRESCALE_MEASURE").is_some() {
        say(what);
    }
}

/// Prints a line.
pub(crate) fn say(what: impl Display) {
    // A test that can't speak goes on.
    drop(std::io::stderr().write_all(format!("{what}\n").as_bytes()));
}
