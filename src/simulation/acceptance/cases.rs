//! The scenarios that Prescale is accepted by. Rule: each figure that the case does not give is a guess that says so.

use prescale_domain::{Span, Timestamp};

use super::{Fidelity, Goal, Load, Scenario};
use crate::market::{Allocation, Hazard, MarketSettings, PoolSettings, Prices, Supply};
use crate::profile::{GPU_CONCURRENCY, GPU_SERVICE, Profile, ProfileSettings};
use crate::queueing::{
    FleetModel, Latency, Pricing, Queueing, RateSeries, RunSettings, ServiceModel, ServiceTime, SpotReaction,
    SpotShare, WarmUp,
};

/// 2026-03-02, a Monday.
const MONDAY: Timestamp = Timestamp::from_millis(1_772_409_600_000);
const SECOND: Span = Span::from_secs(1);
const MINUTE: Span = Span::from_minutes(1);
const DAY: Span = Span::from_minutes(1440);
/// Of spot units where no price is known.
const SPOT_DISCOUNT: f64 = 0.7;
/// How much of the past there is where a day repeats itself.
const WEEK: Span = Span::from_minutes(7 * 1440);

/// A day that rises to 100,000 requests a second, 50 ms, at most 500 nodes, two minutes until a node is there.
///
/// A node has four places; a request takes one for 12 ms on average, 0.2 % of them for more than 50 ms. 300 nodes carry
/// the peak without a moment's rest, so there is room for noise. Seven days are past.
pub fn diurnal_peak(seed: u64) -> Scenario {
    let mut profile = ProfileSettings::new(Profile::Diurnal, "front".into(), MONDAY - WEEK, seed);
    profile.length = WEEK + DAY;
    profile.base_per_second = 20_000.0;
    profile.peak_per_second = 100_000.0;
    let run = RunSettings {
        start: MONDAY,
        end: profile.end(),
        tick: Span::from_secs(15),
        window: MINUTE,
        objective: Span::from_millis(50),
        fleet: FleetModel {
            min: 1,
            max: 500,
            initial: 120,
            provisioning: Latency::Fixed(Span::from_minutes(2)),
            warm_up: WarmUp { span: Span::from_secs(30), initial_speed: 0.3 },
            launch_failure: 0.0,
            retry_after: Span::from_secs(30),
            drain_limit: Some(Span::from_secs(60)),
        },
        service: ServiceModel {
            time: ServiceTime::LogNormal { mean_seconds: 0.012, squared_variation: 0.35 },
            concurrency: 4,
        },
        queue: Queueing::Shared { limit: Some(20_000), timeout: Some(SECOND) },
        prices: Pricing::on_demand(0.17, MINUTE),
        market: None,
        seed,
    };
    Scenario {
        name: "diurnal-peak",
        load: Load::Profile { profile, step: SECOND },
        run,
        fidelity: Fidelity::Fluid,
        always_on: 400,
        goals: vec![Goal::NoRequestDropped, Goal::Good(0.99), Goal::Units(500)],
    }
}

/// A week of inference in business hours on GPUs that take five minutes to come, load weights included; nothing outside.
///
/// Always on are as many as carry the peak at 80 %. Two weeks are past.
pub fn gpu_week(seed: u64) -> Scenario {
    let mut profile = ProfileSettings::new(Profile::GpuInference, "generate".into(), MONDAY - WEEK - WEEK, seed);
    profile.length = WEEK + WEEK + WEEK;
    profile.base_per_second = 20.0;
    profile.peak_per_second = 200.0;
    let run = RunSettings {
        start: MONDAY,
        end: profile.end(),
        tick: Span::from_secs(15),
        window: Span::from_minutes(5),
        objective: Span::from_millis(500),
        fleet: FleetModel {
            min: 0,
            max: 16,
            initial: 0,
            provisioning: Latency::LogNormal { median: Span::from_minutes(5), p90: Span::from_minutes(6) },
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: MINUTE,
            drain_limit: Some(Span::from_secs(60)),
        },
        service: ServiceModel { time: GPU_SERVICE, concurrency: GPU_CONCURRENCY },
        queue: Queueing::Shared { limit: Some(1000), timeout: Some(Span::from_secs(30)) },
        prices: Pricing::on_demand(3.06, MINUTE),
        market: None,
        seed,
    };
    Scenario {
        name: "gpu-week",
        load: Load::Profile { profile, step: SECOND },
        run,
        fidelity: Fidelity::Events,
        always_on: 8,
        goals: vec![
            Goal::Saving(0.94),
            Goal::Utilization(0.70, 0.85),
            Goal::Queue(5.0),
            Goal::P95(Span::from_millis(500)),
        ],
    }
}

