//! What the loop tells those that follow it. Rule: in the order in which it happens, nothing left out; a follower changes
//! nothing in the loop, and what it keeps is written with the loop's own state, so that after a restart both go on from the
//! same moment.

use prescale_domain::{Decision, ServiceName, Timestamp};
use prescale_store::Write;

/// Follows the loop.
pub trait Follower: Send {
    /// A window `[start, end)` of a service has closed; `None` = a gap.
    fn closed(&mut self, service: &ServiceName, start: Timestamp, end: Timestamp, load: Option<f64>);

    /// A decision was made and recorded; whether it is acted on, its mode says.
    fn decided(&mut self, decision: &Decision);

    /// What is to be written with the loop's next snapshot, whole with it or not at all.
    fn take_writes(&mut self) -> Vec<Write>;
}
