//! Holds present capacity while the load is unknown. Rule: blind, nothing is ever scaled in.

use crate::plan::{Context, Plan};
use crate::words::number;

/// `hold-blind` without a closed window younger than `blind_after`, `hold-gap` where the last window is a gap, and
/// `hold-unit-capacity` where the capacity of a unit is not a positive number.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some((code, why)) = cause(context) else {
        return plan;
    };
    let units = plan.units;
    let kept = if context.present().is_some() { "present capacity is held" } else { "nothing is changed" };
    Plan { held: true, ..plan.because(code, units, format!("{why}: {kept}")) }
}

fn cause(context: &Context) -> Option<(&'static str, String)> {
    let inputs = context.inputs;
    let settings = &inputs.settings;
    if !(settings.unit_capacity.is_finite() && settings.unit_capacity > 0.0) {
        let capacity = number(settings.unit_capacity);
        return Some(("hold-unit-capacity", format!("a unit capacity of {capacity} gives no need")));
    }
    let Some(end) = inputs.load_window_end else {
        return Some(("hold-blind", "no load has been seen yet".to_owned()));
    };
    let age = inputs.at.since(end);
    if age > settings.blind_after {
        let limit = settings.blind_after;
        return Some(("hold-blind", format!("the last load is {age} old, more than {limit}")));
    }
    if context.load().is_none() {
        return Some(("hold-gap", format!("the window that ended at {end} is a gap")));
    }
    None
}
