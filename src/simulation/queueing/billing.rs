//! What units cost, by price class. Rule: a unit is billed from its launch to its end, at least for the minimum; what is
//! reserved is billed whether it is used or not.

use prescale_domain::Span;
use serde::Serialize;

use super::moment::Nanos;
use super::settings::SpotReaction;

/// How a unit is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceClass {
    /// Covered by a commitment, sunk.
    Reserved,
    OnDemand,
    /// Cheaper, and may be taken away.
    Spot,
}

/// Which units are of which class, and what they cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Pricing {
    pub on_demand_usd_hour: f64,
    /// Billed at least for this long, however short a unit lived.
    pub minimum_billing: Span,
    /// The first units of the fleet, and what each costs at every hour of the run.
    pub reserved: u32,
    pub reserved_usd_hour: f64,
    /// Units after those that are on-demand in any case.
    pub on_demand_base: u32,
    /// How the rest is split; `None` = on-demand.
    pub spot: Option<SpotShare>,
}

/// The spot part of a fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct SpotShare {
    /// Share of the units above the base.
    pub share: f64,
    /// Price where there is no market.
    pub usd_hour: f64,
    pub reaction: SpotReaction,
}

/// One class over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClassCost {
    pub unit_hours: f64,
    pub cost_usd: f64,
    /// Units launched, the initial ones included.
    pub launched: u64,
    /// Units taken away by the market.
    pub lost: u64,
}

impl Pricing {
    /// On-demand units at one price.
    pub fn on_demand(usd_hour: f64, minimum_billing: Span) -> Self {
        Self {
            on_demand_usd_hour: usd_hour,
            minimum_billing,
            reserved: 0,
            reserved_usd_hour: 0.0,
            on_demand_base: 0,
            spot: None,
        }
    }

    /// The class of the next unit in a fleet that has so many of each.
    pub(super) fn next_class(&self, reserved: u32, on_demand: u32, spot: u32) -> PriceClass {
        if reserved < self.reserved {
            return PriceClass::Reserved;
        }
        let above = on_demand.saturating_sub(self.on_demand_base);
        match &self.spot {
            Some(wanted) if on_demand >= self.on_demand_base => {
                // The split that is nearer to the wanted share with this unit than without it.
                if f64::from(spot) < wanted.share * (f64::from(spot) + f64::from(above) + 1.0) - 1e-9 {
                    PriceClass::Spot
                } else {
                    PriceClass::OnDemand
                }
            }
            _ => PriceClass::OnDemand,
        }
    }

    pub(super) fn billed(&self, lived: Nanos) -> Nanos {
        lived.max(self.minimum_billing.into())
    }
}

pub(super) fn hours(time: Nanos) -> f64 {
    time.seconds() / 3600.0
}
