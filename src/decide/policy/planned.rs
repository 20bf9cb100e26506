//! Predictive scale-down: announced ahead, carried out if it still holds. Rule: never below what the forecast needs then.

use prescale_domain::PlannedChange;

use super::cover;
use crate::plan::{Context, Plan};
use crate::words::{percent, units};

/// `scale-down-planned` when it is announced, `planned-scale-down` when it comes, `planned-cancelled` when it does not.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some(present) = context.present().filter(|_| !plan.held) else {
        return plan;
    };
    let at = context.inputs.at;
    match (context.inputs.memory.rules.planned, falling(context)) {
        (None, Some(lower)) if plan.units >= present && lower.units < present => {
            let (now, ahead) = (plan.units, lower.at.since(at));
            let text = format!("the load falls: {} will do in {ahead}, at {}", units(lower.units), lower.at);
            plan.because("scale-down-planned", now, text)
        }
        (Some(planned), Some(_)) if at < planned.at => plan,
        (Some(planned), _) if at < planned.at => cancelled(plan, planned, "the load is no longer expected to fall"),
        (Some(planned), _) => due(context, plan, planned),
        _ => plan,
    }
}

/// The scale-down that the outlook suggests.
pub(crate) fn falling(context: &Context) -> Option<PlannedChange> {
    let circumstances = &context.inputs.circumstances;
    let settings = circumstances.scale_in.as_ref()?;
    let fall = circumstances.outlook.and_then(|outlook| outlook.fall)?;
    let likely = fall.confidence > settings.fall_confidence && fall.load.is_finite() && fall.load >= 0.0;
    let units = context.units_for(fall.load, 1.0).max(context.inputs.settings.min_units);
    likely.then(|| PlannedChange { at: context.inputs.at + settings.fall_ahead, units })
}

/// What has come of it: the announced units, or more where the forecast needs more by now.
fn due(context: &Context, plan: Plan, planned: PlannedChange) -> Plan {
    let need = plan.need.filter(|_| context.forecast().is_ok());
    let Some(need) = need.filter(|need| *need <= planned.units) else {
        return cancelled(plan, planned, "more is needed");
    };
    let lowest = planned.units.max(need).max(cover::floor(context).unwrap_or(0));
    if lowest >= plan.units {
        return plan;
    }
    let settings = context.inputs.circumstances.scale_in.as_ref();
    let confidence = settings.map_or(String::new(), |settings| percent(settings.fall_confidence));
    let text = format!(
        "announced for {} because the load would fall with a confidence above {confidence}: {} instead of {}",
        planned.at,
        units(lowest),
        plan.units,
    );
    plan.because("planned-scale-down", lowest, text)
}

fn cancelled(plan: Plan, planned: PlannedChange, why: &str) -> Plan {
    let now = plan.units;
    let text = format!("{why}: the scale-down to {} that was announced for {} is off", planned.units, planned.at);
    plan.because("planned-cancelled", now, text)
}
