//! `confidence-aware`: the forecast decides only where it is sure enough. Rule: confidence is 1 less the half-width of the
//! middle four fifths of the forecast, as a share of its median.

use prescale_domain::ForecastInput;

use super::{Asked, ceiling};
use crate::plan::Context;
use crate::words::percent;

pub(super) fn asks(context: &Context, forecast: &ForecastInput) -> Asked {
    let wanted = context.inputs.settings.planning.confidence_min;
    let confidence = confidence(context);
    if confidence < wanted {
        let text = format!("the forecast is {} sure, less than {}", percent(confidence), percent(wanted));
        return Err(("forecast-unsure", text));
    }
    let (need, text) = ceiling::asks(context, forecast)?;
    Ok((need, format!("{text} ({} sure)", percent(confidence))))
}

/// In [0, 1]; without quantiles nothing is known of it, which is no confidence.
fn confidence(context: &Context) -> f64 {
    let Some(outlook) = context.outlook() else { return 0.0 };
    let median = outlook.mean(0.5);
    let half = outlook.width(0.1, 0.9) / 2.0;
    if median > 0.0 { (1.0 - half / median).clamp(0.0, 1.0) } else { f64::from(u8::from(half <= 0.0)) }
}
