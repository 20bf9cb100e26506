//! Reactions to notices, one by one and in any order.

use super::*;

fn notice(instance: &str, kind: SpotNoticeKind, second: i64) -> SpotNotice {
    let lost_at = (kind == SpotNoticeKind::Interruption).then(|| seconds(second + 120));
    SpotNotice { instance: instance.to_owned(), pool: None, kind, at: seconds(second), lost_at }
}

fn unit(id: &str) -> LiveUnit {
    LiveUnit { id: id.to_owned(), in_service: true, replaces: None }
}

fn input(second: i64, units: Vec<LiveUnit>, notices: Vec<SpotNotice>) -> NoticeInput {
    NoticeInput { at: seconds(second), notices, units, desired: 2, min: 2, max: 2 }
}

fn replace(instance: &str) -> NoticeAction {
    NoticeAction::Replace { instance: instance.to_owned() }
}

fn pass(instance: &str, because: Passed) -> NoticeAction {
    NoticeAction::Pass { instance: instance.to_owned(), because }
}

#[test]
fn a_recommended_unit_goes_when_its_replacement_serves() {
    let mut notices = Notices::default();
    let units = vec![unit("a"), unit("b")];
    let told = vec![notice("a", SpotNoticeKind::Rebalance, 0)];
    assert_eq!(notices.step(&input(0, units.clone(), told.clone())), [replace("a")]);
    assert_eq!(notices.step(&input(15, units.clone(), told)), [pass("a", Passed::Duplicate)]);
    let starting = LiveUnit { id: "c".to_owned(), in_service: false, replaces: Some("a".to_owned()) };
    let with = |replacement: LiveUnit| [units.clone(), vec![replacement]].concat();
    let protect = NoticeAction::Protect { instance: "c".to_owned() };
    assert_eq!(notices.step(&input(30, with(starting.clone()), vec![])), [protect]);
    let serving = LiveUnit { in_service: true, ..starting };
    let drain = NoticeAction::Drain { instance: "a".to_owned(), by: None };
    assert_eq!(notices.step(&input(90, with(serving.clone()), vec![])), [drain]);
    let release = NoticeAction::Release { instance: "c".to_owned() };
    let left = vec![unit("b"), serving];
    assert_eq!(notices.step(&input(105, left.clone(), vec![])), [release, pass("a", Passed::Gone)]);
    assert_eq!(notices.step(&input(120, left, vec![])), []);
}

#[test]
fn a_unit_that_is_taken_is_drained_in_time_without_a_replacement_as_well() {
    let mut notices = Notices::default();
    let units = vec![unit("a"), unit("b")];
    let told = vec![notice("a", SpotNoticeKind::Interruption, 0)];
    assert_eq!(notices.step(&input(0, units.clone(), told)), [replace("a")]);
    assert_eq!(notices.step(&input(45, units.clone(), vec![])), []);
    let drain = NoticeAction::Drain { instance: "a".to_owned(), by: Some(seconds(120)) };
    assert_eq!(notices.step(&input(60, units, vec![])), [drain], "a minute before the loss");
}

#[test]
fn a_recommendation_that_turns_into_a_notice_keeps_its_replacement() {
    let mut notices = Notices::default();
    let units = vec![unit("a"), unit("b")];
    assert_eq!(notices.step(&input(0, units.clone(), vec![notice("a", SpotNoticeKind::Rebalance, 0)])), [replace("a")]);
    let sure = vec![notice("a", SpotNoticeKind::Interruption, 30)];
    assert_eq!(notices.step(&input(30, units, sure)), []);
}

#[test]
fn without_room_a_recommendation_waits_and_expires() {
    let settings = NoticeSettings { excess_max: 0, ..NoticeSettings::default() };
    let mut notices = Notices::new(settings);
    let units = vec![unit("a"), unit("b")];
    assert_eq!(notices.step(&input(0, units.clone(), vec![notice("a", SpotNoticeKind::Rebalance, 0)])), []);
    assert!(notices.is_noticed("a"));
    assert_eq!(notices.step(&input(1800, units, vec![])), [pass("a", Passed::FalseAlarm)]);
    assert!(!notices.is_noticed("a"));
}

#[test]
fn what_nobody_knows_and_what_is_not_taken_is_forgotten() {
    let mut notices = Notices::default();
    let units = vec![unit("a"), unit("b")];
    let told = vec![notice("x", SpotNoticeKind::Interruption, 0)];
    assert_eq!(notices.step(&input(0, units.clone(), told)), []);
    assert_eq!(notices.step(&input(600, units.clone(), vec![])), [pass("x", Passed::Unknown)]);
    assert_eq!(notices.step(&input(600, units.clone(), vec![notice("a", SpotNoticeKind::Interruption, 600)])).len(), 1);
    notices.step(&input(700, units.clone(), vec![]));
    assert_eq!(notices.step(&input(1020, units, vec![])), [pass("a", Passed::NotTaken)]);
}

