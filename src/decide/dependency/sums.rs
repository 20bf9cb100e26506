//! The sums of the regressions of one lag, and what follows from them. Rule: least squares with exponential forgetting; a
//! regressor that is a combination of the others is left out.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, FisherSnedecor};

/// What tells of a load before anybody else is asked: the callee's last three loads and two means before it, the caller's
/// last load and two means before it.
pub(super) const CALLEE_PAST: usize = 5;
pub(super) const CALLER_PAST: usize = 3;

/// In the order of the regressors: the mean, the day, the pasts of both, the caller's load, and the callee's.
const DAY: usize = 1;
const DAY_TERMS: usize = 4;
const PAST: usize = DAY + DAY_TERMS;
const BEFORE: usize = PAST + CALLEE_PAST;
const CALLER: usize = BEFORE + CALLER_PAST;
const CALLEE: usize = CALLER + 1;
const ALL: usize = CALLEE + 1;

/// A regressor of which the others leave less than this share has nothing of its own.
const REDUNDANT: f64 = 1e-10;
/// Persistences that are tried.
const GRID: u32 = 20;

/// Weighted sums of products; the upper half is not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) windows: u64,
    weight: f64,
    weight_squared: f64,
    products: [[f64; ALL]; ALL],
}

/// What one window has to say about a lag.
pub(super) struct Window {
    pub(super) day: [f64; DAY_TERMS],
    /// Newest first, then the means.
    pub(super) callee_past: [f64; CALLEE_PAST],
    pub(super) caller_past: [f64; CALLER_PAST],
    /// So many windows before.
    pub(super) caller: f64,
    pub(super) callee: f64,
}

/// Whether the caller tells more than all else.
pub(super) struct Test {
    pub(super) slope: f64,
    /// Share of what all else leaves open.
    pub(super) explained: f64,
    /// The F statistic.
    pub(super) strength: f64,
    freedom: f64,
}

impl Test {
    /// Of so strong a result without any dependency.
    pub(super) fn chance(&self) -> f64 {
        if self.strength.is_infinite() {
            return 0.0;
        }
        FisherSnedecor::new(1.0, self.freedom).map_or(1.0, |of| of.sf(self.strength))
    }
}

/// The relation of the two loads, both around what the sums were taken around.
pub(super) struct Fit {
    pub(super) ratio: f64,
    pub(super) base: f64,
    pub(super) daily: [f64; DAY_TERMS],
    pub(super) persistence: f64,
    pub(super) noise: f64,
}

impl Sums {
    /// One more window.
    pub(super) fn add(&mut self, window: &Window, keeps: f64) {
        let mut row = [1.0; ALL];
        row[DAY..PAST].copy_from_slice(&window.day);
        row[PAST..BEFORE].copy_from_slice(&window.callee_past);
        row[BEFORE..CALLER].copy_from_slice(&window.caller_past);
        row[CALLER] = window.caller;
        row[CALLEE] = window.callee;
        for (a, sums) in self.products.iter_mut().enumerate() {
            for (b, sum) in sums.iter_mut().enumerate().take(a + 1) {
                *sum = *sum * keeps + row[a] * row[b];
            }
        }
        self.windows = self.windows.saturating_add(1);
        self.weight = self.weight * keeps + 1.0;
        self.weight_squared = self.weight_squared * keeps * keeps + 1.0;
    }

    /// `None` = too few windows, or a load that does not change.
    pub(super) fn test(&self) -> Option<Test> {
        // Independent windows that say as much as these weighted ones (Kish 1965).
        let freedom = self.weight * self.weight / self.weight_squared - CALLEE as f64;
        if freedom.is_nan() || freedom < 10.0 {
            return None;
        }
        let root = cholesky(&self.products);
        let (own, with, open) = (root[CALLER][CALLER], root[CALLEE][CALLER], root[CALLEE][CALLEE]);
        let all = with * with + open * open;
        if !(own > 0.0 && all > REDUNDANT * self.products[CALLEE][CALLEE]) {
            return None;
        }
        let explained = with * with / all;
        Some(Test { slope: with / own, explained, strength: freedom * with * with / (open * open), freedom })
    }

