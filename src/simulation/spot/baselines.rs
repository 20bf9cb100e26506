//! What others do with spot. Rule: each is given its best simple form, and nothing that it would not know.

use prescale_domain::{Span, Timestamp};

use super::fleet::{Fleet, Notice, Unit};

/// From one try to give on-demand units back to spot to the next.
const RETURN_EVERY: Span = Span::from_minutes(5);

/// Where the next spot unit is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// In one pool, that which was cheapest at the start.
    One,
    /// In the cheapest at the moment, then the next one.
    Price,
    /// In that with the fewest units of ours.
    Spread,
}

/// Spot units as long as there are any, and on-demand units for the rest, given back as soon as possible.
#[derive(Clone, Debug)]
pub(super) struct FailOver {
    order: Order,
    /// Whether a notice is heeded or only the loss.
    notices: bool,
    one: Option<usize>,
    tried: Option<Timestamp>,
}

/// On-demand units as wanted.
pub(super) fn all_on_demand(fleet: &mut Fleet, wanted: u32) {
    for _ in fleet.staying()..wanted {
        fleet.launch_on_demand(None);
    }
    trim(fleet, wanted);
}

impl FailOver {
    pub(super) fn new(order: Order, notices: bool) -> Self {
        Self { order, notices, one: None, tried: None }
    }

    pub(super) fn act(&mut self, fleet: &mut Fleet, wanted: u32) {
        let now = fleet.now();
        let heeds = self.notices;
        let stays = move |unit: &&Unit| !heeds || !matches!(unit.notice, Some(Notice::Lost(_)));
        // What takes the place of an on-demand unit that still serves.
        let moving = |fleet: &Fleet| {
            let starts = |unit: &&Unit| unit.replaces.is_some() && !unit.serves;
            fleet.units().iter().filter(stays).filter(starts).count() as u32
        };
        let alive = fleet.units().iter().filter(stays).count() as u32;
        let mut missing = wanted.saturating_sub(alive - moving(fleet));
        while missing > 0 {
            if !self.launch(fleet, None) {
                fleet.launch_on_demand(None);
            }
            missing -= 1;
        }
        if self.tried.is_none_or(|tried| now.since(tried) >= RETURN_EVERY) {
            self.tried = Some(now);
            self.give_back(fleet);
        }
        // An on-demand unit goes when what replaces it serves.
        let pairs: Vec<u64> =
            fleet.units().iter().filter(|unit| unit.serves).filter_map(|unit| unit.replaces).collect();
        for old in pairs {
            fleet.drain(old);
        }
        // Only now: what has just been asked for does not serve yet.
        if moving(fleet) == 0 {
            trim(fleet, wanted);
        }
    }

    fn give_back(&self, fleet: &mut Fleet) {
        let taken: Vec<u64> = fleet.units().iter().filter_map(|unit| unit.replaces).collect();
        let dear = |unit: &&Unit| unit.pool.is_none() && unit.serves && !taken.contains(&unit.number);
        let numbers: Vec<u64> = fleet.units().iter().filter(dear).map(|unit| unit.number).collect();
        for number in numbers {
            if !self.clone().launch(fleet, Some(number)) {
                return;
            }
        }
    }

    /// Whether some pool gave a unit.
    fn launch(&mut self, fleet: &mut Fleet, replaces: Option<u64>) -> bool {
        let mut pools: Vec<usize> = (0..fleet.market().pools()).collect();
        let price = |fleet: &Fleet, pool: usize| fleet.market().usd_hour(pool);
        pools.sort_by(|a, b| price(fleet, *a).total_cmp(&price(fleet, *b)));
        match self.order {
            Order::One => {
                let one = *self.one.get_or_insert(pools.first().copied().unwrap_or(0));
                pools = vec![one];
            }
            Order::Price => {}
            Order::Spread => {
                let has = |pool: usize| fleet.units().iter().filter(|unit| unit.pool == Some(pool)).count();
                pools.sort_by_key(|pool| has(*pool));
            }
        }
        pools.into_iter().any(|pool| fleet.launch_spot(pool, replaces))
    }
}

/// Ends what is not wanted: on-demand units first, of each kind the newest.
pub(super) fn trim(fleet: &mut Fleet, wanted: u32) {
    let surplus = (fleet.staying().saturating_sub(wanted)) as usize;
    let mut free: Vec<(bool, u64)> = fleet
        .units()
        .iter()
        .filter(|unit| unit.notice.is_none())
        .map(|unit| (unit.pool.is_some(), u64::MAX - unit.number))
        .collect();
    free.sort_unstable();
    for (_, number) in free.into_iter().take(surplus) {
        fleet.drain(u64::MAX - number);
    }
}
