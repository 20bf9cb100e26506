//! What is forecast for the windows that a decision determines. Rule: probabilities are read off the quantiles, between
//! them and beyond them by one rule, so that more units never mean more risk.

use prescale_domain::{ForecastInput, LeadTime, Span, Timestamp};

/// Quantiles 0.05, 0.15 … 0.95 of the standard normal distribution: ten equally likely lead times.
const LEADS: [f64; 10] = [
    -1.644_853_627,
    -1.036_433_389,
    -0.674_489_750,
    -0.385_320_466,
    -0.125_661_347,
    0.125_661_347,
    0.385_320_466,
    0.674_489_750,
    1.036_433_389,
    1.644_853_627,
];

/// A forecast whose quantiles are read as probabilities.
#[derive(Clone, Debug)]
pub struct Outlook<'a> {
    forecast: &'a ForecastInput,
    /// Of the probability of more than each level, the logarithm; for the tail, by how much it falls between the last two.
    above_ln: Vec<f64>,
    fall_ln: f64,
    /// Weight and quantiles of each window that a decision determines; weights sum to 1.
    windows: Vec<(f64, &'a [f64])>,
}

impl<'a> Outlook<'a> {
    /// The windows in which capacity that is asked for at `at` is in force and that of the next decision is not yet are
    /// those that count; what the forecast does not reach is left out. `None` without quantiles.
    pub fn new(forecast: &'a ForecastInput, at: Timestamp, lead: &LeadTime) -> Option<Self> {
        if !is_sound(forecast) {
            return None;
        }
        let above: Vec<f64> = forecast.levels.iter().map(|level| 1.0 - level).collect();
        let last = above.len() - 1;
        Some(Self {
            forecast,
            above_ln: above.iter().map(|above| above.ln()).collect(),
            fall_ln: (above[last - 1] / above[last]).ln(),
            windows: determined(forecast, at, lead),
        })
    }

