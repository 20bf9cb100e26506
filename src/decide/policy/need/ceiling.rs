//! `ceiling`: the configured quantile of the forecast, rounded up to whole units. Rule: capacity counts over the whole
//! interval until the next decision can take effect, not at one point.

use prescale_domain::ForecastInput;

use super::{Asked, peak};
use crate::plan::Context;
use crate::words::{number, units};

pub(super) fn asks(context: &Context, forecast: &ForecastInput) -> Asked {
    let highest = peak(forecast, &forecast.upper);
    let need = context.units_for(highest, 1.0);
    let text = format!(
        "{}: the {} quantile peaks at {} within {} windows once capacity asked for now is effective; at {} per unit that \
         needs {}",
        forecast.model,
        forecast.quantile,
        number(highest),
        forecast.upper.len() - forecast.effective_index,
        context.per_unit(),
        units(need),
    );
    Ok((need, text))
}
