//! A load above the forecast band puts a floor under the need. Rule: what is already seen outweighs what was expected.
//!
//! Declared: as soon as a higher forecast takes the load back inside its band, this floor falls away, so that a higher
//! forecast alone may give less than a lower one did. More load, or more load and forecast alike, never does.

use crate::plan::{Context, Plan};
use crate::words::{number, percent, units};

/// What a load may be expected to grow by, at most, while capacity is on its way.
const GROWTH_MAX: f64 = 2.0;

/// `above-band`: the load is expected to grow once more by the factor by which it left the band.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some((load, band)) = context.surprise().filter(|_| !plan.held) else {
        return plan;
    };
    let growth = if band > 0.0 { (load / band).min(GROWTH_MAX) } else { GROWTH_MAX };
    let utilization = context.reactive_utilization();
    let floor = context.units_for(load * growth, utilization);
    if floor <= plan.units {
        return plan;
    }
    let text = format!(
        "the last load of {} is above the forecast band, which ends at {}: should it grow by {} again, at {} utilization \
         it needs {}",
        number(load),
        number(band),
        percent(growth - 1.0),
        percent(utilization),
        units(floor),
    );
    Plan { need: Some(floor), ..plan.because("above-band", floor, text) }
}
