//! What may be short now. Rule: in the long run no more than the risk; what was not used is kept for a while and taken where it
//! saves most, and what losses were reckoned to leave short is held against what they did.

use prescale_domain::{Span, SpotInputs, SpotMemory, Timestamp};

/// What was saved of the risk is spent over this share of the time that it is kept for.
const SPENT_OVER: f64 = 1.0 / 12.0;
/// What was reckoned and what was seen fade over this time.
const FADES: Span = Span::from_minutes(14 * 24 * 60);
/// Seconds short that the reckoning is worth before any were seen, and how far off it may be called at most.
const PRIOR_SECONDS: f64 = 600.0;
const FACTOR_MAX: f64 = 8.0;

/// The state of a budget at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Budget {
    /// Share of time that may be short now.
    pub allowed: f64,
    /// By what the reckoning is to be multiplied.
    pub factor: f64,
    unspent_seconds: f64,
    reckoned_seconds: f64,
    seen_seconds: f64,
}

impl Budget {
    pub(super) fn new(inputs: &SpotInputs) -> Self {
        let (settings, memory) = (&inputs.settings, &inputs.memory);
        let weight = if settings.criticality > 0.0 { settings.criticality } else { 1.0 };
        let risk = (settings.risk / weight).clamp(0.0, 1.0);
        let elapsed = memory.planned_at.map_or(0.0, |planned| inputs.at.since(planned).seconds());
        let saving = settings.saving.seconds().max(0.0);
        let unspent_seconds = (memory.unspent_seconds + (risk - memory.short) * elapsed).clamp(0.0, risk * saving);
        let saved = if saving > 0.0 { unspent_seconds / (saving * SPENT_OVER) } else { 0.0 };
        let kept = (-elapsed / FADES.seconds()).exp();
        let reckoned_seconds = memory.reckoned_seconds * kept + memory.reckoned * elapsed;
        let seen_seconds = memory.seen_seconds * kept + inputs.short.seconds().max(0.0);
        let factor = (PRIOR_SECONDS + seen_seconds) / (PRIOR_SECONDS + reckoned_seconds);
        Self {
            allowed: (risk + saved).clamp(0.0, 1.0),
            factor: factor.clamp(1.0 / FACTOR_MAX, FACTOR_MAX),
            unspent_seconds,
            reckoned_seconds,
            seen_seconds,
        }
    }

    /// What is to be remembered of a plan that leaves so much short.
    pub(super) fn remembered(&self, memory: SpotMemory, at: Timestamp, short: f64) -> SpotMemory {
        SpotMemory {
            planned_at: Some(at),
            short,
            reckoned: short / self.factor,
            unspent_seconds: self.unspent_seconds,
            reckoned_seconds: self.reckoned_seconds,
            seen_seconds: self.seen_seconds,
            ..memory
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RISK: f64 = 0.001;

    fn inputs(minutes: i64, memory: SpotMemory) -> SpotInputs {
        let at = Timestamp::from_millis(minutes * 60_000);
        let mut inputs = SpotInputs::new(at, 10, Vec::new(), Span::from_secs(240));
        (inputs.settings.risk, inputs.settings.saving, inputs.memory) = (RISK, Span::from_minutes(600), memory);
        inputs
    }

    #[test]
    fn in_the_long_run_no_more_than_the_risk_is_spent() {
        // Spends all that is allowed, from the tenth hour on, where nothing was spent before.
        let (mut memory, mut spent, mut first) = (SpotMemory::default(), 0.0, 0.0);
        for turn in 0..2000 {
            let of = inputs(turn * 5, memory);
            let budget = Budget::new(&of);
            let short = if turn < 120 { 0.0 } else { budget.allowed };
            first = if turn == 120 { short } else { first };
            spent += short * 300.0;
            memory = budget.remembered(memory, of.at, short);
        }
        assert!((first / RISK - 13.0).abs() < 0.1, "{first}");
        assert!(spent <= RISK * 2000.0 * 300.0 + 1e-6, "{spent}");
        assert!(spent > 0.95 * RISK * (2000.0 - 120.0) * 300.0, "{spent}");
    }

    #[test]
    fn without_saving_each_moment_has_the_risk() {
        let mut of = inputs(600, SpotMemory { planned_at: Some(Timestamp::from_millis(0)), ..SpotMemory::default() });
        of.settings.saving = Span::default();
        assert_eq!(Budget::new(&of).allowed, RISK);
        of.settings.criticality = 2.0;
        assert_eq!(Budget::new(&of).allowed, RISK / 2.0);
    }

    #[test]
    fn a_reckoning_that_is_borne_out_half_counts_half() {
        let mut memory = SpotMemory::default();
        let mut factor = 1.0;
        for turn in 0..4000 {
            let mut of = inputs(turn * 5, memory);
            // 5 % of five minutes are reckoned, half of that is seen.
            of.short = Span::from_millis(if turn > 0 { 7_500 } else { 0 });
            let budget = Budget::new(&of);
            factor = budget.factor;
            memory = budget.remembered(memory, of.at, 0.05 * factor);
        }
        assert!((factor - 0.5).abs() < 0.02, "{factor}");
    }
}
