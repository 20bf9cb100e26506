//! A service's part of what is not enough for all. Rule: what others need more is given up, running units too, but never below
//! the bounds of the service.

use crate::plan::{Context, Plan};
use crate::words::{number, units};

/// `granted`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let granted = context.inputs.circumstances.limits.as_ref().and_then(|limits| limits.granted);
    let Some(granted) = granted.filter(|granted| plan.units > granted.units && context.present().is_some()) else {
        return plan;
    };
    let text = format!(
        "the fleet has not enough for all: of {} that it would have alone, {} are granted at criticality {}",
        units(granted.wish),
        granted.units,
        number(granted.criticality),
    );
    plan.because("granted", granted.units, text)
}
