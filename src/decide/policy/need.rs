//! The need: from the forecast where it is usable, otherwise from the last load. Rule: capacity counts over the whole
//! interval until the next decision can take effect, not at one point.

use crate::plan::{Context, Plan};
use crate::words::{number, percent, units};

/// `forecast-need`, or the code of what is wrong with the forecast followed by `reactive-need`.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    if plan.held {
        return plan;
    }
    match context.forecast() {
        Ok(forecast) => {
            let window = &forecast.upper[forecast.effective_index..];
            let peak = window.iter().copied().fold(0.0, f64::max);
            let need = context.units_for(peak, 1.0);
            let text = format!(
                "{}: the {} quantile peaks at {} within {} windows once capacity asked for now is effective; at {} per \
                 unit that needs {}",
                forecast.model,
                forecast.quantile,
                number(peak),
                window.len(),
                context.per_unit(),
                units(need),
            );
            Plan { need: Some(need), ..plan.because("forecast-need", need, text) }
        }
        Err((code, why)) => {
            let present = plan.units;
            let load = context.load().unwrap_or(0.0);
            let utilization = context.reactive_utilization();
            let need = context.units_for(load, utilization);
            let text = format!(
                "the last load of {} at {} per unit and {} utilization needs {}",
                number(load),
                context.per_unit(),
                percent(utilization),
                units(need),
            );
            let plan = plan.because(code, present, format!("{why}: the reactive rule decides"));
            Plan { need: Some(need), ..plan.because("reactive-need", need, text) }
        }
    }
}
