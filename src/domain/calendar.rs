//! What is known of any moment without looking: the time of day, of week and of month. Rule: pure, UTC.

use crate::{Span, Timestamp};

/// Number of values that [`calendar_features`] returns.
pub const CALENDAR_WIDTH: usize = 7;

/// Sine and cosine of the time of day (first and second harmonic) and of week, and 1 on Saturday and Sunday. `offset`
/// is the local zone's distance from UTC.
pub fn calendar_features(moment: Timestamp, offset: Span) -> [f64; CALENDAR_WIDTH] {
    const DAY: i64 = 86_400_000;
    const WEEK: i64 = 7 * DAY;
    // 1970-01-01 was a Thursday: four days after Sunday, three after Monday.
    let local = moment.millis().saturating_add(offset.millis());
    let day = local.rem_euclid(DAY) as f64 / DAY as f64;
    let week_millis = local.saturating_add(3 * DAY).rem_euclid(WEEK);
    let week = week_millis as f64 / WEEK as f64;
    let turn = std::f64::consts::TAU;
    let weekend = f64::from(u8::from(week_millis >= 5 * DAY));
    [
        (turn * day).sin(),
        (turn * day).cos(),
        (2.0 * turn * day).sin(),
        (2.0 * turn * day).cos(),
        (turn * week).sin(),
        (turn * week).cos(),
        weekend,
    ]
}
