//! The kill switch, of one service or of all. Rule: nothing passes.

use prescale_domain::PauseScope;

use crate::plan::{Context, Plan};
use crate::words::units;

/// `paused`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some((pause, present)) = context.inputs.circumstances.paused.as_ref().zip(context.present()) else {
        return plan;
    };
    let whose = match pause.scope {
        PauseScope::Service => "this service is",
        PauseScope::All => "all services are",
    };
    let by = if pause.by.is_empty() { String::new() } else { format!(" by {}", pause.by) };
    let instead = if plan.units == present { String::new() } else { format!(", not {}", plan.units) };
    let text = format!("{whose} paused since {}{by}: {} kept{instead}", pause.since, units(present));
    Plan { held: true, ..plan.because("paused", present, text) }
}
