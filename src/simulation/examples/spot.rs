//! Prints what strategies of buying spot capacity come to, on recorded markets and a generated one:
//! `PRESCALE_TRACES=… cargo run -p prescale-simulation --example spot`. Options: `--slow` launches that take longer than the notice,
//! `--one-seed` takes one seed of three, `--tuning` the markets on which settings were chosen, `--market=` those whose name begins
//! so, `--prescale` leaves out what others do; `--risk=`, `--saving=`, `--hedge=`, `--probe=`, `--noticed=`, `--return=`, `--every=`,
//! `--step=` and `--headroom=` set what they name, times in minutes.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use prescale_domain::SpotSettings;
use prescale_domain::{Span, Timestamp};
use prescale_simulation::market::MarketError;
use prescale_simulation::spot::{
    FleetSettings, LoadShape, Outcome, RecordedPool, Row, Scenario, Strategy, generated, limit, play, render,
};

/// Markets on which settings were chosen; all others are out of sample.
const TUNING: [&str; 3] = ["16-node 2023-08", "4-node preempt 2023-08", "generated"];

type Series = Vec<(Timestamp, f64)>;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options(std::env::args().skip(1).collect());
    let seeds: &[u64] = if options.has("--one-seed") { &[1] } else { &[1, 2, 3] };
    let (median, p90) = if options.has("--slow") { (150, 240) } else { (75, 110) };
    let spot = options.settings();
    let strategies = match options.has("--prescale") {
        true => vec![Strategy::AllOnDemand, Strategy::Prescale, Strategy::PrescaleWithinBudget],
        false => Strategy::ALL.to_vec(),
    };
    let scenarios = |seed| -> Result<Vec<Scenario>, Box<dyn Error>> {
        let usual = LoadShape::usual(seed);
        let load = LoadShape { headroom: options.number("--headroom").unwrap_or(usual.headroom), ..usual };
        let mut all = recorded(load)?;
        all.push(generated("generated", 10, 14, load));
        all.retain(|scenario| !options.has("--tuning") || TUNING.contains(&scenario.name.as_str()));
        all.retain(|scenario| options.text("--market").is_none_or(|name| scenario.name.starts_with(name)));
        Ok(all)
    };
    println!("launch → serving {median} s (p90 {p90} s); notice 120 s; seeds {seeds:?}; on-demand 1 USD an hour");
    let fleet = |seed| FleetSettings {
        launch_median: Span::from_secs(median),
        launch_p90: Span::from_secs(p90),
        minimum_billing: Span::from_secs(60),
        on_demand_usd_hour: 1.0,
        tick: Span::from_secs(15),
        seed,
    };
    let by_seed =
        seeds.iter().map(|seed| Ok((*seed, scenarios(*seed)?))).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let Some((_, markets)) = by_seed.first() else { return Ok(()) };
    let jobs: Vec<(usize, &Scenario, u64, Strategy)> = (0..markets.len())
        .flat_map(|market| by_seed.iter().map(move |(seed, scenarios)| (market, &scenarios[market], *seed)))
        .flat_map(|(market, scenario, seed)| strategies.iter().map(move |strategy| (market, scenario, seed, *strategy)))
        .collect();
    let played = in_parallel(&jobs, |(_, scenario, seed, strategy)| play(scenario, &fleet(*seed), *strategy, &spot));
    let (mut rows, mut limits) = (Vec::new(), Vec::new());
    for (index, scenario) in markets.iter().enumerate() {
        limits.push((scenario.name.clone(), limit(scenario, &fleet(seeds[0]))?));
        let of = |strategy: Strategy| -> Result<Vec<Outcome>, MarketError> {
            let outcomes = jobs.iter().zip(&played).filter(|(job, _)| job.0 == index && job.3 == strategy);
            outcomes.map(|(_, outcome)| outcome.clone()).collect()
        };
        for strategy in &strategies {
            let (market, on_demand) = (scenario.name.clone(), of(Strategy::AllOnDemand)?);
            rows.push(Row { market, strategy: *strategy, outcomes: of(*strategy)?, on_demand });
        }
    }
    println!("{}", render(&rows, &limits));
    Ok(())
}

/// What was said on the command line.
struct Options(Vec<String>);

impl Options {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|option| option == name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    fn settings(&self) -> SpotSettings {
        let usual = SpotSettings::default();
        let minutes = |name: &str, usual: Span| {
            self.number(name).map_or(usual, |minutes| Span::from_millis((minutes * 60_000.0) as i64))
        };
        SpotSettings {
            risk: self.number("--risk").unwrap_or(usual.risk),
            saving: minutes("--saving", usual.saving),
            hedge_share: self.number("--hedge").unwrap_or(usual.hedge_share),
            probe_share: self.number("--probe").unwrap_or(usual.probe_share),
            noticed: self.number("--noticed").unwrap_or(usual.noticed),
            return_after: minutes("--return", usual.return_after),
            step_every: minutes("--every", usual.step_every),
            step_share: self.number("--step").unwrap_or(usual.step_share),
            ..usual
        }
    }
}

