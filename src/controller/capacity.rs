//! Services whose capacity can be taken away: what the `capacity` topic tells of it, and how each wish is split. Rule: a notice
//! that is news is decided on at once; whose unit it is tells the target.

use prescale_actuate::{Capacity, Target};
use prescale_decide::binding_limit;
use prescale_decide::spot::{SpotLook, SpotPool};
use prescale_domain::{CapacityRecord, Decision, PoolId, Span, SpotEvent, SpotNotice, SpotSplit};
use prescale_ingest::Polled;

use crate::listen::bad_record;
use crate::settings::{ClockMode, ServiceSettings};
use crate::{Controller, ControllerError};

/// From a notice until it is here, at most: queue and topic are waited on.
const REACTION: Span = Span::from_secs(5);
/// Records that wait for the next decisions, at most; the newest are kept.
const TOLD_MAX: usize = 10_000;

impl Controller {
    pub(crate) async fn take_capacity(&mut self, polled: Polled) -> Result<(), ControllerError> {
        self.show.degrade("capacity-topic", polled.unreachable.as_ref().map(|text| format!("capacity topic: {text}")));
        let mut is_news = false;
        for batch in &polled.batches {
            for index in 0..batch.len() {
                match serde_json::from_slice::<CapacityRecord>(batch.bytes(index)) {
                    Ok(record) => {
                        is_news |= record.notice().is_some_and(|notice| self.concerns(&notice));
                        self.state.told.push(record);
                    }
                    Err(error) => bad_record(batch, index, &error.to_string()),
                }
            }
            if let Some(last) = batch.offsets.last() {
                self.state.capacity_offsets.insert(batch.partition, last + 1);
            }
        }
        let beyond = self.state.told.len().saturating_sub(TOLD_MAX);
        self.state.told.drain(..beyond);
        if is_news {
            self.decide_all(self.clock.now()).await?;
            self.snapshot()?;
        }
        Ok(())
    }

    /// Whether a notice is of a unit of ours, and new.
    fn concerns(&self, notice: &SpotNotice) -> bool {
        self.targets.iter().any(|(name, target)| {
            let keeper = self.state.services.get(name).and_then(|state| state.split.as_ref());
            let has = |capacity: Capacity| capacity.units.iter().any(|unit| unit.id == notice.instance);
            keeper.is_none_or(|keeper| !keeper.knows(notice)) && target.capacity().is_some_and(has)
        })
    }

    /// How what a decision wants is split; `None` where the target has but one kind of units, or is not seen.
    pub(crate) fn split(&mut self, service: &ServiceSettings, decision: &Decision) -> Option<SpotSplit> {
        let target: &Target = self.targets.get(&service.name)?;
        if self.settings.clock == ClockMode::Event && !target.follows_event_time() {
            return None;
        }
        let (seen, capacity) = (decision.inputs.target?, target.capacity()?);
        let settings = self.split_settings(service, &capacity, decision);
        let pools = pools(&capacity);
        let notices: Vec<SpotNotice> = self.state.told.iter().filter_map(CapacityRecord::notice).collect();
        let concerns = |record: &&CapacityRecord| record.service.as_ref().is_none_or(|name| *name == service.name);
        let events: Vec<SpotEvent> =
            self.state.told.iter().filter(concerns).filter_map(CapacityRecord::event).collect();
        let (policy, lead) = (&decision.inputs.settings, decision.inputs.lead_time);
        let ready = f64::from(seen.ready.unwrap_or(seen.desired));
        let look = SpotLook {
            at: decision.at,
            units: decision.desired,
            min: policy.min_units,
            max: seen.max.unwrap_or(u32::MAX).min(service.target.max()).min(room(decision)),
            settings,
            pools: &pools,
            commitments: &capacity.settings.commitments,
            running: &capacity.units,
            notices: &notices,
            events: &events,
            refused: capacity.refused,
            short: decision.inputs.load.is_some_and(|load| load > ready * policy.unit_capacity),
            replacement: lead.until_effective(),
            replacement_median: lead.provisioning_median.map(|median| median + lead.warm_up),
            reaction: REACTION,
        };
        let state = self.state.services.entry(service.name.clone()).or_default();
        Some(state.split.get_or_insert_default().look(&look))
    }
}

/// Units that limits have room for; what is wanted is never more than there may be, since what runs beyond a limit stays. What a
/// budget pays for is no bound here: without spare units more would be on-demand, which costs more.
fn room(decision: &Decision) -> u32 {
    let Some(limits) = &decision.inputs.circumstances.limits else { return u32::MAX };
    let granted = limits.granted.map_or(u32::MAX, |granted| granted.units);
    binding_limit(limits, false).map_or(u32::MAX, |limited| limited.units).min(granted).max(decision.desired)
}

/// Every type in every zone.
fn pools(capacity: &Capacity) -> Vec<SpotPool> {
    let mut pools = Vec::with_capacity(capacity.settings.types.len() * capacity.zones.len());
    for kind in &capacity.settings.types {
        for zone in &capacity.zones {
            let pool = PoolId::new(&kind.name, zone);
            let price = capacity.prices.iter().find(|(priced, _)| *priced == pool).map(|(_, price)| *price);
            pools.push(SpotPool { pool, weight: kind.weight, on_demand_usd_hour: kind.usd_hour, spot_usd_hour: price });
        }
    }
    pools
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prescale_domain::{Grant, Limits, ResourceLimits};
    use prescale_store::MemoryStore;

    use super::*;
    use crate::contention::Fleet;
    use crate::fixture::{Fixed, controller_with, minute, settings};

    #[test]
    fn there_is_room_for_what_limits_leave_and_always_for_what_is_wanted() {
        let settings = settings(ClockMode::Wall);
        let service = settings.services[0].clone();
        let store = Arc::new(MemoryStore::default());
        let mut controller = controller_with(settings, &store, Arc::new(Fixed(minute(10))), None);
        let mut decision = controller.decide_one(&service, minute(10), &Fleet::default());
        decision.inputs.circumstances.limits = None;
        assert_eq!(room(&decision), u32::MAX);
        let fleet = ResourceLimits { units: Some(50), ..ResourceLimits::default() };
        let limits = Limits { fleet, others_units: 20, reserve: 0.0, ..Limits::default() };
        let mut of = |desired: u32, granted: Option<u32>| {
            let granted = granted.map(|units| Grant { units, wish: 40, criticality: 1.0 });
            decision.desired = desired;
            decision.inputs.circumstances.limits = Some(Limits { granted, ..limits });
            room(&decision)
        };
        assert_eq!([of(8, None), of(8, Some(12)), of(35, None)], [30, 12, 35]);
    }
}
