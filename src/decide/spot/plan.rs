//! The split of a wish into on-demand and spot units. Rule: the cheapest split whose losses leave no more time short than is
//! allowed; towards on-demand it is followed at once, back to spot in steps and only where that pays.
//!
//! Splits are looked at by their number of on-demand units, from what must be on-demand to all; for each the spot part is
//! spread more or less evenly, and made larger by the fewest spare units with which the losses of one replacement time
//! ([`super::loss`]) fit the risk. Spare units lie in pools that are lost as well, which is reckoned with.

use prescale_domain::{
    Binding, PoolId, PoolOffer, Rejected, RejectedBecause, Span, SpotInputs, SpotMemory, SpotPlan, SpotPreference,
};

use super::budget::Budget;
use super::loss::{Held, share_short};
use super::spread::{Spread, Usable, hours, losses_usd_hour, spot_price, spread};
use super::start::Starts;

/// Numbers of on-demand units that are looked at between the fewest and all.
const SPLITS: u32 = 8;
/// Pools from which on no more are probed.
const KNOWN_ENOUGH: usize = 3;

/// A split that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub on_demand: u32,
    pub spread: Spread,
    pub short: f64,
    pub usd_hour: f64,
}

/// What all splits have in common.
pub(super) struct Bench<'a> {
    pub inputs: &'a SpotInputs,
    pub pools: Vec<Usable<'a>>,
    /// Of one unit, on-demand, in the type for which it is least.
    pub unit_usd_hour: f64,
    pub committed: u32,
    pub wanted: u32,
    /// On-demand whatever it costs.
    pub least: u32,
    /// Spare units that there may be.
    room: u32,
    pub allowed: f64,
    budget: Budget,
    missing_hours: f64,
}

/// Splits the wish.
pub fn plan(inputs: &SpotInputs) -> SpotPlan {
    let mut binding = Vec::new();
    let (wanted, held) = kept(inputs);
    binding.extend(held);
    let bench = Bench::new(inputs, wanted, &mut binding);
    let (best, mut rejected) = bench.best(&mut binding);
    let (on_demand, memory) = bench.paced(&best, &mut binding);
    let mut chosen = if on_demand == best.on_demand { best } else { bench.halfway(on_demand, best, &mut rejected) };
    bench.probe(&mut chosen, &mut binding);
    let memory = bench.budget.remembered(memory, inputs.at, chosen.short);
    bench.explain(&chosen, &rejected, &mut binding);
    bench.told(chosen, memory, binding, rejected)
}

/// The wish, or what runs where demand is back before an end and a start have paid.
fn kept(inputs: &SpotInputs) -> (u32, Option<Binding>) {
    let running = running(inputs);
    // Started again, a unit is paid for while it starts, and at least for the minimum.
    let break_even = inputs.replacement + inputs.settings.minimum_billing;
    match inputs.returning {
        Some(returning) if inputs.units < running && returning.within <= break_even => {
            let kept = running.min(returning.units).max(inputs.units);
            (kept, (kept > inputs.units).then_some(Binding::BreakEven(break_even)))
        }
        _ => (inputs.units, None),
    }
}

fn spot_running(inputs: &SpotInputs) -> u32 {
    inputs.pools.iter().map(|offer| offer.running.saturating_mul(offer.weight)).fold(0, u32::saturating_add)
}

fn running(inputs: &SpotInputs) -> u32 {
    spot_running(inputs).saturating_add(inputs.on_demand_running)
}

