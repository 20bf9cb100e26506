//! What a spot unit costs over time. Rule: a step function; the price of a moment is that of the last change before it.

use prescale_domain::{Span, Timestamp};
use rand_distr::{Distribution, StandardNormal};

use crate::seeded::{Purpose, rng};

const HOUR: Span = Span::from_minutes(60);

/// Where a pool's prices come from; all in USD per hour.
#[derive(Clone, Debug, PartialEq)]
pub enum Prices {
    Fixed(f64),
    /// A recorded history of changes, in order; the first price holds before it.
    Recorded(Vec<(Timestamp, f64)>),
    /// A price that wanders around `mean_usd_hour` and returns to it, changing by the hour, never above `cap_usd_hour`
    /// (the on-demand price, which AWS has not let spot prices pass for years).
    Generated {
        mean_usd_hour: f64,
        cap_usd_hour: f64,
        /// Standard deviation of the logarithm.
        spread: f64,
        /// How long it takes to be back half-way and a bit (by the factor e).
        reversion: Span,
    },
}

/// Prices by time, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct PriceSeries(Vec<(Timestamp, f64)>);

impl PriceSeries {
    pub(super) fn new(
        prices: &Prices,
        (start, end): (Timestamp, Timestamp),
        seed: u64,
        pool: usize,
    ) -> Result<Self, String> {
        let sound = |price: f64| price.is_finite() && price >= 0.0;
        let series = match prices {
            Prices::Fixed(price) => vec![(start, *price)],
            Prices::Recorded(changes) => changes.clone(),
            Prices::Generated { mean_usd_hour, cap_usd_hour, spread, reversion } => {
                if !sound(*spread) || *reversion <= Span::ZERO {
                    return Err(format!("price spread {spread} or reversion {reversion} is not positive"));
                }
                let kept = (-HOUR.seconds() / reversion.seconds()).exp();
                let fresh = spread * (1.0 - kept * kept).sqrt();
                let mut rng = rng(seed, Purpose::Prices, pool, start);
                let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
                let mut wander = spread * normal();
                let hours = end.since(start).steps_up(HOUR);
                (0..hours)
                    .map(|hour| {
                        let moment = start + Span::from_minutes(60 * i64::try_from(hour).unwrap_or(0));
                        let price = (mean_usd_hour * (wander - spread * spread / 2.0).exp()).min(*cap_usd_hour);
                        wander = kept * wander + fresh * normal();
                        (moment, price)
                    })
                    .collect()
            }
        };
        if series.is_empty() {
            return Err("it has no price".to_owned());
        }
        if let Some((moment, price)) = series.iter().find(|(_, price)| !sound(*price)) {
            return Err(format!("price {price} at {moment} is negative or no number"));
        }
        if !series.is_sorted_by_key(|(moment, _)| *moment) {
            return Err("its prices are not in order".to_owned());
        }
        Ok(Self(series))
    }

    pub(super) fn at(&self, moment: Timestamp) -> f64 {
        self.0.get(self.index(moment)).map_or(0.0, |(_, price)| *price)
    }

    /// Changes in a time, and the last one before it.
    pub(super) fn changes(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, f64)> {
        let later = self.0.iter().skip(self.index(from)).take_while(|(change, _)| *change <= to);
        let mut changes: Vec<(Timestamp, f64)> = later.copied().collect();
        changes.dedup_by_key(|(_, price)| *price);
        changes
    }

    /// Price times hours.
    pub(super) fn integral_hours(&self, from: Timestamp, to: Timestamp) -> f64 {
        let (mut index, mut at, mut total) = (self.index(from), from, 0.0);
        while at < to {
            let until = self.0.get(index + 1).map_or(to, |(next, _)| (*next).min(to)).max(at);
            total += self.0[index].1 * until.since(at).seconds() / 3600.0;
            at = until;
            index = (index + 1).min(self.0.len() - 1);
        }
        total
    }

    fn index(&self, moment: Timestamp) -> usize {
        self.0.partition_point(|(change, _)| *change <= moment).saturating_sub(1)
    }
}
