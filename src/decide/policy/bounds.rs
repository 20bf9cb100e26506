//! The bounds of the service, then the target's own. Rule: while capacity is held, bounds may raise it but not lower it.

use crate::plan::{Context, Plan};
use crate::words::units;

/// `min-units`, `max-units`, `target-min`, `target-max`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let settings = &context.inputs.settings;
    let (min, max) = (settings.min_units, settings.max_units);
    let plan = raise(plan, "min-units", Some(min), "the service's minimum");
    let plan = lower(plan, "max-units", Some(max), "the service's maximum");
    let target = context.inputs.target;
    let plan = raise(plan, "target-min", target.and_then(|target| target.min), "the target's own minimum");
    lower(plan, "target-max", target.and_then(|target| target.max), "the target's own maximum")
}

/// The most units that the bounds allow: what a rule may raise to while capacity is held, where they lower nothing.
pub(crate) fn highest(context: &Context) -> u32 {
    let target = context.inputs.target;
    let (min, max) = (target.and_then(|target| target.min), target.and_then(|target| target.max));
    context.inputs.settings.max_units.max(min.unwrap_or(0)).min(max.unwrap_or(u32::MAX))
}

fn raise(plan: Plan, code: &str, bound: Option<u32>, name: &str) -> Plan {
    match bound {
        Some(bound) if plan.units < bound => {
            let text = format!("{} raised to {name} of {bound}", units(plan.units));
            plan.because(code, bound, text)
        }
        _ => plan,
    }
}

fn lower(plan: Plan, code: &str, bound: Option<u32>, name: &str) -> Plan {
    match bound {
        Some(bound) if plan.units > bound && !plan.held => {
            let text = format!("{} limited to {name} of {bound}", units(plan.units));
            plan.because(code, bound, text)
        }
        _ => plan,
    }
}
