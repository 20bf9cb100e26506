//! The end-to-end tests, in one binary: the rules of the house, and the product against real outside systems. What needs
//! such a system is skipped by name where it is absent; `tests/run.sh` brings all of them.

#![allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails")]
#![allow(clippy::print_stdout, reason = "a test tells what it measured")]
#![allow(clippy::disallowed_methods, reason = "tests wait for other processes and are told of them by the environment")]

mod agent;
mod aws;
mod aws_simulator;
mod backtest;
mod browser;
mod calendars;
mod campaign;
mod campaigns;
mod cloudwatch;
mod compose;
mod contention;
mod contract;
mod covariates;
mod demo;
mod docker;
mod events;
mod exactly_once;
mod fallback;
mod forecast;
mod generate;
mod helm;
mod history;
mod kafka;
#[allow(dead_code, reason = "the kit is there for tests that come")]
mod kit;
mod kubernetes;
mod layers;
mod manual;
mod model;
mod partitions;
mod pause;
mod polled;
mod qos;
mod registry;
mod schema;
mod selector;
mod shadow;
mod shared;
mod sources;
mod spot;
mod spot_pods;
mod state;
mod surge;
mod tidy;
mod trouble;
mod udf;
mod webhook;
mod week;
mod windows;