/// The same week on spot units at 70 % less, of two zones, one in twenty of which is taken away in an hour, and at times half
/// of a zone; a unit that has been given notice is replaced at once.
pub fn gpu_week_on_spot(seed: u64) -> Scenario {
    let mut scenario = gpu_week(seed);
    let on_demand = scenario.run.prices.on_demand_usd_hour;
    let usd_hour = (1.0 - SPOT_DISCOUNT) * on_demand;
    let pool = |zone: &str| PoolSettings {
        instance_type: "gpu".to_owned(),
        zone: zone.to_owned(),
        prices: Prices::Fixed(usd_hour),
        supply: Supply::Generated(Hazard {
            per_hour: 0.05,
            bursts_per_day: 0.5,
            burst_share: 0.5,
            outage: Span::from_minutes(10),
            units_max: None,
        }),
    };
    scenario.name = "gpu-week-on-spot";
    scenario.run.prices.spot = Some(SpotShare { share: 1.0, usd_hour, reaction: SpotReaction::AtNotice });
    scenario.run.market = Some(MarketSettings {
        pools: ["a", "b"].map(pool).into(),
        allocation: Allocation::Diversified,
        ..MarketSettings::default()
    });
    scenario
}

/// Bursts of ten seconds every five minutes, and twenty minutes until a unit is there: what no reaction can serve.
pub fn micro_bursts(seed: u64) -> Scenario {
    let mut profile = ProfileSettings::new(Profile::MicroBursts, "front".into(), MONDAY, seed);
    profile.base_per_second = 100.0;
    profile.peak_per_second = 1000.0;
    let run = RunSettings {
        start: MONDAY,
        end: profile.end(),
        tick: Span::from_secs(15),
        window: MINUTE,
        objective: Span::from_millis(100),
        fleet: FleetModel {
            min: 1,
            max: 50,
            initial: 4,
            provisioning: Latency::Fixed(Span::from_minutes(20)),
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: MINUTE,
            drain_limit: Some(Span::from_secs(60)),
        },
        service: ServiceModel { time: ServiceTime::Exponential { mean_seconds: 0.02 }, concurrency: 1 },
        queue: Queueing::Shared { limit: Some(1000), timeout: Some(Span::from_secs(5)) },
        prices: Pricing::on_demand(0.17, MINUTE),
        market: None,
        seed,
    };
    Scenario {
        name: "micro-bursts",
        load: Load::Profile { profile, step: SECOND },
        run,
        fidelity: Fidelity::Events,
        always_on: 30,
        goals: vec![Goal::NoRequestDropped, Goal::Good(0.99), Goal::Units(50)],
    }
}

/// Load of .2, .4 at 60 s, .8 at 120 s, .9 at 180 s and .3 at 240 s, as shares of what ten units carry.
pub fn rise_and_fall(seed: u64) -> Scenario {
    let step = MINUTE;
    let shares = [0.2, 0.4, 0.8, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3];
    let start = MONDAY;
    let per_second: Vec<f64> = shares.iter().map(|share| 1000.0 * share).collect();
    let run = RunSettings {
        start,
        end: start + Span::from_minutes(12),
        tick: Span::from_secs(15),
        window: MINUTE,
        objective: Span::from_millis(200),
        fleet: FleetModel {
            min: 1,
            max: 20,
            initial: 4,
            provisioning: Latency::Fixed(Span::from_secs(30)),
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: Span::from_secs(30),
            drain_limit: Some(Span::from_secs(60)),
        },
        service: ServiceModel { time: ServiceTime::Exponential { mean_seconds: 0.02 }, concurrency: 2 },
        queue: Queueing::Shared { limit: Some(20_000), timeout: None },
        prices: Pricing::on_demand(0.17, MINUTE),
        market: None,
        seed,
    };
    Scenario {
        name: "rise-and-fall",
        load: Load::Given(RateSeries { start, step, per_second }),
        run,
        fidelity: Fidelity::Events,
        always_on: 12,
        goals: vec![
            Goal::NoRequestDropped,
            Goal::RaisedBefore(Span::from_secs(180)),
            Goal::LoweredAfter(Span::from_secs(240)),
        ],
    }
}

