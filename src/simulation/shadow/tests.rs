//! Both sides against sums made by hand.

use serde_json::Value;

use super::*;

/// A midnight.
const START: Timestamp = Timestamp::from_millis(1_774_051_200_000);
const CHECKOUT: &str = "checkout";

fn at(minutes: i64) -> Timestamp {
    START + Span::from_minutes(minutes)
}

fn shadow() -> Shadow {
    let settings = ShadowSettings {
        min: 1,
        max: 50,
        price_usd_hour: Some(0.5),
        budget_pct: Some(30.0),
        observed_max_age: Span::from_minutes(10),
    };
    Shadow::new([(CHECKOUT.into(), settings)])
}

fn observed(minute: i64, desired: u32, ready: u32) -> ShadowEvent {
    ShadowEvent::Observed { at: at(minute), desired, ready: Some(ready) }
}

fn decided(minute: i64, desired: u32) -> ShadowEvent {
    let provisioning_latency = Span::from_minutes(2);
    ShadowEvent::Decided { at: at(minute), desired, unit_capacity: 10.0, provisioning_latency, warm_up: Span::ZERO }
}

fn closed(minute: i64, load: Option<f64>) -> ShadowEvent {
    ShadowEvent::Closed { start: at(minute), end: at(minute + 1), load }
}

fn tell(shadow: &mut Shadow, events: impl IntoIterator<Item = ShadowEvent>) {
    events.into_iter().for_each(|event| shadow.take(&CHECKOUT.into(), event));
}

/// Ten minutes: the load goes from 20 to 40 at minute 5. What runs follows two minutes late, Prescale is there.
fn ten_minutes() -> Vec<ShadowEvent> {
    let mut events = Vec::new();
    for minute in 0..10 {
        let ready = if minute < 7 { 2 } else { 4 };
        events.push(observed(minute, ready, ready));
        events.push(decided(minute, if minute < 3 { 2 } else { 4 }));
        events.push(closed(minute, Some(if minute < 5 { 20.0 } else { 40.0 })));
    }
    events
}

/// What is to be written down, and its size.
fn kept(shadow: &mut Shadow) -> (Vec<Kept>, usize) {
    let pieces = shadow.changes();
    let size = pieces.iter().filter_map(|piece| piece.value.as_ref()).map(String::len).sum();
    (pieces, size)
}

/// Six digits after the point, for a snapshot.
fn rounded(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, |number| ((number * 1e6).round() / 1e6).into()),
        Value::Array(values) => values.into_iter().map(rounded).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, rounded(value))).collect(),
        other => other,
    }
}

#[test]
fn both_sides_are_as_reckoned_by_hand() {
    let mut shadow = shadow();
    tell(&mut shadow, ten_minutes());
    let days = shadow.daily();
    assert_eq!(days.len(), 1);
    let report = &days[0];
    assert_eq!((report.day, report.complete), (Some(START), false));
    assert!((report.scored_hours - 1.0 / 6.0).abs() < 1e-12 && report.gap_hours == 0.0);
    let (actual, prescale) = (&report.systems[ACTUAL], &report.systems[PRESCALE]);
    // Two minutes of ten with 2 units for 40.
    assert!((actual.violations.time_pct - 20.0).abs() < 1e-9, "{actual:?}");
    assert!((actual.violations.requests_pct - 100.0 * 40.0 / 300.0).abs() < 1e-9);
    assert_eq!(prescale.violations.time_pct, 0.0);
    // 7 · 2 + 3 · 4 unit minutes against 3 · 2 + 7 · 4, pending units paid for.
    assert!((actual.unit_hours - 26.0 / 60.0).abs() < 1e-12);
    assert!((prescale.unit_hours - 34.0 / 60.0).abs() < 1e-12);
    assert!((actual.cost_usd.unwrap() - 13.0 / 60.0).abs() < 1e-12);
    assert_eq!((actual.actions, prescale.actions, actual.reversals), (1, 1, 0));
    // Half of the need is missing for a fifth of the time.
    assert!((actual.theta_under - 10.0).abs() < 1e-9 && (actual.tau_under - 20.0).abs() < 1e-9);
    assert_eq!((prescale.theta_over, prescale.tau_over), (0.0, 0.0));
    assert_eq!((actual.objective_kept, prescale.objective_kept), (Some(true), Some(true)));
    let saved = report.saved.unwrap();
    assert!((saved.short_minutes - 2.0).abs() < 1e-9 && (saved.cost_usd.unwrap() + 4.0 / 60.0).abs() < 1e-12);
    assert!((saved.missed - 2.0 * 60.0 * 20.0).abs() < 1e-6);
}

