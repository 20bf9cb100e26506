//! Recorded spot traces. Runs where `PRESCALE_TRACES` names the folder that holds them.
#![expect(clippy::print_stderr, reason = "says what it skipped and what it saw")]

use std::io::Read;
use std::path::PathBuf;

use super::*;

/// A recorded series of the folder `spot`; `None` = it is not there.
fn series(name: &str) -> Option<Vec<(Timestamp, f64)>> {
    let path = std::env::var_os("PRESCALE_TRACES").map(|folder| PathBuf::from(folder).join("spot").join(name));
    let Some(file) = path.and_then(|path| std::fs::File::open(path).ok()) else {
        eprintln!("skipped: {name} is not in PRESCALE_TRACES");
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let (moment, value) = line.split_once(',').unwrap();
        (moment.parse().unwrap(), value.parse().unwrap())
    });
    Some(rows.collect())
}

/// A fleet that always launches all it can get: what it had, and how many it lost, as the trace says both.
#[test]
fn a_greedy_fleet_has_and_loses_what_the_trace_had_and_lost() {
    for name in [
        "availability_16-node_aws-08-27-2023_us-east-2b_v100_1.csv.gz",
        "availability_16-node_aws-08-27-2023_us-west-2c_v100_1.csv.gz",
        "preemption_4-node_aws-08-03-2023_us-east-1f_v100_1.csv.gz",
        "preemption_4-node_aws-08-03-2023_us-west-2c_v100_1.csv.gz",
    ] {
        let Some(instances) = series(name) else { return };
        let (start, end) = (instances[0].0, instances[instances.len() - 1].0);
        let lost_in_trace: f64 = instances.windows(2).map(|pair| (pair[0].1 - pair[1].1).max(0.0)).sum();
        let supply = Supply::Recorded { instances: instances.clone(), units: 1 };
        let settings = MarketSettings { pools: vec![pool("a", 1.0, supply)], ..MarketSettings::default() };
        let mut market = Market::new(&settings, start, end, 1).unwrap();
        let (mut running, mut unit, mut lost): (Vec<Tenancy>, u64, u64) = (Vec::new(), 0, 0);
        for (moment, value) in &instances {
            running.retain(|tenant| {
                let gone = tenant.lost_at.is_some_and(|at| at <= *moment);
                if gone {
                    market.end(tenant);
                    lost += 1;
                }
                !gone
            });
            while let Some(tenant) = market.launch(unit, *moment) {
                unit += 1;
                running.push(tenant);
            }
            assert_eq!(running.len() as f64, *value, "{name} at {moment}");
        }
        assert_eq!(lost as f64, lost_in_trace, "{name}");
        eprintln!("{name}: {unit} launched, {lost} lost in {} hours", end.since(start).millis() / 3_600_000);
    }
}

#[test]
fn recorded_prices_are_averaged_over_time_and_not_over_changes() {
    let Some(changes) = series("ec2_spot_price_us-east-1a_r3.large.csv.gz") else { return };
    let (start, end) = (changes[0].0, changes[changes.len() - 1].0);
    let plain = changes.iter().map(|(_, price)| price).sum::<f64>() / changes.len() as f64;
    let prices = PriceSeries::new(&Prices::Recorded(changes), (start, end), 1, 0).unwrap();
    let hours = end.since(start).seconds() / 3600.0;
    let mean = prices.integral_hours(start, end) / hours;
    eprintln!("mean price {mean} USD an hour by time, {plain} by change");
    // On-demand was 0.175.
    assert!(mean > 0.01 && mean < 0.3);
}
