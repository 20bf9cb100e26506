//! What the decoder knows of a moment without looking at the load. Rule: pure; a cycle that training has not seen often
//! enough is left at zero, so that its weights can't have learnt chance.

use prescale_domain::{CALENDAR_WIDTH, Span, Timestamp, calendar_features};

use super::inputs::Scale;

/// Width of a row: time of day, of week, of hour (first and second harmonic each but the week's) and of month.
pub(super) const MOMENT_WIDTH: usize = CALENDAR_WIDTH + HOUR_WIDTH + MONTH_WIDTH;
const HOUR_WIDTH: usize = 4;
const MONTH_WIDTH: usize = 2;
/// The first features of [`calendar_features`] are of the day, the others of the week.
const DAILY: usize = 4;
const HOUR_MILLIS: i64 = 3_600_000;
const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;

/// Features of `count` windows from `first` on, one row each, before it is known which cycles count.
pub(super) fn moments(first: Timestamp, step: Span, count: usize) -> Vec<[f32; MOMENT_WIDTH]> {
    let row = |k: usize| {
        let moment = first + Span::from_millis(step.millis().saturating_mul(k as i64));
        let mut row = [0.0_f32; MOMENT_WIDTH];
        for (place, value) in row.iter_mut().zip(calendar_features(moment, Span::ZERO)) {
            *place = value as f32;
        }
        let hour = moment.millis().rem_euclid(HOUR_MILLIS) as f64 / HOUR_MILLIS as f64;
        let cycles = [hour, 2.0 * hour, month(moment)];
        for (pair, share) in row[CALENDAR_WIDTH..].chunks_exact_mut(2).zip(cycles) {
            let (sin, cos) = (std::f64::consts::TAU * share).sin_cos();
            (pair[0], pair[1]) = (sin as f32, cos as f32);
        }
        row
    };
    (0..count).map(row).collect()
}

/// The row as far as `scale` has seen its cycles; those within the hour need windows of a quarter at most.
pub(super) fn seen(row: &[f32; MOMENT_WIDTH], scale: &Scale, step: Span) -> [f32; MOMENT_WIDTH] {
    let hours = step.millis() <= HOUR_MILLIS / 4;
    let mut out = *row;
    for (index, value) in out.iter_mut().enumerate() {
        let kept = match index {
            0..DAILY => scale.days,
            DAILY..CALENDAR_WIDTH => scale.weeks,
            _ if index < CALENDAR_WIDTH + HOUR_WIDTH => hours,
            _ => scale.months,
        };
        if !kept {
            *value = 0.0;
        }
    }
    out
}

/// Share of the month that has gone, in UTC. The civil date is Hinnant's `civil_from_days`.
fn month(moment: Timestamp) -> f64 {
    let days = moment.millis().div_euclid(DAY_MILLIS) + 719_468;
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5;
    let length = match from_march {
        // February is the last month of this year; its odd days matter little.
        11 => 28,
        1 | 3 | 6 | 8 => 30,
        _ => 31,
    };
    let share = moment.millis().rem_euclid(DAY_MILLIS) as f64 / DAY_MILLIS as f64;
    ((day as f64 + share) / f64::from(length)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn at(moment: &str, expected: f64) {
        let found = month(moment.parse().unwrap());
        assert!((found - expected).abs() < 1e-9, "{moment}: {found}");
    }

    #[test]
    fn the_share_of_the_month_follows_the_civil_date() {
        at("2026-01-01T00:00:00Z", 0.0);
        at("2026-02-15T00:00:00Z", 0.5);
        at("2024-02-29T12:00:00Z", 1.0);
        at("2026-04-16T00:00:00Z", 0.5);
        at("1969-12-16T12:00:00Z", 0.5);
        at("2026-06-30T00:00:00Z", 29.0 / 30.0);
    }

    #[test]
    fn a_row_has_the_hour_and_hides_what_was_not_seen() {
        let step = Span::from_minutes(15);
        let rows = moments(Timestamp::from_millis(0), step, 3);
        let mut scale = Scale { alpha: 1.0, offset: 1.0, unit: 1.0, days: true, weeks: false, months: false };
        let row = seen(&rows[1], &scale, step);
        assert_eq!((row[7], row[8].abs() < 1e-6, row[10]), (1.0, true, -1.0));
        assert!(row[0] > 0.0 && row[4..7] == [0.0; 3] && row[11..] == [0.0; 2]);
        (scale.days, scale.weeks, scale.months) = (false, true, true);
        let row = seen(&rows[1], &scale, Span::from_minutes(30));
        assert!(row[..4] == [0.0; 4] && row[4] != 0.0 && row[7..11] == [0.0; 4] && row[12] > 0.99);
    }
}
