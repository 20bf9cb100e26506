//! Holt and Winters with an additive trend and season, one step ahead, by the rules of statsmodels' `ExponentialSmoothing`
//! with fixed parameters and heuristic initial states (Hyndman et al. 2008, section 2.6), which is what the autoscaler runs.
//! Rule: as coded, the history is in the order in which the autoscaler stores it.

/// The model `HoltWinters`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HoltWintersSettings {
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    /// Syncs in a season.
    pub season: usize,
    pub stored_seasons: usize,
}

impl HoltWintersSettings {
    /// Of the example `simple-holt-winters`.
    pub fn example() -> Self {
        Self { alpha: 0.9, beta: 0.9, gamma: 0.9, season: 6, stored_seasons: 4 }
    }

    /// The forecast for the value after the last of `series`; `None` for fewer than the heuristic needs.
    pub fn forecast(&self, series: &[f64]) -> Option<f64> {
        let Self { alpha, beta, gamma, season, .. } = *self;
        let (mut level, mut trend, mut seasons) = self.initial(series)?;
        let mut place = 0;
        for value in series {
            let seasonal = seasons.get_mut(place)?;
            place = if place + 1 < season { place + 1 } else { 0 };
            let expected = level + trend;
            let next = alpha * value - alpha * *seasonal + (1.0 - alpha) * expected;
            *seasonal = gamma * value - gamma * expected + (1.0 - gamma) * *seasonal;
            trend = beta * (next - level) + (1.0 - beta) * trend;
            level = next;
        }
        Some(level + trend + seasons.get(place)?)
    }

    /// Level, trend and seasons before the first value.
    fn initial(&self, series: &[f64]) -> Option<(f64, f64, Vec<f64>)> {
        let season = self.season;
        let least = LINE + 2 * (season / 2);
        if season < 2 || series.len() < 2 * season || series.len() < least {
            return None;
        }
        let cycles = (series.len() / season).min(5).max(least.div_ceil(season));
        let series = series.get(..cycles * season).unwrap_or(series);
        // The centred moving average of a season; of an even one the mean of the two that are nearly centred.
        let half = season / 2;
        let around: Vec<f64> =
            series.windows(season).map(|values| values.iter().sum::<f64>() / season as f64).collect();
        let average = |index: usize| {
            let first = *around.get(index.checked_sub(half)?)?;
            if season % 2 == 1 { Some(first) } else { Some((first + around.get(index + 1 - half)?) / 2.0) }
        };
        let mut seasons = Vec::with_capacity(season);
        for place in 0..season {
            let (mut sum, mut count) = (0.0, 0_u32);
            for index in (place..series.len()).step_by(season) {
                if let Some(average) = average(index) {
                    (sum, count) = (sum + series[index] - average, count + 1);
                }
            }
            seasons.push(if count > 0 { sum / f64::from(count) } else { 0.0 });
        }
        let mean = seasons.iter().sum::<f64>() / season as f64;
        seasons.iter_mut().for_each(|seasonal| *seasonal -= mean);
        // The least-squares line through the first averages, at 1, 2, …: level at 0 and slope.
        let line = || (half..).map_while(average).take(LINE);
        let middle = (LINE as f64 + 1.0) / 2.0;
        let height = line().sum::<f64>() / line().count() as f64;
        let (mut xy, mut xx) = (0.0, 0.0);
        for (index, value) in line().enumerate() {
            let x = index as f64 + 1.0 - middle;
            xy += x * (value - height);
            xx += x * x;
        }
        let slope = xy / xx;
        Some((height - slope * middle, slope, seasons))
    }
}

/// Values that the initial line is fitted on.
const LINE: usize = 10;

/// The model with the history it keeps.
#[derive(Clone, Debug)]
pub struct HoltWinters {
    settings: HoltWintersSettings,
    /// Whether the history is given to the model in the order of time.
    chronological: bool,
    /// As stored: after the first pruning the newest is first, but for the one of this sync, which comes last.
    history: Vec<f64>,
}

impl HoltWinters {
    pub fn new(settings: HoltWintersSettings, chronological: bool) -> Self {
        Self { settings, chronological, history: Vec::new() }
    }

