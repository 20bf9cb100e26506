//! What queueing theory says of waiting: the measure that the simulator is held to. Rule: `None` where a queue has no
//! steady state.

/// Share of arrivals that find all of `servers` busy and wait (Erlang's second formula), at `offered` load in servers'
/// worth of work. Below 10⁻¹² it is 0.
pub fn erlang_c(servers: u32, offered: f64) -> Option<f64> {
    let count = f64::from(servers);
    if !offered.is_finite() || offered < 0.0 || offered >= count {
        return None;
    }
    if offered == 0.0 {
        return Some(0.0);
    }
    // The inverse of Erlang's first formula, a sum of ever smaller or ever larger terms.
    let (mut term, mut inverse) = (1.0, 1.0);
    for number in 0..servers {
        term *= (count - f64::from(number)) / offered;
        inverse += term;
        if inverse > 1e12 {
            return Some(0.0);
        }
        if term < inverse * 1e-17 {
            break;
        }
    }
    let blocked = 1.0 / inverse;
    let utilization = offered / count;
    Some(blocked / (1.0 - utilization * (1.0 - blocked)))
}

/// Mean seconds of waiting in M/M/c: `rate` arrivals a second, `mean_seconds` in service.
pub fn mmc_wait_seconds(servers: u32, rate: f64, mean_seconds: f64) -> Option<f64> {
    let offered = rate * mean_seconds;
    let waits = erlang_c(servers, offered)?;
    Some(waits * mean_seconds / (f64::from(servers) - offered))
}

/// Mean seconds of waiting in M/G/1 (Pollaczek and Khinchine), exact.
pub fn mg1_wait_seconds(rate: f64, mean_seconds: f64, squared_variation: f64) -> Option<f64> {
    let utilization = rate * mean_seconds;
    (utilization.is_finite() && utilization < 1.0)
        .then(|| utilization * mean_seconds * (1.0 + squared_variation) / (2.0 * (1.0 - utilization)))
}

/// Mean seconds of waiting in M/G/c (Allen and Cunneen), an approximation that is exact for one server and for
/// exponential service.
pub fn mgc_wait_seconds(servers: u32, rate: f64, mean_seconds: f64, squared_variation: f64) -> Option<f64> {
    mmc_wait_seconds(servers, rate, mean_seconds).map(|wait| wait * (1.0 + squared_variation) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found / expected - 1.0).abs() < 1e-9)
    }

    #[test]
    fn formulas_agree_where_they_meet() {
        // One server: all who find it busy wait, which is its utilization.
        assert!(near(erlang_c(1, 0.7), 0.7));
        // Two servers by hand: a²/2 / ((1 − a/2)(1 + a) + a²/2) at a = 1.
        assert!(near(erlang_c(2, 1.0), 1.0 / 3.0));
        assert!(near(mmc_wait_seconds(1, 0.8, 1.0), 4.0));
        assert!(near(mg1_wait_seconds(0.8, 1.0, 1.0), 4.0));
        assert!(near(mg1_wait_seconds(0.8, 1.0, 0.0), 2.0));
        assert!(near(mgc_wait_seconds(1, 0.8, 1.0, 4.0), 10.0));
    }

    #[test]
    fn large_systems_hardly_wait_and_overloaded_ones_have_no_steady_state() {
        assert_eq!(erlang_c(8000, 6400.0), Some(0.0));
        assert!(erlang_c(8000, 7990.0).is_some_and(|share| (0.8..0.95).contains(&share)));
        assert_eq!(erlang_c(10, 10.0), None);
        assert_eq!(erlang_c(10, f64::NAN), None);
        assert_eq!(erlang_c(0, 0.0), None);
        assert_eq!(mg1_wait_seconds(1.0, 1.0, 1.0), None);
    }
}
