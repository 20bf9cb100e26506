//! Time between changes. Rule: a load above the forecast band waits for no cooldown, nor does the reactive rule.

use prescale_domain::Timestamp;

use crate::plan::{Context, Plan};

/// `cooldown-up`, `cooldown-down`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|_| !plan.held) else {
        return plan;
    };
    let (inputs, memory) = (context.inputs, &context.inputs.memory);
    let since = |last: Option<Timestamp>| last.map(|last| inputs.at.since(last));
    if plan.units > present {
        let urgent = context.forecast().is_err() || context.surprise().is_some();
        let cooldown = inputs.settings.cooldown_up;
        if let Some(age) = since(memory.last_scale_up).filter(|age| *age < cooldown && !urgent) {
            let text =
                format!("the last scale-up was {age} ago, less than {cooldown}: {present} kept, not {}", plan.units);
            return plan.because("cooldown-up", present, text);
        }
    } else if plan.units < present {
        let cooldown = inputs.settings.cooldown_down;
        let last = memory.last_scale_up.max(memory.last_scale_down);
        if let Some(age) = since(last).filter(|age| *age < cooldown) {
            let text =
                format!("the last change was {age} ago, less than {cooldown}: {present} kept, not {}", plan.units);
            return plan.because("cooldown-down", present, text);
        }
    }
    plan
}
