//! What is promised of prediction, on crowds that nobody announces and on plain days, against the Kubernetes HPA at its best
//! target and against a fleet for the highest load of the past. Rule: all fly the same requests on the same units; a promise is
//! reached if it is with every seed.

use std::collections::VecDeque;

use prescale_domain::{Span, Timestamp};
use serde::Serialize;

use super::{Configured, Fidelity, Load, Made, Scenario, ScenarioError, UsualDay};
use crate::arena::{Demand, needed_units, spikes};
use crate::baselines::{Hpa, HpaSettings, Observation as HpaObservation, static_peak};
use crate::profile::{Profile, ProfileSettings};
use crate::queueing::{
    Arrivals, FleetModel, Latency, Observation, Pricing, QueueOutcome, Queueing, RunSettings, ServiceModel,
    ServiceTime, WarmUp,
};
use crate::sweep::targets;

/// 2026-03-02, a Monday.
const MONDAY: Timestamp = Timestamp::from_millis(1_772_409_600_000);
const MINUTE: Span = Span::from_minutes(1);
const DAY: Span = Span::from_minutes(1440);
const TICK: Span = Span::from_secs(15);
/// Share of its requests that an operator of HPA wants answered within the objective.
const GOOD: f64 = 0.99;
/// Share of what a unit can serve that it carries within the objective.
const LOADED: f64 = 0.85;

/// Twelve hours with a crowd in each four, five times the usual load within two minutes; three such days are past.
pub fn flash_crowds(seed: u64) -> Scenario {
    let past = DAY + DAY + DAY;
    let half = Span::from_minutes(12 * 60);
    let mut profile = ProfileSettings::new(Profile::FlashCrowd, "shop".into(), MONDAY - past, seed);
    (profile.length, profile.period) = (past + half, Span::from_minutes(4 * 60));
    scenario("flash-crowds", profile, 6)
}

/// A day without surprise; seven such are past.
pub fn plain_day(seed: u64) -> Scenario {
    let past = Span::from_minutes(7 * 1440);
    let mut profile = ProfileSettings::new(Profile::Diurnal, "shop".into(), MONDAY - past, seed);
    profile.length = past + DAY;
    scenario("diurnal", profile, 8)
}

/// A request takes a unit for 0.2 s, a unit two minutes to come and half a minute to warm up.
fn scenario(name: &'static str, profile: ProfileSettings, initial: u32) -> Scenario {
    let run = RunSettings {
        start: MONDAY,
        end: profile.end(),
        tick: TICK,
        window: TICK,
        objective: Span::from_secs(1),
        fleet: FleetModel {
            min: 2,
            max: 60,
            initial,
            provisioning: Latency::LogNormal { median: Span::from_minutes(2), p90: Span::from_secs(150) },
            warm_up: WarmUp { span: Span::from_secs(30), initial_speed: 0.5 },
            launch_failure: 0.0,
            retry_after: MINUTE,
            drain_limit: Some(MINUTE),
        },
        service: ServiceModel {
            time: ServiceTime::LogNormal { mean_seconds: 0.2, squared_variation: 0.5 },
            concurrency: 1,
        },
        queue: Queueing::Shared { limit: Some(1000), timeout: Some(Span::from_secs(10)) },
        prices: Pricing::on_demand(0.17, MINUTE),
        market: None,
        seed: profile.seed,
    };
    let load = Load::Profile { profile, step: TICK };
    Scenario { name, load, run, fidelity: Fidelity::Events, always_on: 60, goals: Vec::new() }
}

/// One flight in figures. A window is one of 15 s; a spike is a minute more than 2σ above the rolling median of two hours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// 95th percentile of the latency of what was answered, mean over the windows of spikes by their requests.
    pub spike_p95_ms: Option<f64>,
    /// Places for requests that were taken, of those that there were.
    pub utilization_pct: Option<f64>,
    /// Time in which the units in service carry less than the load: as long as it takes to follow a rise, with each rise.
    pub short_seconds: f64,
    pub cost_usd: f64,
    /// Units in service beyond those needed, as a share of these, mean over time.
    pub over_pct: f64,
    /// Requests answered, of those that ended in the windows of spikes.
    pub spike_availability_pct: Option<f64>,
    /// Requests answered within the objective, of all.
    pub good_pct: Option<f64>,
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    SpikeResponse,
    Utilization,
    ScalingResponse,
    Cost,
    OverProvisioning,
    SpikeAvailability,
}