#[test]
fn the_day_reads_as_json_with_the_names_of_the_score_card() {
    let mut shadow = shadow();
    tell(&mut shadow, ten_minutes());
    insta::assert_json_snapshot!(rounded(serde_json::to_value(shadow.daily()).unwrap()));
}

#[test]
fn what_is_not_known_is_a_gap_on_both_sides() {
    let mut shadow = shadow();
    // No decision yet, then no load, then no news of what runs for longer than an observation holds.
    tell(
        &mut shadow,
        [observed(0, 2, 2), closed(0, Some(20.0)), decided(1, 3), closed(1, Some(20.0)), closed(2, None)],
    );
    tell(&mut shadow, (3..20).map(|minute| closed(minute, Some(20.0))));
    let report = shadow.daily().remove(0);
    // Minute 1, and 3 to 10 with its first tick at 10:00 sharp.
    assert!((report.scored_hours * 60.0 - 8.25).abs() < 1e-9, "{report:?}");
    assert!((report.gap_hours * 60.0 - 11.75).abs() < 1e-9);
    // A window that never came.
    tell(&mut shadow, [observed(22, 2, 2), closed(22, Some(20.0))]);
    let report = shadow.daily().remove(0);
    assert!((report.scored_hours * 60.0 - 9.25).abs() < 1e-9 && (report.gap_hours * 60.0 - 13.75).abs() < 1e-9);
}

#[test]
fn what_can_not_be_computed_is_absent() {
    let settings = |price_usd_hour| ShadowSettings {
        min: 0,
        max: 9,
        price_usd_hour,
        budget_pct: None,
        observed_max_age: Span::from_minutes(10),
    };
    let mut shadow = Shadow::new([(CHECKOUT.into(), settings(None))]);
    assert!(shadow.daily().is_empty() && shadow.totals()[0].systems.is_empty());
    tell(&mut shadow, ten_minutes());
    shadow.take(&"another".into(), closed(0, Some(1.0)));
    let report = shadow.totals().remove(0);
    assert_eq!((report.systems[ACTUAL].cost_usd, report.saved.unwrap().cost_usd), (None, None));
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["systems"]["actual"].get("cost_usd").is_none() && json["day"].is_null());
}

#[test]
fn days_are_apart_and_totals_outlive_them() {
    let mut shadow = shadow();
    let minutes_of_days = 1440 * 2 + 60;
    tell(
        &mut shadow,
        (0..minutes_of_days)
            .flat_map(|minute| [observed(minute, 3, 3), decided(minute, 2), closed(minute, Some(15.0))]),
    );
    let days = shadow.daily();
    let hours: Vec<f64> = days.iter().map(|day| day.scored_hours).collect();
    assert_eq!(hours, [24.0, 24.0, 1.0]);
    assert_eq!(days.iter().map(|day| day.complete).collect::<Vec<_>>(), [true, true, false]);
    let saved: f64 = days.iter().map(|day| day.saved.unwrap().cost_usd.unwrap()).sum();
    let total = shadow.totals().remove(0);
    assert!((saved - total.saved.unwrap().cost_usd.unwrap()).abs() < 1e-9 && saved > 0.0);
    // A long life does not grow.
    let size = kept(&mut shadow).1;
    let year = 1440 * 500;
    tell(
        &mut shadow,
        (1440..year / 60).flat_map(|hour| {
            let (start, end) = (at(hour * 60), at(hour * 60 + 60));
            [
                ShadowEvent::Observed { at: start, desired: 3, ready: None },
                ShadowEvent::Closed { start, end, load: Some(15.0) },
            ]
        }),
    );
    assert_eq!(shadow.daily().len(), DAYS_MAX);
    let (pieces, grown) = kept(&mut shadow);
    assert!(grown < size * DAYS_MAX, "{size} to {grown} bytes");
    // What has gone is said to have gone, once; the rest is told once too.
    assert_eq!(pieces.iter().filter(|piece| piece.value.is_some()).count(), DAYS_MAX + 1);
    assert_eq!(pieces.iter().filter(|piece| piece.value.is_none()).count(), 500 - DAYS_MAX);
    assert!(shadow.changes().is_empty());
}

