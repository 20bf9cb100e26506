//! How the numbers of a system read: title, unit, which way is better. Rule: an unknown number is shown too, by its path.

use std::cmp::Ordering;

use serde_json::Value;

use super::paths::leaves;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
    /// Neither: it depends.
    Neither,
}

/// A column of the score card.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// From the system's own object, such as `violations.time_pct`.
    pub path: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub better: Better,
    /// Digits after the point.
    pub digits: usize,
    pub meaning: &'static str,
}

/// A column that some system has a number in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    /// Keys from the system's own object.
    pub keys: Vec<String>,
    pub title: String,
    pub unit: &'static str,
    pub better: Better,
    pub digits: usize,
    pub meaning: &'static str,
}

const fn column(
    path: &'static str,
    (title, unit): (&'static str, &'static str),
    better: Better,
    digits: usize,
    meaning: &'static str,
) -> Column {
    Column { path, title, unit, better, digits, meaning }
}

use Better::{Higher, Lower, Neither};

/// The numbers that are known, in the order in which they are shown.
pub const COLUMNS: &[Column] = &[
    column(
        "violations.time_pct",
        ("time short", "%"),
        Lower,
        3,
        "Time with less capacity in service than the load needed.",
    ),
    column("violations.requests_pct", ("requests short", "%"), Lower, 3, "Requests beyond the capacity in service."),
    column(
        "cost_usd",
        ("cost", "USD"),
        Lower,
        2,
        "All units from their launch to their end, at least the minimum billed.",
    ),
    column(
        "cost_per_million_good_usd",
        ("per million good", "USD"),
        Lower,
        3,
        "Cost of a million requests within capacity.",
    ),
    column(
        "regret_to_oracle",
        ("regret", ""),
        Lower,
        3,
        "What the oracle, which knows the load and has the same lead time, does better.",
    ),
    column("unit_hours", ("unit hours", "h"), Lower, 1, "Hours that units lived, those not in service yet included."),
    column(
        "theta_under",
        ("θ under", "%"),
        Lower,
        2,
        "Mean share of the needed units that was missing (θ_U of SPEC RG).",
    ),
    column("theta_over", ("θ over", "%"), Lower, 2, "Mean surplus of units as a share of those needed (θ_O)."),
    column("tau_under", ("τ under", "%"), Lower, 2, "Time with fewer units ready than needed (τ_U)."),
    column("tau_over", ("τ over", "%"), Lower, 2, "Time with more units ready than needed (τ_O)."),
    column("instability", ("instability", "%"), Lower, 2, "Time in which supply moved otherwise than demand (υ)."),
    column(
        "reversals",
        ("reversals", ""),
        Lower,
        0,
        "Changes of desired units against the direction of the one before.",
    ),
    column("actions", ("actions", ""), Lower, 0, "Changes of desired units."),
    column("availability_pct", ("availability", "%"), Higher, 3, "Requests within capacity."),
    column("spike_availability_pct", ("in spikes", "%"), Higher, 3, "Requests within capacity while the load spikes."),
    column("latency_p95_ms", ("p95 latency", "ms"), Lower, 1, "95 % of the requests were answered within it."),
    column("spike_latency_p95_ms", ("p95 in spikes", "ms"), Lower, 1, "The same while the load spikes."),
    column("utilization_pct", ("utilization", "%"), Higher, 1, "Load as a share of the capacity in service."),
    column("waste_pct", ("waste", "%"), Lower, 1, "Capacity in service that carried nothing."),
    column("mase", ("MASE", ""), Lower, 3, "Mean absolute error as a multiple of that of the seasonal naive forecast."),
    column("coverage_pct", ("coverage", "%"), Neither, 1, "Loads at or below the quantile that decisions used."),
    column("forecasts", ("forecasts", ""), Neither, 0, "Forecasts that were scored."),
    column(
        "elastic_speedup",
        ("ε", ""),
        Higher,
        2,
        "Elastic speed-up over a static mean: look at its four parts first.",
    ),
];

impl Column {
    fn shown(&self) -> Shown {
        Shown {
            keys: self.path.split('.').map(str::to_owned).collect(),
            title: self.title.to_owned(),
            unit: self.unit,
            better: self.better,
            digits: self.digits,
            meaning: self.meaning,
        }
    }
}

impl Shown {
    /// The number of a system; `None` where it has none.
    pub(super) fn of(&self, system: &Value) -> Option<f64> {
        self.keys.iter().try_fold(system, |value, key| value.get(key)).and_then(Value::as_f64)
    }

    /// The best of these numbers; `None` where nothing is better than anything.
    pub(super) fn best(&self, numbers: impl Iterator<Item = f64>) -> Option<f64> {
        let numbers: Vec<f64> = numbers.collect();
        let order = |one: &f64, other: &f64| match self.better {
            Lower => one.total_cmp(other),
            Higher => other.total_cmp(one),
            Neither => Ordering::Equal,
        };
        let best = numbers.iter().copied().min_by(order)?;
        let tells = self.better != Neither && numbers.iter().any(|number| *number != best);
        tells.then_some(best)
    }
}

/// The columns that any of the systems has a number in: the known ones in their order, then the others by name.
pub(super) fn columns_of<'a>(systems: impl Iterator<Item = &'a Value> + Clone) -> Vec<Shown> {
    let known = COLUMNS.iter().map(Column::shown);
    let mut found: Vec<Shown> =
        known.filter(|column| systems.clone().any(|system| column.of(system).is_some())).collect();
    let mut others: Vec<Vec<String>> = systems
        .clone()
        .flat_map(leaves)
        .filter(|(_, leaf)| leaf.is_number())
        .map(|(keys, _)| keys)
        .filter(|keys| found.iter().all(|column| column.keys != *keys))
        .collect();
    others.sort();
    others.dedup();
    found.extend(others.into_iter().map(|keys| {
        let title = keys.join(" ").replace('_', " ");
        let column = Shown { keys, title, unit: "", better: Neither, digits: 0, meaning: "" };
        let whole = systems.clone().filter_map(|system| column.of(system)).all(|number| number.fract() == 0.0);
        Shown { digits: if whole { 0 } else { 3 }, ..column }
    }));
    found
}

/// The names of the systems in the order in which they are shown: the known ones first, the oracle, which is no rival, last.
pub(super) fn in_order<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    const KNOWN: [&str; 12] = [
        "prescale",
        "hpa",
        "static-peak",
        "static-p95",
        "cron",
        "aws-target-tracking",
        "aws-predictive",
        "keda",
        "phpa",
        "phpa-chronological",
        "kpa",
        "crane",
    ];
    let place = |name: &str| match KNOWN.iter().position(|known| *known == name) {
        Some(place) => place,
        None if name == super::data::ORACLE => KNOWN.len() + 1,
        None => KNOWN.len(),
    };
    let mut names: Vec<&String> = names.collect();
    names.sort_by_key(|name| (place(name), *name));
    names
}
