//! The servers over real sockets: with and without TLS, asked by other implementations, stopped while they are asked.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod grpc;
mod https;
mod kit;
mod published;
mod stop;
