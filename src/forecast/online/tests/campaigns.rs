//! What the calendar is worth to what is served: the same load with the event feed and without.

use super::*;
use crate::measured::tell;

const UPLIFT: f64 = 2.5;
/// Windows of a campaign: half an hour.
const LENGTH: usize = 6;
const WINDOWS: usize = 3 * 288;

/// The first windows of the campaigns: one in about four hours, at other times each day.
fn begins() -> impl Iterator<Item = usize> + Clone {
    (1..WINDOWS / 50).map(|n| 50 * n + n * 7 % 13)
}

fn is_covered(window: usize) -> bool {
    begins().any(|begin| (begin..begin + LENGTH).contains(&window))
}

/// Announced two hours ahead.
fn announced(start: Timestamp) -> Vec<CalendarEvent> {
    let event = |begin: usize| {
        let start = start + Span::from_millis(STEP.millis() * begin as i64);
        CalendarEvent {
            id: begin.to_string(),
            kind: "campaign".into(),
            services: vec![],
            start,
            end: start + Span::from_millis(STEP.millis() * LENGTH as i64),
            expected_uplift: Some(UPLIFT),
            known_at: start - Span::from_minutes(120),
        }
    };
    begins().map(event).collect()
}

/// Mean error of the median on the windows of campaigns in the last day and a half, by the load; over all leads, and only
/// where the campaign had not begun when the forecast was made.
fn errors(with_feed: bool) -> [f64; 2] {
    let loads = loads(WINDOWS, |window| if is_covered(window) { UPLIFT } else { 1.0 });
    let mut world = World::new(settings());
    let events = if with_feed { announced(world.histories[&"a".into()].start) } else { Vec::new() };
    let (mut errors, mut sums) = ([0.0; 2], [0.0; 2]);
    for origin in 0..WINDOWS - 6 {
        for (name, forecast) in names().iter().zip(world.step(&loads, &events)) {
            let Some(forecast) = forecast.ok().filter(|_| origin >= WINDOWS / 2) else { continue };
            for (k, row) in forecast.values.iter().enumerate() {
                let target = origin + 1 + k;
                let Some(actual) = loads[name][target].filter(|_| is_covered(target)) else { continue };
                let ahead = !is_covered(origin);
                for place in [Some(0), ahead.then_some(1)].into_iter().flatten() {
                    errors[place] += (row[3] - actual).abs();
                    sums[place] += actual;
                }
            }
        }
    }
    [errors[0] / sums[0], errors[1] / sums[1]]
}

#[test]
fn a_campaign_that_is_known_ahead_halves_the_error_of_its_windows_in_what_is_served() {
    let (with, without) = (errors(true), errors(false));
    tell(format!(
        "error of a campaign's windows by the load, with the feed and without: {:.3} and {:.3}; of forecasts made before it began: {:.3} and {:.3}",
        with[0], without[0], with[1], without[1]
    ));
    assert!(with[0] < 0.5 * without[0] && with[1] < 0.5 * without[1], "{with:?} {without:?}");
}
