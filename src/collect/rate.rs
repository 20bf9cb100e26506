//! Rates from counters that only rise. Rule: two readings make a rate or none; one that is not known is never a zero, and a
//! counter that fell has begun anew.

use std::time::Duration;

/// A counter as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub total: u64,
    /// On a clock that never jumps.
    pub at: Duration,
}

/// By how much a counter rose in a second. `None` = it fell, or no time has passed.
pub fn per_second(before: Counted, after: Counted) -> Option<f64> {
    let rise = after.total.checked_sub(before.total)?;
    let elapsed = after.at.checked_sub(before.at).filter(|elapsed| !elapsed.is_zero())?;
    Some(rise as f64 / elapsed.as_secs_f64())
}

/// What a container has used of its machine's processors, since it and the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuReading {
    pub used_nanos: u64,
    /// Of all processors together, idle or not, read at the same moment; not every engine tells it.
    pub machine_nanos: Option<u64>,
    /// Processors of the machine.
    pub cpus: u32,
    /// On a clock that never jumps.
    pub at: Duration,
}

/// Processors in use on average between two readings, from 0 to all that there are. By the machine's own count of time where
/// both have it (as `docker stats` does it), otherwise by the clock. `None` = a counter fell, or no time has passed.
pub fn cores(before: CpuReading, after: CpuReading) -> Option<f64> {
    let used = after.used_nanos.checked_sub(before.used_nanos)? as f64;
    let cpus = f64::from(after.cpus);
    let available = match (before.machine_nanos, after.machine_nanos) {
        (Some(before), Some(after)) => after.checked_sub(before)? as f64,
        _ => after.at.checked_sub(before.at)?.as_nanos() as f64 * cpus,
    };
    // The machine counts in hundredths of a second: a busy container may seem to have had a little more than all.
    (available > 0.0).then(|| (used / available).min(1.0) * cpus)
}

/// A part of a whole in percent, from 0 to 100. `None` = there is no whole.
pub fn percent(part: f64, whole: f64) -> Option<f64> {
    let share = part / whole;
    (whole > 0.0 && share.is_finite()).then(|| (share * 100.0).clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn cpu(used: u64, machine: Option<u64>, at: u64) -> CpuReading {
        CpuReading { used_nanos: used, machine_nanos: machine, cpus: 4, at: Duration::from_nanos(at) }
    }

    #[test]
    fn half_of_four_processors_is_two() {
        let (before, after) = (cpu(SECOND, Some(10 * SECOND), 0), cpu(3 * SECOND, Some(14 * SECOND), SECOND));
        assert_eq!(cores(before, after), Some(2.0));
        // By the clock, where the engine does not tell the machine's time: two seconds of work in one.
        let after = CpuReading { machine_nanos: None, ..after };
        assert_eq!(cores(before, after), Some(2.0));
    }

    #[test]
    fn a_counter_that_began_anew_and_a_moment_without_length_make_no_rate() {
        let before = cpu(5 * SECOND, Some(10 * SECOND), SECOND);
        assert_eq!(cores(before, cpu(SECOND, Some(14 * SECOND), 2 * SECOND)), None, "the container restarted");
        assert_eq!(cores(before, cpu(6 * SECOND, Some(SECOND), 2 * SECOND)), None, "the machine restarted");
        assert_eq!(cores(before, before), None);
        assert_eq!(cores(before, cpu(5 * SECOND, Some(14 * SECOND), 2 * SECOND)), Some(0.0), "idle is known");
        let counted = |total, at| Counted { total, at: Duration::from_secs(at) };
        assert_eq!(per_second(counted(10, 1), counted(9, 2)), None);
        assert_eq!(per_second(counted(10, 1), counted(20, 1)), None);
        assert_eq!(per_second(counted(10, 2), counted(20, 1)), None, "readings out of order");
        assert_eq!(per_second(counted(10, 1), counted(10, 3)), Some(0.0));
        assert_eq!(per_second(counted(10, 1), counted(40, 3)), Some(15.0));
    }

    #[test]
    fn a_share_of_nothing_is_not_known() {
        assert_eq!(percent(1.0, 0.0), None);
        assert_eq!(percent(1.0, f64::NAN), None);
        assert_eq!(percent(f64::NAN, 1.0), None);
        assert_eq!(percent(1.0, 4.0), Some(25.0));
    }

    fn reading() -> impl Strategy<Value = CpuReading> {
        (any::<u64>(), any::<Option<u64>>(), 0..2048_u32, any::<u64>()).prop_map(
            |(used_nanos, machine_nanos, cpus, at)| CpuReading {
                used_nanos,
                machine_nanos,
                cpus,
                at: Duration::from_nanos(at),
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_read_the_cores_are_between_none_and_all(before in reading(), after in reading()) {
            if let Some(cores) = cores(before, after) {
                prop_assert!((0.0..=f64::from(after.cpus)).contains(&cores), "{cores}");
                prop_assert!(after.used_nanos >= before.used_nanos);
            }
        }

        #[test]
        fn more_use_in_the_same_time_is_never_fewer_cores(
            used in 0..SECOND, more in 0..SECOND, machine in 1..10 * SECOND, cpus in 1..64_u32,
        ) {
            let before = CpuReading { used_nanos: 7, machine_nanos: Some(9), cpus, at: Duration::ZERO };
            let after = |used| CpuReading { used_nanos: 7 + used, machine_nanos: Some(9 + machine), ..before };
            prop_assert!(cores(before, after(used)).unwrap() <= cores(before, after(used + more)).unwrap());
        }

        #[test]
        fn two_rates_in_a_row_are_the_rate_of_both(
            first in 0..1u64 << 40, second in 0..1u64 << 40, start in any::<u32>(), one in 1..1000_u64, two in 1..1000_u64,
        ) {
            let at = |total: u64, seconds| Counted { total: u64::from(start) + total, at: Duration::from_secs(seconds) };
            let (a, b, c) = (at(0, 0), at(first, one), at(first + second, one + two));
            let whole = per_second(a, c).unwrap() * (one + two) as f64;
            let parts = per_second(a, b).unwrap() * one as f64 + per_second(b, c).unwrap() * two as f64;
            prop_assert!((whole - parts).abs() <= 1e-6 * whole.max(1.0));
        }

        #[test]
        fn a_percentage_is_one(part in any::<f64>(), whole in any::<f64>()) {
            if let Some(percent) = percent(part, whole) {
                prop_assert!((0.0..=100.0).contains(&percent));
            }
        }
    }
}
