//! A small bout whose numbers are easy to follow: two units of 10 at the start, a minute from request to service, a dollar
//! for a unit and minute.

use prescale_actuate::FleetSettings;
use prescale_domain::{Span, Timestamp};

use super::{Bout, Demand};

pub(crate) fn bout(load: &[f64]) -> Bout {
    let latency = Span::from_secs(60);
    Bout {
        demand: Demand { start: Timestamp::from_millis(0), step: Span::from_minutes(1), load: load.to_vec() },
        fleet: FleetSettings {
            min: 1,
            max: 50,
            initial: 2,
            provisioning_latency: latency,
            provisioning_latency_p90: latency,
            warm_up: Span::ZERO,
            price_usd_hour: 60.0,
            minimum_billing: Span::ZERO,
            seed: 1,
        },
        unit_capacity: 10.0,
    }
}
