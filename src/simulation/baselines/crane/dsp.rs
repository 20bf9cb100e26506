//! Crane's periodic signals: is there a day or a week in it, and which estimator would have told its last cycle best? Rule:
//! its steps in its order; its random permutations are drawn from a fixed seed.

use prescale_domain::Span;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::fourier::{Complex, Fourier};

const HOUR: Span = Span::from_minutes(60);
const DAY: Span = Span::from_minutes(24 * 60);
const WEEK: Span = Span::from_minutes(7 * 24 * 60);
/// `defaultHighFrequencyThreshold`, in hertz.
const HIGH_FREQUENCY: f64 = 1.0 / 3600.0;
/// `defaultMaxNumOfSpectrumItems`
const MOST_ITEMS: usize = 100;
/// `defaultFFTMinValue`
const LEAST_VALUE: f64 = 0.01;
/// `defaultEstimators`: fewest spectrum items, lowest amplitude (in the unit of the load), each with all margins.
const FILTERS: [(usize, f64); 2] = [(3, 1.0), (50, 0.05)];
const MARGINS: [f64; 4] = [0.01, 0.10, 0.15, 0.20];
const PERMUTATIONS: usize = 100;

/// One cycle from the end of `samples` on; `None` where no daily or weekly period is found.
pub(super) fn predict(samples: Vec<f64>, step: Span) -> Option<Vec<f64>> {
    if step.millis() <= 0 || step > HOUR {
        return None;
    }
    let mut samples = truncate(&samples, HOUR, step)?.0.to_vec();
    replace_outliers(&mut samples);
    let period = find_period(&samples, step)?;
    let (signal, cycles) = truncate(&samples, period, step)?;
    let cycle = signal.len() / cycles;
    if cycles < 2 {
        return None;
    }
    let (history, actual) = signal.split_at(signal.len() - cycle);
    let mut best: Option<(f64, usize, f64)> = None;
    for (index, filter) in FILTERS.into_iter().enumerate() {
        let estimate = estimate(history, cycle, filter, step);
        for margin in MARGINS {
            let error = prediction_error(actual, &estimate, 1.0 + margin);
            if best.is_none_or(|(least, ..)| error < least) {
                best = Some((error, index, margin));
            }
        }
    }
    let (_, index, margin) = best?;
    Some(estimate(signal, cycle, FILTERS[index], step).into_iter().map(|value| value * (1.0 + margin)).collect())
}

/// The newest samples that are whole multiples of `length`, and how many.
fn truncate(samples: &[f64], length: Span, step: Span) -> Option<(&[f64], usize)> {
    let count = usize::try_from(length.millis() / step.millis()).ok()?;
    let multiple = samples.len() / count.max(1);
    (multiple > 0).then(|| (&samples[samples.len() - multiple * count..], multiple))
}

/// `removeExtremeOutliers`: what is outside the percentiles 0.1 and 99.9 becomes what was before it.
fn replace_outliers(samples: &mut [f64]) {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (Some(low), Some(high)) = (percentile(&sorted, 0.1), percentile(&sorted, 99.9)) else { return };
    for index in 1..samples.len() {
        if samples[index] > high || samples[index] < low {
            samples[index] = samples[index - 1];
        }
    }
}

/// Of montanaflynn/stats: a sample, or the mean of two.
fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let index = percent / 100.0 * sorted.len() as f64;
    let below = (index as usize).checked_sub(1)?;
    if index.fract() == 0.0 {
        sorted.get(below).copied()
    } else {
        Some((sorted.get(below)? + sorted.get(below + 1)?) / 2.0)
    }
}

