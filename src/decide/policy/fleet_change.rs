//! How much the whole fleet may change in an interval. Rule: it holds in emergencies too: what goes wrong goes wrong slowly.

use crate::plan::{Context, Plan};

/// `fleet-change`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some((change, present)) = context.inputs.circumstances.fleet_change.zip(context.present()) else {
        return plan;
    };
    let left = change.limit.saturating_sub(change.used);
    let allowed = plan.units.clamp(present.saturating_sub(left), present.saturating_add(left));
    if allowed == plan.units {
        return plan;
    }
    let text = format!(
        "the fleet may change by {} in {}, of which {left} are left: {present} to {allowed}, not to {}",
        change.limit, change.interval, plan.units,
    );
    plan.because("fleet-change", allowed, text)
}
