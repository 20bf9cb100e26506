//! The circuit breaker, and retries before it opens. Rule: opened by failures it stops every change, by turning to and fro
//! only scale-in, which is enough to end that; the scale-out of an emergency passes either.

use prescale_domain::{BreakerCause, BreakerMemory, BreakerState, Timestamp};

use crate::breaker::{breaker, retry_at};
use crate::emergency::passing;
use crate::plan::{Context, Plan};
use crate::words::units;

/// `breaker-open`, `breaker-trying` while a try is under way, `retry-later` after a failure.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let (Some(memory), Some(present)) = (stepped(context), context.present()) else {
        return plan;
    };
    let stays = passing(context, &plan).unwrap_or(present);
    if stays == plan.units {
        return plan;
    }
    let Some((code, why)) = blocks(context, &memory, plan.units > present) else {
        return plan;
    };
    let text = format!("{why}: {} kept, not {}", units(stays), plan.units);
    Plan { held: true, ..plan.because(code, stays, text) }
}

/// The breaker at the moment of the decision; `None` where there is none.
pub(crate) fn stepped(context: &Context) -> Option<BreakerMemory> {
    let inputs = context.inputs;
    let circumstances = &inputs.circumstances;
    let settings = circumstances.breaker.as_ref()?;
    Some(breaker(&inputs.memory.rules.breaker, settings, circumstances.actuation.as_ref(), inputs.at))
}

fn blocks(context: &Context, memory: &BreakerMemory, more: bool) -> Option<(&'static str, String)> {
    let settings = context.inputs.circumstances.breaker.as_ref()?;
    let since = |moment: Option<Timestamp>| moment.map_or(String::new(), |moment| format!(" since {moment}"));
    match (memory.state, memory.cause) {
        (BreakerState::Open | BreakerState::HalfOpen, Some(BreakerCause::Reversals)) if more => None,
        (BreakerState::Open, Some(BreakerCause::Reversals)) => {
            let why = format!("the circuit breaker is open{} after turning to and fro", since(memory.since));
            Some(("breaker-open", why))
        }
        (BreakerState::Open, _) => {
            let failures = memory.failures;
            let why = format!("the circuit breaker is open{} after {failures} failed actuations", since(memory.since));
            Some(("breaker-open", why))
        }
        (BreakerState::HalfOpen, Some(BreakerCause::Failures)) if memory.tried_at.is_some() => {
            Some(("breaker-trying", format!("a try is under way{}", since(memory.tried_at))))
        }
        (BreakerState::HalfOpen, _) => None,
        (BreakerState::Closed, _) => {
            let retry = retry_at(memory, settings).filter(|retry| context.inputs.at < *retry)?;
            Some(("retry-later", format!("the last actuation failed, the next try is at {retry}")))
        }
    }
}
