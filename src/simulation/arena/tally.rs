//! What came of one or several flights, and the line of the score card that it makes. Rule: a number that could not be
//! computed is absent.

use prescale_domain::{SystemScore, Violations};

use super::TICK;

/// Sums over the ticks of the flights, so that services add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub ticks: u64,
    pub short_ticks: u64,
    /// Load times seconds: requests where the load is requests per second.
    pub demanded: f64,
    pub missed: f64,
    /// Load that the units in service could carry, times seconds.
    pub carried: f64,
    pub cost_usd: f64,
    pub unit_hours: f64,
    pub actions: u64,
    /// Units missing, and units too many, as shares of the units needed; a sum over ticks.
    pub under: f64,
    pub over: f64,
    pub under_ticks: u64,
    pub over_ticks: u64,
    /// Steps of the load after the first, and those in which demand and supply moved differently.
    pub steps: u64,
    pub unlike_steps: u64,
    /// Changes of the desired capacity against the direction of the one before.
    pub reversals: u64,
    pub paid_unit_ticks: u64,
    /// Paid for and not needed.
    pub idle_unit_ticks: u64,
    pub spike_ticks: u64,
    pub spike_short_ticks: u64,
    pub spike_demanded: f64,
    pub spike_missed: f64,
}

impl Tally {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            ticks: self.ticks + other.ticks,
            short_ticks: self.short_ticks + other.short_ticks,
            demanded: self.demanded + other.demanded,
            missed: self.missed + other.missed,
            carried: self.carried + other.carried,
            cost_usd: self.cost_usd + other.cost_usd,
            unit_hours: self.unit_hours + other.unit_hours,
            actions: self.actions + other.actions,
            under: self.under + other.under,
            over: self.over + other.over,
            under_ticks: self.under_ticks + other.under_ticks,
            over_ticks: self.over_ticks + other.over_ticks,
            steps: self.steps + other.steps,
            unlike_steps: self.unlike_steps + other.unlike_steps,
            reversals: self.reversals + other.reversals,
            paid_unit_ticks: self.paid_unit_ticks + other.paid_unit_ticks,
            idle_unit_ticks: self.idle_unit_ticks + other.idle_unit_ticks,
            spike_ticks: self.spike_ticks + other.spike_ticks,
            spike_short_ticks: self.spike_short_ticks + other.spike_short_ticks,
            spike_demanded: self.spike_demanded + other.spike_demanded,
            spike_missed: self.spike_missed + other.spike_missed,
        }
    }

    /// The line of the score card; `None` where nothing was flown.
    pub fn score(&self, chosen: Option<String>) -> Option<SystemScore> {
        if self.ticks == 0 || self.demanded <= 0.0 {
            return None;
        }
        let ticks = self.ticks as f64;
        let of_ticks = |sum: f64| Some(100.0 * sum / ticks);
        let hours = ticks * TICK.seconds() / 3600.0;
        Some(SystemScore {
            violations: Violations {
                time_pct: 100.0 * self.short_ticks as f64 / ticks,
                requests_pct: 100.0 * self.missed / self.demanded,
            },
            cost_usd: self.cost_usd,
            unit_hours: self.unit_hours,
            actions: self.actions,
            theta_under: of_ticks(self.under),
            theta_over: of_ticks(self.over),
            tau_under: of_ticks(self.under_ticks as f64),
            tau_over: of_ticks(self.over_ticks as f64),
            instability: pct(self.unlike_steps as f64, self.steps as f64),
            reversals: Some(self.reversals as f64),
            reversals_per_hour: Some(self.reversals as f64 / hours),
            utilization_pct: pct(self.demanded - self.missed, self.carried),
            waste_pct: pct(self.idle_unit_ticks as f64, self.paid_unit_ticks as f64),
            spike_availability_pct: pct(self.spike_demanded - self.spike_missed, self.spike_demanded),
            spike_short_time_pct: pct(self.spike_short_ticks as f64, self.spike_ticks as f64),
            chosen,
            ..SystemScore::default()
        })
    }

    /// USD for a million requests that were carried, where the load is requests per second.
    pub fn cost_per_million_good_usd(&self) -> Option<f64> {
        let good = self.demanded - self.missed;
        (good > 0.0).then(|| self.cost_usd / good * 1e6)
    }

    /// SPEC RG's elastic speed-up over `reference`, which stays at the mean: above 1 is better. Each of its four parts is
    /// at least what one tick would make, lest one perfect part decide alone.
    pub fn elastic_speedup(&self, reference: &Self) -> Option<f64> {
        let parts = |tally: &Self| {
            let floor = 1.0 / tally.ticks as f64;
            [tally.under, tally.over, tally.under_ticks as f64, tally.over_ticks as f64]
                .map(|sum| (sum / tally.ticks as f64).max(floor))
        };
        (self.ticks > 0 && reference.ticks > 0).then(|| {
            let ratio: f64 = parts(reference).iter().zip(parts(self)).map(|(without, with)| without / with).product();
            ratio.powf(0.25)
        })
    }
}

