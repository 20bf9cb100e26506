//! How many units a budget pays for. Rule: without a price a budget says nothing, and never guesses one.

use chrono::{Datelike as _, Months, NaiveDate, TimeZone as _, Utc};
use prescale_domain::{Budget, Timestamp, Zone};

/// Which budget binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetOf {
    Hour,
    Month,
}

/// The most units that the budget of the hour, and what is left of the month's, pays for at `at`; `None` = any number.
///
/// Of the month's, the next hour may use whatever leaves enough for `min_units` until the month ends: a busy day is not cut
/// short early on, and the minimum is paid for to the end.
pub fn affordable(budget: &Budget, min_units: u32, at: Timestamp) -> Option<(BudgetOf, u32)> {
    let price = budget.price_usd_hour.filter(|price| price.is_finite() && *price > 0.0)?;
    let known = |amount: Option<f64>| amount.filter(|amount| amount.is_finite() && *amount >= 0.0);
    let hour = known(budget.limits.usd_hour).map(|usd| (BudgetOf::Hour, units(usd, price)));
    let month = || {
        let left = known(budget.limits.usd_month)? - known(budget.spent_month_usd)?;
        let hours = budget.month_ends?.since(at).seconds() / 3600.0;
        let later = f64::from(min_units) * price * (hours - 1.0).max(0.0);
        Some((BudgetOf::Month, units((left - later).max(0.0), price)))
    };
    [hour, month()].into_iter().flatten().min_by_key(|(_, units)| *units)
}

/// When the month that `at` is in ends on the clocks of `zone`.
pub fn month_end(at: Timestamp, zone: Zone) -> Option<Timestamp> {
    let local = Utc.timestamp_millis_opt(at.millis()).single()?.with_timezone(&zone.tz());
    let first = NaiveDate::from_ymd_opt(local.year(), local.month(), 1)?;
    Some(zone.moment(first.checked_add_months(Months::new(1))?.and_hms_opt(0, 0, 0)?))
}

/// The rounding error of the division costs no unit; the cast saturates.
fn units(usd: f64, price: f64) -> u32 {
    const ROUNDING: f64 = 1e-12;
    (usd / price * (1.0 + ROUNDING)).floor() as u32
}

#[cfg(test)]
mod tests {
    use prescale_domain::BudgetSettings;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn budget(usd_hour: Option<f64>, usd_month: Option<f64>, spent: f64) -> Budget {
        Budget {
            limits: BudgetSettings { usd_hour, usd_month },
            price_usd_hour: Some(0.1),
            spent_month_usd: Some(spent),
            month_ends: Some(at("2026-12-01T00:00:00Z")),
        }
    }

    #[test]
    fn the_hour_pays_for_what_its_price_allows() {
        let of = |usd: f64| affordable(&budget(Some(usd), None, 0.0), 2, at("2026-11-26T12:00:00Z"));
        assert_eq!(of(1.0), Some((BudgetOf::Hour, 10)));
        assert_eq!(of(0.3), Some((BudgetOf::Hour, 3)));
        assert_eq!(of(0.09), Some((BudgetOf::Hour, 0)));
        let priceless = Budget { price_usd_hour: None, ..budget(Some(1.0), None, 0.0) };
        assert_eq!(affordable(&priceless, 2, at("2026-11-26T12:00:00Z")), None);
        assert_eq!(affordable(&budget(None, None, 0.0), 2, at("2026-11-26T12:00:00Z")), None);
    }

    #[test]
    fn the_month_keeps_enough_for_the_minimum_to_its_end() {
        // 30 hours to go: 2 units for 29 of them cost 5.80.
        let of = |spent: f64| affordable(&budget(None, Some(100.0), spent), 2, at("2026-11-29T18:00:00Z"));
        assert_eq!(of(50.0), Some((BudgetOf::Month, 442)));
        assert_eq!(of(93.2), Some((BudgetOf::Month, 10)));
        assert_eq!(of(94.0), Some((BudgetOf::Month, 2)));
        assert_eq!(of(120.0), Some((BudgetOf::Month, 0)));
    }

    #[test]
    fn a_month_ends_on_the_clocks_of_its_zone() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let end = |moment: &str, zone: Zone| month_end(at(moment), zone).unwrap().to_string();
        assert_eq!(end("2026-11-26T12:00:00Z", Zone::UTC), "2026-12-01T00:00:00Z");
        assert_eq!(end("2026-12-31T23:59:59Z", Zone::UTC), "2027-01-01T00:00:00Z");
        assert_eq!(end("2026-12-31T23:59:59Z", berlin), "2027-01-31T23:00:00Z");
        assert_eq!(end("2026-03-10T12:00:00Z", berlin), "2026-03-31T22:00:00Z");
        assert_eq!(month_end(Timestamp::MAX, Zone::UTC), None);
    }
}
