//! The policies in their order. Rule: a policy is a plain function that leaves a reason whenever it changes or blocks
//! something; what it remembers is data in the inputs and the decision.

pub(crate) mod bounds;
pub(crate) mod breaker;
mod budget;
mod cooldown;
mod cover;
mod emergency;
mod events;
mod fallback;
pub(crate) mod feasible;
mod fleet_change;
mod freeze;
mod granted;
mod hold;
mod hysteresis;
pub(crate) mod idle;
mod in_flight;
pub(crate) mod jitter;
mod need;
mod open_window;
mod partitions;
mod pause;
pub(crate) mod planned;
mod scheduled;
mod stabilization;
mod step;
mod surprise;
#[cfg(test)]
mod tests;
mod unobserved;
mod utilization;

use crate::plan::{Context, Plan};

/// One rule: the plan so far in, the plan after it out.
pub type Policy = fn(&Context, Plan) -> Plan;

/// Every policy, in the order in which they speak.
pub const CHAIN: &[Policy] = &[
    hold::apply,
    need::apply,
    open_window::apply,
    surprise::apply,
    utilization::apply,
    // A silent stream holds: from here on another source only adds.
    fallback::apply,
    // Stability rules reason about numbers that can be had …
    bounds::apply,
    cover::apply,
    stabilization::apply,
    hysteresis::apply,
    cooldown::apply,
    step::apply,
    jitter::apply,
    // … what is said ahead outweighs them, an emergency outweighs that …
    planned::apply,
    scheduled::apply,
    idle::apply,
    events::apply,
    emergency::apply,
    partitions::apply,
    // … money and prudence cap it, work in flight keeps its units …
    budget::apply,
    fleet_change::apply,
    in_flight::apply,
    granted::apply,
    // … and bounds have the last word on what is wanted.
    bounds::apply,
    feasible::apply,
    // Whether it may be done at all.
    freeze::apply,
    breaker::apply,
    pause::apply,
    unobserved::apply,
];

/// Whether a policy has spoken under this code.
pub(crate) fn said(plan: &Plan, code: &str) -> bool {
    plan.reasons.iter().any(|reason| reason.code == code)
}
