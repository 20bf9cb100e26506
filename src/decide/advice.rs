//! What a decision says besides the number of units: what limits it, what else to change, how much to let in. Rule: all of it
//! follows from the record.

use prescale_domain::{Advice, Decision, DecisionKind, Throttle, ThrottleLevel};

use crate::emergency::is_on;
use crate::events::{effects, throttle};
use crate::feasibility::{binding_limit, optimization};
use crate::plan::Context;
use crate::words::{number, percent, units};

/// Whoever is granted units for less than this share of his load is to do without what he can.
const REDUCE_BELOW: f64 = 0.5;

/// The advice that goes with a decision.
pub fn advice(decision: &Decision) -> Advice {
    let context = Context::new(&decision.inputs);
    let limits = decision.inputs.circumstances.limits.as_ref();
    let place = decision.reasons.iter().position(|reason| reason.code == "limited");
    // An emergency had the reserve, too.
    let emergency = is_on(&context);
    let limited = limits.filter(|_| place.is_some()).and_then(|limits| binding_limit(limits, emergency));
    let present = context.present();
    let wish = place.and_then(|place| decision.reasons.get(place.checked_sub(1)?)).map(|reason| reason.units);
    let optimization = (decision.kind == DecisionKind::OptimizeResources)
        .then(|| Some(optimization(limits?, &limited?, present?, wish?)))
        .flatten();
    let throttle = throttled(decision).map(|(throttle, _)| throttle);
    Advice { limited, optimization, throttle, planned: decision.memory.rules.planned }
}

/// How much to let in where not all of it is served, and why: an API whose limit is near, or too few units granted to carry
/// the load. The stronger of both counts.
pub fn throttled(decision: &Decision) -> Option<(Throttle, String)> {
    let context = Context::new(&decision.inputs);
    let effects = effects(&context);
    let near = throttle(&effects).map(|throttle| {
        let why = effects.into_iter().find(|effect| effect.throttle == Some(throttle)).map(|effect| effect.why);
        (throttle, why.unwrap_or_default())
    });
    let all = [near, outweighed(&context, decision)];
    all.into_iter().flatten().reduce(|strongest, next| if next.0.admit < strongest.0.admit { next } else { strongest })
}

/// What is granted carries less than the present load.
fn outweighed(context: &Context, decision: &Decision) -> Option<(Throttle, String)> {
    let granted = decision.inputs.circumstances.limits.as_ref()?.granted.filter(|grant| grant.units < grant.wish)?;
    let (load, each) = (context.load()?, decision.inputs.settings.unit_capacity);
    let admit = f64::from(decision.desired) * each / load;
    if admit.is_nan() || admit >= 1.0 {
        return None;
    }
    let level = if admit < REDUCE_BELOW { ThrottleLevel::Reduce } else { ThrottleLevel::Throttle };
    let why = format!(
        "the fleet has not enough for all: {} of {} carry {} of the load of {}",
        units(decision.desired),
        granted.wish,
        percent(admit),
        number(load)
    );
    Some((Throttle { level, admit }, why))
}
