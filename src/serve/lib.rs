//! HTTP: the API, the dashboard, metrics and health.
//!
//! **Owns** the wire types of the API, its OpenAPI document, the JSON Schemas in `schemas/`, and the page embedded in
//! the binary. **May depend on** `domain`, `telemetry`, the wire of `actuate` (for [`serve_wire`]) and the controller's
//! `view`, which is all that it sees of the loop: each read clones the `Arc` of the present view or asks the archive on a
//! blocking thread, so that no reader can hold the loop up. What a caller changes goes to Kafka, from where the loop learns
//! of it; only the kill switch reaches the loop itself.
//!
//! ```text
//! router   routes, security headers, request metrics      problem  errors as RFC 9457
//! api      one handler per route                          openapi  the document, from the handlers and wire types
//! body     wire types, made from the view                 schema   JSON Schemas of rows, records and bodies
//! history  pages of decisions out of view and archive     live     snapshot and server-sent events
//! events   the calendar of events, and writing to it      writer   who may change things
//! shadow   what would have run beside what really ran    pause    the kill switch
//! experiments  who is in which arm, and what is known     wire     a simulated AWS on a port, for tests
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod api;
mod body;
mod event_body;
mod events;
mod experiments;
pub mod fake;
mod history;
mod live;
mod openapi;
mod pause;
mod problem;
mod router;
pub mod schema;
mod server;
mod shadow;
mod wire;
mod writer;

pub use api::App;
pub use router::router;
pub use server::{ServeError, bind, serve};
pub use wire::serve_wire;
pub use writer::Writers;
