//! What the page carries: the report with its curves thinned. Rule: bounded, whatever the length of the history and the
//! number of services; what is left out is counted.

use prescale_domain::DecisionKind;
use serde_json::{Map, Value, json};

use super::columns::{Better, columns_of, in_order};
use super::thin::{Points, changes, thinned};
use super::{BacktestReport, DecisionMark, ForecastSample, ServiceReport};

pub(super) const PRESCALE: &str = "prescale";
/// The limit, no rival: it knows the load.
pub(super) const ORACLE: &str = "oracle";

/// Points of one curve, and of all curves together: some megabytes.
const CURVE_MAX: usize = 4000;
const ALL_CURVES_MAX: usize = 500_000;
const CURVE_MIN: usize = 200;
/// Decisions and forecasts of one service, and of all.
const DECISIONS_MAX: usize = 2000;
const ALL_DECISIONS_MAX: usize = 20_000;
const FORECASTS_MAX: usize = 200;
const ALL_FORECASTS_MAX: usize = 2000;

/// The JSON that the page carries: as [`BacktestReport::to_json`], but for the services' curves, whose moments are seconds
/// from the service's start.
pub(super) fn page_data(report: &BacktestReport) -> Value {
    let mut data = report.card.clone();
    let count = report.services.len().max(1);
    let curves: usize = report.services.iter().map(|service| 2 + service.capacity.len()).sum();
    let limits = Limits {
        curve: (ALL_CURVES_MAX / curves.max(1)).clamp(CURVE_MIN, CURVE_MAX),
        decisions: (ALL_DECISIONS_MAX / count).clamp(20, DECISIONS_MAX),
        forecasts: (ALL_FORECASTS_MAX / count).clamp(2, FORECASTS_MAX),
    };
    let services: Vec<Value> = report.services.iter().map(|service| service_data(service, &limits)).collect();
    for (name, value) in [
        ("title", json!(report.title)),
        ("budget_pct", json!(report.budget_pct)),
        ("headline", headline(report)),
        ("services", Value::Array(services)),
        ("settings", report.settings.clone()),
        ("timings", json!(report.timings)),
        ("notes", json!(report.notes)),
        ("order", json!(in_order(report.systems().map(|(name, _)| name)))),
        ("columns", columns(report)),
    ] {
        data.insert(name.to_owned(), value);
    }
    Value::Object(data)
}

struct Limits {
    curve: usize,
    decisions: usize,
    forecasts: usize,
}

fn columns(report: &BacktestReport) -> Value {
    let systems: Vec<&Value> = report.systems().map(|(_, system)| system).collect();
    let column = |shown: super::columns::Shown| {
        let better = match shown.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
            Better::Neither => "neither",
        };
        json!({ "path": super::path_of(&shown.keys), "title": shown.title, "unit": shown.unit, "better": better,
            "digits": shown.digits })
    };
    columns_of(systems.into_iter()).into_iter().map(column).collect()
}

/// Prescale against the cheapest baseline that is short no longer than the budget, or than Prescale; if there is none,
/// against the one that is short least. Empty without either.
pub(super) fn headline(report: &BacktestReport) -> Value {
    let number = |system: &Value, pointer: &str| system.pointer(pointer).and_then(Value::as_f64);
    let both = |system: &Value| Some((number(system, "/violations/time_pct")?, number(system, "/cost_usd")?));
    let systems = || report.systems().filter_map(|(name, system)| Some((name, both(system)?)));
    let Some((_, (ours, our_cost))) = systems().find(|(name, _)| *name == PRESCALE) else {
        return Value::Object(Map::new());
    };
    let rivals = || systems().filter(|(name, _)| *name != PRESCALE && *name != ORACLE);
    let allowed = report.budget_pct.unwrap_or(0.0).max(ours);
    let kept = rivals().filter(|(_, (short, _))| *short <= allowed).min_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let keeps = kept.is_some();
    let least = || rivals().min_by(|a, b| a.1.0.total_cmp(&b.1.0).then(a.1.1.total_cmp(&b.1.1)));
    let Some((name, (short, cost))) = kept.or_else(least) else {
        return Value::Object(Map::new());
    };
    let saved_pct = (cost > 0.0).then(|| 100.0 * (1.0 - our_cost / cost));
    json!({ "against": name, "against_keeps": keeps, "cost_usd": cost, "time_pct": short, "saved_pct": saved_pct,
        "prescale_keeps": report.budget_pct.map(|budget| ours <= budget) })
}