/// A quiet service with an hour of fifty times its load at 09:00 on each day, units that take five minutes to come, and none
/// that is kept for nothing. A week of such days is past.
pub fn daily_spike(seed: u64) -> Scenario {
    let (start, length) = (MONDAY + WEEK, Span::from_minutes(12 * 60));
    let minutes = 7 * 1440 + 12 * 60;
    // The days differ by a few percent.
    let height = |minute: i64| 1.0 + 0.03 * ((minute / 1440 * 5 + i64::try_from(seed % 7).unwrap_or(0)) % 7 - 3) as f64;
    let rate = |minute: i64| if (540..600).contains(&(minute % 1440)) { 200.0 * height(minute) } else { 4.0 };
    let per_second = (0..minutes).map(rate).collect();
    let run = RunSettings {
        start,
        end: start + length,
        tick: Span::from_secs(5),
        window: MINUTE,
        objective: Span::from_millis(500),
        fleet: FleetModel {
            min: 0,
            max: 20,
            initial: 1,
            provisioning: Latency::LogNormal { median: Span::from_minutes(5), p90: Span::from_minutes(6) },
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: MINUTE,
            drain_limit: Some(Span::from_secs(60)),
        },
        service: ServiceModel {
            time: ServiceTime::LogNormal { mean_seconds: 0.1, squared_variation: 0.5 },
            concurrency: 4,
        },
        queue: Queueing::Shared { limit: Some(1000), timeout: Some(Span::from_secs(10)) },
        prices: Pricing::on_demand(0.17, MINUTE),
        market: None,
        seed,
    };
    Scenario {
        name: "daily-spike",
        load: Load::Given(RateSeries { start: MONDAY, step: MINUTE, per_second }),
        run,
        fidelity: Fidelity::Events,
        always_on: 7,
        goals: vec![Goal::NoRequestDropped, Goal::Good(0.99)],
    }
}

/// A load that falls for two hours to a tenth, by steps of a minute that go up again every ten.
pub fn evening(seed: u64) -> Scenario {
    let rate = |minute: i64| {
        let share = 1.0 - 0.9 * minute.min(120) as f64 / 120.0;
        1000.0 * share * if minute % 10 == 9 { 1.1 } else { 1.0 }
    };
    let per_second = (0..150).map(rate).collect();
    let run = RunSettings {
        start: MONDAY,
        end: MONDAY + Span::from_minutes(150),
        tick: Span::from_secs(15),
        window: MINUTE,
        objective: Span::from_millis(200),
        fleet: FleetModel {
            min: 1,
            max: 30,
            initial: 15,
            provisioning: Latency::Fixed(MINUTE),
            warm_up: WarmUp::NONE,
            launch_failure: 0.0,
            retry_after: Span::from_secs(30),
            drain_limit: Some(Span::from_secs(60)),
        },
        service: ServiceModel { time: ServiceTime::Exponential { mean_seconds: 0.02 }, concurrency: 2 },
        queue: Queueing::Shared { limit: Some(1000), timeout: None },
        prices: Pricing::on_demand(0.17, MINUTE),
        market: None,
        seed,
    };
    Scenario {
        name: "evening",
        load: Load::Given(RateSeries { start: MONDAY, step: MINUTE, per_second }),
        run,
        fidelity: Fidelity::Events,
        always_on: 15,
        goals: vec![Goal::NoRequestDropped, Goal::Good(0.99), Goal::LoweredApart(Span::from_minutes(5))],
    }
}
