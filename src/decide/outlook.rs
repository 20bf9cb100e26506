//! What the forecast says beyond the window of one decision: whether load rises soon, whether it falls. Rule: a confidence
//! never exceeds what the forecast's outermost quantiles vouch for.

use prescale_domain::{Likely, Outlook, QuantileForecast, ScaleInSettings, Timestamp};

/// What decides which way the load goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlookSettings {
    /// Load beyond which it counts as risen: what the present units carry, one at least; a tenth of that where nothing is
    /// served.
    pub rise_above: f64,
    /// The quantile that decisions use.
    pub quantile: f64,
}

/// Looks at the windows between `at` and the reach of the pre-warm, and at the one that a predictive scale-down counts from.
/// `load` is the present one.
pub fn outlook(
    forecast: &QuantileForecast,
    at: Timestamp,
    load: Option<f64>,
    look: OutlookSettings,
    settings: &ScaleInSettings,
) -> Outlook {
    let windows = || {
        let starts = (1..).map(|index: i64| {
            forecast.origin + prescale_domain::Span::from_millis(forecast.step.millis().saturating_mul(index))
        });
        let ahead = starts.zip(&forecast.values);
        ahead.filter(|(start, values)| *start + forecast.step > at && values.len() == forecast.levels.len())
    };
    let near = windows().take_while(|(start, _)| *start <= at + settings.prewarm_ahead);
    let rise = near.map(|window| (window, above(&forecast.levels, window.1, look.rise_above)));
    // The first that is likely enough, otherwise the likeliest.
    let rise = rise.reduce(|best, next| {
        let enough = best.1 > settings.prewarm_confidence;
        if enough || next.1 <= best.1 { best } else { next }
    });
    let falls_at = at + settings.fall_ahead;
    let fall = load.and_then(|load| {
        let window = windows().find(|(start, _)| *start + forecast.step > falls_at)?;
        Some((window, below(&forecast.levels, window.1, load)))
    });
    let likely = |((start, values), confidence): ((Timestamp, &Vec<f64>), f64)| Likely {
        at: start,
        confidence,
        load: forecast.at(start, look.quantile).or(values.last().copied()).unwrap_or(0.0),
    };
    Outlook { rise: rise.map(likely), fall: fall.map(likely) }
}

/// How sure it is that a load with these quantiles is above `limit`.
fn above(levels: &[f64], values: &[f64], limit: f64) -> f64 {
    let Some(index) = values.iter().rposition(|value| *value <= limit) else {
        return levels.first().map_or(0.0, |lowest| 1.0 - lowest);
    };
    match (values.get(index + 1), levels.get(index + 1)) {
        (Some(value), Some(level)) => 1.0 - between((values[index], levels[index]), (*value, *level), limit),
        _ => 0.0,
    }
}

/// How sure it is that it is below `limit`.
fn below(levels: &[f64], values: &[f64], limit: f64) -> f64 {
    match values.iter().position(|value| *value >= limit) {
        None => levels.last().copied().unwrap_or(0.0),
        Some(0) => 0.0,
        Some(index) => between((values[index - 1], levels[index - 1]), (values[index], levels[index]), limit),
    }
}

/// The level of `limit` between two quantiles, each value and level.
fn between(low: (f64, f64), high: (f64, f64), limit: f64) -> f64 {
    let width = high.0 - low.0;
    let share = if width > 0.0 { ((limit - low.0) / width).clamp(0.0, 1.0) } else { 0.0 };
    low.1 + share * (high.1 - low.1)
}

#[cfg(test)]
mod tests {
    use prescale_domain::Span;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_790_000_040_000);
    const LOOK: OutlookSettings = OutlookSettings { rise_above: 50.0, quantile: 0.9 };

    /// Quantiles 0.05, 0.5 and 0.95 are 80 %, 100 % and 120 % of `loads`, a window of a minute each.
    fn forecast(loads: &[f64]) -> QuantileForecast {
        QuantileForecast {
            service: "checkout".into(),
            origin: START - Span::from_minutes(1),
            step: Span::from_minutes(1),
            model: "holt".to_owned(),
            reason: "champion".to_owned(),
            levels: vec![0.05, 0.5, 0.95],
            values: loads.iter().map(|load| vec![0.8 * load, *load, 1.2 * load]).collect(),
        }
    }

    fn seen(loads: &[f64], load: f64) -> Outlook {
        outlook(&forecast(loads), START, Some(load), LOOK, &ScaleInSettings::default())
    }

    #[test]
    fn a_rise_is_the_first_window_that_is_likely_enough() {
        let mut loads = vec![10.0; 30];
        loads[7] = 52.0;
        loads[9] = 80.0;
        let rise = seen(&loads, 10.0).rise.unwrap();
        // The eighth is likely above 50 by little more than a half only.
        assert_eq!((rise.at, rise.confidence), (START + Span::from_minutes(9), 0.95));
        loads[9] = 10.0;
        let rise = seen(&loads, 10.0).rise.unwrap();
        assert_eq!(rise.at, START + Span::from_minutes(7));
        assert!((0.5..0.8).contains(&rise.confidence), "{}", rise.confidence);
        loads[7] = 10.0;
        assert_eq!(seen(&loads, 10.0).rise.unwrap().confidence, 0.0);
        loads[20] = 500.0;
        assert_eq!(seen(&loads, 10.0).rise.unwrap().confidence, 0.0);
    }

    #[test]
    fn a_fall_is_judged_where_the_scale_down_would_count_from() {
        let mut loads = vec![100.0; 30];
        loads[15] = 40.0;
        let fall = seen(&loads, 100.0).fall.unwrap();
        assert_eq!((fall.at, fall.confidence), (START + Span::from_minutes(15), 0.95));
        assert!((fall.load - 40.0 * (1.0 + 0.2 * 0.4 / 0.45)).abs() < 1e-9);
        assert_eq!(seen(&[100.0; 30], 100.0).fall.unwrap().confidence, 0.5);
        assert_eq!(seen(&[100.0; 30], 80.0).fall.unwrap().confidence, 0.0);
        // The forecast does not reach that far.
        assert_eq!(seen(&[100.0; 10], 100.0).fall, None);
        let blind = outlook(&forecast(&[100.0; 30]), START, None, LOOK, &ScaleInSettings::default());
        assert_eq!(blind.fall, None);
    }
}