    /// Takes in the replicas of this sync and predicts those of the next; 0 with too little history.
    pub fn next(&mut self, replicas: u32) -> u32 {
        let history = &mut self.history;
        history.push(f64::from(replicas));
        let predicted = self.settings.forecast(history).map_or(0, ceil);
        // Pruning sorts: newest first as coded. Whole seasons are removed, so that up to one more than wanted is kept.
        let newest_at_end = self.chronological;
        if !newest_at_end {
            history.rotate_right(1);
        }
        let season = self.settings.season.max(1);
        let gone = (history.len() / season).saturating_sub(self.settings.stored_seasons) * season;
        if newest_at_end {
            history.drain(..gone);
        } else {
            history.truncate(history.len() - gone);
        }
        predicted
    }
}

/// Rounded up; below zero is zero, as is what is not a number.
pub(super) fn ceil(replicas: f64) -> u32 {
    // A hair above a whole number is that number: the sums of the two programs differ in their last digits.
    (replicas - 1e-9).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: HoltWintersSettings =
        HoltWintersSettings { alpha: 0.9, beta: 0.9, gamma: 0.9, season: 6, stored_seasons: 4 };

    #[track_caller]
    fn forecast(settings: HoltWintersSettings, series: &[f64], expected: f64) {
        let found = settings.forecast(series).unwrap();
        assert!((found - expected).abs() < 1e-9 * expected, "{found}");
    }

    /// Expected values are those of statsmodels 0.15.0, `optimized=False`.
    #[test]
    fn forecasts_are_those_of_statsmodels() {
        let waves =
            [10.0, 12.0, 15.0, 14.0, 12.0, 11.0, 11.0, 13.0, 16.0, 15.0, 13.0, 12.0, 12.0, 14.0, 17.0, 16.0, 14.0];
        forecast(EXAMPLE, &waves, 13.354_123_935_557_684);
        forecast(EXAMPLE, &waves[..16], 13.609_718_352_120_915);
        let long = [
            5.0, 5.0, 5.0, 6.0, 7.0, 9.0, 12.0, 12.0, 11.0, 10.0, 8.0, 7.0, 6.0, 6.0, 5.0, 6.0, 7.0, 9.0, 13.0, 14.0,
            12.0, 10.0, 9.0, 8.0, 7.0, 5.0, 6.0, 6.0,
        ];
        forecast(EXAMPLE, &long, 58.341_622_753_969_88);
        let reversed: Vec<f64> = long.into_iter().rev().collect();
        forecast(EXAMPLE, &reversed, 12.133_831_124_267_612);
        let odd = HoltWintersSettings { alpha: 0.3, beta: 0.05, gamma: 0.2, season: 5, stored_seasons: 4 };
        let series = [1.0, 4.0, 2.0, 5.0, 3.0, 3.0, 5.0, 2.0, 6.0, 4.0, 2.0, 5.0, 3.0, 7.0, 4.0, 3.0];
        forecast(odd, &series, 5.675_130_504_000_123);
    }

    #[test]
    fn too_little_history_predicts_nothing() {
        let mut model = HoltWinters::new(EXAMPLE, true);
        let predicted: Vec<u32> =
            [3, 4, 6, 8, 6, 4].into_iter().cycle().take(18).map(|count| model.next(count)).collect();
        // From 10 + 2 · 3 values on the perfect season is known.
        assert_eq!(predicted[..15], [0; 15]);
        assert_eq!(predicted[15..], [6, 4, 3]);
    }

    #[test]
    fn whole_seasons_are_pruned_and_as_coded_the_newest_come_first() {
        let settings = HoltWintersSettings { season: 2, stored_seasons: 2, ..EXAMPLE };
        let stored = |chronological: bool, counts: u32| {
            let mut model = HoltWinters::new(settings, chronological);
            for count in 1..=counts {
                model.next(count);
            }
            model.history
        };
        assert_eq!(stored(true, 5), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(stored(true, 6), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(stored(false, 5), [5.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!(stored(false, 6), [6.0, 5.0, 4.0, 3.0]);
    }

    #[test]
    fn as_coded_a_perfect_season_is_mispredicted() {
        let wave = [3_u32, 4, 6, 8, 6, 5];
        let error = |chronological: bool| {
            let mut model = HoltWinters::new(EXAMPLE, chronological);
            let series: Vec<u32> = wave.into_iter().cycle().take(121).collect();
            series.windows(2).map(|pair| model.next(pair[0]).abs_diff(pair[1])).sum::<u32>()
        };
        assert!(error(true) < error(false), "{} {}", error(true), error(false));
    }
}
