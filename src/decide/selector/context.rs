//! What kind of load a service has, in a few numbers. Rule: of the past only, each about 1.

use prescale_domain::Span;

/// The numbers of [`context`], by name.
pub const FEATURES: [&str; 7] = ["one", "size", "swing", "noise", "burst", "trend", "lead-time"];

/// The last day of `history`, windows of which `hour` make an hour, on units that carry `unit_capacity` and take `lead` from
/// request to full speed; `None` without two hours of history, or without a load.
pub fn context(history: &[f64], hour: usize, unit_capacity: f64, lead: Span) -> Option<Vec<f64>> {
    let hour = hour.max(1);
    let day = &history[history.len().saturating_sub(24 * hour)..];
    if day.len() < 2 * hour.max(2) || day.iter().any(|load| !load.is_finite()) {
        return None;
    }
    let count = day.len() as f64;
    let mean = day.iter().sum::<f64>() / count;
    if !(mean > 0.0 && unit_capacity > 0.0) {
        return None;
    }
    let mut sorted = day.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quantile = |level: f64| sorted[((level * count) as usize).min(sorted.len() - 1)];
    let changes: f64 = day.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    let last_hour = day[day.len() - hour..].iter().sum::<f64>() / hour as f64;
    Some(vec![
        1.0,
        (mean / unit_capacity).max(1e-3).log10(),
        (quantile(0.95) - quantile(0.05)) / mean,
        10.0 * changes / (count - 1.0) / mean,
        quantile(1.0) / quantile(0.99).max(1e-9) - 1.0,
        last_hour / mean - 1.0,
        (1.0 + lead.seconds() / 60.0).log10(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_kinds_of_load_apart_and_is_absent_without_history() {
        let of = |history: &[f64]| context(history, 60, 5.0, Span::from_minutes(9));
        let calm = of(&[50.0; 1440]).unwrap();
        assert_eq!(calm.len(), FEATURES.len());
        assert_eq!(calm, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        let mut spiky = [10.0; 1440];
        spiky[700] = 50.0;
        assert_eq!(of(&spiky).unwrap()[4], 4.0);
        for odd in [&[10.0; 60][..], &[0.0; 1440], &[f64::NAN; 1440], &[]] {
            assert_eq!(of(odd), None);
        }
        // Windows of an hour.
        assert!(context(&[10.0; 24], 1, 5.0, Span::ZERO).is_some());
    }
}
