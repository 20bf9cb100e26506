//! The decision itself: every policy in its order, then what to remember. Rule: a pure function of the inputs.

use prescale_domain::{Decision, DecisionId, DecisionInputs, DecisionKind};

use crate::memory::remember;
use crate::plan::{Context, Plan};
use crate::policy::{self, feasible, said};

/// Decides the capacity of one service at one moment. Total: any inputs give a decision with at least one reason.
///
/// Where the target could not be observed, `kind` is [`DecisionKind::None`] and `desired` is advice only: act on a
/// decision only if its kind asks for a change.
pub fn decide(inputs: &DecisionInputs) -> Decision {
    let context = Context::new(inputs);
    let start = Plan::keep(context.present().unwrap_or(inputs.settings.min_units));
    let plan = policy::CHAIN.iter().fold(start, |plan, policy| policy(&context, plan));
    let kind = match context.present() {
        Some(present) if plan.units > present => DecisionKind::ScaleUp,
        Some(present) if plan.units < present => DecisionKind::ScaleDown,
        Some(_) if !plan.held && said(&plan, feasible::OPTIMIZE) => DecisionKind::OptimizeResources,
        _ => DecisionKind::None,
    };
    Decision {
        id: DecisionId::new(inputs),
        service: inputs.service.clone(),
        at: inputs.at,
        kind,
        desired: plan.units,
        need: plan.need,
        memory: remember(&context, kind, &plan),
        reasons: plan.reasons,
        inputs: inputs.clone(),
    }
}
