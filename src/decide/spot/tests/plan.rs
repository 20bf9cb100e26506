//! Splits of a wish.

use super::*;

/// As before anything was seen, of an age that makes no difference.
fn calm() -> PoolBelief {
    PoolBelief { age_factor: 1.0, ..SpotKnowledge::default().belief(&PoolId::new("m", "a"), at(0)) }
}

fn offers(types: u32, zones: u32) -> Vec<PoolOffer> {
    let pools = (0..types).flat_map(|kind| (0..zones).map(move |zone| (kind, zone)));
    let offer = |(kind, zone): (u32, u32)| PoolOffer {
        pool: PoolId::new(&format!("m{kind}.large"), &format!("us-east-1{zone}")),
        weight: 1,
        on_demand_usd_hour: 0.1 + 0.001 * f64::from(kind),
        spot_usd_hour: None,
        running: 0,
        belief: calm(),
    };
    pools.map(offer).collect()
}

fn inputs(units: u32, pools: Vec<PoolOffer>) -> SpotInputs {
    let mut inputs = SpotInputs::new(at(0), units, pools, Span::from_secs(240));
    inputs.settings.risk = 0.001;
    inputs
}

/// The same with the plan carried out.
fn carried_out(inputs: &SpotInputs, plan: &SpotPlan, minutes: i64) -> SpotInputs {
    let mut next = inputs.clone();
    next.at = inputs.at + Span::from_minutes(minutes);
    next.on_demand_running = plan.on_demand;
    next.memory = plan.memory;
    for offer in &mut next.pools {
        let share = plan.spot.iter().find(|share| share.pool == offer.pool);
        offer.running = share.map_or(0, |share| share.instances);
    }
    next
}

#[test]
fn a_calm_market_with_many_pools_is_used_for_all_units() {
    let plan = plan(&inputs(20, offers(10, 3)));
    assert_eq!(plan.on_demand, 0);
    assert_eq!(plan.spot_units(), 20 + plan.spare);
    assert!(plan.short <= plan.allowed);
    // The discount is 70 %.
    assert!(plan.cost.usd_hour(Span::from_minutes(600)) < 0.45 * plan.all_on_demand_usd_hour, "{plan:?}");
    assert_eq!((plan.aws.on_demand_base_capacity, plan.aws.on_demand_percentage_above_base), (0, 0));
    assert_eq!((plan.aws.instance_types.len(), plan.aws.zones.len()), (10, 3));
    assert!(plan.aws.capacity_rebalance && plan.aws.spot_allocation_strategy == "price-capacity-optimized");
}

#[test]
fn one_pool_that_is_lost_as_a_whole_is_too_risky() {
    let mut restless = offers(1, 1);
    restless[0].belief = PoolBelief { loss_per_hour: 0.5, burst_per_hour: 0.5, burst_whole: 1.0, ..calm() };
    let mut slow = inputs(10, restless.clone());
    slow.settings.probe_share = 0.0;
    let of = plan(&slow);
    assert_eq!((of.on_demand, of.spot_units()), (10, 0), "{of:?}");
    assert!(
        of.binding.iter().any(|each| matches!(each, Binding::Risk { short, allowed } if short > allowed)),
        "{of:?}"
    );
    assert!(of.rejected.iter().any(|each| each.because == RejectedBecause::Risk && each.spot > 0));
    // With a notice that is longer than a replacement takes nothing is missing, save for losses without one.
    let mut quick = inputs(10, restless);
    quick.replacement = Span::from_secs(90);
    quick.settings.noticed = 1.0;
    assert_eq!(plan(&quick).on_demand, 0);
}

#[test]
fn a_pool_that_is_too_risky_is_probed_with_one_unit() {
    let mut restless = offers(1, 1);
    restless[0].belief = PoolBelief { loss_per_hour: 0.5, burst_per_hour: 0.5, burst_whole: 1.0, ..calm() };
    let of = |units| plan(&inputs(units, restless.clone()));
    let probed = of(10);
    assert_eq!((probed.on_demand, probed.spot_units(), probed.spare), (10, 1, 1), "{probed:?}");
    assert!(probed.binding.contains(&Binding::Probe(vec![restless[0].pool.clone()])));
    // One of three would cost a tenth of all: more than a probe is worth.
    assert_eq!(of(3).spot_units(), 0);
    restless[0].belief.limit = Some(0);
    let closed = plan(&inputs(10, restless));
    assert_eq!(closed.spot_units(), 0, "what refused is not asked");
}

