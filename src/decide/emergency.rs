//! When a load is an emergency. Rule: judged from what is seen, never from what is expected.

use prescale_domain::{Decision, DecisionKind, EmergencySettings, Span, Timestamp};

use crate::plan::{Context, Plan};
use crate::policy::bounds;
use crate::recent;
use crate::words::{number, percent};

/// The most that a rise counts: of more, or of something that rises from nothing, it is not known how steep it really is.
const MAGNITUDE_MAX: f64 = 10.0;
/// The most that a spike is expected to grow again while capacity is on its way.
const GROWTH_MAX: f64 = 1.0;

/// An emergency at the moment of a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Emergency {
    /// What makes it one, as the first half of a sentence.
    pub why: String,
    /// Units that are to be asked for now, at least.
    pub floor: u32,
}

/// How far `load` is above the recent `level`, relative to it: 0.8 = 80 % more, and 10 at most. `None` = it has not risen, or
/// one of the two is no load.
pub fn spike_magnitude(load: f64, level: f64) -> Option<f64> {
    let sound = load.is_finite() && level.is_finite() && level >= 0.0;
    let magnitude = if level > 0.0 { (load - level) / level } else { MAGNITUDE_MAX };
    (sound && load > level).then_some(magnitude.min(MAGNITUDE_MAX))
}

/// Load over the capacity of the units in service; `None` where none is, or the unit capacity is no capacity.
pub fn utilization(load: f64, units: u32, unit_capacity: f64) -> Option<f64> {
    let capacity = f64::from(units) * unit_capacity;
    (capacity.is_finite() && capacity > 0.0).then(|| load / capacity)
}

/// The emergency that the inputs show, if emergencies are judged at all and load and target are known.
pub fn emergency(context: &Context) -> Option<Emergency> {
    let inputs = context.inputs;
    let settings = inputs.circumstances.emergency.as_ref()?;
    let (load, target) = (context.load()?, inputs.target?);
    let unit_capacity = inputs.settings.unit_capacity;
    if !(unit_capacity.is_finite() && unit_capacity > 0.0) {
        return None;
    }
    let in_service = target.ready.unwrap_or(target.desired);
    let used = utilization(load, in_service, unit_capacity);
    let overloaded = used.map_or(load > 0.0, |used| used >= threshold(context, settings));
    let spike = recent::level(context)
        .and_then(|level| spike_magnitude(load, level))
        .filter(|size| *size > settings.spike_magnitude);
    if !overloaded && spike.is_none() {
        return None;
    }
    let why = match (spike, used) {
        (Some(size), _) => format!("the load of {} is {} above its recent level", number(load), percent(size)),
        (None, Some(used)) => {
            format!("the load of {} uses {in_service} in service to {}", number(load), percent(used))
        }
        (None, None) => format!("there is a load of {} and nothing in service", number(load)),
    };
    let growth = spike.unwrap_or(0.0).min(GROWTH_MAX);
    let aim = settings.aim_utilization;
    let aim = if aim > 0.0 && aim <= 1.0 { aim } else { 1.0 };
    let wanted = context.units_for(load * (1.0 + growth), aim);
    let most = target.desired.saturating_add(left_to_add(context, settings));
    Some(Emergency { why, floor: wanted.min(most) })
}

/// Whether a decision must not wait for the next turn of the normal loop: it adds units in an emergency, above the forecast
/// band, or by the reactive rule in place of a forecast.
pub fn urgent(decision: &Decision) -> bool {
    let context = Context::new(&decision.inputs);
    let is_blind = || decision.inputs.settings.planning.predictive && context.forecast().is_err();
    let is_pressed = || emergency(&context).is_some() || context.surprise().is_some() || is_blind();
    decision.kind == DecisionKind::ScaleUp && is_pressed()
}

/// The fewest units with which the present load would be no emergency; `None` where that is not judged, or not known.
pub(crate) fn calm_units(context: &Context) -> Option<u32> {
    let settings = context.inputs.circumstances.emergency.as_ref()?;
    let (load, limit) = (context.load()?, threshold(context, settings));
    let units = context.units_for(load, limit);
    let used = utilization(load, units, context.inputs.settings.unit_capacity);
    let calm = used.is_none_or(|used| used < limit);
    (limit > 0.0).then(|| if calm { units } else { units.saturating_add(1) })
}

