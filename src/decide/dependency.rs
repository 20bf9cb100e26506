//! What a service's rise does to those that it calls. Rule: learnt online from closed windows alone, believed only where the
//! caller's load tells more than the callee's own past and the time of the day do, and used only to lift a forecast.
//!
//! Two loads that wander, or that share a day, go together without any cause, so that a correlation of levels proves nothing
//! (Granger and Newbold, Spurious regressions in econometrics, 1974). What is asked is Granger's question (1969): for each
//! lag, does the caller's load so many windows before explain what the pasts of both and the daily cycle leave open? With the
//! caller's past beside it, the coefficient in question is one of a surprise, and the F test holds for loads that wander as
//! well (Sims, Stock and Watson 1990). The past is that of the last twenty windows: a rise that both have each morning is
//! then no surprise of either.

mod lift;
mod loads;
mod sums;
#[cfg(test)]
mod tests;

use prescale_domain::{Dependency, Span, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::lift::lift;
use self::loads::Loads;
use self::sums::{Sums, Window};

/// How a dependency is learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DependencySettings {
    /// Width of a window.
    pub step: Span,
    /// Most windows from a caller's load to the callee's.
    pub max_lag: usize,
    /// Windows after which one counts half.
    pub half_life: f64,
    /// Windows before anything is said.
    pub least_windows: u64,
    /// Chance of taking independent services for dependent ones, at each look and over all lags together. Looks go on for
    /// years: it is far below what one look would need.
    pub alpha: f64,
    /// Share of what the callee's own past leaves open that must be explained.
    pub least_explained: f64,
}

impl Default for DependencySettings {
    fn default() -> Self {
        Self {
            step: Span::from_minutes(1),
            max_lag: 15,
            half_life: 1440.0,
            least_windows: 120,
            alpha: 1e-7,
            least_explained: 0.03,
        }
    }
}

/// What is learnt of one caller and one callee. It has the size of `max_lag`, however long it learns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DependencyLearner {
    /// Width of its windows; `None` = it has seen none, or is from before this was kept.
    #[serde(default)]
    step: Option<Span>,
    /// Start of the last window.
    at: Option<Timestamp>,
    caller: Loads,
    callee: Loads,
    /// A caller's and a callee's load: sums are taken around them, so that large loads lose no digits.
    around: Option<(f64, f64)>,
    /// By lag.
    sums: Vec<Sums>,
}

impl DependencyLearner {
    /// The window that starts at `at` has closed with these loads; `None` = not known. Windows come in order; one that is not
    /// later than the last is left out, and those between were not known.
    pub fn observe(&mut self, at: Timestamp, caller: Option<f64>, callee: Option<f64>, settings: &DependencySettings) {
        // A lag in windows of another width means another time.
        if self.step.is_some_and(|step| step != settings.step) {
            *self = Self::default();
        }
        self.step = Some(settings.step);
        // The lag, and a window before it.
        let kept = settings.max_lag + 2;
        let missed = self.at.map_or(0, |last| at.since(last).steps_up(settings.step).saturating_sub(1));
        if self.at.is_some_and(|last| at <= last) {
            return;
        }
        // More than are kept make no difference.
        for _ in 0..missed.min(2 * kept + 20) {
            self.caller.push(None, kept);
            self.callee.push(None, kept);
        }
        self.at = Some(at);
        self.caller.push(caller, kept);
        self.callee.push(callee, kept);
        self.sums.resize(settings.max_lag + 1, Sums::default());
        self.learn(at, 0.5_f64.powf(1.0 / settings.half_life.max(1.0)));
    }

    /// `None` = the callee's load or its past is not known, or not usual.
    fn learn(&mut self, at: Timestamp, keeps: f64) -> Option<()> {
        let callee = self.callee.calm_back(0)?;
        let (x0, y0) = match self.around {
            Some(around) => around,
            // One place for the sums of all lags.
            None => *self.around.insert((self.caller.back(0)?, callee)),
        };
        let past = |windows| Some(self.callee.back(windows)? - y0);
        let [short, long] = self.callee.means(1)?;
        let callee_past = [past(1)?, past(2)?, past(3)?, short - y0, long - y0];
        let (day, callee) = (Dependency::day(at), callee - y0);
        for (lag, sums) in self.sums.iter_mut().enumerate() {
            let known = (self.caller.calm_back(lag), self.caller.back(lag + 1), self.caller.means(lag + 1));
            let (Some(caller), Some(before), Some([short, long])) = known else { continue };
            let caller_past = [before - x0, short - x0, long - x0];
            sums.add(&Window { day, callee_past, caller_past, caller: caller - x0, callee }, keeps);
        }
        Some(())
    }

    /// What was learnt, where it is enough to go by. Of several lags the one that explains most.
    pub fn dependency(&self, settings: &DependencySettings) -> Option<Dependency> {
        if self.step.is_some_and(|step| step != settings.step) {
            return None;
        }
        let (at, (x0, y0)) = (self.at?, self.around?);
        let enough = self.sums.iter().enumerate().filter(|(_, sums)| sums.windows >= settings.least_windows);
        let tests = enough.filter_map(|(lag, sums)| Some((lag, sums, sums.test()?)));
        let (lag, sums, test) =
            tests.reduce(|best, next| if next.2.strength > best.2.strength { next } else { best })?;
        // Each lag is a chance to be wrong (Bonferroni).
        let chance = (test.chance() * self.sums.len() as f64).min(1.0);
        if !(chance <= settings.alpha && test.explained >= settings.least_explained && test.slope > 0.0) {
            return None;
        }
        let day_seen = sums.windows as f64 * settings.step.seconds() >= 86_400.0;
        let fit = sums.fit(day_seen).filter(|fit| fit.ratio > 0.0 && fit.ratio.is_finite())?;
        let mut found = Dependency {
            at,
            step: settings.step,
            lag: u32::try_from(lag).ok()?,
            ratio: fit.ratio,
            base: fit.base + y0 - fit.ratio * x0,
            daily: fit.daily,
            rest: None,
            persistence: fit.persistence,
            noise: fit.noise,
            explained: test.explained,
            chance,
            windows: sums.windows,
        };
        found.rest = self.callee.back(0).zip(self.caller.back(lag)).map(|(y, x)| y - found.caused(at, x));
        Some(found)
    }

    /// The caller's last loads, newest first: what is still on its way to the callee.
    pub fn known(&self) -> Vec<Option<f64>> {
        self.caller.iter().collect()
    }
}
