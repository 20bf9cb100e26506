//! The split of a service over many decisions.

use super::*;

const ZONES: [&str; 3] = ["a", "b", "c"];

fn pools() -> Vec<SpotPool> {
    let kinds = (0..4).flat_map(|kind| ZONES.iter().map(move |zone| (kind, zone)));
    let pool = |(kind, zone): (u32, &&str)| SpotPool {
        pool: PoolId::new(&format!("m{kind}.large"), zone),
        weight: 1,
        on_demand_usd_hour: 0.1,
        spot_usd_hour: Some(0.03),
    };
    kinds.map(pool).collect()
}

/// A group that does what a split asks for at once, all in service.
struct Group {
    units: Vec<SplitUnit>,
    next: u32,
}

impl Group {
    fn look<'a>(&'a self, at: Timestamp, units: u32, pools: &'a [SpotPool], notices: &'a [SpotNotice]) -> SpotLook<'a> {
        SpotLook {
            at,
            units,
            min: 2,
            max: 40,
            settings: SpotSettings { on_demand_floor: 2, ..SpotSettings::default() },
            pools,
            commitments: &[],
            running: &self.units,
            notices,
            events: &[],
            refused: false,
            short: false,
            replacement: Span::from_secs(110),
            replacement_median: Some(Span::from_secs(75)),
            reaction: Span::from_secs(5),
        }
    }

    fn follow(&mut self, split: &SpotSplit) {
        self.units.retain(|unit| !split.drain.contains(&unit.id));
        let stays = |unit: &&SplitUnit| !split.leaving.contains(&unit.id);
        let on_demand = self.units.iter().filter(stays).filter(|unit| unit.is_spot == Some(false)).count() as u32;
        for _ in on_demand..split.plan.on_demand {
            self.launch(PoolId::new("m0.large", "a"), false);
        }
        for share in &split.plan.spot {
            let of = |unit: &&SplitUnit| unit.is_spot == Some(true) && unit.pool == share.pool;
            for _ in self.units.iter().filter(stays).filter(of).count() as u32..share.instances {
                self.launch(share.pool.clone(), true);
            }
        }
    }

    fn launch(&mut self, pool: PoolId, is_spot: bool) {
        self.next += 1;
        self.units.push(SplitUnit {
            id: format!("i-{}", self.next),
            pool,
            is_spot: Some(is_spot),
            weight: 1,
            in_service: true,
        });
    }
}

fn notice(unit: &SplitUnit, kind: SpotNoticeKind, at: Timestamp) -> SpotNotice {
    SpotNotice { instance: unit.id.clone(), pool: None, kind, at, lost_at: None }
}

#[test]
fn a_noticed_unit_is_replaced_before_it_goes_and_goes_in_time() {
    let (pools, mut keeper) = (pools(), SpotKeeper::default());
    let mut group = Group { units: Vec::new(), next: 0 };
    for minute in 0..30 {
        let split = keeper.look(&group.look(at(minute), 10, &pools, &[]));
        group.follow(&split);
    }
    let spot = group.units.iter().find(|unit| unit.is_spot == Some(true)).cloned().unwrap();
    let notices = [notice(&spot, SpotNoticeKind::Interruption, at(30))];
    assert!(!keeper.knows(&notices[0]));
    let split = keeper.look(&group.look(at(30), 10, &pools, &notices));
    assert!(keeper.knows(&notices[0]));
    assert_eq!(split.leaving, std::slice::from_ref(&spot.id));
    assert_eq!(recomputed(&split), split.plan);
    // It does not count as capacity any more: what is asked for is there without it.
    let running: u32 = split.inputs.pools.iter().map(|pool| pool.running).sum();
    assert_eq!(running + split.inputs.on_demand_running, group.units.len() as u32 - 1);
    let rest = group.units.len() as u32 - 1;
    let drained_at_once = split.drain == [spot.id.clone()];
    assert_eq!(drained_at_once, rest >= 10, "it goes at once where enough others serve");
    group.follow(&split);
    assert!(group.units.len() as u32 >= 10);
    // Told again by another: nothing new. Within a drain of the loss it goes, whatever else.
    let again = keeper.look(&group.look(seconds(30 * 60 + 60), 10, &pools, &notices));
    group.follow(&again);
    assert!(group.units.iter().all(|unit| unit.id != spot.id));
    let after = keeper.look(&group.look(at(32), 10, &pools, &[]));
    assert_eq!((after.leaving, after.drain), (Vec::new(), Vec::new()));
}

