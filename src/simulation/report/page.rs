//! The report as one HTML page that needs nothing else: no network, no fonts, no files. Rule: tables stand in the page as
//! text, each cell with the path of its number; what is drawn is drawn from the JSON in the page; every text is escaped.

use prescale_domain::Span;
use serde_json::Value;

use super::columns::{COLUMNS, Shown, columns_of, in_order};
use super::data::{ORACLE, PRESCALE, page_data};
use super::paths::{at_path, path_of};
use super::table::settings_lines;
use super::words::{embedded, escaped, grouped};
use super::{BacktestReport, ServiceReport};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: [&str; 3] = [include_str!("chart.js"), include_str!("service.js"), include_str!("page.js")];

/// The whole page.
pub fn html(report: &BacktestReport) -> String {
    let data = page_data(report);
    let mut out = String::new();
    for (index, part) in TEMPLATE.split("{{").enumerate() {
        let Some((slot, rest)) = part.split_once("}}").filter(|_| index > 0) else {
            out.push_str(part);
            continue;
        };
        out.push_str(&fill(slot, report, &data));
        out.push_str(rest);
    }
    out
}

/// What goes into a slot of the template.
fn fill(slot: &str, report: &BacktestReport, data: &Value) -> String {
    match slot {
        "title" => escaped(&report.title),
        "style" => STYLE.to_owned(),
        "script" => SCRIPT.concat(),
        "data" => embedded(&data.to_string()),
        "period" => period(&report.services),
        "tiles" => tiles(report, data),
        "headline" => headline(data),
        "scores" => scores(report, data),
        "costs" => costs(report, data),
        "forecast" => forecast(report, data),
        "calibration" => calibration(report, data),
        "settings" => settings(report, data),
        "timings" => timings(report, data),
        "notes" => report.notes.iter().map(|note| format!("<li>{}</li>", escaped(note))).collect(),
        "meanings" => meanings(report),
        _ => String::new(),
    }
}

/// A cell with a number, or `–`; the path is told only where there is something.
fn cell(data: &Value, tag: &str, class: &str, path: &str, digits: usize) -> String {
    let number = at_path(data, path).and_then(Value::as_f64);
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let path = if number.is_some() { format!(" data-path=\"{}\"", escaped(path)) } else { String::new() };
    format!("<{tag}{class}{path}>{}</{tag}>", grouped(number, digits))
}

fn period(services: &[ServiceReport]) -> String {
    let start = services.iter().map(|service| service.start).min();
    let windows = |service: &ServiceReport| i64::try_from(service.load.len()).unwrap_or(i64::MAX);
    let end_of = |service: &ServiceReport| {
        service.start + Span::from_millis(service.step.millis().saturating_mul(windows(service)))
    };
    let (Some(start), Some(end)) = (start, services.iter().map(end_of).max()) else { return String::new() };
    let names: Vec<String> = services.iter().map(|service| escaped(service.name.as_str())).collect();
    let names = if names.len() > 8 { format!("{} services", names.len()) } else { names.join(", ") };
    format!("{names} · <time>{start}</time> to <time>{end}</time>")
}

fn tiles(report: &BacktestReport, data: &Value) -> String {
    let tile = |title: &str, unit: &str, path: &str, digits: usize| {
        if at_path(data, path).and_then(Value::as_f64).is_none() {
            return String::new();
        }
        let value = cell(data, "b", "", path, digits);
        format!("<div class=\"tile\"><span>{title}</span><p>{value} <i>{unit}</i></p></div>")
    };
    let budget =
        if report.budget_pct.is_some() { tile("allowed", "% of time", "budget_pct", 3) } else { String::new() };
    [
        tile("Prescale is short", "% of time", "systems.prescale.violations.time_pct", 3),
        budget,
        tile("of requests", "% are short", "systems.prescale.violations.requests_pct", 3),
        tile("Prescale costs", "USD", "systems.prescale.cost_usd", 2),
        tile("saved", "%", "headline.saved_pct", 1),
    ]
    .concat()
}

fn headline(data: &Value) -> String {
    let Some(against) = at_path(data, "headline.against").and_then(Value::as_str) else { return String::new() };
    let keeps = at_path(data, "headline.against_keeps").and_then(Value::as_bool).unwrap_or(false);
    let rank = if keeps {
        "the cheapest baseline that is short no longer than the budget, or than Prescale"
    } else {
        "the baseline that is short least; none is short as little as Prescale or the budget"
    };
    format!(
        "Saved is meant against <b>{}</b>, {rank}: {} % of time short, {} USD.",
        escaped(against),
        cell(data, "span", "", "headline.time_pct", 3),
        cell(data, "span", "", "headline.cost_usd", 2),
    )
}

fn head(columns: &[Shown], first: &str) -> String {
    let column = |column: &Shown| {
        let unit = if column.unit.is_empty() { String::new() } else { format!(" <i>{}</i>", escaped(column.unit)) };
        let (title, meaning) = (escaped(&column.title), escaped(column.meaning));
        let button = format!("<button type=\"button\" title=\"{meaning}\">{title}{unit}</button>");
        format!("<th scope=\"col\" aria-sort=\"none\">{button}</th>")
    };
    let columns: String = columns.iter().map(column).collect();
    format!("<thead><tr><th scope=\"col\">{first}</th>{columns}</tr></thead>")
}

