//! Prints what strategies of buying spot capacity come to, on recorded markets and a generated one:
//! `PRESCALE_TRACES=… cargo run -p prescale-simulation --example spot`. Options: `--quick` takes one seed and two markets, `--one-seed` one seed,
//! `--slow` launches that take longer than the notice; `--risk=`, `--noticed=`, `--step=` and `--headroom=` set what they name.
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;

use prescale_decide::spot::SpotSettings;
use prescale_domain::{Span, Timestamp};
use prescale_simulation::spot::{
    FleetSettings, LoadShape, Outcome, RecordedPool, Row, Scenario, Strategy, generated, limit, play, render,
};

type Series = Vec<(Timestamp, f64)>;

fn main() -> Result<(), Box<dyn Error>> {
    let options: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| options.iter().any(|option| option == name);
    let seeds: &[u64] = if has("--quick") || has("--one-seed") { &[1] } else { &[1, 2, 3] };
    let (median, p90) = if has("--slow") { (150, 240) } else { (75, 110) };
    let number = |name: &str| options.iter().find_map(|option| option.strip_prefix(name)?.parse::<f64>().ok());
    let usual = SpotSettings::default();
    let spot = SpotSettings {
        risk: number("--risk=").unwrap_or(usual.risk),
        noticed: number("--noticed=").unwrap_or(usual.noticed),
        step_share: number("--step=").unwrap_or(usual.step_share),
        ..usual
    };
    let load = |seed| {
        let usual = LoadShape::usual(seed);
        LoadShape { headroom: number("--headroom=").unwrap_or(usual.headroom), ..usual }
    };
    let scenarios = |seed| -> Result<Vec<Scenario>, Box<dyn Error>> {
        let mut all = recorded(load(seed))?;
        all.push(generated("generated", 10, 14, load(seed)));
        if has("--quick") {
            all.retain(|scenario| scenario.name.starts_with("16-node") || scenario.name.starts_with("4-node"));
        }
        Ok(all)
    };
    println!("launch → serving {median} s (p90 {p90} s); notice 120 s; seeds {seeds:?}; on-demand 1 USD an hour");
    let markets = scenarios(seeds[0])?.len();
    let (mut rows, mut limits) = (Vec::new(), Vec::new());
    for index in 0..markets {
        let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); Strategy::ALL.len()];
        let mut name = String::new();
        for seed in seeds {
            let scenario = &scenarios(*seed)?[index];
            let fleet = FleetSettings {
                launch_median: Span::from_secs(median),
                launch_p90: Span::from_secs(p90),
                minimum_billing: Span::from_secs(60),
                on_demand_usd_hour: 1.0,
                tick: Span::from_secs(15),
                seed: *seed,
            };
            for (strategy, outcomes) in Strategy::ALL.into_iter().zip(&mut outcomes) {
                outcomes.push(play(scenario, &fleet, strategy, &spot)?);
            }
            if name.is_empty() {
                name = scenario.name.clone();
                limits.push((name.clone(), limit(scenario, &fleet)?));
            }
        }
        let on_demand = outcomes[0].clone();
        for (strategy, outcomes) in Strategy::ALL.into_iter().zip(outcomes) {
            rows.push(Row { market: name.clone(), strategy, outcomes, on_demand: on_demand.clone() });
        }
    }
    println!("{}", render(&rows, &limits));
    Ok(())
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
