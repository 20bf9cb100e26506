//! The report for a terminal. Rule: no line is wider than a usual terminal; what does not fit side by side goes below.

use serde_json::Value;

use super::BacktestReport;
use super::columns::{Shown, columns_of, in_order};
use super::data::{ORACLE, headline};
use super::paths::leaves;
use super::words::{ABSENT, fixed};

const WIDTH: usize = 100;

/// The score card with the best of each column starred, the forecasts, the parameters that sweeps chose, and the notes.
pub fn table(report: &BacktestReport) -> String {
    let mut lines = vec![report.title.clone(), String::new()];
    lines.extend(headline_words(&headline(report)));
    let systems: Vec<(&String, &Value)> = in_order(report.systems().map(|(name, _)| name))
        .into_iter()
        .filter_map(|name| Some((name, report.card.get("systems")?.get(name)?)))
        .collect();
    let columns = columns_of(systems.iter().map(|(_, system)| *system));
    lines.extend(blocks("system", &systems, &columns, &[ORACLE]));
    let chosen: Vec<String> = systems
        .iter()
        .filter_map(|(name, system)| Some(format!("  {name}: {}", system.get("chosen")?.as_str()?)))
        .collect();
    if !chosen.is_empty() {
        lines.push("Chosen by sweep, with hindsight".to_owned());
        lines.extend(chosen);
        lines.push(String::new());
    }
    let forecast: Vec<(&String, &Value)> =
        report.card.get("forecast").and_then(Value::as_object).into_iter().flatten().collect();
    let columns = columns_of(forecast.iter().map(|(_, score)| *score));
    lines.extend(blocks("forecast", &forecast, &columns, &[]));
    if !report.timings.is_empty() {
        lines.push("Seconds by part".to_owned());
        lines.extend(report.timings.iter().map(|(part, seconds)| format!("  {part}: {seconds:.1}")));
        lines.push(String::new());
    }
    lines.extend(report.notes.iter().map(|note| format!("Note: {note}")));
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let printable = |line: String| {
        line.trim_end()
            .chars()
            .filter(|letter| !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}'))
            .collect::<String>()
            + "\n"
    };
    lines.into_iter().map(printable).collect()
}

fn headline_words(headline: &Value) -> Vec<String> {
    let Some(against) = headline.get("against").and_then(Value::as_str) else { return Vec::new() };
    let number = |name: &str| headline.get(name).and_then(Value::as_f64);
    let keeps = headline.get("against_keeps").and_then(Value::as_bool).unwrap_or(false);
    let rank = if keeps { "the cheapest baseline that is short no more" } else { "the baseline that is short least" };
    let saved = match number("saved_pct") {
        Some(saved) if saved >= 0.0 => format!("Prescale costs {saved:.1} % less"),
        Some(saved) => format!("Prescale costs {:.1} % more", -saved),
        None => "Prescale's cost can't be compared".to_owned(),
    };
    let (short, cost) = (fixed(number("time_pct"), 3), fixed(number("cost_usd"), 2));
    let rival = format!("{against}: {short} % of time short, {cost} USD.");
    vec![format!("{saved} than {against}, {rank}."), rival, String::new()]
}

/// Rows by name, the columns in as many blocks side by side as the width takes. `limits` are no rivals.
fn blocks(head: &str, rows: &[(&String, &Value)], columns: &[Shown], limits: &[&str]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let first = rows.iter().map(|(name, _)| name.chars().count()).chain([head.chars().count()]).max().unwrap_or(0);
    let cells: Vec<(Vec<String>, usize)> = columns.iter().map(|column| cells(column, rows, limits)).collect();
    let mut lines = Vec::new();
    let mut from = 0;
    while from < cells.len() {
        let mut until = from + 1;
        let mut width = first + 2 + cells[from].1;
        while until < cells.len() && width + 2 + cells[until].1 <= WIDTH {
            width += 2 + cells[until].1;
            until += 1;
        }
        for row in 0..=rows.len() {
            let name: &str = if row == 0 { head } else { rows[row - 1].0 };
            let mut line = format!("{name:<first$}");
            for (texts, width) in &cells[from..until] {
                line.push_str("  ");
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(texts[row].chars().count())));
                line.push_str(&texts[row]);
            }
            lines.push(line);
        }
        lines.push(String::new());
        from = until;
    }
    lines
}

/// The texts of a column, its title first, and their width. A star or a space ends each number.
fn cells(column: &Shown, rows: &[(&String, &Value)], limits: &[&str]) -> (Vec<String>, usize) {
    let rivals = rows.iter().filter(|(name, _)| !limits.contains(&name.as_str()));
    let best = column.best(rivals.filter_map(|(_, row)| column.of(row)));
    let unit = if column.unit.is_empty() { String::new() } else { format!(" {}", column.unit) };
    let mut texts = vec![format!("{}{unit} ", column.title)];
    for (name, row) in rows {
        let number = column.of(row);
        let is_best = number.is_some() && number == best && !limits.contains(&name.as_str());
        texts.push(format!("{}{}", fixed(number, column.digits), if is_best { '*' } else { ' ' }));
    }
    let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    (texts, width)
}

/// The settings as `key = value`, one a line.
pub(super) fn settings_lines(settings: &Value) -> Vec<(Vec<String>, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => ABSENT.to_owned(),
        other => other.to_string(),
    };
    leaves(settings).into_iter().map(|(keys, value)| (keys, text(value))).collect()
}
