//! What is forecast for the windows that a decision determines. Rule: probabilities are read off the quantiles, between
//! them and beyond them by one rule, so that more units never mean more risk.

use prescale_domain::{ForecastInput, LeadTime, Span, Timestamp};

#[cfg(test)]
mod tests;

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

/// Share by which a probability may be wrong, and much more than it is.
const ROUNDING: f64 = 1e-9;

/// A forecast whose quantiles are read as probabilities.
#[derive(Clone, Debug)]
pub struct Outlook<'a> {
    forecast: &'a ForecastInput,
    /// Of the probability of more than each level, the logarithm, and what comes back from it; for the tail, by how much the
    /// logarithm falls between the last two.
    above_ln: Vec<f64>,
    above: Vec<f64>,
    fall_ln: f64,
    /// Weight of each window that a decision determines, and the load in it; weights sum to 1.
    windows: Vec<(f64, Load<'a>)>,
}

/// The load of one window.
#[derive(Clone, Copy, Debug)]
struct Load<'a> {
    values: &'a [f64],
    /// Of the exponential tail; infinite where it has none.
    tail_rate: f64,
}

impl<'a> Outlook<'a> {
    /// The windows in which capacity that is asked for at `at` is in force and that of the next decision is not yet are
    /// those that count; what the forecast does not reach is left out. `None` without quantiles.
    pub fn new(forecast: &'a ForecastInput, at: Timestamp, lead: &LeadTime) -> Option<Self> {
        if !is_sound(forecast) {
            return None;
        }
        let above = |level: f64| 1.0 - level;
        let above_ln: Vec<f64> = forecast.levels.iter().map(|level| above(*level).ln()).collect();
        let last = above_ln.len() - 1;
        let fall_ln = (above(forecast.levels[last - 1]) / above(forecast.levels[last])).ln();
        let windows = determined(forecast, at, lead).into_iter();
        Some(Self {
            forecast,
            above: above_ln.iter().map(|ln| ln.exp()).collect(),
            above_ln,
            fall_ln,
            windows: windows.map(|(weight, values)| (weight, Load::new(values, fall_ln))).collect(),
        })
    }

