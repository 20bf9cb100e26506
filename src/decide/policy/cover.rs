//! What is removed is gone at once, while capacity asked for now comes later. Rule: scale in only to what the forecast
//! needs from now on, not only from the moment at which new capacity would be effective.

use crate::plan::{Context, Plan};
use crate::words::{number, units};

/// `cover-until-effective`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let (Some(present), Some(peak)) = (context.present(), peak(context)) else {
        return plan;
    };
    if plan.held || plan.units >= present {
        return plan;
    }
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

/// The units below which nothing may be removed now; `None` without a usable forecast.
pub(super) fn floor(context: &Context) -> Option<u32> {
    peak(context).map(|peak| context.units_for(peak, 1.0))
}

fn peak(context: &Context) -> Option<f64> {
    let forecast = context.forecast().ok()?;
    let until = &forecast.upper[..forecast.effective_index];
    Some(until.iter().copied().fold(0.0, f64::max))
}