/// The results of all jobs in their order, worked off by as many threads as there are cores.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let run = || {
            let mut mine = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(index) else { return mine };
                mine.push((index, work(job)));
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The recorded markets; none where `PRESCALE_TRACES` names no folder.
fn recorded(load: LoadShape) -> Result<Vec<Scenario>, Box<dyn Error>> {
    let Some(folder) = std::env::var_os("PRESCALE_TRACES").map(|folder| PathBuf::from(folder).join("spot")) else {
        return Ok(Vec::new());
    };
    let markets: [(&str, &str, &[&str], u32); 7] = [
        (
            "16-node 2023-08",
            "availability_16-node_aws-08-27-2023",
            &["us-east-2b_v100_1", "us-west-2a_v100_1", "us-west-2c_v100_1"],
            1,
        ),
        (
            "1-node 2023-02",
            "availability_1-node_aws-02-15-2023",
            &[
                "us-east-1a_v100_1",
                "us-east-1f_v100_1",
                "us-east-2a_v100_1",
                "us-east-2b_v100_1",
                "us-west-2a_v100_1",
                "us-west-2c_v100_1",
            ],
            16,
        ),
        (
            "1-node 2022-10",
            "availability_1-node_aws-10-26-2022",
            &["us-west-2a_k80_1", "us-west-2a_k80_8", "us-west-2a_v100_1", "us-west-2a_v100_8"],
            16,
        ),
        (
            "4-node preempt 2023-08",
            "preemption_4-node_aws-08-03-2023",
            &["us-east-1f_v100_1", "us-east-2a_v100_1", "us-west-2c_v100_1"],
            4,
        ),
        ("preempt 2023-04-22", "preemption_1-node_aws-04-22-2023", &["us-east-1f_v100_1", "us-west-2c_v100_1"], 16),
        ("preempt 2023-04-19", "preemption_1-node_aws-04-19-2023", &["us-east-1b_intel_64"], 16),
        ("best zone 2023-02", "availability_1-node_aws-02-15-2023", &["us-west-2c_v100_1"], 16),
    ];
    let mut found = Vec::new();
    for (name, prefix, pools, units) in markets {
        let mut settings = Vec::new();
        for pool in pools {
            let instances = series(&folder.join(format!("{prefix}_{pool}.csv.gz")))?;
            let (zone, instance_type) = pool.split_once('_').ok_or("a trace's name has a zone and a type")?;
            let (zone, instance_type) = (zone.to_owned(), instance_type.to_owned());
            settings.push(RecordedPool { instance_type, zone, instances, prices: None });
        }
        found.extend(Scenario::recorded(name, settings, units, load));
    }
    found.extend(bid_market(&folder, load)?);
    Ok(found)
}

/// The market of 2015, when a unit was lost as soon as the price passed its bid: the on-demand price.
fn bid_market(folder: &std::path::Path, load: LoadShape) -> Result<Option<Scenario>, Box<dyn Error>> {
    let on_demand = [("c3.xlarge", 0.21), ("d2.8xlarge", 5.52), ("m3.medium", 0.067), ("r3.large", 0.175)];
    let mut pools = Vec::new();
    for (instance_type, usd_hour) in on_demand {
        for zone in ["us-east-1a", "us-east-1b"] {
            let mut prices = series(&folder.join(format!("ec2_spot_price_{zone}_{instance_type}.csv.gz")))?;
            prices.iter_mut().for_each(|(_, price)| *price /= usd_hour);
            let instances = prices.iter().map(|(at, price)| (*at, if *price <= 1.0 { 1.0 } else { 0.0 })).collect();
            pools.push(RecordedPool {
                instance_type: instance_type.to_owned(),
                zone: zone.to_owned(),
                instances,
                prices: Some(prices),
            });
        }
    }
    let whole = Scenario::recorded("bid market 2015", pools, 16, load);
    // A month of the five.
    Ok(whole.map(|whole| Scenario { end: whole.end.min(whole.start + Span::from_minutes(30 * 24 * 60)), ..whole }))
}

fn series(path: &std::path::Path) -> Result<Series, Box<dyn Error>> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    text.lines()
        .skip(1)
        .map(|line| {
            let (at, value) = line.split_once(',').ok_or("a row is a moment and a value")?;
            Ok((at.parse()?, value.parse()?))
        })
        .collect()
}