    /// Whether the forecast reaches any of the windows that count.
    pub fn determines(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Probability that the load exceeds `capacity`, averaged over the windows.
    pub fn overload(&self, capacity: f64) -> f64 {
        self.windows.iter().map(|(weight, load)| weight * self.exceeds(load, capacity)).sum()
    }

    /// Load expected beyond `capacity`, averaged over the windows.
    pub fn shortage(&self, capacity: f64) -> f64 {
        self.windows.iter().map(|(weight, load)| weight * self.beyond(load, capacity)).sum()
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
        let loads = windows.map(|(_, values)| Load::new(values, self.fall_ln));
        let is_sound = unit_capacity.is_finite() && unit_capacity > 0.0;
        loads.fold(None, |needed, load| {
            let at = |units: u32| self.exceeds(&load, f64::from(units) * unit_capacity);
            // Where what the windows before need is clearly enough, by more than rounding, no search is needed.
            let is_enough = |units: u32| at(units) <= risk * (1.0 - ROUNDING);
            if is_sound && needed.is_some_and(is_enough) && load.values.is_sorted() {
                return needed;
            }
            needed.max(Some(fewest(most, |units| at(units) <= risk)))
        })
    }

    /// A load that is exceeded with a probability of about `risk`, far beyond the highest quantile: the largest over the
    /// windows.
    pub fn tail(&self, risk: f64) -> f64 {
        let last = self.above_ln.len() - 1;
        let beyond = ((1.0 - self.forecast.levels[last]) / risk).ln().max(0.0);
        let of =
            |Load { values, tail_rate: rate }: &Load| values[last] + if rate.is_finite() { beyond / rate } else { 0.0 };
        self.windows.iter().map(|(_, load)| of(load)).fold(0.0, f64::max)
    }

    /// How wide the forecast is: the difference of the quantiles `high` and `low`, averaged over the windows.
    pub fn width(&self, low: f64, high: f64) -> f64 {
        self.mean(high) - self.mean(low)
    }

    /// The quantile `level`, averaged over the windows.
    pub fn mean(&self, level: f64) -> f64 {
        self.windows.iter().map(|(weight, load)| weight * at_level(&self.forecast.levels, load.values, level)).sum()
    }

    /// Probability that a load with these quantiles exceeds `x`: between two quantiles its logarithm is linear, below the
    /// lowest it rises linearly to 1 at no load (at once where all are equal), above the highest it falls as between the last
    /// two (an exponential tail).
    fn exceeds(&self, load: &Load, x: f64) -> f64 {
        let Load { values, tail_rate: rate } = *load;
        let (levels, last) = (&self.forecast.levels, values.len() - 1);
        if x >= values[last] {
            return if rate.is_finite() { (1.0 - levels[last]) * (-(x - values[last]) * rate).exp() } else { 0.0 };
        }
        let Some(upper) = values.iter().position(|value| *value > x) else { return 0.0 };
        if upper == 0 {
            let is_known = values[last] <= values[0];
            let share = if values[0] > 0.0 && !is_known { (x / values[0]).clamp(0.0, 1.0) } else { 0.0 };
            return 1.0 - share * levels[0];
        }
        let (low, high) = (values[upper - 1], values[upper]);
        // The integral asks for each quantile itself.
        if x == low {
            return self.above[upper - 1];
        }
        let share = (x - low) / (high - low);
        (self.above_ln[upper - 1] * (1.0 - share) + self.above_ln[upper] * share).exp()
    }

    /// Load expected beyond `x`: the integral of [`exceeds`](Self::exceeds) from there on.
    fn beyond(&self, load: &Load, x: f64) -> f64 {
        let Load { values, tail_rate: rate } = *load;
        let last = values.len() - 1;
        if values[last] <= values[0] {
            return (values[0] - x).max(0.0);
        }
        let tail = |from: f64| if rate.is_finite() { self.exceeds(load, from) / rate } else { 0.0 };
        if x >= values[last] {
            return tail(x);
        }
        // Between quantiles the curve is smooth enough for the trapezoid of Simpson.
        let mut sum = tail(values[last]);
        let mut from = x.max(0.0);
        for value in values.iter().copied().filter(|value| *value > x) {
            let middle = self.exceeds(load, f64::midpoint(from, value));
            let ends = self.exceeds(load, from) + self.exceeds_below(values, value);
            sum += (value - from) / 6.0 * (ends + 4.0 * middle);
            from = value;
        }
        sum
    }

    /// [`exceeds`](Self::exceeds) just below `x`, which differs from it where two quantiles are equal.
    fn exceeds_below(&self, values: &[f64], x: f64) -> f64 {
        values.iter().position(|value| *value >= x).map_or(0.0, |index| 1.0 - self.forecast.levels[index])
    }
}

impl<'a> Load<'a> {
    /// The logarithm of the probability of more falls by `fall_ln` between the last two quantiles.
    fn new(values: &'a [f64], fall_ln: f64) -> Self {
        let last = values.len() - 1;
        let width = values[last] - values[last - 1];
        Self { values, tail_rate: if width > 0.0 { fall_ln / width } else { f64::INFINITY } }
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
    let start = |index: usize| forecast.from.millis().saturating_add(step.saturating_mul(index as i64));
    let mut weights: Vec<(i64, f64)> = (0..forecast.values.len()).map(|index| (start(index), 0.0)).collect();
    for z in LEADS {
        let from = (at + lead.until_effective_at(z)).millis();
        let to = from.saturating_add(interval);
        // Windows begin one after the other: those that end before or begin after do not count.
        let first = weights.partition_point(|(start, _)| start.saturating_add(step) <= from);
        for (start, weight) in weights[first..].iter_mut().take_while(|(start, _)| *start < to) {
            let overlap = to.min(start.saturating_add(step)).saturating_sub(from.max(*start)).max(0);
            *weight += overlap as f64;
        }
    }
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    if total <= 0.0 {
        return Vec::new();
    }
    let windows = weights.into_iter().zip(&forecast.values).filter(|((_, weight), _)| *weight > 0.0);
    windows.map(|((_, weight), values)| (weight / total, values.as_slice())).collect()
}

fn is_sound(forecast: &ForecastInput) -> bool {
    let levels = &forecast.levels;
    let ordered = levels.len() >= 2 && levels.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = levels.iter().all(|level| *level > 0.0 && *level < 1.0);
    // Without a way out at each, several are looked at at once.
    let finite = |values: &[f64]| values.iter().fold(true, |all, value| all & value.is_finite());
    let sound = |values: &Vec<f64>| values.len() == levels.len() && finite(values);
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
