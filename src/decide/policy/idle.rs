//! Nothing to do, and something soon: scale to zero, pre-warm, wake. Rule: the last units go only outside business hours,
//! when nothing is served, nothing waits and no rise is near.

use prescale_domain::{Likely, ScaleInSettings, Timestamp};

use super::bounds;
use crate::plan::{Context, Plan};
use crate::words::{number, percent, units};

/// `pre-warm`, `wake`, `scale-to-zero`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let inputs = context.inputs;
    let Some(settings) = &inputs.circumstances.scale_in else {
        return plan;
    };
    let (units_now, at) = (plan.units, inputs.at);
    if let Some(rise) = rise(context, settings).filter(|_| !plan.held) {
        let warm = settings.prewarm_units;
        if warm <= units_now {
            return plan;
        }
        let text = format!(
            "load rises at {}, within {}, with a confidence of {}: {} warm up for it",
            rise.at,
            settings.prewarm_ahead,
            percent(rise.confidence),
            units(warm),
        );
        return plan.because("pre-warm", warm, text);
    }
    let waiting = inputs.circumstances.signals.queue.filter(|queue| queue.is_finite() && *queue > 0.0);
    // While capacity is held, the bounds that follow lower nothing.
    let allowed = !plan.held || bounds::highest(context) > 0;
    if let Some(queue) = waiting.filter(|_| units_now == 0 && allowed) {
        let text = format!("{} wait and nothing runs: the first unit is started", number(queue));
        return plan.because("wake", 1, text);
    }
    let Some(since) = idle_since(context).filter(|_| !plan.held && units_now > 0) else {
        return plan;
    };
    let idle = at.since(since);
    if !settings.to_zero || inputs.circumstances.open != Some(false) || idle < settings.zero_after {
        return plan;
    }
    let text = format!("business is closed and nothing was served or waited for {idle}: no unit is kept");
    plan.because("scale-to-zero", 0, text)
}

/// Since when nothing is served and nothing waits, as far as both are known.
pub(crate) fn idle_since(context: &Context) -> Option<Timestamp> {
    let inputs = context.inputs;
    let signals = &inputs.circumstances.signals;
    let nothing = context.load() == Some(0.0) && signals.queue == Some(0.0) && signals.in_flight.unwrap_or(0.0) == 0.0;
    let since = inputs.memory.rules.idle_since.filter(|since| *since <= inputs.at);
    (nothing && inputs.circumstances.scale_in.is_some()).then(|| since.unwrap_or(inputs.at))
}

/// The rise that is near and likely enough to warm up for.
fn rise(context: &Context, settings: &ScaleInSettings) -> Option<Likely> {
    let rise = context.inputs.circumstances.outlook.and_then(|outlook| outlook.rise)?;
    let near = rise.at <= context.inputs.at + settings.prewarm_ahead;
    (near && rise.confidence > settings.prewarm_confidence).then_some(rise)
}
