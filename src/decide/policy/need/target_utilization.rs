//! `target-utilization`: the higher of what is there and what is most likely to come, at the utilization aimed at.

use prescale_domain::ForecastInput;

use super::{Asked, peak};
use crate::plan::Context;
use crate::words::{number, percent, units};

pub(super) fn asks(context: &Context, forecast: &ForecastInput) -> Asked {
    let target = context.inputs.settings.planning.target_utilization;
    let target = if target > 0.0 && target <= 1.0 { target } else { 1.0 };
    let (median, load) = (peak(forecast, &forecast.median), context.smoothed_load().unwrap_or(0.0));
    let highest = median.max(load);
    let need = context.units_for(highest, target);
    let text = format!(
        "{}: the median peaks at {}, the last load is {}; the higher at {} per unit and {} utilization needs {}",
        forecast.model,
        number(median),
        number(load),
        context.per_unit(),
        percent(target),
        units(need),
    );
    Ok((need, text))
}
