//! A forecast begins after the window that is open. Rule: capacity that comes, or is removed, before that window is over is
//! measured against the load that it has.

use prescale_domain::Timestamp;

use crate::plan::{Context, Plan};
use crate::words::{number, units};

/// `open-window`
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let effective = context.inputs.at + context.inputs.lead_time.until_effective();
    let Some(floor) = needed(context, effective).filter(|floor| !plan.held && *floor > plan.units) else {
        return plan;
    };
    let text = format!(
        "the window that is open has a load of {} and is not over before capacity can come: {} instead of {}",
        number(context.load().unwrap_or(0.0)),
        units(floor),
        plan.units,
    );
    Plan { need: Some(floor), ..plan.because("open-window", floor, text) }
}

/// Units that the open window needs, where it lasts longer than until `moment`; `None` where it does not, or no load of it is
/// known.
pub(super) fn needed(context: &Context, moment: Timestamp) -> Option<u32> {
    let forecast = context.forecast().ok()?;
    let is_of_it = context.inputs.load_window_end? > forecast.from - forecast.step;
    let load = context.load().filter(|_| is_of_it && moment < forecast.from)?;
    Some(context.units_for(load, 1.0))
}

#[cfg(test)]
mod tests {
    use prescale_domain::{DecisionInputs, ForecastInput, Span};

    use super::*;
    use crate::policy::cover;
    use crate::tests::{NOW, forecast, inputs};

    /// A load of 480 at 50 a unit, in a window that is over in so many minutes; units come in four.
    fn case(present: u32, left: i64) -> DecisionInputs {
        let (step, from) = (Span::from_minutes(10), NOW + Span::from_minutes(left));
        let forecast = Some(ForecastInput { from, step, ..forecast(&[200.0; 6], 0) });
        DecisionInputs { forecast, ..inputs(480.0, present) }
    }

    #[test]
    fn an_open_window_is_covered_where_it_outlasts_the_lead_time_and_kept_where_it_does_not() {
        let after = |inputs: &DecisionInputs, policy: fn(&Context, Plan) -> Plan| {
            policy(&Context::new(inputs), Plan::keep(4)).units
        };
        let covered = [5, 4, 2, 0].map(|left| after(&case(8, left), apply));
        assert_eq!(covered, [10, 4, 4, 4]);
        // What is there stays, as far as it is needed.
        let kept = [(8, 5), (8, 2), (12, 2), (8, 0)].map(|(present, left)| after(&case(present, left), cover::apply));
        assert_eq!(kept, [8, 8, 10, 4]);
        // The load is that of the window before.
        let older = DecisionInputs { load_window_end: Some(NOW - Span::from_minutes(8)), ..case(8, 2) };
        let settings =
            prescale_domain::PolicySettings { blind_after: Span::from_minutes(20), ..older.settings.clone() };
        assert_eq!(after(&DecisionInputs { settings, ..older }, cover::apply), 4);
    }
}