/// One promise against one rival.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stand {
    pub promise: Promise,
    /// `hpa` or `static`; `None` = the figure stands by itself.
    pub against: Option<&'static str>,
    /// Change in percent that is promised; percent of requests where the figure stands by itself.
    pub promised: f64,
    /// What came of it, by seed; `None` = could not be computed.
    pub found: Vec<Option<f64>>,
    pub reached: bool,
}

/// Everything on one profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Promised {
    pub profile: String,
    pub seeds: Vec<u64>,
    /// Figures by seed.
    pub prescale: Vec<Figures>,
    pub hpa: Vec<Figures>,
    /// What HPA aims at, by seed: the cheapest target with 99 % of the requests within the objective, or the one with most.
    pub hpa_target: Vec<f64>,
    pub fixed: Vec<Figures>,
    pub stands: Vec<Stand>,
}

impl Promise {
    pub const ALL: [Self; 6] = [
        Self::SpikeResponse,
        Self::Utilization,
        Self::ScalingResponse,
        Self::Cost,
        Self::OverProvisioning,
        Self::SpikeAvailability,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::SpikeResponse => "response time in spikes",
            Self::Utilization => "utilization",
            Self::ScalingResponse => "scaling response",
            Self::Cost => "cost",
            Self::OverProvisioning => "over-provisioning",
            Self::SpikeAvailability => "availability in spikes",
        }
    }

    fn promised(self) -> f64 {
        match self {
            Self::SpikeResponse => -50.0,
            Self::Utilization => 30.0,
            Self::ScalingResponse => -25.0,
            Self::Cost => -40.0,
            Self::OverProvisioning => -20.0,
            Self::SpikeAvailability => 99.9,
        }
    }

    fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::SpikeResponse => figures.spike_p95_ms,
            Self::Utilization => figures.utilization_pct,
            Self::ScalingResponse => Some(figures.short_seconds),
            Self::Cost => Some(figures.cost_usd),
            Self::OverProvisioning => Some(figures.over_pct),
            Self::SpikeAvailability => figures.spike_availability_pct,
        }
    }

    fn is_kept(self, found: f64) -> bool {
        let promised = self.promised();
        if promised < 0.0 { found <= promised } else { found >= promised }
    }
}

impl Promised {
    /// Flies all on `scenario` under each seed; `configured` and `forecast` make Prescale's part for each.
    ///
    /// # Errors
    /// A profile or settings that make no sense.
    pub fn fly<M: FnMut(Timestamp, f64) -> Made>(
        scenario: impl Fn(u64) -> Scenario,
        configured: impl Fn(&Scenario) -> Configured,
        forecast: impl Fn(&Scenario, &Configured) -> M,
        seeds: &[u64],
    ) -> Result<Self, ScenarioError> {
        let (mut prescale, mut hpa, mut fixed) = (Vec::new(), Vec::new(), Vec::new());
        let mut hpa_target = Vec::new();
        let mut profile = String::new();
        for seed in seeds {
            let scenario = scenario(*seed);
            scenario.name.clone_into(&mut profile);
            let configured = configured(&scenario);
            let unit_capacity = configured.policy.unit_capacity;
            let flown = scenario.fly(&configured, forecast(&scenario, &configured), |_| {})?;
            prescale.push(Figures::of(&scenario, unit_capacity, &flown.outcome)?);
            let (target, best) = best_hpa(&scenario, unit_capacity)?;
            hpa_target.push(target);
            hpa.push(best);
            fixed.push(Figures::of(&scenario, unit_capacity, &fly_fixed(&scenario, unit_capacity)?)?);
        }
        let against = |promise: Promise, name: &'static str, rivals: &[Figures]| {
            let change = |(ours, theirs): (&Figures, &Figures)| {
                let (ours, theirs) = (promise.of(ours)?, promise.of(theirs)?);
                (theirs > 0.0).then(|| 100.0 * (ours / theirs - 1.0))
            };
            stand(promise, Some(name), prescale.iter().zip(rivals).map(change).collect())
        };
        let stands = Promise::ALL.into_iter().flat_map(|promise| match promise {
            Promise::SpikeAvailability => {
                vec![stand(promise, None, prescale.iter().map(|ours| promise.of(ours)).collect())]
            }
            _ => vec![against(promise, "hpa", &hpa), against(promise, "static", &fixed)],
        });
        let stands = stands.collect();
        Ok(Self { profile, seeds: seeds.to_vec(), prescale, hpa, hpa_target, fixed, stands })
    }

    /// How a promise stands against a rival.
    pub fn stand(&self, promise: Promise, against: Option<&str>) -> Option<&Stand> {
        self.stands.iter().find(|stand| stand.promise == promise && stand.against == against)
    }
}