#[test]
fn a_shadow_that_is_written_down_and_read_back_goes_on_the_same() {
    let (mut whole, mut parts) = (shadow(), shadow());
    let mut written = std::collections::BTreeMap::new();
    // Two days, with a night without news between them.
    let next_day = ten_minutes().into_iter().map(|event| match event {
        ShadowEvent::Decided { at, desired, unit_capacity, provisioning_latency, warm_up } => {
            ShadowEvent::Decided { at: at + DAY, desired, unit_capacity, provisioning_latency, warm_up }
        }
        ShadowEvent::Observed { at, desired, ready } => ShadowEvent::Observed { at: at + DAY, desired, ready },
        ShadowEvent::Closed { start, end, load } => ShadowEvent::Closed { start: start + DAY, end: end + DAY, load },
    });
    for event in ten_minutes().into_iter().chain(next_day) {
        tell(&mut whole, [event]);
        tell(&mut parts, [event]);
        for piece in parts.changes() {
            written.insert((piece.service.clone(), piece.day), piece);
        }
        parts = shadow();
        parts.restore(&written.values().cloned().collect::<Vec<_>>()).unwrap();
        assert_eq!((whole.daily(), whole.totals()), (parts.daily(), parts.totals()));
    }
    assert_eq!(whole.daily().len(), 2);
    // A service that is no longer shadowed is left out; what is not readable is said.
    let mut another = Shadow::new([]);
    another.restore(&written.values().cloned().collect::<Vec<_>>()).unwrap();
    assert!(another.daily().is_empty());
    let broken = Kept { service: CHECKOUT.into(), day: None, value: Some("{".to_owned()) };
    assert!(shadow().restore(&[broken]).is_err());
}

#[test]
fn days_are_found_from_the_newest_on() {
    let mut shadow = shadow();
    tell(&mut shadow, ten_minutes());
    let checkout = ServiceName::new(CHECKOUT);
    assert_eq!(shadow.day_before(None, Timestamp::MAX), Some(START));
    assert_eq!(shadow.day_before(Some(&checkout), START), None);
    assert_eq!(shadow.day_before(Some(&"another".into()), Timestamp::MAX), None);
    assert_eq!(shadow.of_day(START), shadow.daily());
}

#[test]
fn news_in_another_order_before_their_window_changes_nothing() {
    let (mut sorted, mut shuffled) = (shadow(), shadow());
    let news: Vec<_> = ten_minutes().into_iter().filter(|event| !matches!(event, ShadowEvent::Closed { .. })).collect();
    let windows: Vec<_> =
        ten_minutes().into_iter().filter(|event| matches!(event, ShadowEvent::Closed { .. })).collect();
    tell(&mut sorted, ten_minutes());
    // Observations first, then decisions, each kind from the newest to the oldest.
    let is_observed = |event: &&ShadowEvent| matches!(event, ShadowEvent::Observed { .. });
    tell(&mut shuffled, news.iter().filter(is_observed).rev().copied());
    tell(&mut shuffled, news.iter().filter(|event| !is_observed(event)).rev().copied());
    tell(&mut shuffled, windows);
    assert_eq!(sorted.daily(), shuffled.daily());
}

#[test]
fn windows_that_make_no_sense_and_a_flood_of_news_are_survived() {
    let mut shadow = shadow();
    let beyond = ShadowEvent::Closed { start: at(0), end: Timestamp::MAX, load: Some(1.0) };
    let backwards = ShadowEvent::Closed { start: at(5), end: at(1), load: Some(1.0) };
    tell(&mut shadow, [beyond, backwards, closed(0, Some(f64::NAN))]);
    assert_eq!(shadow.totals()[0].scored_hours, 0.0);
    tell(&mut shadow, (0..20_000).map(|second| observed(second, 2, 2)));
    let head = shadow.changes().remove(0).value.unwrap();
    let head: Value = serde_json::from_str(&head).unwrap();
    assert_eq!(head["pending"].as_array().unwrap().len(), PENDING_MAX);
    // Late windows count once.
    tell(&mut shadow, [closed(20_000, Some(1.0)), closed(20_000, Some(1.0)), closed(19_990, Some(1.0))]);
    let days: f64 = shadow.daily().iter().map(|day| day.scored_hours + day.gap_hours).sum();
    assert!((days * 60.0 - 20_001.0).abs() < 1e-6, "{days}");
}
