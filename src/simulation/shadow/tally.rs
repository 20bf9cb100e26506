//! Sums over moments of both sides, and the numbers of the score card from them. Rule: sums only, so that days and totals
//! are counted alike; what has no denominator is absent.

use prescale_domain::{Saved, ShadowScore, Span, Violations};
use serde::{Deserialize, Serialize};

/// One side at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Units {
    pub ready: u32,
    /// Units that cost money, in service or not.
    pub paid: u32,
    /// Load that they carry.
    pub carried: f64,
}

/// Both sides at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moment {
    pub load: f64,
    /// The least units that carry it.
    pub needed: u32,
    pub actual: Units,
    pub prescale: Units,
}

/// One side over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SideTally {
    short_seconds: f64,
    missed: f64,
    unit_seconds: f64,
    /// Σ max(d − s, 0)/max(d, 1) Δt and Σ max(s − d, 0)/max(d, 1) Δt, and the time in which each is not 0.
    under: f64,
    over: f64,
    under_seconds: f64,
    over_seconds: f64,
    /// Time in which supply moved otherwise than demand, of that in which both had a moment before.
    unlike_seconds: f64,
    moved_seconds: f64,
    actions: u64,
    reversals: u64,
    /// Direction of the last change of desired units.
    direction: i8,
}

/// Both sides over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DayTally {
    seconds: f64,
    gap_seconds: f64,
    demanded: f64,
    pub actual: SideTally,
    pub prescale: SideTally,
}

impl SideTally {
    /// Desired units have gone from `before` to `after`.
    pub(super) fn change(&mut self, before: u32, after: u32) {
        let direction = sign(f64::from(after) - f64::from(before));
        if direction != 0 {
            self.actions += 1;
            self.reversals += u64::from(self.direction == -direction);
            self.direction = direction;
        }
    }

    fn add(&mut self, now: &Moment, units: &Units, before: Option<(&Moment, &Units)>, seconds: f64) {
        let short = now.load - units.carried;
        // A hair's breadth is rounding, not a violation.
        if short > 1e-9 * now.load {
            self.short_seconds += seconds;
            self.missed += short * seconds;
        }
        self.unit_seconds += f64::from(units.paid) * seconds;
        let (needed, ready) = (f64::from(now.needed), f64::from(units.ready));
        self.under += (needed - ready).max(0.0) / needed.max(1.0) * seconds;
        self.over += (ready - needed).max(0.0) / needed.max(1.0) * seconds;
        self.under_seconds += if ready < needed { seconds } else { 0.0 };
        self.over_seconds += if ready > needed { seconds } else { 0.0 };
        if let Some((moment, then)) = before {
            let demand = sign(needed - f64::from(moment.needed));
            let supply = sign(ready - f64::from(then.ready));
            self.moved_seconds += seconds;
            self.unlike_seconds += if demand == supply { 0.0 } else { seconds };
        }
    }
}

impl DayTally {
    /// Time that could not be judged.
    pub(super) fn gap(&mut self, length: Span) {
        self.gap_seconds += length.seconds();
    }

    /// A moment that held for `length`.
    pub(super) fn add(&mut self, now: &Moment, last: Option<&Moment>, length: Span) {
        let seconds = length.seconds();
        self.seconds += seconds;
        self.demanded += now.load * seconds;
        self.actual.add(now, &now.actual, last.map(|last| (last, &last.actual)), seconds);
        self.prescale.add(now, &now.prescale, last.map(|last| (last, &last.prescale)), seconds);
    }

    pub(super) fn hours(&self) -> (f64, f64) {
        (self.seconds / 3600.0, self.gap_seconds / 3600.0)
    }

    pub(super) fn score(&self, side: &SideTally, price: Option<f64>, budget_pct: Option<f64>) -> Option<ShadowScore> {
        if self.seconds <= 0.0 {
            return None;
        }
        let percent = |part: f64| 100.0 * part / self.seconds;
        let time_pct = percent(side.short_seconds);
        let unit_hours = side.unit_seconds / 3600.0;
        let cost_usd = price.map(|price| price * unit_hours);
        let good = self.demanded - side.missed;
        Some(ShadowScore {
            violations: Violations {
                time_pct,
                requests_pct: if self.demanded > 0.0 { 100.0 * side.missed / self.demanded } else { 0.0 },
            },
            cost_usd,
            cost_per_million_good_usd: cost_usd.filter(|_| good > 0.0).map(|cost| 1e6 * cost / good),
            unit_hours,
            theta_under: percent(side.under),
            theta_over: percent(side.over),
            tau_under: percent(side.under_seconds),
            tau_over: percent(side.over_seconds),
            instability: (side.moved_seconds > 0.0).then(|| 100.0 * side.unlike_seconds / side.moved_seconds),
            reversals: side.reversals,
            actions: side.actions,
            objective_kept: budget_pct.map(|budget| time_pct <= budget),
        })
    }

    pub(super) fn saved(&self, price: Option<f64>) -> Saved {
        let (actual, prescale) = (&self.actual, &self.prescale);
        let unit_hours = (actual.unit_seconds - prescale.unit_seconds) / 3600.0;
        Saved {
            cost_usd: price.map(|price| price * unit_hours),
            unit_hours,
            short_minutes: (actual.short_seconds - prescale.short_seconds) / 60.0,
            missed: actual.missed - prescale.missed,
        }
    }
}

fn sign(value: f64) -> i8 {
    i8::from(value > 0.0) - i8::from(value < 0.0)
}
