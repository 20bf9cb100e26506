//! `buffered`: what is most likely, and the same headroom on top whatever the forecast's width.

use prescale_domain::ForecastInput;

use super::{Asked, peak};
use crate::plan::Context;
use crate::words::{number, percent, units};

pub(super) fn asks(context: &Context, forecast: &ForecastInput) -> Asked {
    let headroom = context.inputs.settings.planning.headroom;
    let median = peak(forecast, &forecast.median);
    let need = context.units_for(median * (1.0 + headroom), 1.0);
    let text = format!(
        "{}: the median peaks at {}; with {} headroom and {} per unit that needs {}",
        forecast.model,
        number(median),
        percent(headroom),
        context.per_unit(),
        units(need),
    );
    Ok((need, text))
}
