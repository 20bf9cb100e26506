//! What no split, no learner and no reaction to notices may break.

use prescale_domain::{
    Binding, Commitment, Kinship, PoolBelief, PoolId, PoolOffer, RejectedBecause, Returning, Span, SplitUnit,
    SpotEvent, SpotHappening, SpotInputs, SpotNotice, SpotNoticeKind, SpotPlan, SpotPreference, SpotSettings,
    SpotSplit, SpotWish, Timestamp,
};
use proptest::prelude::*;

use super::*;

mod keep;
mod notices;
mod plan;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_millis(minutes * 60_000)
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn event(minute: i64, pool: &PoolId, what: SpotHappening) -> SpotEvent {
    SpotEvent { at: at(minute), pool: pool.clone(), what }
}

fn taught(events: &[(i64, SpotHappening)]) -> (SpotKnowledge, PoolId) {
    let (mut knowledge, pool) = (SpotKnowledge::default(), PoolId::new("m", "a"));
    for (minute, what) in events {
        learn(&mut knowledge, &event(*minute, &pool, *what));
    }
    (knowledge, pool)
}

#[test]
fn a_rate_is_what_was_lost_in_what_ran() {
    // 10 units for 100 hours, 50 of them lost, one by one.
    let mut events = vec![(0, SpotHappening::Running(10))];
    events.extend((1..=50).map(|turn| (turn * 120, SpotHappening::Lost(1))));
    let (mut knowledge, pool) = taught(&[]);
    knowledge.settings.memory = Span::from_minutes(60 * 100_000);
    for (minute, what) in &events {
        learn(&mut knowledge, &event(*minute, &pool, *what));
    }
    let belief = knowledge.belief(&pool, at(6000));
    let expected = (0.01 * 24.0 + 50.0) / (24.0 + 1000.0);
    assert!((belief.loss_per_hour / expected - 1.0).abs() < 1e-3, "{} and {expected}", belief.loss_per_hour);
    assert!(belief.burst_per_hour < 0.01, "a tenth of a pool is no burst: {}", belief.burst_per_hour);
}

#[test]
fn losses_together_are_one_burst() {
    let one_by_one = [SpotHappening::Lost(2), SpotHappening::Lost(2), SpotHappening::Lost(4)];
    let events = [(0, SpotHappening::Running(8)), (600, one_by_one[0]), (601, one_by_one[1]), (602, one_by_one[2])];
    let (knowledge, pool) = taught(&events);
    let (whole, other) = taught(&[(0, SpotHappening::Running(8)), (600, SpotHappening::Lost(8))]);
    let (parts, whole) = (knowledge.belief(&pool, at(660)), whole.belief(&other, at(660)));
    assert!((parts.burst_per_hour / whole.burst_per_hour - 1.0).abs() < 1e-2, "{parts:?} and {whole:?}");
    assert!((parts.burst_whole - whole.burst_whole).abs() < 1e-2 && parts.burst_whole > 0.6);
}

#[test]
fn pools_that_are_struck_together_are_kin() {
    let pools = [PoolId::new("m", "a"), PoolId::new("c", "a"), PoolId::new("m", "b")];
    let mut knowledge = SpotKnowledge::default();
    for hour in 0..40 {
        for pool in &pools {
            learn(&mut knowledge, &event(hour * 60, pool, SpotHappening::Running(4)));
        }
        // Zone a falls as a whole, zone b on its own.
        for pool in &pools[..2] {
            learn(&mut knowledge, &event(hour * 60 + 31, pool, SpotHappening::Lost(4)));
            learn(&mut knowledge, &event(hour * 60 + 31, pool, SpotHappening::Running(0)));
        }
        learn(&mut knowledge, &event(hour * 60 + 50, &pools[2], SpotHappening::Lost(4)));
    }
    let kinship = knowledge.kinship();
    assert!(kinship.zone > 0.9 && kinship.instance_type < 0.1, "{kinship:?}");
}

#[test]
fn a_pool_that_refused_is_left_alone_for_longer_each_time() {
    let refused = |turns: i64| {
        let mut events = vec![(0, SpotHappening::Running(3))];
        events.extend((1..=turns).map(|turn| (100 * turn, SpotHappening::Refused(1))));
        taught(&events)
    };
    for (turns, minutes) in [(1, 5), (2, 10), (3, 20), (9, 60)] {
        let (knowledge, pool) = refused(turns);
        let last = 100 * turns;
        assert_eq!(knowledge.belief(&pool, at(last + minutes - 1)).limit, Some(3), "{turns}");
        assert_eq!(knowledge.belief(&pool, at(last + minutes)).limit, None, "{turns}");
    }
    let (mut knowledge, pool) = refused(3);
    learn(&mut knowledge, &event(301, &pool, SpotHappening::Granted(1)));
    assert_eq!(knowledge.belief(&pool, at(301)).limit, None);
}

#[test]
fn a_pool_that_takes_units_away_gets_no_new_ones_for_a_while() {
    let (mut knowledge, pool) = taught(&[(0, SpotHappening::Running(8)), (100, SpotHappening::Lost(3))]);
    assert_eq!(knowledge.belief(&pool, at(100)).limit, Some(5));
    learn(&mut knowledge, &event(102, &pool, SpotHappening::Running(5)));
    assert_eq!(knowledge.belief(&pool, at(104)).limit, Some(5), "those three are gone now");
    assert_eq!(knowledge.belief(&pool, at(105)).limit, None);
}