    /// Ratio and persistence together, by the persistence with the least error (Hildreth and Lu 1960): of what wanders the
    /// changes are regressed, of what does not the levels, which say more.
    pub(super) fn fit(&self, day_seen: bool) -> Option<Fit> {
        let tried = (0..=GRID).map(|at| f64::from(at) / f64::from(GRID));
        let fits = tried.filter_map(|persistence| Some((persistence, self.differenced(persistence)?)));
        let (persistence, (ratio, open)) = fits.reduce(|best, next| if next.1.1 < best.1.1 { next } else { best })?;
        let (base, daily) = self.rest_of(ratio, day_seen)?;
        Some(Fit { ratio, base, daily, persistence, noise: (open / self.weight).max(0.0).sqrt() })
    }

    fn product(&self, a: usize, b: usize) -> f64 {
        self.products[a.max(b)][a.min(b)]
    }

    /// Ratio and squared error of `callee - p × callee before` on `caller - p × caller before`.
    fn differenced(&self, persistence: f64) -> Option<(f64, f64)> {
        const X: usize = PAST;
        const Y: usize = PAST + 1;
        let mut products = [[0.0; Y + 1]; Y + 1];
        // Each as a load and its load before.
        let pair = |at: usize| if at == X { (CALLER, BEFORE) } else { (CALLEE, PAST) };
        for (a, row) in products.iter_mut().enumerate() {
            for (b, sum) in row.iter_mut().enumerate().take(a + 1) {
                *sum = match (a >= X, b >= X) {
                    (false, _) => self.product(a, b),
                    (true, false) => self.product(pair(a).0, b) - persistence * self.product(pair(a).1, b),
                    (true, true) => {
                        let ((a, a1), (b, b1)) = (pair(a), pair(b));
                        self.product(a, b) - persistence * (self.product(a, b1) + self.product(a1, b))
                            + persistence * persistence * self.product(a1, b1)
                    }
                };
            }
        }
        let root = cholesky(&products);
        let own = root[X][X];
        (own > 0.0).then(|| (root[Y][X] / own, root[Y][Y] * root[Y][Y]))
    }

    /// The mean of `callee - ratio × caller`, and what it does each day.
    fn rest_of(&self, ratio: f64, day_seen: bool) -> Option<(f64, [f64; DAY_TERMS])> {
        let rest = |at: usize| self.product(CALLEE, at) - ratio * self.product(CALLER, at);
        let mut products = [[0.0; PAST + 1]; PAST + 1];
        for (a, row) in products.iter_mut().enumerate().take(PAST) {
            row[..=a].copy_from_slice(&self.products[a][..=a]);
        }
        products[PAST] = std::array::from_fn(|at| if at < PAST { rest(at) } else { 0.0 });
        if !day_seen {
            // A part of a day says nothing of the day.
            return (self.weight > 0.0).then(|| (rest(0) / self.weight, [0.0; DAY_TERMS]));
        }
        let root = cholesky(&products);
        let mut found = [0.0; PAST];
        for at in (0..PAST).rev() {
            let later: f64 = (at + 1..PAST).map(|other| root[other][at] * found[other]).sum();
            found[at] = if root[at][at] > 0.0 { (root[PAST][at] - later) / root[at][at] } else { 0.0 };
        }
        let [base, daily @ ..] = found;
        Some((base, daily))
    }
}

/// The lower triangular root of a matrix whose lower half is given; a row that is a combination of those above has a zero on
/// the diagonal and below.
fn cholesky<const N: usize>(of: &[[f64; N]; N]) -> [[f64; N]; N] {
    let mut root = [[0.0; N]; N];
    for a in 0..N {
        for b in 0..=a {
            let above: f64 = (0..b).map(|at| root[a][at] * root[b][at]).sum();
            let left = of[a][b] - above;
            root[a][b] = if a == b {
                if left > REDUNDANT * of[a][a] { left.sqrt() } else { 0.0 }
            } else if root[b][b] > 0.0 {
                left / root[b][b]
            } else {
                0.0
            };
        }
    }
    root
}