impl<'a> Bench<'a> {
    fn new(inputs: &'a SpotInputs, wanted: u32, binding: &mut Vec<Binding>) -> Self {
        let settings = &inputs.settings;
        let sound = inputs.pools.iter().filter(|offer| offer.weight > 0 && offer.on_demand_usd_hour.is_finite());
        let overhead = settings.overhead_usd_hour.max(0.0);
        let unit = |offer: &PoolOffer, price: f64| (price + overhead) / f64::from(offer.weight);
        let unit_usd_hour =
            sound.clone().map(|offer| unit(offer, offer.on_demand_usd_hour)).fold(f64::INFINITY, f64::min);
        let (mut pools, mut refused, mut risky, mut dear) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let requires = settings.wish.preference == SpotPreference::Require;
        for offer in sound {
            let spot_usd_hour = spot_price(offer, inputs);
            let losses = losses_usd_hour(&offer.belief, offer.on_demand_usd_hour, inputs);
            let level = offer.belief.price_level_usd_hour.filter(|level| level.is_finite());
            let unit_usd = unit(offer, level.map_or(spot_usd_hour, |level| level.max(spot_usd_hour)) + losses);
            let limit = offer.belief.limit.unwrap_or(u32::MAX);
            if offer.belief.limit.is_some() {
                refused.push(offer.pool.clone());
            }
            if offer.belief.loss_per_hour > settings.loss_per_hour_max && !requires {
                risky.push(offer.pool.clone());
            } else if unit_usd >= unit_usd_hour && !requires {
                dear.push(offer.pool.clone());
            } else if limit > 0 {
                pools.push(Usable { offer, spot_usd_hour, unit_usd_hour: unit_usd, limit });
            }
        }
        let told = |pools: Vec<PoolId>, kind: fn(Vec<PoolId>) -> Binding| (!pools.is_empty()).then(|| kind(pools));
        binding.extend(told(refused, Binding::Refused));
        binding.extend(told(risky, Binding::LostTooOften));
        binding.extend(told(dear, Binding::DearerThanOnDemand));
        if settings.wish.preference == SpotPreference::Never {
            pools.clear();
            binding.push(Binding::Never);
        } else if pools.is_empty() {
            binding.push(Binding::NoPool);
        }
        let committed = inputs.commitments.iter().map(|each| each.units).fold(0, u32::saturating_add).min(wanted);
        let share = settings.wish.max_share.filter(|share| (0.0..=1.0).contains(share));
        let by_share = share.map_or(0, |share| wanted - (f64::from(wanted) * share).floor() as u32);
        let floor = settings.on_demand_floor.min(wanted);
        let least = committed.max(by_share).max(floor);
        if least > 0 && !pools.is_empty() {
            binding.push(match least {
                least if least == committed => Binding::Committed(committed),
                least if least == floor => Binding::Floor(floor),
                _ => Binding::MaxShare(share.unwrap_or(1.0)),
            });
        }
        let budget = Budget::new(inputs);
        let noticed = settings.noticed.clamp(0.0, 1.0);
        let late = |deadline: Span| {
            let starts = Starts::of(inputs);
            starts.late_hours(wanted, starts.hedge(wanted, settings.hedge_share, deadline), deadline)
        };
        Self {
            inputs,
            pools,
            unit_usd_hour: if unit_usd_hour.is_finite() { unit_usd_hour } else { 0.0 },
            committed,
            wanted,
            least,
            room: inputs.max.map_or(u32::MAX, |max| max.saturating_sub(wanted)),
            allowed: budget.allowed,
            budget,
            missing_hours: noticed * late(inputs.notice) + (1.0 - noticed) * late(Span::default()),
        }
    }

    /// What runs, where it is enough and within the risk.
    fn incumbent(&self) -> Option<Split> {
        let instances: Vec<u32> = self.pools.iter().map(|pool| pool.offer.running.min(pool.limit)).collect();
        let units = self.pools.iter().zip(&instances).map(|(pool, count)| count.saturating_mul(pool.offer.weight));
        let units = units.fold(0, u32::saturating_add);
        let on_demand = self.inputs.on_demand_running;
        let total = on_demand.saturating_add(units);
        let is_between = total >= self.wanted && total - self.wanted <= self.room;
        if on_demand < self.least || on_demand > self.wanted || !is_between {
            return None;
        }
        let spread = Spread { instances, units, concentrated: false };
        let short = self.short(&spread, total - self.wanted);
        let usd_hour = self.usd_hour(on_demand, &spread);
        (short <= self.allowed).then_some(Split { on_demand, spread, short, usd_hour })
    }

    /// A step of the way to the best split; where what lies between would be riskier than both ends, the whole way.
    fn halfway(&self, on_demand: u32, best: Split, rejected: &mut Vec<Rejected>) -> Split {
        let step = self.split(on_demand, rejected);
        if step.on_demand > self.inputs.on_demand_running.max(best.on_demand) { best } else { step }
    }

    /// The cheapest split that is within the risk, and what else was looked at. What runs is kept until another is cheaper by
    /// more than the hysteresis: what is believed of pools changes with each event.
    fn best(&self, binding: &mut Vec<Binding>) -> (Split, Vec<Rejected>) {
        let mut rejected = Vec::new();
        let (from, to) = (self.least.min(self.wanted), self.wanted);
        let step = (to - from).div_ceil(SPLITS).max(1);
        let numbers = (from..to).step_by(step as usize).chain([to]);
        let mut best: Option<Split> = None;
        for number in numbers {
            let split = self.split(number, &mut rejected);
            if best.as_ref().is_none_or(|best| split.usd_hour < best.usd_hour) {
                best = Some(split);
            }
        }
        let mut best = best.unwrap_or_else(|| self.split(to, &mut rejected));
        let kept = 1.0 - self.inputs.settings.hysteresis.clamp(0.0, 1.0);
        if let Some(incumbent) = self.incumbent().filter(|incumbent| incumbent.usd_hour * kept <= best.usd_hour) {
            if incumbent.usd_hour > best.usd_hour {
                binding.push(Binding::Hysteresis);
            }
            best = incumbent;
        }
        rejected.retain(|each| (each.on_demand, each.spot) != (best.on_demand, best.spread.units));
        rejected.sort_by(|a, b| a.usd_hour.total_cmp(&b.usd_hour));
        (best, rejected)
    }