/// A day or a week; the periodogram's peaks that chance would not make, of which the one with the highest autocorrelation
/// counts.
fn find_period(samples: &[f64], step: Span) -> Option<Span> {
    let weekly = truncate(samples, WEEK, step).filter(|(_, multiple)| *multiple > 1);
    let (signal, _) = weekly.or_else(|| truncate(samples, DAY, step).filter(|(_, multiple)| *multiple > 1))?;
    let count = signal.len();
    let fourier = Fourier::new(count);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut shuffled = signal.to_vec();
    let mut maxima: Vec<f64> = (0..PERMUTATIONS)
        .map(|_| {
            shuffled.shuffle(&mut rng);
            let spectrum = transform(&fourier, &shuffled);
            // A root keeps the order.
            spectrum[1..count / 2].iter().map(|x| x.norm_sqr()).fold(0.0, f64::max).sqrt()
        })
        .collect();
    maxima.sort_unstable_by(f64::total_cmp);
    let threshold = maxima[PERMUTATIONS - 2];
    let mut hints: Vec<usize> = Vec::new();
    for (k, power) in transform(&fourier, signal).iter().enumerate().take(count / 2).skip(2) {
        if power.norm() > threshold && hints.last().is_none_or(|last| *last > count / k) {
            hints.push(count / k);
        }
    }
    let correlation = auto_correlation(signal, &fourier);
    let widest = usize::try_from(4 * HOUR.millis() / step.millis()).unwrap_or(0);
    let mut best: Option<usize> = None;
    let mut highest = 0.0;
    for hint in hints {
        if is_peak(&correlation, hint, widest.min(hint / 2)) && correlation[hint] > highest {
            (best, highest) = (Some(hint), correlation[hint]);
        }
    }
    let period = Span::from_millis(step.millis() * i64::try_from(best?).ok()?);
    [DAY, WEEK].into_iter().find(|known| *known == period)
}

fn transform(fourier: &Fourier, signal: &[f64]) -> Vec<Complex> {
    let signal: Vec<Complex> = signal.iter().map(|value| Complex::new(*value, 0.0)).collect();
    fourier.forward(&signal)
}

/// Circular, by the power spectrum of the standardised signal.
fn auto_correlation(signal: &[f64], fourier: &Fourier) -> Vec<f64> {
    let count = signal.len() as f64;
    let mean = signal.iter().sum::<f64>() / count;
    let deviation = (signal.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
    let standard: Vec<f64> = signal.iter().map(|x| (x - mean) / deviation).collect();
    let mut power = transform(fourier, &standard);
    power.iter_mut().for_each(|x| *x = Complex::new(x.norm_sqr(), 0.0));
    fourier.inverse(&power).iter().map(|x| x.re / count / count).collect()
}

/// Whether the line through the `around` values before rises and that through those after falls.
fn is_peak(values: &[f64], at: usize, around: usize) -> bool {
    if at < 1 || at + 1 > values.len() {
        return false;
    }
    let (first, last) = (at.saturating_sub(around), (values.len() - 1).min(at + around));
    slope(&values[first..=at]) > 0.0 && slope(&values[at..=last]) < 0.0
}

fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (index, value) in values.iter().enumerate() {
        let x = index as f64 - middle;
        xy += x * (value - mean);
        xx += x * x;
    }
    xy / xx
}

/// The last cycle of the signal without its noise: what is both rare and weak in the spectrum.
fn estimate(signal: &[f64], cycle: usize, (fewest, lowest): (usize, f64), step: Span) -> Vec<f64> {
    let count = signal.len();
    let fourier = Fourier::new(count);
    let mut spectrum = transform(&fourier, signal);
    let amplitude = |x: &Complex| x.norm() / count as f64;
    let mut amplitudes: Vec<f64> = spectrum.iter().take(count / 2).skip(1).map(amplitude).collect();
    amplitudes.sort_unstable_by(|a, b| b.total_cmp(a));
    let least = amplitudes.get(MOST_ITEMS - 1).or(amplitudes.last()).copied().unwrap_or(0.0).max(lowest);
    let least = amplitudes.get(fewest - 1).map_or(least, |few| few.min(least));
    for (k, x) in spectrum.iter_mut().enumerate() {
        // Of the upper half, which mirrors the lower, every frequency counts as high: as coded.
        let frequency = k as f64 / step.seconds() / count as f64;
        if amplitude(x) < least && frequency > HIGH_FREQUENCY {
            *x = Complex::new(0.0, 0.0);
        }
    }
    let signal = fourier.inverse(&spectrum);
    let value = |x: &Complex| {
        let value = x.re / count as f64;
        if value <= 0.0 { LEAST_VALUE } else { value }
    };
    signal[count - cycle..].iter().map(value).collect()
}

