//! What is learnt of a target from what it does: how long units take, and what one carries. Rule: pure state that is handed
//! in and out; until enough was seen, what is configured counts.

pub mod capacity;
pub mod lead;
