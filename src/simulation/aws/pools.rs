//! Which pool an instance comes from. Rule: zones are kept even first, then the group's allocation strategy chooses among
//! the pools of the zone that have room; where a zone has none the next one is tried.

use prescale_domain::Timestamp;

use super::group::{Group, Launches, Mixed};
use super::settings::{CATALOGUE, instance_type};
use super::world::World;

/// Capacity that cannot be had for a time, by script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// `None` = each.
    pub instance_type: Option<String>,
    pub zone: Option<String>,
    /// Of spot only, or of on-demand only; `None` = both.
    pub spot: Option<bool>,
    pub from: Timestamp,
    pub until: Timestamp,
    /// What can be had in each pool all the same, what runs there included.
    pub units: u32,
}

/// A type that a group may launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) kind: String,
    pub(super) weight: u32,
}

/// Where the next instance comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) candidate: Candidate,
    pub(super) zone: String,
    /// Index of the spot pool; `None` = on demand.
    pub(super) pool: Option<usize>,
}

impl World {
    /// What a group may launch, in its order of preference.
    pub(super) fn candidates(&self, group: &Group) -> Vec<Candidate> {
        let template = self.templates.get(&group.template().name).cloned();
        let own = || Candidate { kind: template.clone().unwrap_or_else(|| "m5.large".to_owned()), weight: 1 };
        let Launches::Mixed(mixed) = &group.launches else { return vec![own()] };
        let mut found = Vec::new();
        for line in &mixed.overrides {
            let weight = line.weight.unwrap_or(1).max(1);
            match (&line.kind, line.requirements) {
                (Some(kind), _) => found.push(Candidate { kind: kind.clone(), weight }),
                (None, Some([vcpus_min, vcpus_max, memory_min, memory_max])) => {
                    let within = |value: u32, min: Option<u32>, max: Option<u32>| {
                        min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
                    };
                    let fits = CATALOGUE.iter().filter(|known| {
                        within(known.vcpus, vcpus_min, vcpus_max) && within(known.memory_mib, memory_min, memory_max)
                    });
                    found.extend(fits.map(|known| Candidate { kind: known.name.to_owned(), weight }));
                }
                (None, None) => {}
            }
        }
        if found.is_empty() { vec![own()] } else { found }
    }

    /// Where the next instance of a group comes from; `None` = no zone of it has one.
    pub(super) fn place(&self, group: &Group, spot: bool, zones: &[String]) -> Option<Place> {
        let candidates = self.candidates(group);
        let mut by_zone: Vec<(usize, &String)> = zones
            .iter()
            .map(|zone| (self.members(group).filter(|one| one.lifecycle.is_live() && one.zone == *zone).count(), zone))
            .collect();
        by_zone.sort_by_key(|(count, _)| *count);
        by_zone.into_iter().find_map(|(_, zone)| {
            let room = |candidate: &&Candidate| self.room(&candidate.kind, zone, spot) > 0;
            let open: Vec<&Candidate> = candidates.iter().filter(room).collect();
            let chosen = match (&group.launches, spot) {
                (Launches::Mixed(mixed), true) => self.spot_choice(mixed, group, zone, &open),
                (Launches::Mixed(mixed), false) if mixed.on_demand_strategy == "lowest-price" => {
                    let price =
                        |one: &Candidate| instance_type(&one.kind).map_or(f64::MAX, |known| known.price_usd_hour);
                    open.iter().copied().min_by(|a, b| per_unit(price(a), a).total_cmp(&per_unit(price(b), b)))
                }
                _ => open.first().copied(),
            }?;
            let pool = if spot { self.pool(&chosen.kind, zone) } else { None };
            (pool.is_some() == spot).then(|| Place { candidate: chosen.clone(), zone: zone.clone(), pool })
        })
    }

    fn spot_choice<'a>(
        &self,
        mixed: &Mixed,
        group: &Group,
        zone: &str,
        open: &[&'a Candidate],
    ) -> Option<&'a Candidate> {
        let price = |one: &Candidate| {
            let pool = self.pool(&one.kind, zone).and_then(|pool| self.market.price_usd_hour(pool, self.now));
            per_unit(pool.unwrap_or(f64::MAX), one)
        };
        let cheapest =
            |found: &mut dyn Iterator<Item = &'a Candidate>| found.min_by(|a, b| price(a).total_cmp(&price(b)));
        let room = |one: &Candidate| self.room(&one.kind, zone, true);
        let deepest = open.iter().map(|one| room(one)).max()?;
        match mixed.spot_strategy.as_str() {
            "capacity-optimized" | "capacity-optimized-prioritized" => {
                open.iter().copied().find(|one| room(one) == deepest)
            }
            // Of the deeper half the cheapest: AWS says in which order it looks, not how deep is deep.
            "price-capacity-optimized" => {
                cheapest(&mut open.iter().copied().filter(|one| room(one) >= deepest.div_ceil(2)))
            }
            // The cheapest pools, as many as were asked for, filled evenly.
            _ => {
                let mut sorted = open.to_vec();
                sorted.sort_by(|a, b| price(a).total_cmp(&price(b)));
                sorted.truncate(mixed.spot_pools.unwrap_or(2).max(1) as usize);
                let held = |one: &Candidate| {
                    let mine = |unit: &&super::instance::Instance| {
                        unit.is_spot() && unit.lifecycle.is_live() && unit.zone == zone && unit.kind == one.kind
                    };
                    self.members(group).filter(mine).count()
                };
                sorted.into_iter().min_by_key(|one| held(one))
            }
        }
    }

    pub(super) fn pool(&self, kind: &str, zone: &str) -> Option<usize> {
        self.market.pools().iter().position(|pool| pool.instance_type == kind && pool.zone == zone)
    }

    /// Instances that can be had in a pool now.
    pub(super) fn room(&self, kind: &str, zone: &str, spot: bool) -> u32 {
        let room = if spot {
            self.pool(kind, zone).map_or(0, |pool| self.market.obtainable(pool, self.now))
        } else {
            u32::MAX
        };
        let applies = |shortage: &&Shortage| {
            shortage.from <= self.now
                && self.now < shortage.until
                && shortage.spot.is_none_or(|only| only == spot)
                && shortage.zone.as_deref().is_none_or(|only| only == zone)
                && shortage.instance_type.as_deref().is_none_or(|only| only == kind)
        };
        let Some(least) = self.shortages.iter().filter(applies).map(|shortage| shortage.units).min() else {
            return room;
        };
        let held = self
            .instances
            .values()
            .filter(|one| one.ended_at.is_none() && one.is_spot() == spot && one.zone == zone && one.kind == kind);
        room.min(least.saturating_sub(u32::try_from(held.count()).unwrap_or(u32::MAX)))
    }

    /// Why nothing could be launched, in AWS's words.
    pub(super) fn no_capacity(&self, group: &Group, spot: bool) -> String {
        let kind = self.candidates(group).into_iter().next().map(|one| one.kind).unwrap_or_default();
        let zone = group.zones.first().cloned().unwrap_or_default();
        if spot {
            return "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available \
                    that matches your request. Launching EC2 instance failed."
                .to_owned();
        }
        let said = format!(
            "We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone}). Our \
             system will be working on provisioning additional capacity."
        );
        match group.launches {
            Launches::Mixed(_) => format!(
                "Could not launch On-Demand Instances. InsufficientInstanceCapacity - {said} Launching EC2 instance failed."
            ),
            Launches::Template(_) => format!("{said} Launching EC2 instance failed."),
        }
    }
}

fn per_unit(price: f64, candidate: &Candidate) -> f64 {
    price / f64::from(candidate.weight)
}