#[test]
fn a_pool_that_has_held_out_may_have_what_a_young_one_may_not() {
    let mut one = inputs(10, offers(1, 1));
    let belief = PoolBelief { loss_per_hour: 0.03, burst_per_hour: 0.03, burst_whole: 1.0, ..calm() };
    let mut of = |age_factor| {
        one.pools[0].belief = PoolBelief { age_factor, ..belief };
        plan(&one).on_demand
    };
    assert_eq!((of(4.0), of(0.1)), (10, 0));
}

#[test]
fn starts_that_vary_are_raced_and_leave_less_short() {
    let mut one = inputs(10, offers(1, 1));
    (one.settings.risk, one.settings.noticed) = (1.0, 1.0);
    let certain = plan(&one).short;
    one.replacement_median = Some(Span::from_secs(150));
    let raced = plan(&one).short;
    one.settings.hedge_share = 0.0;
    let alone = plan(&one).short;
    assert!(raced < certain && certain < alone, "{raced}, {certain} and {alone}");
}

#[test]
fn spare_units_take_the_place_of_on_demand_where_that_is_cheaper() {
    let mut restless = offers(1, 4);
    for offer in &mut restless {
        offer.belief =
            PoolBelief { loss_per_hour: 0.3, burst_per_hour: 0.3, burst_whole: 1.0, burst_share: 1.0, ..calm() };
    }
    let mut inputs = inputs(12, restless);
    inputs.kinship = Kinship { zone: 0.0, instance_type: 0.0, other: 0.0 };
    let plan = plan(&inputs);
    assert!(plan.spare >= 3, "one of four pools may be lost: {plan:?}");
    assert!(plan.short <= plan.allowed && plan.spot_units() > 8);
    let cheaper = plan.rejected.iter().filter(|each| each.because == RejectedBecause::Cost);
    assert!(cheaper.into_iter().all(|each| each.usd_hour >= plan.cost.spot_usd_hour));
}

#[test]
fn annotations_floor_and_commitments_bound_the_spot_part() {
    let of = |change: &dyn Fn(&mut SpotInputs)| {
        let mut inputs = inputs(20, offers(10, 3));
        change(&mut inputs);
        plan(&inputs)
    };
    let never = of(&|inputs| inputs.settings.wish.preference = SpotPreference::Never);
    assert_eq!((never.on_demand, never.aws.on_demand_percentage_above_base), (20, 100));
    assert!(never.binding.contains(&Binding::Never));
    let half = of(&|inputs| inputs.settings.wish.max_share = Some(0.5));
    assert_eq!(half.on_demand, 10);
    assert!(half.binding.contains(&Binding::MaxShare(0.5)));
    let floor = of(&|inputs| inputs.settings.on_demand_floor = 4);
    assert_eq!(floor.on_demand, 4);
    let sunk = of(&|inputs| inputs.commitments = vec![Commitment { units: 6, usd_hour: 0.3 }]);
    assert_eq!((sunk.on_demand, sunk.committed), (6, 6));
    assert_eq!((sunk.cost.committed_usd_hour, sunk.cost.on_demand_usd_hour), (0.3, 0.0), "sunk first");
    let discount = of(&|inputs| inputs.settings.wish = SpotWish { discount: Some(0.0), ..SpotWish::default() });
    assert_eq!(discount.spot_units(), 0, "without a discount there is no reason");
    assert!(
        discount.binding.iter().any(|each| matches!(each, Binding::DearerThanOnDemand(pools) if pools.len() == 30))
    );
}

#[test]
fn require_takes_what_there_is_and_on_demand_only_for_what_there_is_not() {
    let mut restless = inputs(10, offers(1, 1));
    restless.settings.wish.preference = SpotPreference::Require;
    restless.pools[0].belief = PoolBelief { loss_per_hour: 9.0, burst_per_hour: 3.0, ..calm() };
    assert_eq!(plan(&restless).on_demand, 0);
    restless.pools[0].belief.limit = Some(4);
    let plan = plan(&restless);
    assert_eq!((plan.on_demand, plan.spot_units()), (6, 4));
}

