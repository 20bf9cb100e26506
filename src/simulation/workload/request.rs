//! The request records of one minute, as services log them. Rule: as many as the load says, inside their minute.

use prescale_domain::{ServiceName, Timestamp};
use rand::RngExt;
use rand_distr::{Distribution, LogNormal};
use serde::Serialize;

use super::MINUTE;
use crate::seeded::{Purpose, rng};

/// One line of a request log, a record of the `requests` topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestRecord {
    pub ts: Timestamp,
    pub service: ServiceName,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub route: &'static str,
    pub priority: &'static str,
    pub status: u16,
    pub latency_ms: f64,
    pub bytes: u64,
    pub instance: String,
}

const ROUTES: [&str; 5] = ["/", "/items", "/items/{id}", "/cart", "/status"];

/// The requests of the minute that starts at `minute`, in the order of their times.
pub(super) fn requests(
    seed: u64,
    service: usize,
    name: ServiceName,
    minute: Timestamp,
    count: u64,
) -> impl Iterator<Item = RequestRecord> + use<> {
    let mut rng = rng(seed, Purpose::Requests, service, minute);
    let mut offsets: Vec<i64> = (0..count).map(|_| rng.random_range(0..MINUTE.millis())).collect();
    offsets.sort_unstable();
    // Median 24 ms and 90th percentile about 60 ms; sizes with a median of 3 kB.
    let latency = LogNormal::new(24.0_f64.ln(), 0.7).ok();
    let size = LogNormal::new(3000.0_f64.ln(), 1.0).ok();
    offsets.into_iter().map(move |offset| {
        let draw: f64 = rng.random();
        let write = draw < 0.2;
        let latency_ms = latency.map_or(24.0, |latency| latency.sample(&mut rng));
        RequestRecord {
            ts: Timestamp::from_millis(minute.millis() + offset),
            service: name.clone(),
            kind: if write { "write" } else { "read" },
            route: ROUTES[rng.random_range(0..ROUTES.len())],
            priority: if draw < 0.05 { "high" } else { "normal" },
            status: status(rng.random()),
            latency_ms: (latency_ms * 10.0).round() / 10.0,
            bytes: size.map_or(3000.0, |size| size.sample(&mut rng)) as u64,
            instance: format!("{name}-{}", rng.random_range(1..=8)),
        }
    })
}

fn status(draw: f64) -> u16 {
    match draw {
        draw if draw < 0.004 => 500,
        draw if draw < 0.006 => 503,
        draw if draw < 0.03 => 404,
        draw if draw < 0.08 => 304,
        _ => 200,
    }
}
