//! Scale-in of each service a little later than of the next. Rule: the delay is the service's own and always the same; more
//! capacity never waits for it.

use prescale_domain::Timestamp;

use crate::jitter::jitter;
use crate::plan::{Context, Plan};
use crate::words::units;

/// `jitter`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|present| !plan.held && plan.units < *present) else {
        return plan;
    };
    let Some(until) = waits_until(context).filter(|until| context.inputs.at < *until) else {
        return plan;
    };
    let text = format!(
        "so that services do not change all at once this one waits until {until}: {} kept, not {}",
        units(present),
        plan.units,
    );
    plan.because("jitter", present, text)
}

/// Since when it waits.
pub(crate) fn since(context: &Context) -> Timestamp {
    let inputs = context.inputs;
    inputs.memory.rules.scale_in_since.filter(|since| *since <= inputs.at).unwrap_or(inputs.at)
}

fn waits_until(context: &Context) -> Option<Timestamp> {
    let longest = context.inputs.circumstances.jitter?;
    Some(since(context) + jitter(context.inputs.service.as_str(), longest))
}
