//! Events and metrics of `forecast`.
