//! What is removed is gone at once, while capacity asked for now comes later. Rule: scale in only to what the forecast
//! needs from now on, not only from the moment at which new capacity would be effective.

use crate::plan::{Context, Plan};
use crate::words::{number, units};

/// `cover-until-effective`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let (Some(present), Ok(forecast)) = (context.present(), context.forecast()) else {
        return plan;
    };
    if plan.held || plan.units >= present {
        return plan;
    }
    let until = &forecast.upper[..forecast.effective_index];
    let peak = until.iter().copied().fold(0.0, f64::max);
    let floor = context.units_for(peak, 1.0).min(present);
    if floor <= plan.units {
        return plan;
    }
    let text = format!(
        "the forecast peaks at {} before capacity asked for later could replace what is removed now: {} kept instead of {}",
        number(peak),
        units(floor),
        plan.units,
    );
    plan.because("cover-until-effective", floor, text)
}