fn pct(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| 100.0 * part / whole)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::bout;
    use super::super::{Pilot, Tally};

    /// Two units of 10 each, with a load of 0, 20, 35 and 10 for a minute each.
    fn flown() -> Tally {
        bout(&[0.0, 20.0, 35.0, 10.0]).fly(&Pilot::Fixed(2))
    }

    #[test]
    fn the_four_parts_of_elasticity_follow_their_formulas() {
        // Needed 0, 2, 4, 1; two there: over by 2 of 1 and 1 of 1, under by 2 of 4.
        let score = flown().score(None).unwrap();
        assert_eq!((score.theta_under, score.theta_over), (Some(100.0 * 0.5 / 4.0), Some(100.0 * 3.0 / 4.0)));
        assert_eq!((score.tau_under, score.tau_over), (Some(25.0), Some(50.0)));
        // Demand moves at each of the three steps, supply never.
        assert_eq!(score.instability, Some(100.0));
        // 0 + 20 + 20 + 10 of 4 · 20; 2 + 0 + 0 + 1 of 4 · 2 units paid for.
        assert_eq!((score.utilization_pct, score.waste_pct), (Some(62.5), Some(37.5)));
        assert_eq!((score.spike_availability_pct, score.spike_short_time_pct), (None, None));
    }

    #[test]
    fn spikes_are_counted_apart() {
        let tally = bout(&[10.0, 20.0, 35.0, 10.0]).drive_through(&[false, false, true, false], |_| None);
        let score = tally.score(None).unwrap();
        assert_eq!(
            (score.spike_availability_pct, score.spike_short_time_pct),
            (Some(100.0 * 20.0 / 35.0), Some(100.0))
        );
    }

    #[test]
    fn a_change_against_the_one_before_is_a_reversal() {
        let mut wishes = [3, 4, 4, 2, 2, 5, 1].into_iter();
        let tally = bout(&[10.0, 10.0]).drive(|_| wishes.next());
        // Up, up, down, up, down.
        assert_eq!((tally.actions, tally.reversals), (5, 3));
    }

    #[test]
    fn a_million_good_requests_have_a_price() {
        // 2 units for 4 minutes at a dollar a minute; 60 · (0 + 20 + 20 + 10) requests.
        assert_eq!(flown().cost_per_million_good_usd(), Some(8.0 / 3000.0 * 1e6));
        assert_eq!(Tally::default().cost_per_million_good_usd(), None);
    }

    #[test]
    fn elastic_speed_up_is_the_mean_ratio_of_the_four_parts_and_never_infinite() {
        let reference = flown();
        assert_eq!(reference.elastic_speedup(&reference), Some(1.0));
        let perfect = Tally { ticks: 16, ..Tally::default() };
        // Parts of the reference in ticks of 16: 2, 12, 4, 8; of the other one 1 each.
        let expected = (2.0_f64 * 12.0 * 4.0 * 8.0).powf(0.25);
        assert!((perfect.elastic_speedup(&reference).unwrap() - expected).abs() < 1e-12);
    }
}