fn service_data(service: &ServiceReport, limits: &Limits) -> Value {
    let start = service.start.millis();
    let step = service.step.millis().max(1);
    let moment = |index: usize| step.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX));
    let regular = |values: &[Option<f64>]| -> Points {
        values
            .iter()
            .enumerate()
            .map(|(index, value)| (moment(index), value.filter(|value| value.is_finite())))
            .collect()
    };
    let capacity: Map<String, Value> = service
        .capacity
        .iter()
        .map(|(name, timeline)| {
            let points = timeline.iter().map(|(at, units)| (at.millis().saturating_sub(start), Some(*units))).collect();
            (name.clone(), curve(thinned(changes(points), limits.curve)))
        })
        .collect();
    let (decisions, left_out) = decisions(&service.decisions, limits.decisions);
    let decisions: Vec<Value> = decisions
        .into_iter()
        .map(|decision| {
            json!({ "at": seconds(decision.at.millis().saturating_sub(start)), "kind": decision.kind,
                "desired": decision.desired, "reasons": decision.reasons })
        })
        .collect();
    let every = service.forecasts.len().div_ceil(limits.forecasts).max(1);
    let forecasts: Vec<Value> =
        service.forecasts.iter().step_by(every).map(|sample| forecast_data(service, sample)).collect();
    json!({
        "name": service.name,
        "unit_capacity": service.unit_capacity,
        "start": service.start,
        "step_seconds": seconds(step),
        "length_seconds": seconds(moment(service.load.len())),
        "load": curve(thinned(regular(&service.load), limits.curve)),
        "needed": curve(thinned(changes(regular(&service.needed)), limits.curve)),
        "capacity": capacity,
        "forecasts": forecasts,
        "forecasts_left_out": service.forecasts.len() - service.forecasts.iter().step_by(every).count(),
        "calibration": service.calibration,
        "decisions": decisions,
        "decisions_left_out": left_out,
    })
}

/// A forecast with the load that came, from as long before as it reaches ahead, by window.
fn forecast_data(service: &ServiceReport, sample: &ForecastSample) -> Value {
    let step = service.step.millis().max(1);
    let origin = sample.origin.millis().saturating_sub(service.start.millis());
    let reach = i64::try_from(sample.values.len()).unwrap_or(i64::MAX);
    let at = origin.div_euclid(step);
    let load = |index: i64| usize::try_from(index).ok().and_then(|index| service.load.get(index).copied().flatten());
    let first = at.saturating_sub(reach);
    let actual: Vec<Option<f64>> = (first..=at.saturating_add(reach)).map(load).map(|v| v.map(short)).collect();
    let values: Vec<Vec<f64>> = sample.values.iter().map(|step| step.iter().copied().map(short).collect()).collect();
    json!({ "origin": seconds(origin), "levels": sample.levels, "values": values, "actual": actual,
        "actual_from": seconds(first.saturating_mul(step)) })
}

/// The decisions that change something, and of the others those whose reasons are not those of the one before, as far as
/// there is room; evenly thinned beyond it. And how many are left out.
fn decisions(all: &[DecisionMark], limit: usize) -> (Vec<&DecisionMark>, usize) {
    let codes = |mark: &DecisionMark| -> Vec<String> {
        mark.reasons.iter().map(|reason| reason.split(':').next().unwrap_or_default().to_owned()).collect()
    };
    let says_more = |index: &usize| {
        let before = index.checked_sub(1).and_then(|before| all.get(before));
        all[*index].kind != DecisionKind::None || before.is_none_or(|before| codes(before) != codes(&all[*index]))
    };
    let mut kept: Vec<usize> = (0..all.len()).filter(says_more).collect();
    if kept.len() > limit {
        kept.retain(|index| all[*index].kind != DecisionKind::None);
    }
    let every = kept.len().div_ceil(limit.max(1)).max(1);
    let kept: Vec<&DecisionMark> = kept.into_iter().step_by(every).filter_map(|index| all.get(index)).collect();
    let left_out = all.len() - kept.len();
    (kept, left_out)
}

/// `{"t": [...], "v": [...]}`
fn curve(points: Points) -> Value {
    let (moments, values): (Vec<Value>, Vec<Option<f64>>) =
        points.into_iter().map(|(moment, value)| (seconds(moment), value.map(short))).unzip();
    json!({ "t": moments, "v": values.into_iter().map(compact).collect::<Vec<_>>() })
}

/// Whole seconds without a point.
fn seconds(millis: i64) -> Value {
    if millis % 1000 == 0 { json!(millis / 1000) } else { json!(millis as f64 / 1000.0) }
}

/// Whole numbers without a point, which takes a third of the room.
fn compact(value: Option<f64>) -> Value {
    const EXACT: f64 = 9e15;
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < EXACT => json!(value as i64),
        other => json!(other),
    }
}

/// Six digits, which is more than a curve can show.
fn short(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(5 - value.abs().log10().floor() as i32);
    if scale.is_finite() && scale > 0.0 { (value * scale).round() / scale } else { value }
}
