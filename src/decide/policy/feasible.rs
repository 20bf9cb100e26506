//! What there is room for. Rule: a wish that does not fit becomes the largest that does; what runs is never taken away for it.

use crate::emergency::is_on;
use crate::feasibility::{binding_limit, optimization};
use crate::plan::{Context, Plan};
use crate::words::{number, units};

/// The reason of a decision that asks for other units instead of more of them.
pub(crate) const OPTIMIZE: &str = "optimize-resources";

/// `limited`, followed by `optimize-resources` where not one further unit fits.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(limits) = &context.inputs.circumstances.limits else {
        return plan;
    };
    let (wish, present) = (plan.units, context.present());
    let runs = present.unwrap_or(0);
    let limited = binding_limit(limits, is_on(context)).filter(|limited| wish > runs && wish > limited.units);
    let Some(limited) = limited else {
        return plan;
    };
    let fits = limited.units.max(runs);
    let text = format!(
        "{} of the {} is limited to {} {}, of which {} are left for this: {} instead of {wish}",
        limited.resource,
        limited.scope,
        number(limited.limit),
        limited.resource.unit(),
        number(limited.usable),
        units(fits),
    );
    let plan = plan.because("limited", fits, text);
    if fits > runs || present.is_none() {
        return plan;
    }
    let advice = optimization(limits, &limited, runs, wish);
    let unit = advice.resource.unit();
    let change = match (advice.from_per_unit, advice.to_per_unit) {
        (Some(from), Some(to)) if advice.gain_units > 0.0 => {
            format!("{} of a unit from {} to {} {unit}", advice.resource, number(from), number(to))
        }
        _ if advice.gain_units > 0.0 => format!("other {} of a unit", advice.resource),
        _ => "nothing but a higher limit".to_owned(),
    };
    let text = format!("no further unit fits: {change} would be worth {} more", number(advice.gain_units));
    plan.because(OPTIMIZE, fits, text)
}