    /// With so many on-demand units the cheapest spread within the risk; on-demand units take the place of what spot cannot
    /// give or must not.
    fn split(&self, on_demand: u32, rejected: &mut Vec<Rejected>) -> Split {
        let spot = self.wanted.saturating_sub(on_demand);
        let requires = self.inputs.settings.wish.preference == SpotPreference::Require;
        let mut best: Option<Split> = None;
        let settings = &self.inputs.settings;
        let even = 1.0 / self.pools.len().max(1) as f64;
        let shares = [even, (2.0 * even).min(settings.pool_share_max), settings.pool_share_max];
        // Where what runs stays first; elsewhere, where that is too risky.
        let tries = [true, false].into_iter().flat_map(|stays| shares.map(|share| (stays, share)));
        for (turn, (stays, share)) in tries.enumerate() {
            let again = turn % shares.len() > 0 && share <= even;
            if spot == 0 || self.pools.is_empty() || again || (!stays && best.is_some()) {
                continue;
            }
            let step = (spot / 16).max(1);
            let mut last = None;
            for spare in (0..=spot.max(2)).step_by(step as usize) {
                let spread = spread(&self.pools, spot + spare, (share, settings.zone_share_max), stays);
                // On-demand units stand in for what pools do not have, and no spare is made of those.
                let missing = spot.saturating_sub(spread.units);
                let over = spread.units.saturating_sub(spot);
                if spare > 0 && (last == Some(spread.units) || over > self.room) {
                    break;
                }
                last = Some(spread.units);
                let short = self.short(&spread, over);
                let on_demand = on_demand + missing;
                let usd_hour = self.usd_hour(on_demand, &spread);
                let dearer = best.as_ref().is_some_and(|best| best.usd_hour <= usd_hour);
                if short <= self.allowed || requires {
                    if !dearer {
                        best = Some(Split { on_demand, spread, short, usd_hour });
                    } else {
                        rejected.push(Self::rejection(on_demand, &spread, usd_hour, short, RejectedBecause::Cost));
                    }
                    break;
                }
                if spare == 0 {
                    rejected.push(Self::rejection(on_demand, &spread, usd_hour, short, RejectedBecause::Risk));
                }
                if dearer {
                    break;
                }
            }
        }
        best.unwrap_or_else(|| {
            let spread = Spread { instances: vec![0; self.pools.len()], units: 0, concentrated: false };
            let usd_hour = self.usd_hour(self.wanted, &spread);
            Split { on_demand: self.wanted, spread, short: 0.0, usd_hour }
        })
    }

    /// One unit each in pools that nothing is in, where units are on-demand for the risk of spot: those are no part of what is
    /// wanted, and whether a pool lasts is not seen from outside.
    fn probe(&self, chosen: &mut Split, binding: &mut Vec<Binding>) {
        if chosen.on_demand <= self.least {
            return;
        }
        // Spare units that are there tell as much: probes of the plan before, or what the risk asks for.
        let units = f64::from(chosen.spread.units);
        let spare = f64::from(chosen.on_demand.saturating_add(chosen.spread.units).saturating_sub(self.wanted));
        let paid = if units > 0.0 { self.usd_hour(0, &chosen.spread) * (spare / units).min(1.0) } else { 0.0 };
        let mut left = self.inputs.settings.probe_share.max(0.0) * f64::from(self.wanted) * self.unit_usd_hour - paid;
        let mut order: Vec<usize> = (0..self.pools.len()).collect();
        order.sort_by(|a, b| self.pools[*a].unit_usd_hour.total_cmp(&self.pools[*b].unit_usd_hour).then(a.cmp(b)));
        let used = chosen.spread.instances.iter().filter(|instances| **instances > 0).count();
        let mut probed = Vec::new();
        order.retain(|index| chosen.spread.instances[*index] == 0);
        let most = self.wanted.saturating_add(self.room);
        for index in order {
            let pool = &self.pools[index];
            let usd_hour = pool.unit_usd_hour * f64::from(pool.offer.weight);
            let total = chosen.on_demand.saturating_add(chosen.spread.units).saturating_add(pool.offer.weight);
            if pool.limit > 0 && usd_hour <= left && total <= most && used + probed.len() < KNOWN_ENOUGH {
                left -= usd_hour;
                chosen.spread.instances[index] = 1;
                chosen.spread.units = chosen.spread.units.saturating_add(pool.offer.weight);
                chosen.usd_hour += usd_hour;
                probed.push(pool.offer.pool.clone());
            }
        }
        if !probed.is_empty() {
            binding.push(Binding::Probe(probed));
        }
    }