    /// Whether the forecast reaches any of the windows that count.
    pub fn determines(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Probability that the load exceeds `capacity`, averaged over the windows.
    pub fn overload(&self, capacity: f64) -> f64 {
        self.windows.iter().map(|(weight, values)| weight * self.exceeds(values, capacity)).sum()
    }

    /// Load expected beyond `capacity`, averaged over the windows.
    pub fn shortage(&self, capacity: f64) -> f64 {
        self.windows.iter().map(|(weight, values)| weight * self.beyond(values, capacity)).sum()
    }

    /// The smallest number of units whose probability of overload is at most `risk`; no more than `most`.
    pub fn units_within(&self, risk: f64, unit_capacity: f64, most: u32) -> u32 {
        // Where half of the risk is left in the tail of each window, nothing needs to be computed.
        let enough = if risk > 0.0 { self.tail(risk / 2.0) } else { f64::INFINITY };
        let fits = |capacity: f64| capacity >= enough || self.overload(capacity) <= risk;
        fewest(most, |units| fits(f64::from(units) * unit_capacity))
    }

    /// The same for each window by itself that begins before `until`: the most that any of them needs. `None` where there
    /// is none.
    pub fn units_until(&self, until: Timestamp, risk: f64, unit_capacity: f64, most: u32) -> Option<u32> {
        let (from, step) = (self.forecast.from, self.forecast.step.millis());
        let start = |index: usize| from + Span::from_millis(step.saturating_mul(index as i64));
        let windows = self.forecast.values.iter().enumerate().take_while(|(index, _)| start(*index) < until);
        let fits = |values: &[f64], units: u32| self.exceeds(values, f64::from(units) * unit_capacity) <= risk;
        // Most windows fit what an earlier one needs.
        windows.fold(None, |needed, (_, values)| {
            needed.filter(|units| fits(values, *units)).or_else(|| Some(fewest(most, |units| fits(values, units))))
        })
    }

    /// A load that is exceeded with a probability of about `risk`, far beyond the highest quantile: the largest over the
    /// windows.
    pub fn tail(&self, risk: f64) -> f64 {
        let last = self.above_ln.len() - 1;
        let beyond = ((1.0 - self.forecast.levels[last]) / risk).ln().max(0.0);
        let of = |values: &[f64]| {
            let rate = self.tail_rate(values);
            values[last] + if rate.is_finite() { beyond / rate } else { 0.0 }
        };
        self.windows.iter().map(|(_, values)| of(values)).fold(0.0, f64::max)
    }

    /// How wide the forecast is: the difference of the quantiles `high` and `low`, averaged over the windows.
    pub fn width(&self, low: f64, high: f64) -> f64 {
        self.mean(high) - self.mean(low)
    }

    /// The quantile `level`, averaged over the windows.
    pub fn mean(&self, level: f64) -> f64 {
        self.windows.iter().map(|(weight, values)| weight * at_level(&self.forecast.levels, values, level)).sum()
    }

    /// Probability that a load with these quantiles exceeds `x`: between two quantiles its logarithm is linear, below the
    /// lowest it rises linearly to 1 at no load (at once where all are equal), above the highest it falls as between the last
    /// two (an exponential tail).
    fn exceeds(&self, values: &[f64], x: f64) -> f64 {
        let (levels, last) = (&self.forecast.levels, values.len() - 1);
        if x >= values[last] {
            let rate = self.tail_rate(values);
            return if rate.is_finite() { (1.0 - levels[last]) * (-(x - values[last]) * rate).exp() } else { 0.0 };
        }
        let Some(upper) = values.iter().position(|value| *value > x) else { return 0.0 };
        if upper == 0 {
            let is_known = values[last] <= values[0];
            let share = if values[0] > 0.0 && !is_known { (x / values[0]).clamp(0.0, 1.0) } else { 0.0 };
            return 1.0 - share * levels[0];
        }
        let (low, high) = (values[upper - 1], values[upper]);
        let share = (x - low) / (high - low);
        (self.above_ln[upper - 1] * (1.0 - share) + self.above_ln[upper] * share).exp()
    }

    /// Load expected beyond `x`: the integral of [`exceeds`](Self::exceeds) from there on.
    fn beyond(&self, values: &[f64], x: f64) -> f64 {
        let last = values.len() - 1;
        if values[last] <= values[0] {
            return (values[0] - x).max(0.0);
        }
        let rate = self.tail_rate(values);
        let tail = |from: f64| if rate.is_finite() { self.exceeds(values, from) / rate } else { 0.0 };
        if x >= values[last] {
            return tail(x);
        }
        // Between quantiles the curve is smooth enough for the trapezoid of Simpson.
        let mut sum = tail(values[last]);
        let mut from = x.max(0.0);
        for value in values.iter().copied().filter(|value| *value > x) {
            let middle = self.exceeds(values, f64::midpoint(from, value));
            let ends = self.exceeds(values, from) + self.exceeds_below(values, value);
            sum += (value - from) / 6.0 * (ends + 4.0 * middle);
            from = value;
        }
        sum
    }

    /// [`exceeds`](Self::exceeds) just below `x`, which differs from it where two quantiles are equal.
    fn exceeds_below(&self, values: &[f64], x: f64) -> f64 {
        values.iter().position(|value| *value >= x).map_or(0.0, |index| 1.0 - self.forecast.levels[index])
    }

    fn tail_rate(&self, values: &[f64]) -> f64 {
        let last = values.len() - 1;
        let width = values[last] - values[last - 1];
        if width > 0.0 { self.fall_ln / width } else { f64::INFINITY }
    }
}

/// The smallest number of units that fits, where more never fit less; no more than `most`.
fn fewest(most: u32, fits: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// The windows that a decision determines, each with its share of the time; none where the forecast reaches none of them.
fn determined<'a>(forecast: &'a ForecastInput, at: Timestamp, lead: &LeadTime) -> Vec<(f64, &'a [f64])> {
    let step = forecast.step.millis();
    if step <= 0 {
        return Vec::new();
    }
    let interval = lead.decision_interval.millis().max(1);
    let mut weights = vec![0.0; forecast.values.len()];
    for z in LEADS {
        let from = (at + lead.until_effective_at(z)).millis();
        let to = from.saturating_add(interval);
        let first = from.saturating_sub(forecast.from.millis()).div_euclid(step);
        let first = usize::try_from(first).unwrap_or(0);
        for (index, weight) in weights.iter_mut().enumerate().skip(first) {
            let start = forecast.from.millis().saturating_add(step.saturating_mul(index as i64));
            if start >= to {
                break;
            }
            let overlap = to.min(start.saturating_add(step)).saturating_sub(from.max(start)).max(0);
            *weight += overlap as f64;
        }
    }
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return Vec::new();
    }
    let windows = weights.into_iter().zip(forecast.values.iter()).filter(|(weight, _)| *weight > 0.0);
    windows.map(|(weight, values)| (weight / total, values)).collect()
}

