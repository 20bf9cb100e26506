//! `weighted-triggers`: several signals, each against its target for each unit, by weight. Rule: a signal that is not
//! measured leaves its say to the others; what is most likely to come, at the target utilization, is a floor.

use prescale_domain::ForecastInput;

use super::{Asked, peak};
use crate::plan::Context;
use crate::words::{number, units};

pub(super) fn asks(context: &Context, forecast: &ForecastInput) -> Asked {
    let inputs = context.inputs;
    let mut sum = 0.0;
    let mut weights = 0.0;
    let mut said = Vec::new();
    for trigger in &inputs.settings.planning.triggers {
        let value = inputs.signals.get(&trigger.signal).copied().filter(|value| value.is_finite() && *value >= 0.0);
        let (Some(value), true) = (value, trigger.target > 0.0 && trigger.weight > 0.0) else { continue };
        sum += trigger.weight * value / trigger.target;
        weights += trigger.weight;
        said.push(format!("{} {} of {}", trigger.signal, number(value), number(trigger.target)));
    }
    if weights <= 0.0 {
        return Err(("triggers-missing", "none of the triggers' signals is measured".to_owned()));
    }
    let ready = inputs.target.map_or(1, |target| target.ready.unwrap_or(target.desired)).max(1);
    // The cast saturates; bounds follow.
    let seen = (f64::from(ready) * sum / weights * (1.0 - 1e-12)).ceil() as u32;
    let target = inputs.settings.planning.target_utilization;
    let coming = context.units_for(peak(forecast, &forecast.median), if target > 0.0 { target.min(1.0) } else { 1.0 });
    let need = seen.max(coming);
    let text = format!(
        "{}: {:.2} times what {} should have, which needs {}; what is most likely to come needs {}",
        said.join(", "),
        sum / weights,
        units(ready),
        units(seen),
        units(coming),
    );
    Ok((need, text))
}
