//! A small saving is not worth a change. Rule: scale in only by more than the configured share of present capacity.

use crate::plan::{Context, Plan};
use crate::words::{percent, units};

/// `hysteresis`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|present| !plan.held && plan.units < *present) else {
        return plan;
    };
    let share = context.inputs.settings.hysteresis;
    let saving = f64::from(present - plan.units);
    if saving > share * f64::from(present) {
        return plan;
    }
    let text = format!(
        "{} fewer is not more than {} of {present}: {} kept",
        present - plan.units,
        percent(share),
        units(present),
    );
    plan.because("hysteresis", present, text)
}