fn recomputed(split: &SpotSplit) -> SpotPlan {
    super::super::plan(&serde_json::from_str(&serde_json::to_string(&split.inputs).unwrap()).unwrap())
}

#[test]
fn a_recommended_unit_stays_until_enough_others_serve() {
    let (pools, mut keeper) = (pools(), SpotKeeper::default());
    let mut group = Group { units: Vec::new(), next: 0 };
    for minute in 0..30 {
        group.follow(&keeper.look(&group.look(at(minute), 10, &pools, &[])));
    }
    let spot: Vec<SplitUnit> = group.units.iter().filter(|unit| unit.is_spot == Some(true)).cloned().collect();
    let all: Vec<SpotNotice> = spot.iter().map(|unit| notice(unit, SpotNoticeKind::Rebalance, at(30))).collect();
    let split = keeper.look(&group.look(at(30), 10, &pools, &all));
    assert_eq!(split.leaving.len(), spot.len());
    let staying = group.units.len() - spot.len();
    assert!(split.drain.is_empty() || staying >= 10, "{split:?}");
    group.follow(&split);
    let split = keeper.look(&group.look(at(31), 10, &pools, &[]));
    assert_eq!(split.drain.len(), spot.len(), "their replacements serve");
    group.follow(&split);
    assert!(group.units.len() >= 10);
}

#[test]
fn a_pool_that_refuses_is_left_alone() {
    let (pools, mut keeper) = (pools(), SpotKeeper::default());
    let group = Group { units: Vec::new(), next: 0 };
    let first = keeper.look(&group.look(at(0), 10, &pools, &[]));
    assert!(first.plan.spot_units() > 0);
    let refused = SpotLook { refused: true, ..group.look(at(3), 10, &pools, &[]) };
    let second = keeper.look(&refused);
    let asked: Vec<&PoolId> = first.plan.spot.iter().map(|share| &share.pool).collect();
    assert!(second.plan.spot.iter().all(|share| !asked.contains(&&share.pool)), "{:?}", second.plan.spot);
    // Said again the next minute, it is the same refusal.
    let third = keeper.look(&SpotLook { at: at(4), ..refused });
    assert_eq!(third.plan.spot, second.plan.spot);
}

#[test]
fn a_keeper_that_was_written_down_goes_on_as_before() {
    let (pools, mut keeper) = (pools(), SpotKeeper::default());
    let mut group = Group { units: Vec::new(), next: 0 };
    for minute in 0..20 {
        group.follow(&keeper.look(&group.look(at(minute), 10, &pools, &[])));
    }
    let mut read: SpotKeeper = serde_json::from_str(&serde_json::to_string(&keeper).unwrap()).unwrap();
    assert_eq!(read, keeper);
    let look = group.look(at(20), 12, &pools, &[]);
    assert_eq!(read.look(&look), keeper.look(&look));
}

#[test]
fn units_of_others_are_none_of_its_business() {
    let (pools, mut keeper) = (pools(), SpotKeeper::default());
    let mut group = Group { units: Vec::new(), next: 0 };
    group.follow(&keeper.look(&group.look(at(0), 10, &pools, &[])));
    let other = SpotNotice {
        instance: "i-other".to_owned(),
        pool: None,
        kind: SpotNoticeKind::Interruption,
        at: at(1),
        lost_at: None,
    };
    let mut untold = keeper.clone();
    let told = keeper.look(&group.look(at(1), 10, &pools, &[other]));
    assert_eq!(told, untold.look(&group.look(at(1), 10, &pools, &[])));
}
