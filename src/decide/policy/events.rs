//! What happens around the service. Rule: ceilings of events outweigh floors of events; what is held they leave alone.

use crate::events::effects;
use crate::plan::{Context, Plan};
use crate::words::units;

/// `load-spike`, `error-rate`, `external-event`, `api-limit`, `cost-threshold`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    if plan.held {
        return plan;
    }
    let present = context.present();
    effects(context).into_iter().fold(plan, |plan, effect| {
        let kept = if effect.hold_scale_in { present } else { None };
        if let Some(floor) = effect.floor.max(kept).filter(|floor| *floor > plan.units) {
            let text = format!("{}: at least {}", effect.why, units(floor));
            return plan.because(effect.code, floor, text);
        }
        if let Some(ceiling) = effect.ceiling.filter(|ceiling| *ceiling < plan.units) {
            let text = format!("{}: at most {}", effect.why, units(ceiling));
            return plan.because(effect.code, ceiling, text);
        }
        plan
    })
}
