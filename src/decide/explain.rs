//! A decision in words and numbers. Rule: everything said is in the record; nothing is looked up.

use prescale_domain::{Alternative, Decision, DecisionKind, FallbackLoad, ForecastInput, Mode};

use crate::explain_split;
use crate::words::{number, units};

/// The decision as text of several lines, for people.
pub fn explain(decision: &Decision) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let inputs = &decision.inputs;
    line(format!("decision {}", decision.id));
    line(format!("  {}", headline(decision)));
    line(format!("  mode      {}", mode(inputs.mode)));
    line(format!("  load      {}", load(decision)));
    if let Some(told) = &inputs.circumstances.fallback {
        line(format!("  elsewhere {}", elsewhere(told)));
    }
    line(format!("  forecast  {}", forecast(decision)));
    for lifted in &inputs.circumstances.lifted {
        let said = lifted.dependency.sentence(lifted.caller.as_str(), decision.service.as_str());
        line(format!("  lifted    by {} at most: {said}", number(lifted.most)));
    }
    let lead = inputs.lead_time;
    line(format!(
        "  lead time {} = data age {} + decision interval {} + provisioning {} + warm-up {}",
        lead.total(),
        lead.data_age,
        lead.decision_interval,
        lead.provisioning_latency,
        lead.warm_up,
    ));
    line(format!("  target    {}", target(decision)));
    if let Some(price) = inputs.settings.planning.price_usd_hour {
        line(format!("  cost      {}", cost(decision, price)));
    }
    line("  reasons".to_owned());
    for (index, reason) in decision.reasons.iter().enumerate() {
        line(format!("    {}. {:<22} {:>5}  {}", index + 1, reason.code, reason.units, reason.text));
    }
    if !decision.binding.is_empty() {
        line(format!("  binding   {}", decision.binding));
    }
    for (number, text) in decision.split.iter().flat_map(|split| explain_split::lines(split)).enumerate() {
        line(format!("  {:<9} {text}", if number == 0 { "split" } else { "" }));
    }
    if !decision.alternatives.is_empty() {
        line("  weighed".to_owned());
    }
    for alternative in &decision.alternatives {
        let Alternative { units: count, overload, shortage, cost_usd_hour } = *alternative;
        let chosen = if count == decision.desired { "  <- chosen" } else { "" };
        let cost = cost_usd_hour.map(|cost| format!(", {} USD an hour with what is missed", number(cost)));
        line(format!(
            "    {:>12}  overload {:>7.3} %, {} of load missed on average{}{chosen}",
            units(count),
            100.0 * overload,
            number(shortage),
            cost.unwrap_or_default(),
        ));
    }
    out
}

fn cost(decision: &Decision, price: f64) -> String {
    let of = |units: u32| format!("{} USD an hour", number(f64::from(units) * price));
    match decision.inputs.target.map(|target| target.desired) {
        Some(present) if present != decision.desired => {
            format!("{} instead of {} (at {price} for a unit)", of(decision.desired), of(present))
        }
        _ => format!("{} (at {price} for a unit)", of(decision.desired)),
    }
}

fn headline(decision: &Decision) -> String {
    let (service, at, desired) = (&decision.service, decision.at, decision.desired);
    let present = decision.inputs.target.map(|target| target.desired);
    match (decision.kind, present) {
        (DecisionKind::ScaleUp, Some(present)) => format!("{service} at {at}: scale up from {present} to {desired}"),
        (DecisionKind::ScaleDown, Some(present)) => {
            format!("{service} at {at}: scale down from {present} to {desired}")
        }
        (DecisionKind::OptimizeResources, _) => {
            format!("{service} at {at}: no further unit fits beside {}, other units would help", units(desired))
        }
        _ => format!("{service} at {at}: no change, {}", units(desired)),
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe: forecast and score only",
        Mode::Recommend => "recommend: decided and published, not carried out",
        Mode::Act => "act",
    }
}

fn load(decision: &Decision) -> String {
    let inputs = &decision.inputs;
    let end = inputs.load_window_end.map(|end| format!("in the window that ended at {end}"));
    match (inputs.load, end) {
        (Some(load), Some(end)) => {
            format!("{} {end}; one unit carries {}", number(load), number(inputs.settings.unit_capacity))
        }
        (None, Some(end)) => format!("unknown {end}"),
        (_, None) => "none seen yet".to_owned(),
    }
}

fn elsewhere(told: &FallbackLoad) -> String {
    let FallbackLoad { source, missing, .. } = told;
    let last = match (told.load, told.at) {
        (Some(load), Some(at)) => format!("{} at {at}", number(load)),
        _ => "nothing yet".to_owned(),
    };
    let since = if missing.is_empty() { String::new() } else { format!(", nothing since ({missing})") };
    format!("{source} told {last}{since}; heeded once the stream is silent for more than {}", told.after)
}

fn forecast(decision: &Decision) -> String {
    let Some(forecast) = &decision.inputs.forecast else {
        return format!("none ({})", decision.inputs.forecast_missing);
    };
    let ForecastInput { model, reason, origin, quantile, from, upper, median, .. } = forecast;
    let effective = upper.get(forecast.effective_index..).unwrap_or_default();
    let medians = median.get(forecast.effective_index..).unwrap_or_default();
    format!(
        "{model} ({reason}) from {origin}; windows from {from}, of which {} before and {} after capacity asked for now is \
         effective; there the median peaks at {} and the {quantile} quantile at {}",
        upper.len() - effective.len(),
        effective.len(),
        peak(medians),
        peak(effective),
    )
}

fn peak(values: &[f64]) -> String {
    values.iter().copied().reduce(f64::max).map_or("nothing".to_owned(), number)
}

fn target(decision: &Decision) -> String {
    let Some(target) = decision.inputs.target else {
        return "could not be observed".to_owned();
    };
    let ready = target.ready.map_or("an unknown number".to_owned(), |ready| ready.to_string());
    let bound = |bound: Option<u32>| bound.map_or("none".to_owned(), |bound| bound.to_string());
    let (min, max, seen) = (bound(target.min), bound(target.max), target.observed_at);
    format!("{} wanted, {ready} in service, own min {min}, own max {max}, observed at {seen}", units(target.desired))
}
