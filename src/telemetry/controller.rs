//! Events and metrics of `controller`.
