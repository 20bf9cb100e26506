//! Another source of the load, while the stream is silent. Rule: what it tells only adds, and nothing goes before the stream
//! is back: what comes and goes with a source does not make capacity come and go.

use prescale_domain::{FallbackLoad, Timestamp};

use super::bounds;
use crate::plan::{Context, Plan};
use crate::words::{number, percent, units};

/// `fallback-need` where another source tells the load, `fallback-missing` where that is silent too: present capacity is held,
/// and no more is asked for than the source, at the reactive utilization, or a forecast that is still usable needs.
pub(super) fn apply(context: &Context, plan: Plan) -> Plan {
    let inputs = context.inputs;
    let capacity = inputs.settings.unit_capacity;
    let sound = capacity.is_finite() && capacity > 0.0;
    let Some(fallback) = silent(context).filter(|_| sound) else {
        return plan;
    };
    // What the stream said last is no load any more: of what it asked for, only what is expected counts.
    let expected = plan.need.filter(|_| super::said(&plan, "forecast-need"));
    let told = fallback.trusted(inputs.at).map(|load| (load, context.units_for(load, context.reactive_utilization())));
    let need = expected.max(told.map(|(_, needed)| needed));
    let present = context.present().unwrap_or(inputs.settings.min_units);
    let most = bounds::highest(context).min(present.saturating_add(inputs.settings.step_up_units));
    let kept = need.unwrap_or(0).min(most).max(present);
    let since = match inputs.load_window_end {
        Some(end) if context.load().is_some() => format!("the stream has told no load since {end}"),
        Some(end) => format!("the stream does not know the load of the window that ended at {end}"),
        None => "the stream has told no load yet".to_owned(),
    };
    let (code, text) = match told {
        Some((load, needed)) => {
            let text = format!(
                "{since}; {} tells {}, which at {} per unit and {} utilization needs {}: {}, and nothing goes before the \
                 stream is back",
                fallback.source,
                number(load),
                context.per_unit(),
                percent(context.reactive_utilization()),
                units(needed),
                units(kept),
            );
            ("fallback-need", text)
        }
        None => {
            let text = format!("{since}, and {} {}: {} held", fallback.source, lack(context, fallback), units(kept));
            ("fallback-missing", text)
        }
    };
    Plan { held: true, need, ..plan.because(code, kept, text) }
}

/// The other source, if the load of the stream is missing or too old.
fn silent<'a>(context: &Context<'a>) -> Option<&'a FallbackLoad> {
    let inputs = context.inputs;
    let fallback = inputs.circumstances.fallback.as_ref()?;
    let speaks = |end: Timestamp| context.load().is_some() && inputs.at.since(end) <= fallback.after;
    (!inputs.load_window_end.is_some_and(speaks)).then_some(fallback)
}

/// What is wrong with the other source, in words that follow its name.
fn lack(context: &Context, fallback: &FallbackLoad) -> String {
    match (fallback.at, fallback.missing.as_str()) {
        (None, "") => "has told nothing yet".to_owned(),
        (None, why) => format!("has told nothing yet ({why})"),
        (Some(at), "") => format!("has told nothing for {}", context.inputs.at.since(at)),
        (Some(at), why) => format!("has told nothing for {} ({why})", context.inputs.at.since(at)),
    }
}