#[test]
fn a_pool_that_has_held_out_is_safer_than_one_that_has_just_come_back() {
    let mut events = Vec::new();
    for day in 0..20 {
        // Struck ten minutes after each of five returns; after the sixth it lasts for the day.
        for turn in 0..5 {
            let minute = day * 1440 + turn * 30;
            events.push((minute, SpotHappening::Running(8)));
            events.extend([(minute + 10, SpotHappening::Lost(8)), (minute + 12, SpotHappening::Running(0))]);
        }
        events.push((day * 1440 + 150, SpotHappening::Running(8)));
        events.extend([(day * 1440 + 1430, SpotHappening::Lost(8)), (day * 1440 + 1432, SpotHappening::Running(0))]);
    }
    events.push((20 * 1440, SpotHappening::Running(8)));
    let (knowledge, pool) = taught(&events);
    let factor = |age: i64| knowledge.belief(&pool, at(20 * 1440 + age)).age_factor;
    assert!(factor(5) > 5.0 && factor(120) < 0.5, "{} and {}", factor(5), factor(120));
    let gone = knowledge.belief(&PoolId::new("m", "b"), at(20 * 1440));
    assert!(gone.age_factor > 5.0, "what is learnt of age is learnt for all");
}

#[test]
fn a_price_level_follows_the_price() {
    let (knowledge, pool) = taught(&[(0, SpotHappening::Price(0.1)), (60, SpotHappening::Price(0.3))]);
    let level = |minute| knowledge.belief(&pool, at(minute)).price_level_usd_hour.unwrap();
    assert!((level(60) - 0.1).abs() < 1e-9);
    assert!((level(60 + 24 * 60) - (0.3 - 0.2 * (-1.0_f64).exp())).abs() < 1e-6);
    let (knowledge, pool) = taught(&[(0, SpotHappening::Price(f64::NAN))]);
    assert_eq!(knowledge.price_usd_hour(&pool), None);
}

fn happening() -> impl Strategy<Value = SpotHappening> {
    prop_oneof![
        (0u32..30).prop_map(SpotHappening::Running),
        (0u32..5).prop_map(SpotHappening::Lost),
        (0u32..5).prop_map(SpotHappening::Granted),
        (0u32..5).prop_map(SpotHappening::Refused),
        (-1.0f64..3.0).prop_map(SpotHappening::Price),
    ]
}

proptest! {
    #[test]
    fn beliefs_are_positive_and_finite_and_read_back(
        events in prop::collection::vec((0i64..100_000, happening()), 0..60),
        later in 0i64..1_000_000,
    ) {
        let (knowledge, pool) = taught(&events);
        let belief = knowledge.belief(&pool, at(later));
        for rate in [belief.loss_per_hour, belief.burst_per_hour] {
            prop_assert!(rate > 0.0 && rate.is_finite(), "{:?}", belief);
        }
        for share in [belief.burst_whole, belief.burst_share, belief.refusal] {
            prop_assert!((0.0..=1.0).contains(&share), "{:?}", belief);
        }
        let text = serde_json::to_string(&knowledge).unwrap();
        prop_assert_eq!(&serde_json::from_str::<SpotKnowledge>(&text).unwrap(), &knowledge);
    }

    #[test]
    fn one_more_interruption_never_lowers_a_rate(
        mut minutes in prop::collection::vec(0i64..5000, 0..40),
        extra in 0i64..5000,
        units in 1u32..40,
        later in 5000i64..20_000,
    ) {
        let rates = |minutes: &mut Vec<i64>| {
            minutes.sort_unstable();
            let mut events = vec![(0, SpotHappening::Running(units))];
            events.extend(minutes.iter().map(|minute| (*minute, SpotHappening::Lost(1))));
            let (knowledge, pool) = taught(&events);
            let belief = knowledge.belief(&pool, at(later));
            (belief.loss_per_hour, belief.burst_per_hour)
        };
        let before = rates(&mut minutes);
        minutes.push(extra);
        let after = rates(&mut minutes);
        // A burst may be counted up to five minutes earlier, and fade for that long.
        prop_assert!(after.0 > before.0 && after.1 >= before.1 * (1.0 - 1e-2), "{:?} then {:?}", before, after);
    }

    #[test]
    fn what_is_long_ago_is_forgotten_towards_the_prior(
        events in prop::collection::vec((0i64..5000, happening()), 0..60),
    ) {
        let (mut knowledge, pool) = taught(&events);
        // What still runs is evidence of its own.
        learn(&mut knowledge, &event(5000, &pool, SpotHappening::Running(0)));
        let prior = SpotKnowledge::default().belief(&pool, at(0));
        let distance = |days: i64| {
            let belief = knowledge.belief(&pool, at(5000 + days * 1440));
            (belief.loss_per_hour / prior.loss_per_hour).ln().abs()
        };
        prop_assert!(distance(60) < 1e-3, "{}", distance(60));
        prop_assert!(distance(20) <= distance(10) + 1e-9 && distance(10) <= distance(5) + 1e-9);
    }
}
