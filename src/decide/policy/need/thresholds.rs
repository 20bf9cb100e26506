//! `thresholds`: no change while utilization lies between two thresholds. Rule: utilization is of the capacity that is
//! wanted at present, by the higher of the load and, where forecasts are heeded, of what is most likely to come.

use prescale_domain::{ForecastInput, ScheduleAction};

use super::peak;
use crate::plan::Context;
use crate::words::{number, percent, units};

/// The need and the words for it; without a forecast by the load alone.
pub(super) fn need(context: &Context, forecast: Option<&ForecastInput>) -> (u32, String) {
    let planning = &context.inputs.settings.planning;
    let (up, down) = (planning.scale_up_at.clamp(0.01, 1.0), planning.scale_down_at.clamp(0.0, 1.0));
    let load = context.smoothed_load().unwrap_or(0.0);
    let coming = forecast.map_or(load, |forecast| peak(forecast, &forecast.median).max(load));
    let present = own(context);
    let there = f64::from(present) * context.inputs.settings.unit_capacity;
    let utilization = if there > 0.0 { coming / there } else { f64::from(u8::from(coming > 0.0)) };
    let at_most = context.units_for(coming, up);
    let (need, what) = if utilization > up {
        (at_most.max(present), format!("above {}", percent(up)))
    } else if utilization < down {
        (at_most.min(present), format!("below {}", percent(down)))
    } else {
        (present, format!("between {} and {}", percent(down), percent(up)))
    };
    let text = format!(
        "{} at {} per unit uses {} of {}, {what}: {}",
        number(coming),
        context.per_unit(),
        percent(utilization),
        units(present),
        units(need),
    );
    (need, text)
}

/// The units that the rule answers for: those that are wanted at present. While a schedule adds to the need or takes from it,
/// the last need: where the rule asks for what is there, it would be added again and again.
fn own(context: &Context) -> u32 {
    let inputs = context.inputs;
    let is_delta = |action: &ScheduleAction| matches!(action, ScheduleAction::Delta(_));
    let by_schedule = inputs.circumstances.scheduled.iter().any(|scheduled| is_delta(&scheduled.action));
    let last = inputs.memory.needs.last().filter(|(at, _)| inputs.at.since(*at) <= inputs.settings.blind_after);
    let last = last.map(|(_, need)| *need).filter(|_| by_schedule);
    last.or(context.present()).unwrap_or(inputs.settings.min_units)
}
