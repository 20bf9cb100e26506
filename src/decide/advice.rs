//! What a decision says besides the number of units: what limits it, what else to change, how much to let in. Rule: all of it
//! follows from the record.

use prescale_domain::{Advice, Decision, DecisionKind};

use crate::emergency::is_on;
use crate::events::{effects, throttle};
use crate::feasibility::{binding_limit, optimization};
use crate::plan::Context;

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
    Advice { limited, optimization, throttle: throttle(&effects(&context)), planned: decision.memory.rules.planned }
}