#[test]
fn no_pool_and_no_zone_has_more_than_its_share() {
    let mut inputs = inputs(20, offers(2, 3));
    // One is far cheaper.
    inputs.pools[0].spot_usd_hour = Some(0.001);
    let most = |plan: &SpotPlan| plan.spot.iter().map(|share| share.units).max().unwrap();
    let of = plan(&inputs);
    assert!(most(&of) <= of.spot_units().div_ceil(2), "{of:?}");
    inputs.settings.pool_share_max = 0.2;
    assert!(most(&plan(&inputs)) <= 6);
}

#[test]
fn a_refusal_is_covered_at_once_and_left_behind_in_steps() {
    let mut now = inputs(16, offers(2, 2));
    now.settings.probe_share = 0.0;
    now = carried_out(&now, &plan(&now), 1);
    for offer in &mut now.pools {
        // Six of each were lost, and no more can be had.
        offer.running = offer.running.saturating_sub(6);
        offer.belief.limit = Some(offer.running);
    }
    let left: u32 = now.pools.iter().map(|offer| offer.running).sum();
    let fallen = plan(&now);
    assert!(left < 8 && fallen.on_demand >= 16 - left, "{fallen:?}");
    assert!(fallen.on_demand + fallen.spot_units() >= 16);
    let mut next = carried_out(&now, &fallen, 1);
    for offer in &mut next.pools {
        offer.belief.limit = None;
    }
    let waiting = plan(&next);
    assert_eq!(waiting.on_demand, fallen.on_demand);
    assert!(waiting.binding.contains(&Binding::Waiting(at(11))), "{:?}", waiting.binding);
    let mut seen = vec![fallen.on_demand];
    for _ in 0..40 {
        let plan = plan(&next);
        next = carried_out(&next, &plan, 1);
        seen.push(plan.on_demand);
    }
    assert!(seen.windows(2).all(|pair| pair[0] - pair[1] <= 4), "{seen:?}");
    assert_eq!(seen.last(), Some(&0), "{seen:?}");
    let moves = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(moves >= 2 && seen[1..9].iter().all(|units| *units == seen[0]), "{seen:?}");
}

#[test]
fn a_swap_that_does_not_pay_is_not_made() {
    let mut inputs = inputs(10, offers(10, 3));
    inputs.on_demand_running = 10;
    // Cheaper by 4 %, while starting takes four minutes of an hour.
    inputs.settings.wish.discount = Some(0.04);
    assert!(plan(&inputs).binding.contains(&Binding::Hysteresis));
    inputs.settings.hysteresis = 0.0;
    let kept = plan(&inputs);
    assert_eq!(kept.on_demand, 10);
    assert!(kept.binding.iter().any(|each| matches!(each, Binding::SwapDoesNotPay { .. })), "{kept:?}");
    inputs.settings.wish.discount = None;
    assert!(plan(&inputs).on_demand < 10);
}

#[test]
fn demand_that_is_back_before_a_start_has_paid_keeps_its_units() {
    let mut now = inputs(20, offers(10, 3));
    now = carried_out(&now, &plan(&now), 1);
    now.units = 10;
    assert!(plan(&now).spot_units() < 20);
    now.returning = Some(Returning { within: Span::from_minutes(4), units: 18 });
    let kept = plan(&now);
    assert!(kept.spot_units() >= 18, "{kept:?}");
    assert!(kept.binding.contains(&Binding::BreakEven(Span::from_minutes(5))));
    now.returning = Some(Returning { within: Span::from_minutes(40), units: 18 });
    assert!(plan(&now).spot_units() < 18);
}

#[test]
fn an_instance_carries_its_weight() {
    let mut inputs = inputs(20, offers(3, 3));
    for offer in &mut inputs.pools {
        (offer.weight, offer.on_demand_usd_hour) = (4, 0.4);
    }
    let plan = plan(&inputs);
    assert!(plan.spot.iter().all(|share| share.units == 4 * share.instances));
    assert!((20..=36).contains(&plan.spot_units()), "{plan:?}");
}

fn offer() -> impl Strategy<Value = PoolOffer> {
    let belief = (0.001f64..3.0, 0.0f64..1.0, 0.0f64..1.0, prop::option::of(0u32..12));
    let prices = (0.01f64..2.0, prop::option::of(0.0f64..2.0));
    (0u8..4, 0u8..3, 1u32..5, prices, 0u32..12, belief).prop_map(|(kind, zone, weight, prices, running, belief)| {
        let (loss_per_hour, share, whole, limit) = belief;
        let belief = PoolBelief {
            loss_per_hour,
            burst_per_hour: loss_per_hour * share,
            age_factor: 1.0,
            burst_whole: whole,
            burst_share: 0.5 + whole / 2.0,
            refusal: 0.1,
            limit,
            price_level_usd_hour: None,
        };
        PoolOffer {
            pool: PoolId::new(&format!("t{kind}"), &format!("z{zone}")),
            weight,
            on_demand_usd_hour: prices.0,
            spot_usd_hour: prices.1,
            running,
            belief,
        }
    })
}