pub(super) fn stand(promise: Promise, against: Option<&'static str>, found: Vec<Option<f64>>) -> Stand {
    let reached = !found.is_empty() && found.iter().all(|found| found.is_some_and(|found| promise.is_kept(found)));
    Stand { promise, against, promised: promise.promised(), found, reached }
}

impl Figures {
    /// Of a run of `scenario` by units that carry so much each.
    ///
    /// # Errors
    /// A profile that cannot be generated.
    pub fn of(scenario: &Scenario, unit_capacity: f64, outcome: &QueueOutcome) -> Result<Self, ScenarioError> {
        let arrivals = Arrivals::Rate(scenario.rates()?);
        let (start, end) = (scenario.run.start, scenario.run.end);
        let by = |step: Span| -> Vec<f64> {
            let starts = std::iter::successors(Some(start), |start| Some(*start + step));
            let starts = starts.take_while(|start| *start < end);
            starts.map(|start| arrivals.mean_rate(start, start + step)).collect()
        };
        let spikes = spikes(&Demand { start, step: MINUTE, load: by(MINUTE) });
        let of_minute = MINUTE.steps_up(outcome.window).max(1);
        let (mut weighted, mut answered, mut ended, mut short, mut over) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (index, (window, load)) in outcome.windows.iter().zip(by(outcome.window)).enumerate() {
            if spikes.get(index / of_minute).copied().unwrap_or(false) {
                let served = window.served as f64;
                weighted += window.p95_ms.unwrap_or(0.0) * served;
                answered += served;
                ended += (window.served + window.dropped) as f64;
            }
            let needed = f64::from(needed_units(load, unit_capacity).max(1));
            over += (window.ready_mean - needed).max(0.0) / needed;
            if window.ready_mean * unit_capacity < load * (1.0 - 1e-9) {
                short += outcome.window.seconds();
            }
        }
        let totals = &outcome.totals;
        Ok(Self {
            spike_p95_ms: (answered > 0.0).then(|| weighted / answered),
            utilization_pct: totals.utilization.map(|share| 100.0 * share),
            short_seconds: short,
            cost_usd: totals.cost_usd,
            over_pct: 100.0 * over / outcome.windows.len().max(1) as f64,
            spike_availability_pct: (ended > 0.0).then(|| 100.0 * answered / ended),
            good_pct: totals.share_good.map(|share| 100.0 * share),
        })
    }
}

fn best_hpa(scenario: &Scenario, unit_capacity: f64) -> Result<(f64, Figures), ScenarioError> {
    let mut best: Option<(f64, Figures)> = None;
    for target in targets() {
        let figures = Figures::of(scenario, unit_capacity, &fly_hpa(scenario, target * unit_capacity)?)?;
        let good = |figures: &Figures| figures.good_pct.unwrap_or(0.0);
        let is_better = best.as_ref().is_none_or(|(_, known)| {
            let (keeps, kept) = (good(&figures) >= 100.0 * GOOD, good(known) >= 100.0 * GOOD);
            match (keeps, kept) {
                (true, true) => figures.cost_usd < known.cost_usd,
                (false, false) => good(&figures) > good(known),
                (keeps, _) => keeps,
            }
        });
        if is_better {
            best = Some((target, figures));
        }
    }
    best.ok_or(ScenarioError::Nothing)
}