fn is_sound(forecast: &ForecastInput) -> bool {
    let levels = &forecast.levels;
    let ordered = levels.len() >= 2 && levels.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = levels.iter().all(|level| *level > 0.0 && *level < 1.0);
    let sound = |values: &[f64]| values.len() == levels.len() && values.iter().all(|value| value.is_finite());
    ordered && inside && forecast.values.iter().all(sound)
}

fn at_level(levels: &[f64], values: &[f64], level: f64) -> f64 {
    let last = values.len() - 1;
    match levels.iter().position(|known| *known >= level) {
        Some(0) => values[0],
        Some(upper) => {
            let share = (level - levels[upper - 1]) / (levels[upper] - levels[upper - 1]);
            values[upper - 1] + share * (values[upper] - values[upper - 1])
        }
        None => values[last],
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::DEFAULT_QUANTILES;
    use proptest::prelude::*;

    use super::*;

    fn forecast(values: Vec<Vec<f64>>) -> ForecastInput {
        ForecastInput {
            model: "mix".to_owned(),
            reason: "champion".to_owned(),
            origin: Timestamp::from_millis(0),
            step: Span::from_minutes(1),
            quantile: 0.99,
            from: Timestamp::from_millis(60_000),
            upper: Vec::new(),
            median: Vec::new(),
            effective_index: 0,
            levels: DEFAULT_QUANTILES.to_vec(),
            values: values.into(),
        }
    }

    fn lead(median: Option<i64>, p90: i64, interval: i64) -> LeadTime {
        LeadTime {
            data_age: Span::ZERO,
            decision_interval: Span::from_secs(interval),
            provisioning_latency: Span::from_secs(p90),
            warm_up: Span::ZERO,
            provisioning_median: median.map(Span::from_secs),
        }
    }

    /// The first window by itself.
    fn first(forecast: &ForecastInput) -> Outlook<'_> {
        Outlook::new(forecast, forecast.from, &lead(None, 0, 60)).unwrap()
    }

    fn flat(load: f64) -> Vec<f64> {
        vec![load; DEFAULT_QUANTILES.len()]
    }

    #[test]
    fn a_window_counts_by_the_time_in_which_the_decision_determines_it() {
        let forecast = forecast((0..10).map(|k| flat(f64::from(k))).collect());
        let at = Timestamp::from_millis(60_000);
        // Effective at 4:20, the next decision at 5:20: 40 s of the window from 4:00 on, 20 s of the next.
        let outlook = Outlook::new(&forecast, at, &lead(None, 200, 60)).unwrap();
        let weights: Vec<f64> = outlook.windows.iter().map(|(weight, _)| *weight).collect();
        assert_eq!(weights.len(), 2);
        assert!((weights[0] - 2.0 / 3.0).abs() < 1e-12, "{weights:?}");
        assert_eq!((outlook.overload(2.5), outlook.overload(3.0)), (1.0, weights[1]));
        assert!(!Outlook::new(&forecast, at, &lead(None, 700, 60)).unwrap().determines());
    }

    #[test]
    fn an_uncertain_lead_time_spreads_over_more_windows() {
        let forecast = forecast((0..20).map(|k| flat(f64::from(k))).collect());
        let at = Timestamp::from_millis(60_000);
        let sure = Outlook::new(&forecast, at, &lead(Some(300), 300, 60)).unwrap();
        let unsure = Outlook::new(&forecast, at, &lead(Some(300), 600, 60)).unwrap();
        assert_eq!(sure.windows.len(), 1);
        assert!(unsure.windows.len() > 6, "{}", unsure.windows.len());
        // On a rising load it asks for more.
        assert!(unsure.units_within(0.05, 1.0, 100) > sure.units_within(0.05, 1.0, 100));
    }

    #[test]
    fn probabilities_are_those_of_the_quantiles() {
        let values: Vec<f64> = DEFAULT_QUANTILES.iter().map(|level| 100.0 * level).collect();
        let forecast = forecast(vec![values]);
        let at = |x: f64| first(&forecast).overload(x);
        for level in DEFAULT_QUANTILES {
            assert!((at(100.0 * level) - (1.0 - level)).abs() < 1e-12, "{level}");
        }
        assert_eq!((at(0.0), at(2.5)), (1.0, 0.975));
        // Beyond 0.99 by the rate between 0.95 and 0.99: a fifth for each 4.
        assert!((at(103.0) - 0.002).abs() < 1e-12);
    }

    #[test]
    fn shortage_of_an_exponential_load_is_its_tail() {
        // Quantiles of an exponential load of mean 10: beyond x it is 10 exp(-x / 10).
        let values: Vec<f64> = DEFAULT_QUANTILES.iter().map(|level| -10.0 * (1.0 - level).ln()).collect();
        let forecast = forecast(vec![values]);
        for x in [5.0, 20.0, 40.0, 60.0] {
            let found = first(&forecast).shortage(x);
            let exact = 10.0 * (-x / 10.0).exp();
            assert!((found / exact - 1.0).abs() < 0.01, "{x}: {found} {exact}");
        }
    }

    #[test]
    fn a_load_that_is_known_needs_just_its_units() {
        let forecast = forecast(vec![flat(100.0)]);
        let outlook = first(&forecast);
        assert_eq!(outlook.units_within(0.01, 10.0, 99), 10);
        assert_eq!(outlook.units_within(0.01, 9.0, 99), 12);
        assert_eq!((outlook.shortage(90.0), outlook.shortage(100.0)), (10.0, 0.0));
    }

    proptest! {
        #[test]
        fn more_units_never_mean_more_risk_and_more_risk_never_more_units(
            mut values in prop::collection::vec(0.0..1000.0, 8),
            x in 0.0..1500.0, more in 0.0..500.0, risk in 0.0001..0.5, by in 1.0..3.0,
        ) {
            values.sort_by(f64::total_cmp);
            let forecast = forecast(vec![values]);
            let outlook = first(&forecast);
            let (here, there) = (outlook.overload(x), outlook.overload(x + more));
            prop_assert!((0.0..=1.0).contains(&here) && there <= here + 1e-12);
            prop_assert!(outlook.shortage(x + more) <= outlook.shortage(x) + 1e-6);
            let (tight, loose) = (outlook.units_within(risk, 7.0, 500), outlook.units_within(risk * by, 7.0, 500));
            prop_assert!(loose <= tight);
            prop_assert!(tight == 500 || outlook.overload(7.0 * f64::from(tight)) <= risk);
            prop_assert!(tight == 0 || outlook.overload(7.0 * f64::from(tight - 1)) > risk);
        }
    }
}
