//! What happened, once: typed events that own their log line and their metrics, and the metric catalogue.
//!
//! **Owns** metric names and log wording. **May depend on** `domain`. A happening is one typed event; the code that sees
//! it calls `emit` and writes neither metric names nor log lines itself. Metrics are named
//! `prescale_<crate>_<noun>_<unit>[_total]`, in base units, with bounded labels.

pub mod actuate;
pub mod adapter;
mod catalogue;
pub mod collect;
pub mod controller;
pub mod forecast;
pub mod ingest;
pub mod log;
pub mod pipeline;
pub mod serve;

pub use catalogue::{Labels, render};
