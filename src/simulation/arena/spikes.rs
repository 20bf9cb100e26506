//! Which steps of a load are spikes. Rule: judged on the load alone, so that all systems are asked about the same ones.

use prescale_domain::Span;

use super::Demand;

/// Half the width of the window of the rolling median. A ramp of a day is flat within two hours; what is over in an hour is
/// not part of the median.
const HALF_WINDOW: Span = Span::from_minutes(60);
const SIGMAS: f64 = 2.0;

/// For each step, whether its load is more than 2σ above the rolling median; σ is the standard deviation of the load from
/// its rolling median over the whole of it. The window is centred: this judges, it does not decide.
pub fn spikes(demand: &Demand) -> Vec<bool> {
    let half = usize::try_from(HALF_WINDOW.millis() / demand.step.millis().max(1)).unwrap_or(0).max(1);
    let above: Vec<f64> = demand.load.iter().zip(rolling_median(&demand.load, half)).map(|(x, m)| x - m).collect();
    let count = above.len().max(1) as f64;
    let mean = above.iter().sum::<f64>() / count;
    let sigma = (above.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
    above.iter().map(|x| *x > SIGMAS * sigma && sigma > 0.0).collect()
}

/// The median of the `half` steps before, the step itself and the `half` steps after; fewer at the ends.
fn rolling_median(load: &[f64], half: usize) -> Vec<f64> {
    // Kept in order: a step out, a step in.
    let mut window: Vec<f64> = Vec::with_capacity(2 * half + 1);
    let place = |window: &[f64], value: f64| window.partition_point(|other| other.total_cmp(&value).is_lt());
    for value in load.iter().take(half) {
        window.insert(place(&window, *value), *value);
    }
    let median = |(index, _): (usize, &f64)| {
        if let Some(value) = load.get(index + half) {
            window.insert(place(&window, *value), *value);
        }
        if let Some(value) = index.checked_sub(half + 1).and_then(|gone| load.get(gone)) {
            window.remove(place(&window, *value));
        }
        let middle = window.len() / 2;
        if window.len() % 2 == 1 { window[middle] } else { (window[middle - 1] + window[middle]) / 2.0 }
    };
    load.iter().enumerate().map(median).collect()
}

#[cfg(test)]
mod tests {
    use prescale_domain::Timestamp;

    use super::*;

    #[test]
    fn the_median_rolls() {
        assert_eq!(rolling_median(&[1.0, 9.0, 2.0, 3.0, 4.0], 1), [5.0, 2.0, 3.0, 3.0, 3.5]);
        assert_eq!(rolling_median(&[], 1), [0.0; 0]);
    }

    #[test]
    fn a_burst_is_a_spike_and_a_daily_wave_is_none() {
        let wave = |minute: usize| 100.0 + 50.0 * (minute as f64 / 1440.0 * std::f64::consts::TAU).sin();
        let noise = |minute: usize| if minute.is_multiple_of(2) { 1.0 } else { -1.0 };
        let mut load: Vec<f64> = (0..2880).map(|minute| wave(minute) + noise(minute)).collect();
        load[700..710].iter_mut().for_each(|load| *load += 80.0);
        let step = Span::from_minutes(1);
        let found = spikes(&Demand { start: Timestamp::from_millis(0), step, load });
        assert!((0..2880).all(|minute| found[minute] == (700..710).contains(&minute)));
        let flat = Demand { start: Timestamp::from_millis(0), step, load: vec![3.0; 50] };
        assert_eq!(spikes(&flat), [false; 50]);
    }
}
