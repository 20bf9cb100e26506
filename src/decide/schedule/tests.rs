//! Schedules by the clock: examples, priorities, both changes of the clocks, what is refused.

use prescale_domain::{
    Blocks, FreezeSettings, ScheduleAction, ScheduleSettings, ScheduledAction, ServiceName, Span, Timestamp,
};
use proptest::prelude::*;

use super::*;

fn service() -> ServiceName {
    "checkout".into()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(name: &str, when: &str, action: ScheduleAction) -> ScheduleSettings {
    let cron = when.contains('*');
    ScheduleSettings {
        name: name.to_owned(),
        services: Vec::new(),
        cron: cron.then(|| when.to_owned()),
        at: (!cron).then(|| when.to_owned()),
        time_zone: "UTC".to_owned(),
        priority: 0,
        duration: None,
        action,
    }
}

fn in_berlin(schedule: ScheduleSettings) -> ScheduleSettings {
    ScheduleSettings { time_zone: "Europe/Berlin".to_owned(), ..schedule }
}

fn table(schedules: &[ScheduleSettings]) -> Timetable {
    Timetable::try_new(schedules, &[]).unwrap()
}

/// Units that the winning schedule leads to where five are asked for.
#[track_caller]
fn leads_to(table: &Timetable, moment: &str, units: Option<u32>) {
    let active = table.active(&service(), at(moment));
    assert_eq!(winner(&active, 5, Some(5)).map(|(_, units)| units), units, "{moment}: {active:?}");
}

#[test]
fn the_shipped_examples_make_a_week() {
    // 23 November 2026 is a Monday.
    let hours = table(&ScheduleSettings::business_hours());
    leads_to(&hours, "2026-11-23T07:59:59Z", Some(4));
    leads_to(&hours, "2026-11-23T08:00:00Z", Some(8));
    leads_to(&hours, "2026-11-23T17:59:59Z", Some(8));
    leads_to(&hours, "2026-11-23T18:00:00Z", Some(4));
    leads_to(&hours, "2026-11-28T12:00:00Z", Some(4));
    let weekend = table(&ScheduleSettings::weekend());
    leads_to(&weekend, "2026-11-27T21:59:00Z", Some(6));
    leads_to(&weekend, "2026-11-27T22:00:00Z", Some(2));
    leads_to(&weekend, "2026-11-30T07:59:00Z", Some(2));
    leads_to(&weekend, "2026-11-30T08:00:00Z", Some(6));
    let maintenance = table(&ScheduleSettings::maintenance());
    leads_to(&maintenance, "2026-11-29T01:59:59Z", None);
    leads_to(&maintenance, "2026-11-29T02:00:00Z", Some(1));
    leads_to(&maintenance, "2026-11-29T03:59:59Z", Some(1));
    leads_to(&maintenance, "2026-11-29T04:00:00Z", None);
    // Together: the last to begin counts, and of two that begin together the larger.
    let schedules = [ScheduleSettings::business_hours(), ScheduleSettings::weekend(), ScheduleSettings::maintenance()];
    let all = table(&schedules.concat());
    for (moment, units) in [
        ("2026-11-26T12:00:00Z", 8),
        ("2026-11-26T20:00:00Z", 4),
        ("2026-11-27T20:00:00Z", 4),
        ("2026-11-28T12:00:00Z", 2),
        ("2026-11-29T03:00:00Z", 1),
        ("2026-11-29T12:00:00Z", 2),
        ("2026-11-30T09:00:00Z", 8),
        ("2026-11-30T19:00:00Z", 4),
    ] {
        leads_to(&all, moment, Some(units));
    }
}

#[test]
fn the_highest_priority_wins_and_among_equals_the_larger_capacity() {
    let action = |name: &str, priority: i32, action: ScheduleAction| ScheduledAction {
        name: name.to_owned(),
        priority,
        action,
        since: Timestamp::from_millis(0),
        until: None,
    };
    let won = |actions: &[ScheduledAction]| winner(actions, 5, Some(3)).map(|(a, units)| (a.name.clone(), units));
    let small = action("small", 1, ScheduleAction::ScaleTo(2));
    let large = action("large", 1, ScheduleAction::ScaleTo(9));
    let strong = action("strong", 2, ScheduleAction::Max(4));
    assert_eq!(won(&[]), None);
    assert_eq!(won(&[small.clone(), large.clone()]), Some(("large".to_owned(), 9)));
    assert_eq!(won(&[small, strong, large]), Some(("strong".to_owned(), 4)));
    // A delta counts from what is needed, so that it does not add to itself.
    assert_eq!(won(&[action("more", 0, ScheduleAction::Delta(4))]), Some(("more".to_owned(), 7)));
    assert_eq!(won(&[action("less", 0, ScheduleAction::Delta(-9))]), Some(("less".to_owned(), 0)));
    let delta = [action("more", 0, ScheduleAction::Delta(4))];
    assert_eq!(winner(&delta, 5, None).map(|(_, units)| units), Some(5));
    assert_eq!(won(&[action("least", 0, ScheduleAction::Min(6))]), Some(("least".to_owned(), 6)));
}

#[test]
fn a_time_that_the_clocks_skip_is_the_first_moment_after_the_gap() {
    // 29 March 2026 in Berlin: after 01:59 comes 03:00, which is 01:00 in UTC.
    let duration = Some(Span::from_minutes(30));
    for when in ["Mon-Sun 02:30", "30 2 * * *"] {
        let night = ScheduleSettings { duration, ..in_berlin(schedule("night", when, ScheduleAction::ScaleTo(1))) };
        let night = table(&[night]);
        leads_to(&night, "2026-03-29T00:59:59Z", None);
        leads_to(&night, "2026-03-29T01:00:00Z", Some(1));
        leads_to(&night, "2026-03-29T01:29:59Z", Some(1));
        leads_to(&night, "2026-03-29T01:30:00Z", None);
        let next = night.upcoming(&service(), at("2026-03-28T12:00:00Z"), Span::from_minutes(3 * 24 * 60), 9);
        let times: Vec<String> = next.iter().map(|next| next.at.to_string()).collect();
        assert_eq!(times, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"]);
    }
}

#[test]
fn a_time_that_the_clocks_show_twice_comes_once() {
    // 25 October 2026 in Berlin: 02:30 is at 00:30 and at 01:30 in UTC.
    let duration = Some(Span::from_minutes(30));
    for when in ["Mon-Sun 02:30", "30 2 * * *"] {
        let night = ScheduleSettings { duration, ..in_berlin(schedule("night", when, ScheduleAction::ScaleTo(1))) };
        let night = table(&[night]);
        leads_to(&night, "2026-10-25T00:29:59Z", None);
        leads_to(&night, "2026-10-25T00:30:00Z", Some(1));
        leads_to(&night, "2026-10-25T01:00:00Z", None);
        leads_to(&night, "2026-10-25T01:30:00Z", None);
        let next = night.upcoming(&service(), at("2026-10-24T12:00:00Z"), Span::from_minutes(2 * 24 * 60), 9);
        let times: Vec<String> = next.iter().map(|next| next.at.to_string()).collect();
        assert_eq!(times, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }
}

#[test]
fn business_hours_stay_at_eight_on_the_local_clock_on_both_sides_of_a_change() {
    let hours: Vec<ScheduleSettings> = ScheduleSettings::business_hours().into_iter().map(in_berlin).collect();
    let hours = table(&hours);
    for opens in ["2026-03-27T07:00:00Z", "2026-03-30T06:00:00Z", "2026-10-23T06:00:00Z", "2026-10-26T07:00:00Z"] {
        leads_to(&hours, opens, Some(8));
        leads_to(&hours, &(at(opens) - Span::from_millis(1)).to_string(), Some(4));
    }
    // A duration is time that passes, not what the clocks show.
    let long = ScheduleSettings {
        duration: Some(Span::from_minutes(120)),
        ..in_berlin(schedule("m", "Sun 01:30", ScheduleAction::ScaleTo(1)))
    };
    let long = table(&[long]);
    leads_to(&long, "2026-03-29T02:29:59Z", Some(1));
    leads_to(&long, "2026-03-29T02:30:00Z", None);
}

#[test]
fn upcoming_ones_are_listed_in_time_and_only_those_of_the_service() {
    let mut schedules = ScheduleSettings::business_hours();
    schedules.extend(ScheduleSettings::maintenance());
    let other = ScheduleSettings {
        services: vec!["search".into()],
        ..schedule("search-only", "0 * * * *", ScheduleAction::Min(3))
    };
    schedules.push(other);
    let table = table(&schedules);
    let next = table.upcoming(&service(), at("2026-11-27T12:00:00Z"), Span::from_minutes(4 * 24 * 60), 10);
    let told: Vec<String> = next.iter().map(|next| format!("{} {}", next.at, next.action.name)).collect();
    let expected = [
        "2026-11-27T18:00:00Z business-hours-close",
        "2026-11-29T02:00:00Z maintenance",
        "2026-11-30T08:00:00Z business-hours-open",
        "2026-11-30T18:00:00Z business-hours-close",
        "2026-12-01T08:00:00Z business-hours-open",
    ];
    assert_eq!(told, expected);
    assert_eq!(table.upcoming(&service(), at("2026-11-27T12:00:00Z"), Span::from_minutes(4 * 24 * 60), 2).len(), 2);
    assert_eq!(table.active(&"search".into(), at("2026-11-27T12:00:00Z")).len(), 2);
}

#[test]
fn a_change_freeze_is_in_force_once_or_again_and_again() {
    let once = FreezeSettings {
        name: "black-friday".to_owned(),
        services: Vec::new(),
        from: Some(at("2026-11-27T00:00:00Z")),
        to: Some(at("2026-11-28T00:00:00Z")),
        cron: None,
        at: None,
        duration: None,
        time_zone: "UTC".to_owned(),
        blocks: Blocks::ScaleIn,
    };
    let again = FreezeSettings {
        name: "release".to_owned(),
        from: None,
        to: None,
        at: Some("Fri 12:00".to_owned()),
        duration: Some(Span::from_minutes(60)),
        blocks: Blocks::Changes,
        ..once.clone()
    };
    let table = Timetable::try_new(&[], &[once, again]).unwrap();
    let in_force = |moment: &str| table.freeze(&service(), at(moment)).map(|f| format!("{} {}", f.name, f.until));
    assert_eq!(in_force("2026-11-26T23:59:59Z"), None);
    assert_eq!(in_force("2026-11-27T00:00:00Z").as_deref(), Some("black-friday 2026-11-28T00:00:00Z"));
    assert_eq!(in_force("2026-11-27T12:30:00Z").as_deref(), Some("release 2026-11-27T13:00:00Z"));
    assert_eq!(in_force("2026-11-28T00:00:00Z"), None);
    assert_eq!(in_force("2026-12-04T12:59:59Z").as_deref(), Some("release 2026-12-04T13:00:00Z"));
}

#[test]
fn what_is_wrong_is_told_in_sentences_all_at_once() {
    let good = schedule("good", "Mon-Fri 08:00", ScheduleAction::ScaleTo(1));
    let schedules = [
        good.clone(),
        good.clone(),
        ScheduleSettings { name: " ".to_owned(), ..good.clone() },
        ScheduleSettings { name: "neither".to_owned(), at: None, ..good.clone() },
        ScheduleSettings { name: "both".to_owned(), cron: Some("0 8 * * *".to_owned()), ..good.clone() },
        ScheduleSettings { name: "at".to_owned(), at: Some("Monday 8:00".to_owned()), ..good.clone() },
        schedule("hour", "0 25 * * *", ScheduleAction::ScaleTo(1)),
        schedule("seconds", "0 0 8 * * *", ScheduleAction::ScaleTo(1)),
        schedule("never", "0 0 30 2 *", ScheduleAction::ScaleTo(1)),
        ScheduleSettings { name: "zone".to_owned(), time_zone: "Mars/Olympus".to_owned(), ..good.clone() },
        ScheduleSettings { name: "short".to_owned(), duration: Some(Span::ZERO), ..good.clone() },
    ];
    let freeze: FreezeSettings = serde_json::from_str(r#"{"name": "f", "at": "Fri 12:00"}"#).unwrap();
    let empty: FreezeSettings = serde_json::from_str(r#"{"name": "g"}"#).unwrap();
    let faults = Timetable::try_new(&schedules, &[freeze, empty]).unwrap_err();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("faults", told.join("\n"));
}

#[test]
fn settings_are_read_as_they_are_written_and_nothing_unknown_passes() {
    let text = r#"{"name": "night", "at": "Mon-Sun 22:00", "duration": "8h", "action": {"scale_to": 2}}"#;
    let read: ScheduleSettings = serde_json::from_str(text).unwrap();
    assert_eq!(read.action, ScheduleAction::ScaleTo(2));
    assert_eq!((read.time_zone.as_str(), read.priority), ("UTC", 0));
    for wrong in [
        r#"{"name": "night", "at": "Mon-Sun 22:00"}"#,
        r#"{"name": "night", "at": "Mon-Sun 22:00", "action": {"scale_to": 2}, "prio": 1}"#,
        r#"{"name": "night", "at": "Mon-Sun 22:00", "action": {"scale": 2}}"#,
    ] {
        assert!(serde_json::from_str::<ScheduleSettings>(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn what_is_active_has_begun_and_is_not_over(
        minute in 0i64..600_000, day in 0usize..7, hour in 0u32..24, duration in prop::option::of(1i64..600),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ) {
        let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let settings = ScheduleSettings {
            duration: duration.map(Span::from_minutes),
            time_zone: zone.to_owned(),
            ..schedule("any", &format!("{} {hour:02}:30", days[day]), ScheduleAction::Min(2))
        };
        let table = table(&[settings]);
        let now = at("2026-01-01T00:00:00Z") + Span::from_minutes(minute);
        let active = table.active(&service(), now);
        prop_assert!(duration.is_some() || active.len() == 1);
        for action in active {
            prop_assert!(action.since <= now && now.since(action.since) <= Span::from_minutes(8 * 24 * 60));
            prop_assert!(action.until.is_none_or(|until| now < until));
            // It is listed as coming one moment before.
            let before = action.since - Span::from_secs(1);
            let next = table.upcoming(&service(), before, Span::from_secs(1), 1);
            prop_assert_eq!(next.first().map(|next| next.at), Some(action.since));
        }
    }

    #[test]
    fn a_timetable_that_was_asked_before_answers_like_a_new_one(
        minutes in prop::collection::vec(0i64..600_000, 1..6), again in 0usize..3,
    ) {
        let settings = [
            schedule("morning", "Mon-Fri 08:00", ScheduleAction::Min(2)),
            schedule("sunday", "Sun 02:30", ScheduleAction::Min(3)),
        ]
        .map(|settings| ScheduleSettings { time_zone: "Europe/Berlin".to_owned(), ..settings });
        let asked = table(&settings);
        for minute in minutes {
            let now = at("2026-01-01T00:00:00Z") + Span::from_minutes(minute);
            for _ in 0..=again {
                prop_assert_eq!(asked.active(&service(), now), table(&settings).active(&service(), now));
            }
        }
    }

    #[test]
    fn no_text_makes_reading_a_schedule_panic(text in ".{0,24}", at in any::<bool>()) {
        let good = schedule("any", "* * * * *", ScheduleAction::Min(1));
        let settings = if at {
            ScheduleSettings { at: Some(text), cron: None, ..good }
        } else {
            ScheduleSettings { cron: Some(text), at: None, ..good }
        };
        if let Ok(table) = Timetable::try_new(&[settings], &[]) {
            table.active(&service(), Timestamp::MAX);
            table.active(&service(), Timestamp::MIN);
        }
    }
}