/// Kubernetes' HPA on requests per second and unit; it sees those of the tick before the last.
fn fly_hpa(scenario: &Scenario, target: f64) -> Result<QueueOutcome, ScenarioError> {
    let fleet = &scenario.run.fleet;
    let mut hpa = Hpa::new(HpaSettings::kubernetes(target, fleet.min.max(1), fleet.max));
    let mut rates: VecDeque<f64> = VecDeque::new();
    let verdict = scenario.run(|seen: &Observation| {
        rates.extend(seen.rate_per_second);
        if rates.len() < 2 {
            return None;
        }
        let total = rates.pop_front()?;
        Some(hpa.sync(seen.now, &HpaObservation { replicas: seen.desired, ready: seen.ready, missing: 0, total }))
    })?;
    Ok(verdict.outcome)
}

fn fly_fixed(scenario: &Scenario, unit_capacity: f64) -> Result<QueueOutcome, ScenarioError> {
    let past = scenario.past(MINUTE)?;
    let mut fixed = scenario.clone();
    fixed.run.fleet.initial = static_peak(past.into_iter().map(|(_, load)| load), unit_capacity);
    Ok(fixed.run(|_| None)?.outcome)
}

/// The table for people: the mean of the seeds for each system, then each promise with what came of it by seed.
pub fn render(promised: &[Promised]) -> String {
    promised.iter().flat_map(lines).map(|line| line + "\n").collect()
}

fn lines(one: &Promised) -> Vec<String> {
    let mut lines = vec![format!("{}, seeds {:?}", one.profile, one.seeds)];
    let columns = ["p95 ms", "used %", "short s", "USD", "over %", "avail %", "good %"];
    lines.push(row("mean of", columns.map(str::to_owned)));
    for (name, figures) in [("prescale", &one.prescale), ("hpa", &one.hpa), ("static", &one.fixed)] {
        let mean = |of: fn(&Figures) -> Option<f64>, digits: usize| {
            let known: Vec<f64> = figures.iter().filter_map(of).collect();
            let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
            if known.is_empty() { "-".to_owned() } else { format!("{mean:.digits$}") }
        };
        let cells = [
            mean(|figures| figures.spike_p95_ms, 0),
            mean(|figures| figures.utilization_pct, 1),
            mean(|figures| Some(figures.short_seconds), 0),
            mean(|figures| Some(figures.cost_usd), 2),
            mean(|figures| Some(figures.over_pct), 1),
            mean(|figures| figures.spike_availability_pct, 2),
            mean(|figures| figures.good_pct, 2),
        ];
        lines.push(row(name, cells));
    }
    let targets: Vec<String> = one.hpa_target.iter().map(|target| format!("{target:.2}")).collect();
    lines.push(format!("  hpa aims at {}", targets.join(", ")));
    for stand in &one.stands {
        let known = stand.found.iter().map(|found| found.map_or("-".to_owned(), |found| format!("{found:+.1}")));
        let against = stand.against.map_or("by itself".to_owned(), |rival| format!("against {rival}"));
        lines.push(format!(
            "  {:<24} {against:<15} {:>6} % promised, {} {}",
            stand.promise.name(),
            stand.promised,
            known.collect::<Vec<_>>().join(", "),
            if stand.reached { "reached" } else { "not reached" },
        ));
    }
    lines.push(String::new());
    lines
}

fn row(name: &str, cells: [String; 7]) -> String {
    let cells: String = cells.iter().map(|cell| format!(" {cell:>8}")).collect();
    format!("  {name:<10}{cells}")
}

/// Both profiles under these seeds, with Prescale as the configuration file has it where nothing is said but what a unit
/// carries.
///
/// # Errors
/// A profile or settings that make no sense.
pub fn promises(seeds: &[u64]) -> Result<Vec<Promised>, ScenarioError> {
    let configured = |scenario: &Scenario| {
        Configured::new("shop", LOADED * scenario.run.service.unit_rate(), scenario.run.fleet.max)
    };
    // A crowd's level is another one within minutes, that of a day is not.
    let crowds = Promised::fly(flash_crowds, configured, |_, configured| usual(configured, 0.5), seeds)?;
    let days = Promised::fly(plain_day, configured, |_, configured| usual(configured, 0.12), seeds)?;
    Ok(vec![crowds, days])
}

/// A forecast after each window.
fn usual(configured: &Configured, weight: f64) -> impl FnMut(Timestamp, f64) -> Made + use<> {
    let (horizon, lead) = (Span::from_minutes(30), Span::from_minutes(4));
    let mut model = UsualDay::new(configured.service.clone(), configured.step, horizon, lead).following(weight);
    move |end, load| model.after(end, load)
}
