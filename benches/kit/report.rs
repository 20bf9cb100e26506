//! What every bench stands on: arguments, profile and machine, order statistics. Rule: a figure is printed with both.

#![allow(dead_code, reason = "each bench uses its own part")]

use std::error::Error;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Whether `--quick` was given. Cargo says `--bench`, which changes nothing.
pub(crate) fn quick() -> Result<bool> {
    let mut quick = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => quick = true,
            "--bench" => {}
            other => return Err(format!("argument `{other}`: expected --quick or nothing").into()),
        }
    }
    Ok(quick)
}

/// How this was compiled.
pub(crate) fn profile() -> &'static str {
    if cfg!(debug_assertions) {
        "dev (hot crates and Arrow at opt-level 3, DataFusion at 0 to 3, see Cargo.toml)"
    } else {
        "bench (all at opt-level 3, no link-time optimisation)"
    }
}

/// Cores, and what else ran when this was asked.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{cores} cores, load average {}",
        load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown")
    )
}

/// The value that the share `quantile` of `values` does not exceed (nearest rank); `None` of nothing.
pub(crate) fn quantile(values: &[f64], quantile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// Median, and the least and the greatest in brackets.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let at = |share| quantile(values, share).unwrap_or(f64::NAN);
    format!("{:.digits$} ({:.digits$}..{:.digits$})", at(0.5), at(0.0), at(1.0))
}