#[test]
fn a_unit_that_is_not_wanted_any_more_is_not_replaced() {
    let mut notices = Notices::default();
    let units = vec![unit("a"), unit("b"), unit("c")];
    let drain = NoticeAction::Drain { instance: "a".to_owned(), by: None };
    assert_eq!(notices.step(&input(0, units, vec![notice("a", SpotNoticeKind::Rebalance, 0)])), [drain]);
}

/// A target that does what it is told: replacements serve after `latency`, drained units leave at once, and what was noticed
/// for sure is lost at its moment.
struct Played {
    replaced: std::collections::BTreeMap<String, u32>,
    drained_at: std::collections::BTreeMap<String, i64>,
    most: usize,
    /// Fewest that served, beside those that were going to be lost.
    least: usize,
    lost_in_service: usize,
}

const UNITS: usize = 8;
const EXCESS: u32 = 2;

fn play(script: &[(i64, SpotNotice)], latency: i64) -> Played {
    let mut notices = Notices::new(NoticeSettings { excess_max: EXCESS, ..NoticeSettings::default() });
    let mut units: Vec<(LiveUnit, i64)> = (0..UNITS).map(|number| (unit(&format!("u{number}")), 0)).collect();
    let (mut played, mut count) = (
        Played {
            replaced: Default::default(),
            drained_at: Default::default(),
            most: 0,
            least: UNITS,
            lost_in_service: 0,
        },
        0,
    );
    for second in (0..3000).step_by(5) {
        let lost = |id: &str| {
            let of = |notice: &SpotNotice| (notice.instance == id).then_some(notice.lost_at).flatten();
            script.iter().filter(|(from, _)| *from <= second).filter_map(|(_, notice)| of(notice)).min()
        };
        let gone = |id: &str| lost(id).is_some_and(|lost| lost <= seconds(second));
        let before = units.len();
        units.retain(|(unit, _)| !gone(&unit.id));
        played.lost_in_service += before - units.len();
        for (unit, ready) in &mut units {
            unit.in_service = *ready <= second;
        }
        let told = script.iter().filter(|(from, _)| *from == second).map(|(_, notice)| notice.clone()).collect();
        let seen = units.iter().map(|(unit, _)| unit.clone()).collect();
        let (desired, min, max) = (UNITS as u32, UNITS as u32, UNITS as u32);
        let step = NoticeInput { at: seconds(second), notices: told, units: seen, desired, min, max };
        for action in notices.step(&step) {
            match action {
                NoticeAction::Replace { instance } => {
                    *played.replaced.entry(instance.clone()).or_default() += 1;
                    count += 1;
                    let replacement = LiveUnit { id: format!("r{count}"), in_service: false, replaces: Some(instance) };
                    units.push((replacement, second + latency));
                }
                NoticeAction::Drain { instance, .. } => {
                    units.retain(|(unit, _)| unit.id != instance);
                    played.drained_at.insert(instance, second);
                }
                _ => {}
            }
        }
        played.most = played.most.max(units.len());
        let doomed = (0..UNITS).filter(|number| lost(&format!("u{number}")).is_some()).count();
        let serving = units.iter().filter(|(unit, _)| unit.in_service).count();
        played.least = played.least.min(serving + doomed);
    }
    played
}

fn scripts() -> impl Strategy<Value = Vec<(i64, SpotNotice)>> {
    // At most so many units that there is room for all replacements in the end.
    let each = (0usize..UNITS, any::<bool>(), 0i64..120);
    prop::collection::vec(each, 0..16).prop_map(|all| {
        let of = |(number, sure, turn): (usize, bool, i64)| {
            let kind = if sure { SpotNoticeKind::Interruption } else { SpotNoticeKind::Rebalance };
            (turn * 5, notice(&format!("u{number}"), kind, turn * 5))
        };
        all.into_iter().map(of).collect()
    })
}

proptest! {
    #[test]
    fn each_unit_is_replaced_once_and_drained_before_it_is_lost(script in scripts(), latency in 0i64..300) {
        let played = play(&script, latency);
        prop_assert!(played.replaced.values().all(|times| *times == 1), "{:?}", played.replaced);
        prop_assert_eq!(played.lost_in_service, 0, "drained in time");
        prop_assert!(played.most <= UNITS + EXCESS as usize, "{} units", played.most);
        prop_assert!(played.least >= UNITS, "only what is lost anyway may be missing: {}", played.least);
        let noticed: std::collections::BTreeSet<&str> = script.iter().map(|(_, n)| n.instance.as_str()).collect();
        prop_assert!(played.replaced.keys().all(|instance| noticed.contains(instance.as_str())));
    }

    #[test]
    fn duplicates_and_their_order_change_nothing(
        script in scripts(), again in prop::collection::vec(any::<prop::sample::Index>(), 0..8), turned: bool,
    ) {
        let once = play(&script, 60);
        let mut twice = script.clone();
        for index in again {
            if !script.is_empty() {
                twice.push(script[index.index(script.len())].clone());
            }
        }
        if turned {
            twice.reverse();
        }
        let other = play(&twice, 60);
        prop_assert_eq!(once.replaced, other.replaced);
        prop_assert_eq!(once.drained_at, other.drained_at);
    }
}