fn scores(report: &BacktestReport, data: &Value) -> String {
    let names = in_order(report.systems().map(|(name, _)| name));
    let columns = columns_of(report.systems().map(|(_, system)| system).collect::<Vec<_>>().into_iter());
    let rivals = || report.systems().filter(|(name, _)| *name != ORACLE).map(|(_, system)| system);
    let best: Vec<Option<f64>> =
        columns.iter().map(|column| column.best(rivals().filter_map(|system| column.of(system)))).collect();
    let row = |name: &&String| {
        let system = report.card.get("systems").and_then(|systems| systems.get(*name))?;
        let cells = columns.iter().zip(&best).map(|(column, best)| {
            let keys = ["systems", name.as_str()].into_iter().chain(column.keys.iter().map(String::as_str));
            let is_best = best.is_some() && column.of(system) == *best && *name != ORACLE;
            cell(data, "td", if is_best { "best" } else { "" }, &path_of(keys), column.digits)
        });
        let cells: String = cells.collect();
        let class = match name.as_str() {
            PRESCALE => " class=\"ours\"",
            ORACLE => " class=\"limit\"",
            _ => "",
        };
        let chosen = system.get("chosen").and_then(Value::as_str);
        let chosen = chosen.map_or(String::new(), |chosen| format!("<small>{}</small>", escaped(chosen)));
        Some(format!("<tr{class}><th scope=\"row\">{}{chosen}</th>{cells}</tr>", escaped(name)))
    };
    let rows: String = names.iter().filter_map(row).collect();
    format!("{}<tbody>{rows}</tbody>", head(&columns, "system"))
}

fn costs(report: &BacktestReport, data: &Value) -> String {
    let cost = |name: &String| {
        let path = path_of(["systems", name.as_str(), "cost_usd"]);
        at_path(data, &path).and_then(Value::as_f64).map(|cost| (path, cost))
    };
    let mut known: Vec<(&String, (String, f64))> =
        report.systems().filter_map(|(name, _)| Some((name, cost(name)?))).collect();
    known.sort_by(|one, other| one.1.1.total_cmp(&other.1.1));
    let most = known.iter().map(|(_, (_, cost))| *cost).fold(0.0, f64::max);
    let bar = |(name, (path, cost)): &(&String, (String, f64))| {
        let share = if most > 0.0 { 100.0 * cost / most } else { 0.0 };
        let class = if *name == PRESCALE { " class=\"ours\"" } else { "" };
        let value = cell(data, "td", "", path, 2);
        let name = escaped(name);
        let bar = format!("<td class=\"bar\" aria-hidden=\"true\"><i style=\"width:{share:.1}%\"></i></td>");
        format!("<tr{class}><th scope=\"row\">{name}</th>{value}{bar}</tr>")
    };
    known.iter().map(bar).collect()
}

fn forecast(report: &BacktestReport, data: &Value) -> String {
    let rows: Vec<(&String, &Value)> =
        report.card.get("forecast").and_then(Value::as_object).into_iter().flatten().collect();
    let columns = columns_of(rows.iter().map(|(_, score)| *score));
    let row = |(name, _): &(&String, &Value)| {
        let path = |column: &Shown| {
            path_of(["forecast", name.as_str()].into_iter().chain(column.keys.iter().map(String::as_str)))
        };
        let cells: String = columns.iter().map(|column| cell(data, "td", "", &path(column), column.digits)).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escaped(name))
    };
    let body: String = rows.iter().map(row).collect();
    if rows.is_empty() { String::new() } else { format!("{}<tbody>{body}</tbody>", head(&columns, "service")) }
}

fn calibration(report: &BacktestReport, data: &Value) -> String {
    let point = |service: usize, index: usize| {
        let path = |field: &str| format!("services.{service}.calibration.{index}.{field}");
        let cells = [("level_pct", 1), ("observed_pct", 1), ("forecasts", 0)];
        let cells: String = cells.iter().map(|(field, digits)| cell(data, "td", "", &path(field), *digits)).collect();
        format!("<tr data-service=\"{service}\">{cells}</tr>")
    };
    let services = report.services.iter().enumerate();
    services.flat_map(|(service, each)| (0..each.calibration.len()).map(move |index| point(service, index))).collect()
}

fn settings(report: &BacktestReport, data: &Value) -> String {
    let line = |(keys, text): (Vec<String>, String)| {
        let path = path_of(["settings"].into_iter().chain(keys.iter().map(String::as_str)));
        let name = escaped(&keys.join(" "));
        let told = at_path(data, &path).is_some();
        let path = if told { format!(" data-path=\"{}\"", escaped(&path)) } else { String::new() };
        format!("<dt>{name}</dt><dd{path}>{}</dd>", escaped(&text))
    };
    settings_lines(&report.settings).into_iter().filter(|(keys, _)| !keys.is_empty()).map(line).collect()
}

fn timings(report: &BacktestReport, data: &Value) -> String {
    let line = |part: &String| {
        let value = cell(data, "dd", "", &path_of(["timings", part.as_str()]), 1);
        format!("<dt>{}</dt>{value}", escaped(part))
    };
    report.timings.keys().map(line).collect()
}

fn meanings(report: &BacktestReport) -> String {
    let shown = COLUMNS.iter().filter(|column| {
        let keys: Vec<&str> = column.path.split('.').collect();
        report.systems().any(|(_, system)| at_path(system, &path_of(&keys)).is_some_and(Value::is_number))
    });
    shown.map(|column| format!("<dt>{}</dt><dd>{}</dd>", escaped(column.title), escaped(column.meaning))).collect()
}
