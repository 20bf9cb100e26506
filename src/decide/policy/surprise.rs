//! A load above the forecast band puts a floor under the need. Rule: what is already seen outweighs what was expected.
//!
//! Declared: as soon as a higher forecast takes the load back inside its band, this floor falls away, so that a higher
//! forecast alone may give less than a lower one did. More load, or more load and forecast alike, never does.

use crate::plan::{Context, Plan};
use crate::words::{number, percent, units};

/// How often the load is expected to grow again by the factor by which it left the band, while capacity is on its way: a
/// small excess, which noise makes, costs next to nothing, a steep rise is met at its likely height.
const GROWTHS: i32 = 2;
/// The most that is expected on top of what was seen.
const GROWTH_MAX: f64 = 2.5;

/// `above-band`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let Some((load, band)) = context.surprise().filter(|_| !plan.held) else {
        return plan;
    };
    let excess = if band > 0.0 { load / band } else { GROWTH_MAX };
    let growth = excess.powi(GROWTHS).min(GROWTH_MAX);
    let floor = context.units_for(load * growth, 1.0);
    if floor <= plan.units {
        return plan;
    }
    let text = format!(
        "the last load of {} is above the forecast band, which ends at {}: should it grow by another {}, it needs {}",
        number(load),
        number(band),
        percent(growth - 1.0),
        units(floor),
    );
    Plan { need: Some(floor), ..plan.because("above-band", floor, text) }
}
