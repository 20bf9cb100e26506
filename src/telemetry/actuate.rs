//! Events and metrics of `actuate`.
