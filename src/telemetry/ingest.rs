//! Events and metrics of `ingest`.
