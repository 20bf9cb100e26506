//! The decision itself: every policy in its order, then what to remember. Rule: a pure function of the inputs.

use prescale_domain::{Alternative, Decision, DecisionId, DecisionInputs, DecisionKind};

use crate::memory::remember;
use crate::plan::{Context, Plan};
use crate::policy::{self, feasible, said};

/// Decides the capacity of one service at one moment. Total: any inputs give a decision with at least one reason.
///
/// Where the target could not be observed, `kind` is [`DecisionKind::None`] and `desired` is advice only: act on a
/// decision only if its kind asks for a change.
pub fn decide(inputs: &DecisionInputs) -> Decision {
    decided(inputs.clone())
}

/// [`decide`] from inputs that are not needed otherwise: the decision takes them instead of a copy.
pub fn decided(inputs: DecisionInputs) -> Decision {
    let context = Context::new(&inputs);
    let start = Plan::keep(context.present().unwrap_or(inputs.settings.min_units));
    let plan = policy::CHAIN.iter().fold(start, |plan, policy| policy(&context, plan));
    let kind = match context.present() {
        Some(present) if plan.units > present => DecisionKind::ScaleUp,
        Some(present) if plan.units < present => DecisionKind::ScaleDown,
        Some(_) if !plan.held && said(&plan, feasible::OPTIMIZE) => DecisionKind::OptimizeResources,
        _ => DecisionKind::None,
    };
    let (alternatives, memory) = (alternatives(&context, &plan), remember(&context, kind, &plan));
    Decision {
        id: DecisionId::new(&inputs),
        service: inputs.service.clone(),
        at: inputs.at,
        kind,
        desired: plan.units,
        need: plan.need,
        binding: binding(&plan),
        alternatives,
        memory,
        reasons: plan.reasons,
        victims: Vec::new(),
        split: None,
        inputs,
    }
}

/// The reason that set the number: the first of those after which it did not change any more.
fn binding(plan: &Plan) -> String {
    let last = plan.reasons.iter().rev().take_while(|reason| reason.units == plan.units).last();
    last.map(|reason| reason.code.clone()).unwrap_or_default()
}

/// What the present capacity, the desired one and its neighbours would mean.
fn alternatives(context: &Context, plan: &Plan) -> Vec<Alternative> {
    let inputs = context.inputs;
    let capacity = inputs.settings.unit_capacity;
    let Some(outlook) = context.outlook() else { return Vec::new() };
    let around = [plan.units.saturating_sub(1), plan.units, plan.units.saturating_add(1)];
    let mut weighed: Vec<u32> = around.into_iter().chain(context.present()).chain(plan.need).collect();
    weighed.sort_unstable();
    weighed.dedup();
    let planning = &inputs.settings.planning;
    let alternative = |units: u32| {
        let there = f64::from(units) * capacity;
        let shortage = outlook.shortage(there);
        let prices = planning.price_usd_hour.zip(planning.missed_usd_hour);
        let cost_usd_hour = prices.map(|(price, missed)| price * f64::from(units) + missed * shortage);
        Alternative { units, overload: outlook.overload(there), shortage, cost_usd_hour }
    };
    weighed.into_iter().map(alternative).collect()
}