/// Mean relative error, where what is too little weighs much more; mean absolute error with a load near zero.
fn prediction_error(actual: &[f64], estimate: &[f64], factor: f64) -> f64 {
    let pairs = || actual.iter().zip(estimate).map(|(actual, estimate)| (*actual, estimate * factor));
    let count = actual.len() as f64;
    if actual.iter().any(|actual| *actual < 1e-3) {
        return pairs().map(|(actual, predicted)| (actual - predicted).abs()).sum::<f64>() / count;
    }
    let error = |(actual, predicted): (f64, f64)| {
        let relative = (actual - predicted) / actual;
        if relative > 0.0 { -(1.0 - relative).ln() / 1.25_f64.ln() } else { -relative }
    };
    pairs().map(error).sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Span = Span::from_minutes(15);

    /// By the quarter hour: a day of 96.
    fn signal(days: usize, value: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..days * 96).map(value).collect()
    }

    fn wave(index: usize, period: f64) -> f64 {
        (index as f64 / period * std::f64::consts::TAU).sin()
    }

    #[test]
    fn days_and_weeks_are_found_and_other_periods_are_none() {
        assert_eq!(find_period(&signal(3, |i| 5.0 + wave(i, 96.0)), STEP), Some(DAY));
        let weekly = signal(15, |i| 5.0 + if (i / 96) % 7 < 5 { 3.0 } else { 0.0 } + 0.3 * wave(i, 96.0));
        assert_eq!(find_period(&weekly, STEP), Some(WEEK));
        assert_eq!(find_period(&signal(4, |i| 5.0 + wave(i, 48.0)), STEP), None);
        assert_eq!(find_period(&signal(1, |i| 5.0 + wave(i, 96.0)), STEP), None);
    }

    #[test]
    fn under_prediction_is_amplified() {
        // The examples of its source: 0.1 → 0.47, 0.5 → 3.1.
        let error = |predicted| prediction_error(&[10.0], &[predicted], 1.0);
        assert!((error(9.0) - 0.472).abs() < 1e-3 && (error(5.0) - 3.106).abs() < 1e-3);
        assert!((error(12.0) - 0.2).abs() < 1e-12);
        assert_eq!(prediction_error(&[0.0, 10.0], &[1.0, 9.0], 1.0), 1.0);
    }

    #[test]
    fn percentiles_are_samples_or_means_of_two() {
        let sorted: Vec<f64> = (1..=2000).map(f64::from).collect();
        // 99.9 / 100 · 2000 is a hair above 1998 in binary, there as here.
        assert_eq!((percentile(&sorted, 0.1), percentile(&sorted, 99.9)), (Some(2.0), Some(1998.5)));
        assert_eq!(percentile(&sorted[..1500], 0.1), Some(1.5));
        assert_eq!(percentile(&sorted[..500], 0.1), None);
        let mut samples: Vec<f64> = (0..2000).map(|_| 5.0).collect();
        samples[700] = 50.0;
        replace_outliers(&mut samples);
        assert_eq!(samples, [5.0; 2000]);
    }

    #[test]
    fn weak_and_fast_components_are_filtered_out() {
        // At least three components are kept, however weak.
        let pure = |i: usize| 50.0 + 20.0 * wave(i, 96.0) + 6.0 * wave(i, 48.0) + 4.0 * wave(i, 32.0);
        // A component of 40 minutes, at an amplitude of 0.5 on either side of the spectrum, below 1.
        let noisy = signal(4, |i| pure(i) + wave(i, 8.0 / 3.0));
        let estimate = estimate(&noisy, 96, FILTERS[0], STEP);
        for (index, value) in estimate.iter().enumerate() {
            assert!((value - pure(index)).abs() < 1e-6, "{index}: {value}");
        }
    }
}
