//! The level that a spike of the load rises above. Rule: the loads before the last one, the older the less, as decisions have
//! seen them; a load that is seen twice counts once.

use prescale_domain::{RecentLoad, Span};

use crate::plan::Context;

/// A load that is so old weighs 1/e of the newest one.
const MEMORY: Span = Span::from_minutes(15);

/// The recent level of the load: as it is signalled, else as decisions remember it. What a usable forecast has expected rises
/// above nothing.
pub(crate) fn level(context: &Context) -> Option<f64> {
    let signalled = context.inputs.circumstances.signals.recent_load;
    let is_expected = || context.forecast().is_ok() && context.surprise().is_none();
    let remembered = || before(context).filter(|_| !is_expected());
    signalled.or_else(remembered)
}

/// What is remembered of it after this decision; nothing where nothing asks for it.
pub(crate) fn remembered(context: &Context) -> Option<RecentLoad> {
    let circumstances = &context.inputs.circumstances;
    let is_asked = circumstances.emergency.is_some() || circumstances.events.is_some();
    let known = context.inputs.memory.rules.recent.filter(|_| is_asked);
    let (Some(load), Some(until), true) = (context.load(), context.inputs.load_window_end, is_asked) else {
        return known;
    };
    // Of a window that is seen again the newest load counts.
    Some(RecentLoad { level: before(context).unwrap_or(load), load, until })
}

/// The level before the last window.
fn before(context: &Context) -> Option<f64> {
    let RecentLoad { level, load, until } = context.inputs.memory.rules.recent?;
    let passed = context.inputs.load_window_end?.since(until).seconds();
    let weight = 1.0 - (-passed.max(0.0) / MEMORY.seconds()).exp();
    Some(level + weight * (load - level)).filter(|level| level.is_finite() && *level >= 0.0)
}

#[cfg(test)]
mod tests {
    use prescale_domain::{DecisionInputs, EmergencySettings};

    use super::*;
    use crate::decide;
    use crate::tests::{NOW, check, inputs};

    /// Loads, minute by minute and without a forecast, each decided by with what was remembered of those before.
    fn after(loads: &[f64], present: u32) -> DecisionInputs {
        let mut case = inputs(0.0, present);
        (case.forecast, case.forecast_missing) = (None, "cold-start".to_owned());
        case.circumstances.emergency = Some(EmergencySettings::default());
        for (minute, load) in loads.iter().enumerate() {
            case.memory = if minute > 0 { decide(&case).memory } else { case.memory };
            let end = NOW + Span::from_minutes(minute as i64);
            (case.at, case.load, case.load_window_end) = (end, Some(*load), Some(end));
            case.target.as_mut().unwrap().observed_at = end;
        }
        case
    }

    #[test]
    fn a_load_that_jumps_above_those_before_it_is_an_emergency_and_one_that_climbs_there_is_none() {
        let is_emergency = |loads: &[f64]| crate::emergency(&Context::new(&after(loads, 20))).is_some();
        assert!(!is_emergency(&[100.0; 10]));
        assert!(is_emergency(&[&[100.0; 10][..], &[190.0]].concat()));
        assert!(!is_emergency(&[&[100.0; 10][..], &[170.0]].concat()));
        let climbing: Vec<f64> = (0..60).map(|minute| 100.0 + 3.0 * f64::from(minute)).collect();
        assert!((0..60).all(|minute| !is_emergency(&climbing[..=minute])));
        // A quarter of an hour later it is the level.
        assert!(!is_emergency(&[&[100.0; 10][..], &[190.0; 16]].concat()));
    }

    #[test]
    fn deciding_twice_on_one_window_leaves_the_level_and_a_forecast_that_knew_calms() {
        let mut case = after(&[&[100.0; 10][..], &[190.0]].concat(), 20);
        let first = decide(&case);
        case.memory = first.memory.clone();
        assert_eq!(first.memory.rules.recent, decide(&case).memory.rules.recent);
        assert!((first.memory.rules.recent.unwrap().level - 100.0).abs() < 1e-9);
        let mut expected = inputs(190.0, 20);
        expected.circumstances.emergency = Some(EmergencySettings::default());
        let end = expected.load_window_end.unwrap();
        let recent = RecentLoad { level: 50.0, load: 50.0, until: end - Span::from_minutes(1) };
        expected.memory.rules.recent = Some(recent);
        assert_eq!(level(&Context::new(&expected)), None);
        check(&expected, "forecast-need step-down", 16);
    }
}