proptest! {
    #[test]
    fn what_is_wanted_is_there_and_the_risk_is_kept(
        units in 0u32..60,
        pools in prop::collection::vec(offer(), 0..9),
        on_demand_running in 0u32..40,
        floor in 0u32..20,
        committed in 0u32..20,
        max_share in prop::option::of(0.0f64..1.0),
    ) {
        let mut pools = pools;
        pools.sort_by(|a, b| a.pool.cmp(&b.pool));
        pools.dedup_by(|a, b| a.pool == b.pool);
        let mut inputs = inputs(units, pools);
        inputs.on_demand_running = on_demand_running;
        inputs.settings.on_demand_floor = floor;
        inputs.settings.wish.max_share = max_share;
        inputs.commitments = vec![Commitment { units: committed, usd_hour: 1.0 }];
        let found = plan(&inputs);
        prop_assert!(found.on_demand.saturating_add(found.spot_units()) >= units, "{:?}", found);
        prop_assert!(found.on_demand >= floor.min(units) && found.on_demand >= committed.min(units));
        prop_assert!(found.on_demand <= units);
        prop_assert!(found.short <= found.allowed + 1e-12, "{:?}", found);
        if let Some(share) = max_share {
            prop_assert!(f64::from(units - found.on_demand) <= f64::from(units) * share + 1e-9);
        }
        for share in &found.spot {
            let offer = inputs.pools.iter().find(|offer| offer.pool == share.pool).unwrap();
            prop_assert!(offer.belief.limit.is_none_or(|limit| share.instances <= limit));
        }
        prop_assert!(found.cost.usd_hour(inputs.settings.horizon).is_finite());
        prop_assert_eq!(&plan(&inputs), &found);
        let text = serde_json::to_string(&found).unwrap();
        prop_assert_eq!(&serde_json::from_str::<SpotPlan>(&text).unwrap(), &found);
    }
}

proptest! {
    // Each case is forty plans.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_that_is_carried_out_stays(units in 1u32..40, pools in prop::collection::vec(offer(), 1..9)) {
        let mut pools = pools;
        pools.sort_by(|a, b| a.pool.cmp(&b.pool));
        pools.dedup_by(|a, b| a.pool == b.pool);
        let mut now = inputs(units, pools);
        // A budget changes with what is left of it; here it stands still.
        let carried_out = |now: &SpotInputs, plan: &SpotPlan| {
            let mut next = carried_out(now, plan, 20);
            next.memory.planned_at = None;
            next
        };
        // Long enough for every step back.
        for _ in 0..40 {
            now = carried_out(&now, &plan(&now));
        }
        let settled = plan(&now);
        let next = plan(&carried_out(&now, &settled));
        prop_assert_eq!((settled.on_demand, settled.spot), (next.on_demand, next.spot));
    }
}

#[test]
fn spare_units_count_against_what_there_may_be() {
    let mut restless = offers(4, 2);
    for offer in &mut restless {
        offer.belief = PoolBelief { loss_per_hour: 0.2, burst_per_hour: 0.1, burst_share: 0.6, ..calm() };
    }
    let free = plan(&inputs(20, restless.clone()));
    assert!(free.spare > 1 && free.spot_units() > free.spare, "{free:?}");
    for room in [0, 1] {
        let narrow = plan(&SpotInputs { max: Some(20 + room), ..inputs(20, restless.clone()) });
        assert!(narrow.on_demand + narrow.spot_units() <= 20 + room, "{narrow:?}");
        assert!(narrow.on_demand > free.on_demand && narrow.short <= narrow.allowed, "the risk holds: {narrow:?}");
        // What runs and no longer fits is no reason to keep it.
        let running = SpotInputs { max: Some(20 + room), ..carried_out(&inputs(20, restless.clone()), &free, 60) };
        let next = plan(&running);
        assert!(next.on_demand + next.spot_units() <= 20 + room, "{next:?}");
    }
}
