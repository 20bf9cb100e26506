//! Emergencies: capacity at once, and its timed end. Rule: an emergency outweighs schedules, cooldowns, steps and events; what
//! it added goes after its time, as far as no rule needs it, and nothing goes that would make the next one.

use prescale_domain::EmergencyMemory;

use super::cover;
use crate::emergency::{calm_units, emergency, kept};
use crate::plan::{Context, Plan};
use crate::words::units;

/// `emergency`, `emergency-kept` until its time is over, `emergency-over` then; `emergency-avoided` for a scale-in that would
/// make one.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let plan = if plan.held { plan } else { avoid(context, act(context, plan)) };
    let Some(memory) = memory(context) else {
        return plan;
    };
    let Some((kept, over_at)) = kept(context) else {
        return release(context, plan, memory);
    };
    if kept <= plan.units {
        return plan;
    }
    let text = format!("added in the emergency since {}: {} kept until {over_at}", memory.since, units(kept));
    plan.because("emergency-kept", kept, text)
}

/// The last emergency, where emergencies are judged.
fn memory<'a>(context: &Context<'a>) -> Option<&'a EmergencyMemory> {
    let inputs = context.inputs;
    inputs.circumstances.emergency.as_ref().and(inputs.memory.rules.emergency.as_ref())
}

fn act(context: &Context, plan: Plan) -> Plan {
    let Some(emergency) = emergency(context) else {
        return plan;
    };
    // Nothing goes while it lasts.
    let floor = emergency.floor.max(context.present().unwrap_or(0));
    if floor <= plan.units {
        return plan;
    }
    let text = format!("{}, an emergency: {} at once", emergency.why, units(floor));
    plan.because("emergency", floor, text)
}

fn avoid(context: &Context, plan: Plan) -> Plan {
    let (Some(calm), Some(present)) = (calm_units(context), context.present()) else {
        return plan;
    };
    let floor = calm.min(present);
    if floor <= plan.units {
        return plan;
    }
    let text = format!("with {} the load would be an emergency: {} kept", units(plan.units), units(floor));
    plan.because("emergency-avoided", floor, text)
}

/// Takes away what the emergency added, without waiting for stability, down to what was there before or is needed now.
fn release(context: &Context, plan: Plan, memory: &EmergencyMemory) -> Plan {
    let (Some(need), Some(present)) = (plan.need.filter(|_| !plan.held), context.present()) else {
        return plan;
    };
    let needed = cover::floor(context).max(calm_units(context)).unwrap_or(0);
    let lowest = need.max(memory.before).max(needed);
    let calm = plan.units <= present && emergency(context).is_none();
    if !calm || lowest >= plan.units {
        return plan;
    }
    let text = format!("the emergency was over at {}: {} instead of {}", memory.last, units(lowest), plan.units);
    plan.because("emergency-over", lowest, text)
}
