//! The border of a run: settings that make no sense are told all at once. Rule: what has passed is never checked again.

use prescale_domain::Span;
use thiserror::Error;

use super::arrivals::Arrivals;
use super::settings::{Latency, RunSettings};
use crate::market::MarketError;

/// Settings that cannot be simulated.
#[derive(Debug, Error, PartialEq)]
pub enum SettingsError {
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    #[error(transparent)]
    Market(#[from] MarketError),
}

impl RunSettings {
    /// Whether these settings and arrivals can be simulated.
    ///
    /// # Errors
    /// Every fault, with name, value and bound.
    pub fn check(&self, arrivals: &Arrivals) -> Result<(), SettingsError> {
        let mut faults = Vec::new();
        let mut positive = |name: &str, span: Span| {
            if span <= Span::ZERO {
                faults.push(format!("{name} {span} is not positive"));
            }
        };
        positive("tick", self.tick);
        positive("window", self.window);
        positive("objective", self.objective);
        positive("length of the run", self.end.since(self.start));
        match arrivals {
            Arrivals::Rate(series) => positive("step of the arrivals", series.step),
            Arrivals::Counts(series) => positive("step of the arrivals", series.step),
            Arrivals::Log(_) => {}
        }
        if self.tick > Span::ZERO && self.window.millis() % self.tick.millis() != 0 {
            faults.push(format!("window {} is not a whole number of ticks of {}", self.window, self.tick));
        }
        let mut require = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let amount = |value: f64| value.is_finite() && value >= 0.0;
        let (mean, squared) = (self.service.time.mean_seconds(), self.service.time.squared_variation());
        require(mean.is_finite() && mean > 0.0, format!("service mean_seconds {mean} is not positive"));
        let least = if matches!(self.service.time, super::ServiceTime::HyperExponential { .. }) { 1.0 } else { 0.0 };
        require(
            squared.is_finite() && squared >= least,
            format!("service squared_variation {squared} is below {least}"),
        );
        require(self.service.concurrency > 0, "service concurrency is 0".to_owned());
        let fleet = &self.fleet;
        require(fleet.min <= fleet.max, format!("fleet min {} exceeds max {}", fleet.min, fleet.max));
        require(
            (0.0..1.0).contains(&fleet.launch_failure),
            format!("fleet launch_failure {} is not in [0, 1)", fleet.launch_failure),
        );
        require(
            fleet.launch_failure == 0.0 || fleet.retry_after > Span::ZERO || fleet.provisioning.is_slow(),
            "fleet retry_after is 0 where launches fail at once".to_owned(),
        );
        require(
            share(fleet.warm_up.initial_speed),
            format!("warm-up initial_speed {} is not in [0, 1]", fleet.warm_up.initial_speed),
        );
        if let Latency::Observed(spans) = &fleet.provisioning {
            require(!spans.is_empty(), "provisioning has no observed latency".to_owned());
        }
        let prices = &self.prices;
        require(
            amount(prices.on_demand_usd_hour) && amount(prices.reserved_usd_hour),
            format!("price {} or {} is negative", prices.on_demand_usd_hour, prices.reserved_usd_hour),
        );
        if let Some(spot) = &prices.spot {
            require(share(spot.share), format!("spot share {} is not in [0, 1]", spot.share));
            require(amount(spot.usd_hour), format!("spot price {} is negative", spot.usd_hour));
        }
        match arrivals {
            Arrivals::Rate(series) => {
                let bad = series.per_second.iter().find(|rate| !amount(**rate));
                require(bad.is_none(), format!("arrival rate {} is negative or no number", bad.unwrap_or(&0.0)));
            }
            Arrivals::Counts(_) => {}
            Arrivals::Log(moments) => require(moments.is_sorted(), "the request log is not in order".to_owned()),
        }
        if faults.is_empty() { Ok(()) } else { Err(SettingsError::Invalid(faults)) }
    }
}

impl Latency {
    fn is_slow(&self) -> bool {
        match self {
            Self::Fixed(span) => *span > Span::ZERO,
            Self::LogNormal { median, .. } => *median > Span::ZERO,
            Self::Observed(spans) => spans.iter().all(|span| *span > Span::ZERO),
        }
    }
}
