//! Calendar events that a model could not learn from. Rule: nothing before the event was known, and nothing outside the
//! windows that it covers, but for getting back from a load that already contains it.

use prescale_domain::{CalendarEvent, Span};

use crate::anomaly::is_incident;
use crate::models::event_at;
use crate::past::Request;
use crate::rows::Rows;

/// The present level of the load is that of this length before the origin.
const LEVEL: Span = Span::from_minutes(15);
/// No announcement multiplies a forecast by more, or by less than its inverse.
const UPLIFT_MAX: f64 = 20.0;

/// Multiplies the windows that unlearnt events cover by their expected uplift, relative to the uplift that the present
/// level contains already. Says whether anything changed.
pub(super) fn apply(rows: &mut Rows, request: &Request<'_>, learnt: &dyn Fn(&CalendarEvent) -> bool) -> bool {
    let unlearnt: Vec<CalendarEvent> =
        request.events.iter().filter(|event| counts(event) && !learnt(event)).cloned().collect();
    if unlearnt.is_empty() {
        return false;
    }
    let past = request.past;
    let uplift = |moment| {
        let expected = event_at(&unlearnt, request.service, moment, request.now).unwrap_or(1.0);
        if expected.is_finite() && expected > 0.0 { expected.clamp(1.0 / UPLIFT_MAX, UPLIFT_MAX) } else { 1.0 }
    };
    let count = past.values.len();
    let level_steps = past.steps(LEVEL).min(count).max(1);
    let contained =
        (count - level_steps.min(count)..count).map(|i| uplift(past.moment(i))).sum::<f64>() / level_steps as f64;
    let mut changed = false;
    for (k, row) in rows.iter_mut().enumerate() {
        let factor = uplift(past.moment(count + k)) / contained;
        if factor != 1.0 {
            row.iter_mut().for_each(|value| *value *= factor);
            changed = true;
        }
    }
    changed
}

/// An incident never lowers a forecast, whatever somebody expects of it.
fn counts(event: &CalendarEvent) -> bool {
    event.expected_uplift.is_some_and(|uplift| uplift > 1.0 || !is_incident(&event.kind))
}
