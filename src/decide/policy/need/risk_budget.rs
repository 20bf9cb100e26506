//! `risk-budget`: the smallest number of units whose probability of overload fits what is left of the violation budget.
//! Rule: the distributions of the forecast and of the lead time together, over the time that the decision determines.

use prescale_domain::ForecastInput;

use super::{Asked, ceiling};
use crate::plan::Context;
use crate::words::{number, units};

pub(super) fn asks(context: &Context, forecast: &ForecastInput) -> Asked {
    let Some(outlook) = context.outlook() else {
        // A record of before the planner, or of a forecast of one quantile.
        return ceiling::asks(context, forecast);
    };
    let capacity = context.inputs.settings.unit_capacity;
    let (allowed, why) = context.allowed_risk();
    let (allowed, need) = (*allowed, outlook.units_within(*allowed, capacity, MOST));
    let overload = |units: u32| 100.0 * outlook.overload(f64::from(units) * capacity);
    let less = match need.checked_sub(1) {
        Some(less) => format!(", with {} of {:.2} %", units(less), overload(less)),
        None => String::new(),
    };
    let text = format!(
        "{}: once capacity asked for now is effective the median is {}; with {} of {} each the probability of overload is \
         {:.2} %{less}; {:.2} % is allowed ({why})",
        forecast.model,
        number(outlook.mean(0.5)),
        units(need),
        context.per_unit(),
        overload(need),
        100.0 * allowed,
    );
    Ok((need, text))
}

/// Where the search ends; bounds follow.
const MOST: u32 = 1 << 24;