    fn rejection(on_demand: u32, spread: &Spread, usd_hour: f64, short: f64, because: RejectedBecause) -> Rejected {
        Rejected { on_demand, spot: spread.units, usd_hour, short, because }
    }

    fn short(&self, spread: &Spread, spare: u32) -> f64 {
        let held: Vec<Held> = self
            .pools
            .iter()
            .zip(&spread.instances)
            .map(|(pool, instances)| Held {
                pool: &pool.offer.pool,
                instances: *instances,
                weight: pool.offer.weight,
                belief: &pool.offer.belief,
            })
            .collect();
        let reckoned = share_short(&held, &self.inputs.kinship, self.missing_hours, spare);
        (reckoned * self.budget.factor).min(1.0)
    }

    /// Without what is paid once: that would hold on to any split.
    fn usd_hour(&self, on_demand: u32, spread: &Spread) -> f64 {
        let spot: f64 = self
            .pools
            .iter()
            .zip(&spread.instances)
            .map(|(pool, instances)| f64::from(*instances) * f64::from(pool.offer.weight) * pool.unit_usd_hour)
            .sum();
        f64::from(on_demand.saturating_sub(self.committed)) * self.unit_usd_hour + spot
    }

    /// On-demand units now, on the way to those of the best split.
    fn paced(&self, best: &Split, binding: &mut Vec<Binding>) -> (u32, SpotMemory) {
        let (inputs, settings) = (self.inputs, &self.inputs.settings);
        let mut memory = inputs.memory;
        let now = inputs.on_demand_running;
        if best.on_demand >= now {
            if best.on_demand > now.max(self.least) && running(inputs) > 0 {
                memory.fell_back_at = Some(inputs.at);
            }
            return (best.on_demand, memory);
        }
        // What is removed anyway is on-demand first.
        let total = best.on_demand.saturating_add(best.spread.units);
        let freed = running(inputs).saturating_sub(total).min(now - best.on_demand);
        let free = now - freed;
        let most = |units: u32| units.min(self.wanted).max(best.on_demand);
        if free <= best.on_demand {
            return (best.on_demand, memory);
        }
        let ready = |since: Option<prescale_domain::Timestamp>, wait: Span| since.map(|since| since + wait);
        let wait = ready(memory.fell_back_at, settings.return_after)
            .max(ready(memory.stepped_at, settings.step_every))
            .filter(|moment| *moment > inputs.at);
        if let Some(until) = wait {
            binding.push(Binding::Waiting(until));
            return (most(free), memory);
        }
        if let Some(worthless) = self.swap(best) {
            binding.push(worthless);
            return (most(free), memory);
        }
        let step = ((f64::from(self.wanted) * settings.step_share.clamp(0.0, 1.0)).ceil() as u32).max(1);
        memory.stepped_at = Some(inputs.at);
        if free - best.on_demand > step {
            binding.push(Binding::Step(step));
        }
        (most(free.saturating_sub(step)), memory)
    }

    /// `Some` if one unit's move from on-demand to spot costs more than it saves while it is likely to stay there.
    fn swap(&self, best: &Split) -> Option<Binding> {
        let used = self.pools.iter().zip(&best.spread.instances).filter(|(_, instances)| **instances > 0);
        let (mut usd, mut lost, mut units) = (0.0, 0.0, 0.0);
        for (pool, instances) in used {
            let of_pool = f64::from(*instances) * f64::from(pool.offer.weight);
            usd += of_pool * pool.unit_usd_hour;
            lost += of_pool * pool.offer.belief.loss_per_hour;
            units += of_pool;
        }
        if units <= 0.0 {
            return None;
        }
        let stays = hours(self.inputs.settings.horizon).min(units / lost.max(1e-9));
        let saves_usd = (self.unit_usd_hour - usd / units) * stays;
        // Both are paid while the new one starts.
        let start = self.inputs.replacement.max(self.inputs.settings.minimum_billing);
        let costs_usd = hours(start) * usd / units;
        (saves_usd <= costs_usd).then_some(Binding::SwapDoesNotPay { saves_usd, costs_usd })
    }
}
