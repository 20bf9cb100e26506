//! actuate

mod fleet;

pub use fleet::{Fleet, FleetSettings};
