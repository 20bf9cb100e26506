//! What is remembered of a decision for the next. Rule: bounded; a rule that is switched off forgets.

use prescale_domain::{DecisionKind, DecisionMemory, EmergencyMemory, PlannedChange, RulesMemory, Timestamp};

use crate::breaker::changed;
use crate::emergency::{emergency, is_within};
use crate::plan::{Context, Plan};
use crate::policy::{breaker, idle, jitter, planned, said};
use crate::recent;

/// The memory after `plan` was decided as a change of this kind.
pub(crate) fn remember(context: &Context, kind: DecisionKind, plan: &Plan) -> DecisionMemory {
    let inputs = context.inputs;
    let mut memory = DecisionMemory {
        last_scale_up: inputs.memory.last_scale_up,
        last_scale_down: inputs.memory.last_scale_down,
        needs: context.recent_needs(),
        risk: Some(context.risk_account()),
        prices: context.risk_prices().or(inputs.memory.prices.as_ref()).cloned(),
        smoothed_load: context.smoothed_load().or(inputs.memory.smoothed_load),
        rules: rules(context, kind, plan),
    };
    match kind {
        DecisionKind::ScaleUp => memory.last_scale_up = Some(inputs.at),
        DecisionKind::ScaleDown => memory.last_scale_down = Some(inputs.at),
        DecisionKind::OptimizeResources | DecisionKind::None => {}
    }
    memory.needs.extend(plan.need.map(|need| (inputs.at, need)));
    memory
}

fn rules(context: &Context, kind: DecisionKind, plan: &Plan) -> RulesMemory {
    let at = context.inputs.at;
    let breaker = breaker::stepped(context).map(|memory| match kind {
        DecisionKind::ScaleUp => changed(memory, at, true),
        DecisionKind::ScaleDown => changed(memory, at, false),
        DecisionKind::OptimizeResources | DecisionKind::None => memory,
    });
    RulesMemory {
        emergency: emergency_memory(context, plan),
        breaker: breaker.unwrap_or_default(),
        planned: planned_change(context, plan),
        idle_since: idle::idle_since(context),
        scale_in_since: said(plan, "jitter").then(|| jitter::since(context)),
        recent: recent::remembered(context),
    }
}

fn emergency_memory(context: &Context, plan: &Plan) -> Option<EmergencyMemory> {
    let inputs = context.inputs;
    let settings = inputs.circumstances.emergency.as_ref()?;
    let (at, before) = (inputs.at, inputs.memory.rules.emergency.clone());
    let before = before.filter(|memory| memory.last <= at);
    let asked = plan.reasons.iter().find(|reason| reason.code == "emergency").map(|reason| reason.units);
    let present = context.present()?;
    let Some(asked) = asked else {
        let goes_on = !plan.held && emergency(context).is_some();
        return before
            .filter(|memory| goes_on || is_within(memory.last, at, settings.scale_down_after))
            .map(|memory| EmergencyMemory { last: if goes_on { at } else { memory.last }, ..memory });
    };
    let new = EmergencyMemory { since: at, last: at, before: present, units: asked, added: Vec::new() };
    let mut memory = before.unwrap_or(new);
    (memory.last, memory.units) = (at, memory.units.max(asked));
    memory.added.retain(|(moment, _)| is_within(*moment, at, settings.within));
    let added = plan.units.saturating_sub(present);
    if added > 0 {
        memory.added.push((at, added));
    }
    Some(memory)
}

fn planned_change(context: &Context, plan: &Plan) -> Option<PlannedChange> {
    context.inputs.circumstances.scale_in.as_ref()?;
    if said(plan, "scale-down-planned") {
        return planned::falling(context);
    }
    let is_ahead = |moment: Timestamp| context.inputs.at < moment;
    context.inputs.memory.rules.planned.filter(|planned| is_ahead(planned.at) && !said(plan, "planned-cancelled"))
}
