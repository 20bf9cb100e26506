//! Events and metrics of `serve`.
