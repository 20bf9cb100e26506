//! Running a plan's expressions over batches. Rule: a row that fails is taken out by itself; the others go on.

pub(crate) mod closed;
mod future;
pub(crate) mod groups;
mod join;
mod number;
pub(crate) mod output;
pub(crate) mod pane;
pub(crate) mod quantile_udaf;
mod record_key;
pub(crate) mod rows;
pub(crate) mod source_rows;
