//! Capacity decisions: from a forecast, a load and a target's state to units, with every reason written down.
//!
//! **Owns** the policies (one file each under `policy/`, in one ordered list), the window of the forecast that a decision
//! looks at, and the explanation of a decision. **May depend on** `domain` alone.
//!
//! **Pure**: [`decide`] reads its [`DecisionInputs`](prescale_domain::DecisionInputs) and nothing else; it knows no clock,
//! file, network or chance. The same inputs give the same decision, byte for byte, which [`recompute`] checks for a
//! recorded one.
//!
//! How a decision comes about, in the order of [`policy::CHAIN`]:
//!
//! 1. Without a fresh load, or with a gap in its place, present capacity is held: never less, never more.
//! 2. The need is what the configured quantile of the forecast asks for between the moment at which capacity asked for now
//!    becomes effective and the moment at which that of the next decision would; without a usable forecast it is what the
//!    last load asks for at the reactive utilization. A load above the forecast band puts a floor under the need.
//! 3. Bounds of the service and of its target.
//! 4. Stability, for scale-in: what is removed is gone at once, so the forecast until then counts too; the need must have
//!    been lower for a while, by a margin, and not soon after the last change. For scale-out: cooldown.
//! 5. Step limits, then the bounds again, which have the last word.
//!
//! Beside the decision: [`experiment`] tells which of two policies or models is better, and [`selector`] learns which policy
//! suits which service.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

mod decision;
pub mod experiment;
mod explain;
mod plan;
pub mod policy;
mod recompute;
pub mod selector;
#[cfg(test)]
mod tests;
mod window;
mod words;

pub use decision::decide;
pub use explain::explain;
pub use plan::{Context, Plan};
pub use recompute::{Difference, recompute};
pub use window::{WindowError, forecast_input};
