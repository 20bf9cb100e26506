//! What signals from around a service do to its capacity: one handler each. Rule: a handler is a pure function from signals
//! to an optional effect; a signal that nobody sent has none.

use prescale_domain::{EventSettings, Signals, Throttle, ThrottleLevel};

use crate::emergency::spike_magnitude;
use crate::plan::Context;
use crate::recent;
use crate::words::{number, percent};

/// What one event does, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effect {
    /// `load-spike`, `error-rate`, `api-limit`, `external-event`, `cost-threshold`
    pub code: &'static str,
    /// The first half of a sentence.
    pub why: String,
    pub floor: Option<u32>,
    pub ceiling: Option<u32>,
    /// Nothing is scaled in.
    pub hold_scale_in: bool,
    pub throttle: Option<Throttle>,
}

/// One handler.
type Handler = fn(&Context, &EventSettings, &Signals) -> Option<Effect>;

const HANDLERS: &[Handler] = &[load_spike, error_rate, external_event, api_limit, cost_threshold];

/// The effects of all events, floors before ceilings; none where events are not judged.
pub fn effects(context: &Context) -> Vec<Effect> {
    let circumstances = &context.inputs.circumstances;
    let Some(settings) = &circumstances.events else {
        return Vec::new();
    };
    HANDLERS.iter().filter_map(|handler| handler(context, settings, &circumstances.signals)).collect()
}

/// The strongest of the throttles.
pub(crate) fn throttle(effects: &[Effect]) -> Option<Throttle> {
    let all = effects.iter().filter_map(|effect| effect.throttle);
    all.reduce(|strongest, next| if next.admit < strongest.admit { next } else { strongest })
}

/// A load that jumps is served as the reactive rule would, and nothing is scaled in.
fn load_spike(context: &Context, settings: &EventSettings, _: &Signals) -> Option<Effect> {
    let load = context.load()?;
    let size = spike_magnitude(load, recent::level(context)?).filter(|size| *size >= settings.spike_magnitude)?;
    let floor = context.units_for(load, context.reactive_utilization());
    let why = format!("the load of {} is {} above its recent level", number(load), percent(size));
    Some(Effect { code: "load-spike", why, floor: Some(floor), hold_scale_in: true, ..Effect::default() })
}

/// Requests that fail fast look like little load: nothing is scaled in on their account.
fn error_rate(_: &Context, settings: &EventSettings, signals: &Signals) -> Option<Effect> {
    let rate = known(signals.error_rate)?;
    let usual = known(signals.usual_error_rate).unwrap_or(0.0);
    if rate < settings.error_rate_min || rate < usual * settings.error_rate_rise {
        return None;
    }
    let why = format!("{} of the requests fail, usually {}", percent(rate), percent(usual));
    Some(Effect { code: "error-rate", why, hold_scale_in: true, ..Effect::default() })
}

/// Something outside is said to raise the load: as much of it as is said, or nothing is scaled in.
fn external_event(context: &Context, _: &EventSettings, signals: &Signals) -> Option<Effect> {
    let strength = |uplift: Option<f64>| uplift.filter(|uplift| uplift.is_finite()).unwrap_or(0.0);
    let event = signals
        .external
        .iter()
        .reduce(|strongest, next| if strength(next.uplift) > strength(strongest.uplift) { next } else { strongest })?;
    let uplift = Some(strength(event.uplift)).filter(|uplift| *uplift > 1.0);
    let floor = uplift.and_then(|uplift| Some(context.units_for(context.load()? * uplift, 1.0)));
    let said =
        uplift.map_or("of unknown strength".to_owned(), |uplift| format!("to raise the load {}-fold", number(uplift)));
    let why = format!("{} `{}` is on, {said}", event.kind, event.id);
    Some(Effect { code: "external-event", why, floor, hold_scale_in: true, ..Effect::default() })
}

/// More units would meet the rate limit of the API that they call sooner: no more from the first threshold on, fewer from the
/// second.
fn api_limit(context: &Context, settings: &EventSettings, signals: &Signals) -> Option<Effect> {
    let usage = known(signals.api_usage).filter(|usage| *usage > settings.api_throttle)?;
    let present = context.present();
    let admit = (settings.api_throttle / usage).clamp(0.0, 1.0);
    let (level, ceiling) = if usage > settings.api_reduce {
        let fewer = present.map(|present| (f64::from(present) * admit).floor() as u32);
        (ThrottleLevel::Reduce, fewer.map(|fewer| fewer.max(1)).min(present))
    } else {
        (ThrottleLevel::Throttle, present)
    };
    let why =
        format!("{} of an API's rate limit are used: {} of the requests may go on", percent(usage), percent(admit));
    Some(Effect { code: "api-limit", why, ceiling, throttle: Some(Throttle { level, admit }), ..Effect::default() })
}

/// What costs too much does not grow.
fn cost_threshold(context: &Context, settings: &EventSettings, signals: &Signals) -> Option<Effect> {
    let limit = settings.cost_usd_hour?;
    let cost = known(signals.cost_usd_hour).filter(|cost| *cost > limit)?;
    let why = format!("it costs {} USD per hour, more than {}", number(cost), number(limit));
    Some(Effect { code: "cost-threshold", why, ceiling: context.present(), ..Effect::default() })
}

fn known(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}
