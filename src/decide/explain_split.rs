//! A split in words. Rule: as in `explain`, everything said is in the record.

use prescale_domain::{Binding, PoolId, SpotSplit};

use crate::words::{number, units};

/// Lines on how a wish is split; without indentation.
pub(crate) fn lines(split: &SpotSplit) -> Vec<String> {
    let plan = &split.plan;
    let pools: Vec<String> = plan.spot.iter().map(|share| format!("{} in {}", share.instances, share.pool)).collect();
    let spare = if plan.spare > 0 { format!(", {} more than wanted", plan.spare) } else { String::new() };
    let placed = if pools.is_empty() { String::new() } else { format!(": {}", pools.join(", ")) };
    let mut lines = vec![
        format!("{} on-demand and {} spot{spare}{placed}", units(plan.on_demand), plan.spot_units()),
        format!(
            "{} USD an hour, all on-demand {}; losses leave {} % of the time short, {} % is allowed",
            number(plan.cost.usd_hour(split.inputs.settings.horizon)),
            number(plan.all_on_demand_usd_hour),
            number(100.0 * plan.short),
            number(100.0 * plan.allowed),
        ),
    ];
    lines.extend(plan.binding.iter().map(binding));
    if !split.leaving.is_empty() {
        let now = if split.drain.is_empty() { "none" } else { &split.drain.join(", ") };
        lines.push(format!("under notice: {}; to be drained now: {now}", split.leaving.join(", ")));
    }
    lines
}

fn binding(binding: &Binding) -> String {
    let named = |pools: &[PoolId]| pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match binding {
        Binding::Never => "the workload refuses spot".to_owned(),
        Binding::NoPool => "no pool can be used".to_owned(),
        Binding::Refused(pools) => format!("refused a short while ago: {}", named(pools)),
        Binding::LostTooOften(pools) => format!("lost too often: {}", named(pools)),
        Binding::DearerThanOnDemand(pools) => format!("dearer than on-demand: {}", named(pools)),
        Binding::Floor(floor) => format!("{} never spot", units(*floor)),
        Binding::Committed(committed) => format!("{} paid for in any case", units(*committed)),
        Binding::MaxShare(share) => format!("no more than {} % may be spot", number(100.0 * share)),
        Binding::Risk { short, allowed } => {
            format!(
                "less would leave {} % of the time short, {} % is allowed",
                number(100.0 * short),
                number(100.0 * allowed)
            )
        }
        Binding::Concentrated => "pools have more than their share: there are too few".to_owned(),
        Binding::FewTypes { types, wanted } => format!("{types} instance types are offered, {wanted} are advised"),
        Binding::Waiting(at) => format!("on-demand units stand in for spot; the first step back is at {at}"),
        Binding::Step(step) => format!("no more than {} at a time", units(*step)),
        Binding::SwapDoesNotPay { saves_usd, costs_usd } => {
            format!("a move would save {} USD and cost {} USD", number(*saves_usd), number(*costs_usd))
        }
        Binding::BreakEven(within) => format!("demand is back within {within}: nothing is removed"),
        Binding::Probe(pools) => format!("a unit to learn whether it lasts: {}", named(pools)),
        Binding::Hysteresis => "what runs is nearly as cheap".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use prescale_domain::{PoolOffer, Span, SpotInputs, Timestamp};

    use super::*;
    use crate::spot::{SpotKnowledge, plan};

    #[test]
    fn a_split_is_told_with_its_cost_what_was_binding_and_who_leaves() {
        let pools = ["a", "b", "c"].map(|zone| PoolId::new("m7i.large", zone));
        let at = Timestamp::from_millis(0);
        let offer = |pool: &PoolId| PoolOffer {
            pool: pool.clone(),
            weight: 1,
            on_demand_usd_hour: 0.1,
            spot_usd_hour: Some(0.03),
            running: 0,
            belief: SpotKnowledge::default().belief(pool, at),
        };
        let mut inputs = SpotInputs::new(at, 10, pools.iter().map(offer).collect(), Span::from_secs(90));
        inputs.settings.on_demand_floor = 4;
        let plan = plan(&inputs);
        let (leaving, drain) = (vec!["i-1".to_owned(), "i-2".to_owned()], vec!["i-2".to_owned()]);
        let split = SpotSplit { inputs, plan, leaving, drain };
        let said = lines(&split);
        let all = said.join("\n");
        let counts = format!("{} on-demand and {} spot", units(split.plan.on_demand), split.plan.spot_units());
        assert!(said[0].starts_with(&counts), "{all}");
        assert!(split.plan.spot.iter().all(|share| said[0].contains(&share.pool.to_string())), "{all}");
        assert!(said[1].contains("all on-demand 1;"), "{all}");
        assert!(
            all.contains("4 units never spot") && all.contains("1 instance types are offered, 10 are advised"),
            "{all}"
        );
        assert_eq!(said.last().map(String::as_str), Some("under notice: i-1, i-2; to be drained now: i-2"));
    }
}
