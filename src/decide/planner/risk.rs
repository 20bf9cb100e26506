//! The violation budget: what was used of it and what a decision may risk. Rule: what is over is scored once, by what was
//! there, and fades with the budget's period.

use prescale_domain::{DecisionInputs, PlanningSettings, RiskAccount};

/// A budget that was not used at all of late allows as much of itself on top ...
const UNUSED: f64 = 3.0;
/// ... and one that was overdrawn never less than this share of it.
const OVERDRAWN_MIN: f64 = 0.25;
/// The account begins as if the budget had just been kept for this share of its period, so that the first violation weighs
/// no more than it should.
const BEGINS_WITH: f64 = 0.25;

/// The account after the window that is new in `inputs`.
pub fn accounted(inputs: &DecisionInputs) -> RiskAccount {
    let planning = &inputs.settings.planning;
    let period = planning.budget_period.seconds().max(1.0);
    let known = inputs.memory.risk.unwrap_or_else(|| {
        let scored_seconds = period * BEGINS_WITH;
        RiskAccount {
            scored_seconds,
            short_seconds: scored_seconds * planning.violation_budget,
            until: None,
            ready: None,
        }
    });
    let ready = inputs.target.map(|target| target.ready.unwrap_or(target.desired));
    let (Some(load), Some(end)) = (inputs.load.filter(|load| load.is_finite()), inputs.load_window_end) else {
        return RiskAccount { ready, ..known };
    };
    let (Some(until), Some(before)) = (known.until, known.ready) else {
        return RiskAccount { until: Some(end), ready, ..known };
    };
    let seconds = end.since(until).seconds();
    if seconds <= 0.0 {
        return known;
    }
    // Windows that nobody could see in between are not scored.
    let step = inputs.forecast.as_ref().map_or(inputs.lead_time.decision_interval, |forecast| forecast.step).seconds();
    let seconds = seconds.min(step.max(0.0));
    let short = |units: u32| load > f64::from(units) * inputs.settings.unit_capacity * (1.0 + 1e-9);
    let share = 0.5 * f64::from(u8::from(short(before))) + 0.5 * f64::from(u8::from(short(ready.unwrap_or(before))));
    let fade = (-seconds / period).exp();
    RiskAccount {
        scored_seconds: known.scored_seconds * fade + seconds,
        short_seconds: known.short_seconds * fade + seconds * share,
        until: Some(end),
        ready,
    }
}

/// Probability of overload that a decision may accept, and how it comes about in words.
pub fn allowed(planning: &PlanningSettings, account: &RiskAccount, unit_capacity: f64) -> (f64, String) {
    if let (Some(missed), Some(price)) = (planning.missed_usd_hour, planning.price_usd_hour)
        && missed > 0.0
    {
        // A unit more costs its price for certain, and saves what it carries in case of overload (newsvendor).
        let risk = (price / (missed * unit_capacity)).clamp(1e-6, 0.5);
        return (risk, format!("a unit costs {price} USD an hour, a missed unit of load {missed}"));
    }
    let budget = planning.violation_budget;
    let used = if account.scored_seconds > 0.0 { account.short_seconds / account.scored_seconds } else { budget };
    let factor = if budget > 0.0 { 1.0 + UNUSED * (1.0 - used / budget) } else { 1.0 };
    let risk = (budget * factor.clamp(OVERDRAWN_MIN, 1.0 + UNUSED)).clamp(0.0, 0.5);
    let percent = |share: f64| 100.0 * share;
    (risk, format!("a budget of {:.3} % of time, {:.3} % of it used of late", percent(budget), percent(used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_the_budget_decides_what_may_be_risked() {
        let planning = PlanningSettings { violation_budget: 0.01, ..PlanningSettings::default() };
        let account = |short_seconds| RiskAccount { scored_seconds: 1000.0, short_seconds, ..RiskAccount::default() };
        let risk = |short| allowed(&planning, &account(short), 1.0).0;
        assert_eq!((risk(10.0), risk(0.0)), (0.01, 0.04));
        assert!((risk(5.0) - 0.025).abs() < 1e-12);
        assert_eq!((risk(20.0), risk(900.0)), (0.0025, 0.0025));
    }

    #[test]
    fn with_prices_risk_is_their_ratio() {
        let planning =
            PlanningSettings { missed_usd_hour: Some(0.5), price_usd_hour: Some(0.2), ..PlanningSettings::default() };
        assert_eq!(allowed(&planning, &RiskAccount::default(), 20.0).0, 0.02);
    }
}
