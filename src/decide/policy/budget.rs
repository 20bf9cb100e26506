//! What the service may cost. Rule: a budget caps emergencies as well; the service's minimum is above it.

use crate::budget::{BudgetOf, affordable};
use crate::plan::{Context, Plan};
use crate::words::units;

/// `budget-hour`, `budget-month`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let inputs = context.inputs;
    let budget = inputs.circumstances.budget.as_ref();
    let Some((of, most)) = budget.and_then(|budget| affordable(budget, inputs.settings.min_units, inputs.at)) else {
        return plan;
    };
    // What is held stays.
    let most = if plan.held { most.max(context.present().unwrap_or(plan.units)) } else { most };
    if most >= plan.units {
        return plan;
    }
    let (code, name) = match of {
        BudgetOf::Hour => ("budget-hour", "the budget of an hour"),
        BudgetOf::Month => ("budget-month", "what is left of the month's budget"),
    };
    let text = format!("{name} pays for {}, not for {}", units(most), plan.units);
    plan.because(code, most, text)
}
