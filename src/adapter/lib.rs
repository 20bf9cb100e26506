//! The protocols by which others ask Prescale: the external and custom metrics APIs of Kubernetes (an HPA asks), KEDA's
//! external scaler, and Envoy's rate-limit service.
//!
//! **Owns** those wire formats and the limiter behind the last. **May depend on** `domain` and `telemetry`: what is answered
//! comes through the trait [`Answers`], which the root implements over the view of the controller. Nothing here changes
//! anything; an answer that is too old is an error (or, where a limit is asked for, no limit), never an old number.
//!
//! ```text
//! answers   what can be asked, and how old an answer may be     settings  where each server listens, and its TLS
//! metrics   external and custom metrics of Kubernetes: JSON     wire      connections, with TLS or without
//! keda      KEDA's external scaler: gRPC                        tls       certificates
//! ratelimit Envoy's rate-limit service: gRPC                    server    binds, serves and stops all three
//! limiter   which request goes on: pure                         fake      answers for tests and examples
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod answers;
pub mod fake;
mod keda;
pub mod limiter;
mod metrics;
mod ratelimit;
mod server;
mod settings;
mod tls;
mod wire;

pub use answers::{Absent, Admission, Answers, Dated, Desk};
pub use server::{AdapterError, Addresses, Bound, bind};
pub use settings::{AdapterSettings, KedaSettings, Listen, MetricsSettings, RateLimitSettings, TlsSettings};

/// Messages and services of `proto/`, as they are generated; the clients are for tests.
#[allow(clippy::all, missing_docs, reason = "generated")]
pub mod proto {
    tonic::include_proto!("protocols");
}
