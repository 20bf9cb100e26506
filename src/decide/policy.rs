//! The policies in their order. Rule: a policy is a plain function that leaves a reason whenever it changes or blocks
//! something; what it remembers is data in the inputs and the decision.

mod bounds;
mod cooldown;
mod cover;
mod hold;
mod hysteresis;
mod need;
mod stabilization;
mod step;
mod surprise;
mod unobserved;

use crate::plan::{Context, Plan};

/// One rule: the plan so far in, the plan after it out.
pub type Policy = fn(&Context, Plan) -> Plan;

/// Every policy, in the order in which they speak.
pub const CHAIN: &[Policy] = &[
    hold::apply,
    need::apply,
    surprise::apply,
    // Stability rules reason about numbers that can be had …
    bounds::apply,
    cover::apply,
    stabilization::apply,
    hysteresis::apply,
    cooldown::apply,
    step::apply,
    // … and bounds have the last word.
    bounds::apply,
    unobserved::apply,
];
