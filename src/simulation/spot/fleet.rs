//! Units bought and lost in virtual time. Rule: the n-th unit takes the same time to come, whatever it is; a unit is billed
//! from its launch to its end, at least for the minimum.

use prescale_domain::{Span, Timestamp};
use rand_distr::{Distribution, StandardNormal};

use crate::market::{Market, Tenancy};
use crate::seeded::{Purpose, rng};

/// What holds for every strategy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FleetSettings {
    /// Launch → serving at full speed, log-normal.
    pub launch_median: Span,
    pub launch_p90: Span,
    pub minimum_billing: Span,
    /// Of a unit.
    pub on_demand_usd_hour: f64,
    pub tick: Span,
    pub seed: u64,
}

/// A unit as a strategy sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    pub number: u64,
    /// `None` = on demand.
    pub pool: Option<usize>,
    pub serves: bool,
    pub notice: Option<Notice>,
    /// The unit that it was launched for.
    pub replaces: Option<u64>,
}

/// What was told of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Recommended,
    Lost(Timestamp),
}

/// What came of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lived {
    pub cost_usd: f64,
    pub launches: u64,
    pub spot_launches: u64,
    pub refusals: u64,
    /// Units that the market noticed or took, while they served or started.
    pub interrupted: u64,
    pub spot_hours: f64,
    pub on_demand_hours: f64,
}

#[derive(Clone, Debug)]
struct Hidden {
    launched: Timestamp,
    serves_at: Timestamp,
    tenancy: Option<Tenancy>,
}

/// The fleet of one strategy.
#[derive(Debug)]
pub(super) struct Fleet {
    settings: FleetSettings,
    market: Market,
    units: Vec<Unit>,
    hidden: Vec<Hidden>,
    now: Timestamp,
    next: u64,
    lived: Lived,
}

impl FleetSettings {
    pub(super) fn latency(&self, number: u64) -> Span {
        const Z_P90: f64 = 1.281_551_565_545;
        let mut rng = rng(self.seed, Purpose::Launches, number as usize, Timestamp::default());
        let z: f64 = StandardNormal.sample(&mut rng);
        let (median, p90) = (self.launch_median.seconds(), self.launch_p90.seconds());
        let spread = if median > 0.0 && p90 > median { (p90 / median).ln() / Z_P90 } else { 0.0 };
        Span::from_millis((median * (spread * z).exp() * 1000.0) as i64)
    }
}

impl Fleet {
    /// A fleet of on-demand units that serve.
    pub(super) fn new(settings: FleetSettings, market: Market, start: Timestamp, initial: u32) -> Self {
        let mut fleet = Self {
            settings,
            market,
            units: Vec::new(),
            hidden: Vec::new(),
            now: start,
            next: 0,
            lived: Lived::default(),
        };
        for _ in 0..initial {
            fleet.add(None, None);
        }
        for (unit, hidden) in fleet.units.iter_mut().zip(&mut fleet.hidden) {
            (unit.serves, hidden.serves_at) = (true, start);
        }
        fleet
    }

    /// Moves on to `now`; how many units were noticed on the way, or lost without that.
    pub(super) fn advance(&mut self, now: Timestamp) -> u64 {
        self.now = now;
        let before = self.lived.interrupted;
        let mut index = 0;
        while index < self.units.len() {
            let lost = self.hidden[index].tenancy.and_then(|tenancy| tenancy.lost_at).filter(|lost| *lost <= now);
            if let Some(lost) = lost {
                self.lived.interrupted += u64::from(!matches!(self.units[index].notice, Some(Notice::Lost(_))));
                self.end(index, lost);
                continue;
            }
            let (unit, hidden) = (&mut self.units[index], &self.hidden[index]);
            unit.serves = hidden.serves_at <= now;
            if let Some(tenancy) = hidden.tenancy {
                let noticed = tenancy.noticed_at.zip(tenancy.lost_at).filter(|(noticed, _)| *noticed <= now);
                let recommended = tenancy.recommended_at.is_some_and(|moment| moment <= now);
                let known = matches!(unit.notice, Some(Notice::Lost(_)));
                self.lived.interrupted += u64::from(noticed.is_some() && !known);
                unit.notice =
                    noticed.map(|(_, lost)| Notice::Lost(lost)).or_else(|| recommended.then_some(Notice::Recommended));
            }
            index += 1;
        }
        self.lived.interrupted - before
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// The number of the next unit.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn units(&self) -> &[Unit] {
        &self.units
    }

    pub(super) fn market(&self) -> Prices<'_> {
        Prices { market: &self.market, now: self.now }
    }

    pub(super) fn serving(&self) -> u32 {
        self.units.iter().filter(|unit| unit.serves).count() as u32
    }

    /// Units that are not going to be lost.
    pub(super) fn staying(&self) -> u32 {
        self.units.iter().filter(|unit| unit.notice.is_none()).count() as u32
    }

    pub(super) fn launch_on_demand(&mut self, replaces: Option<u64>) {
        self.add(None, replaces);
    }

    /// Whether the pool had one.
    pub(super) fn launch_spot(&mut self, pool: usize, replaces: Option<u64>) -> bool {
        let Some(tenancy) = self.market.launch_in(pool, self.next, self.now) else {
            self.lived.refusals += 1;
            return false;
        };
        self.lived.spot_launches += 1;
        self.add(Some(tenancy), replaces);
        true
    }

    /// Ends a unit.
    pub(super) fn drain(&mut self, number: u64) {
        if let Some(index) = self.units.iter().position(|unit| unit.number == number) {
            self.end(index, self.now);
        }
    }

    /// What all units cost in an hour at present.
    pub(super) fn usd_hour(&self) -> f64 {
        let price = |unit: &Unit| match unit.pool {
            Some(pool) => self.market.price_usd_hour(pool, self.now).unwrap_or(0.0),
            None => self.settings.on_demand_usd_hour,
        };
        self.units.iter().map(price).sum()
    }

    pub(super) fn close(mut self) -> Lived {
        while !self.units.is_empty() {
            self.end(0, self.now);
        }
        self.lived
    }

    fn add(&mut self, tenancy: Option<Tenancy>, replaces: Option<u64>) {
        let number = self.next;
        self.next += 1;
        self.lived.launches += 1;
        let pool = tenancy.map(|tenancy| tenancy.pool);
        self.units.push(Unit { number, pool, serves: false, notice: None, replaces });
        let serves_at = self.now + self.settings.latency(number);
        self.hidden.push(Hidden { launched: self.now, serves_at, tenancy });
    }

    fn end(&mut self, index: usize, at: Timestamp) {
        let (_, hidden) = (self.units.remove(index), self.hidden.remove(index));
        let billed = at.since(hidden.launched).max(self.settings.minimum_billing);
        let hours = billed.seconds() / 3600.0;
        if let Some(tenancy) = hidden.tenancy {
            self.market.end(&tenancy);
            self.lived.cost_usd += self.market.cost_usd(tenancy.pool, hidden.launched, hidden.launched + billed);
            self.lived.spot_hours += hours;
        } else {
            self.lived.cost_usd += hours * self.settings.on_demand_usd_hour;
            self.lived.on_demand_hours += hours;
        }
    }
}

/// What a market tells everybody.
pub(super) struct Prices<'a> {
    market: &'a Market,
    now: Timestamp,
}

impl Prices<'_> {
    pub(super) fn pools(&self) -> usize {
        self.market.pools().len()
    }

    pub(super) fn usd_hour(&self, pool: usize) -> f64 {
        self.market.price_usd_hour(pool, self.now).unwrap_or(f64::INFINITY)
    }
}
