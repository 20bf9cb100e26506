//! Where risk is best taken. Rule: a unit more is bought where it takes away most of the expected time in overload, until
//! all that is allowed is used up; what is decided by it is a risk, never a number of units.
//!
//! At a price of Λ units for a certain overload, a decision takes the number of units n that is cheapest: least n + Λ S(n),
//! where S is the probability of overload. Over many decisions the same price everywhere gives the least capacity for the
//! expected time in overload (Lagrange; Everett 1963). Which price that is follows from what each of a ladder of prices
//! would have risked of late, a mean that fades: the one at which that is what is allowed.

use prescale_domain::RiskPrices;

use super::Outlook;

/// Prices in units, from 1 up by half a power of ten.
const PRICES: usize = 14;
/// Numbers of units that are weighed.
const WEIGHED: u32 = 64;
/// What was risked longer ago than this is all but forgotten: two days, so that each hour of the day has its say.
const FADES_SECONDS: f64 = 2.0 * 86_400.0;
/// No decision risks less than this share of what is allowed on average.
const LEAST_SHARE: f64 = 0.1;

/// What each price would have risked, with this decision, which is in force for `seconds` and risks `here`, in it.
pub fn noted(before: Option<&RiskPrices>, here: &[f64], seconds: f64) -> RiskPrices {
    let known = before.filter(|before| before.risks.len() == PRICES && before.seconds > 0.0);
    let Some(known) = known else { return RiskPrices { seconds, risks: here.to_vec() } };
    let weight = known.seconds * (-seconds / FADES_SECONDS).exp();
    let mean = |(old, new): (&f64, &f64)| (old * weight + new * seconds) / (weight + seconds).max(f64::MIN_POSITIVE);
    RiskPrices { seconds: weight + seconds, risks: known.risks.iter().zip(here).map(mean).collect() }
}

/// The risk that this decision takes so that over many `allowed` is risked on average, and at most `most`.
pub fn taken(prices: &RiskPrices, here: &[f64], allowed: f64, most: f64) -> f64 {
    let most = most.max(allowed);
    if prices.risks.len() != PRICES || here.len() != PRICES {
        return allowed;
    }
    // The mean falls as the price rises: the first price at which no more than what is allowed is risked, and the way to it.
    let taken = match prices.risks.iter().position(|risk| *risk <= allowed) {
        None => here[PRICES - 1],
        Some(0) => here[0],
        Some(at) => {
            let (above, below) = (prices.risks[at - 1], prices.risks[at]);
            let share = if above > below { (above - allowed) / (above - below) } else { 1.0 };
            here[at - 1] + share * (here[at] - here[at - 1])
        }
    };
    taken.clamp(LEAST_SHARE * allowed, most)
}

/// The risk at the cheapest number of units, by price.
pub fn risks(outlook: &Outlook, unit_capacity: f64) -> Vec<f64> {
    let units = |load: f64| (load / unit_capacity).max(0.0);
    let (low, high) = (units(outlook.mean(0.05)).floor(), units(outlook.tail(1e-5)).ceil() + 1.0);
    let stride = ((high - low) / f64::from(WEIGHED)).max(1.0);
    let weighed: Vec<(f64, f64)> = (0..=WEIGHED)
        .map(|index| (low + stride * f64::from(index)).ceil())
        .take_while(|units| *units <= high + stride)
        .map(|units| (units, outlook.overload(units * unit_capacity)))
        .collect();
    let cheapest = |price: f64| {
        let costs = weighed.iter().map(|(units, risk)| (units + price * risk, *risk));
        costs.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, risk)| risk)
    };
    (0..PRICES).map(|index| cheapest(10_f64.powf(index as f64 / 2.0))).collect()
}
