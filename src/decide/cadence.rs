//! Which loops are due. Rule: a clock that went back makes a loop due at once rather than never.

use prescale_domain::{CadenceSettings, Due, LastTurns, Span, Timestamp};

/// What is due at `now`. A loop that never turned is due. The fast loop is due whenever a slower one is, so that no plan
/// overlooks an emergency.
pub fn due(now: Timestamp, last: &LastTurns, settings: &CadenceSettings) -> Due {
    let is_due = |last: Option<Timestamp>, every: Span| last.is_none_or(|last| last > now || now.since(last) >= every);
    let normal = is_due(last.normal, settings.normal);
    let slow = is_due(last.slow, settings.slow);
    Due { fast: normal || slow || is_due(last.fast, settings.fast), normal, slow }
}

/// The last turns after those of `due` were made at `now`.
pub fn turned(last: &LastTurns, due: Due, now: Timestamp) -> LastTurns {
    let turn = |due: bool, last: Option<Timestamp>| if due { Some(now) } else { last };
    LastTurns {
        fast: turn(due.fast, last.fast),
        normal: turn(due.normal, last.normal),
        slow: turn(due.slow, last.slow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_ten_minutes_of_quarter_minute_ticks_each_loop_turns_as_often_as_it_should() {
        let settings = CadenceSettings::default();
        let (mut last, mut turns) = (LastTurns::default(), (0, 0, 0));
        for tick in 0..40 {
            let now = Timestamp::from_millis(1_790_000_000_000 + tick * 15_000);
            let due = due(now, &last, &settings);
            turns.0 += u32::from(due.fast);
            turns.1 += u32::from(due.normal);
            turns.2 += u32::from(due.slow);
            last = turned(&last, due, now);
        }
        assert_eq!(turns, (40, 10, 2));
    }

    #[test]
    fn a_loop_is_due_at_its_time_and_not_a_millisecond_before_and_after_a_clock_went_back() {
        let settings = CadenceSettings::default();
        let start = Timestamp::from_millis(1_790_000_000_000);
        let last = turned(&LastTurns::default(), Due { fast: true, normal: true, slow: true }, start);
        let at = |millis: i64| due(start + Span::from_millis(millis), &last, &settings);
        assert_eq!(at(14_999), Due::default());
        assert_eq!(at(15_000), Due { fast: true, ..Due::default() });
        assert_eq!(at(60_000), Due { fast: true, normal: true, slow: false });
        assert_eq!(at(300_000), Due { fast: true, normal: true, slow: true });
        assert_eq!(at(-1), Due { fast: true, normal: true, slow: true });
    }
}
