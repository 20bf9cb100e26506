//! Events and metrics of `pipeline`.
