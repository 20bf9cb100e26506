//! A target that could not be observed is left alone. Rule: no change without knowing what it would change.

use crate::plan::{Context, Plan};
use crate::words::units;

/// `hold-target-unknown`: the units are what would be asked for, as advice.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    if context.present().is_some() {
        return plan;
    }
    let wish = plan.units;
    let text = format!("the target could not be observed: nothing is changed, {} would be asked for", units(wish));
    Plan { held: true, ..plan.because("hold-target-unknown", wish, text) }
}