/// Utilization from which on it is an emergency. What a usable forecast expected, the plan has capacity for: that is none
/// until it is really too much.
fn threshold(context: &Context, settings: &EmergencySettings) -> f64 {
    let expected = context.forecast().is_ok() && context.surprise().is_none();
    if expected { settings.utilization.max(1.0) } else { settings.utilization }
}

/// Units that may still be added in the present `within`.
fn left_to_add(context: &Context, settings: &EmergencySettings) -> u32 {
    let inputs = context.inputs;
    let added = inputs.memory.rules.emergency.iter().flat_map(|memory| &memory.added);
    let recent = added.filter(|(at, _)| is_within(*at, inputs.at, settings.within)).map(|(_, units)| *units);
    settings.units_max.saturating_sub(recent.fold(0, u32::saturating_add))
}

/// Whether `moment` is less than `within` before `now`.
pub(crate) fn is_within(moment: Timestamp, now: Timestamp, within: Span) -> bool {
    moment <= now && now.since(moment) < within
}

/// The units that an emergency which is over keeps, within the bounds, and until when; `None` once its time is over.
pub(crate) fn kept(context: &Context) -> Option<(u32, Timestamp)> {
    let inputs = context.inputs;
    let (memory, settings) = inputs.memory.rules.emergency.as_ref().zip(inputs.circumstances.emergency.as_ref())?;
    let over_at = memory.last + settings.scale_down_after;
    (inputs.at < over_at).then(|| (memory.units.min(bounds::highest(context)), over_at))
}

/// Whether there is an emergency, or one whose time is not over: the reserve is theirs. Of the state alone, so that more load
/// never has less room.
pub(crate) fn is_on(context: &Context) -> bool {
    emergency(context).is_some() || kept(context).is_some()
}

/// Of the units that the plan adds, how many an emergency asks for: those pass freezes and the circuit breaker. All of them
/// while it lasts, then what it keeps.
pub(crate) fn passing(context: &Context, plan: &Plan) -> Option<u32> {
    let present = context.present().filter(|present| plan.units > *present)?;
    let passing = match emergency(context) {
        Some(_) => plan.units,
        None => kept(context)?.0.min(plan.units),
    };
    (passing > present).then_some(passing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_the_relative_rise_over_the_recent_level() {
        assert_eq!(spike_magnitude(180.0, 100.0), Some(0.8));
        assert_eq!(spike_magnitude(100.0, 100.0), None);
        assert_eq!(spike_magnitude(90.0, 100.0), None);
        assert_eq!(spike_magnitude(5.0, 0.0), Some(10.0));
        assert_eq!(spike_magnitude(0.0, 0.0), None);
        assert_eq!(spike_magnitude(1e9, 1.0), Some(10.0));
        assert_eq!(spike_magnitude(f64::NAN, 1.0), None);
        assert_eq!(spike_magnitude(1.0, -1.0), None);
        assert_eq!(spike_magnitude(f64::INFINITY, 1.0), None);
    }

    #[test]
    fn what_adds_units_by_what_is_seen_does_not_wait_and_what_adds_them_by_what_is_expected_does() {
        let decided = |load: f64, forecast: bool, present: u32| {
            let mut inputs = crate::tests::inputs(load, present);
            inputs.circumstances.emergency = Some(EmergencySettings::default());
            inputs.forecast = inputs.forecast.filter(|_| forecast);
            crate::decide(&inputs)
        };
        let expected = decided(300.0, true, 8);
        assert_eq!((expected.kind, urgent(&expected)), (DecisionKind::ScaleUp, false));
        // Above the band; without a forecast, whether or not the reactive rule asks for more than the emergency does; and
        // what adds nothing.
        assert!(urgent(&decided(590.0, true, 12)));
        assert!(urgent(&decided(390.0, false, 8)));
        assert!(urgent(&decided(300.0, false, 8)));
        assert!(!urgent(&decided(300.0, false, 20)));
    }

    #[test]
    fn utilization_counts_what_is_in_service() {
        assert_eq!(utilization(450.0, 10, 50.0), Some(0.9));
        assert_eq!(utilization(450.0, 0, 50.0), None);
        assert_eq!(utilization(450.0, 10, f64::NAN), None);
    }
}
