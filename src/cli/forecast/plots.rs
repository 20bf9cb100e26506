//! Plots of an evaluation, as SVG: the forecast fan, the calibration, and the error by hour of the day.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::prelude::*;
use prescale_domain::Span;
use prescale_forecast::evaluate::{Outcome, Report, horizon_name};

use crate::cli::Failure;

const SIZE: (u32, u32) = (1100, 520);
/// Targets in a fan, at most: the last ones.
const FAN_POINTS: usize = 600;
const HOUR_MILLIS: i64 = 3_600_000;
const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;

/// Writes `fan-MODEL-HORIZON.svg` for each model and horizon, `calibration-HORIZON.svg` and `error-by-hour-HORIZON.svg` for
/// each horizon.
pub(super) fn write(report: &Report, folder: &Path) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::Outside(format!("plots `{}`: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(|error| fail(&error))?;
    let mut by_horizon: BTreeMap<Span, BTreeMap<&str, &[Outcome]>> = BTreeMap::new();
    for (name, horizons) in &report.outcomes {
        for (horizon, outcomes) in horizons {
            by_horizon.entry(*horizon).or_default().insert(name, outcomes);
        }
    }
    for (horizon, models) in &by_horizon {
        let horizon = horizon_name(*horizon);
        for (name, outcomes) in models {
            let file = folder.join(format!("fan-{name}-{horizon}.svg"));
            fan(&file, &format!("{name}, {horizon} ahead"), outcomes, &report.levels).map_err(|error| fail(&error))?;
        }
        let file = folder.join(format!("calibration-{horizon}.svg"));
        calibration(&file, &horizon, models, &report.levels).map_err(|error| fail(&error))?;
        let file = folder.join(format!("error-by-hour-{horizon}.svg"));
        error_by_hour(&file, &horizon, models, &report.levels).map_err(|error| fail(&error))?;
    }
    Ok(())
}

type Plotted = Result<(), Box<dyn std::error::Error>>;

/// What came, the median, and the bands between the outer quantiles.
fn fan(file: &Path, title: &str, outcomes: &[Outcome], levels: &[f64]) -> Plotted {
    let shown = &outcomes[outcomes.len().saturating_sub(FAN_POINTS)..];
    let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return Ok(()) };
    let start = first.target;
    let hours = |outcome: &Outcome| outcome.target.since(start).seconds() / 3600.0;
    let highest = shown.iter().map(|o| o.actual.max(o.row.last().copied().unwrap_or(0.0))).fold(1e-9, f64::max);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..hours(last).max(1e-9), 0.0..1.05 * highest)?;
    chart.configure_mesh().x_desc(format!("hours after {start}")).y_desc("load").draw()?;
    let at = |level: f64| levels.iter().position(|own| (own - level).abs() < 1e-9);
    for (low, high, opacity) in [(0.05, 0.95, 0.15), (0.1, 0.9, 0.2), (0.25, 0.75, 0.3)] {
        let (Some(low), Some(high)) = (at(low), at(high)) else { continue };
        let upper = shown.iter().map(|o| (hours(o), o.row[high]));
        let lower = shown.iter().rev().map(|o| (hours(o), o.row[low]));
        let band: Vec<(f64, f64)> = upper.chain(lower).collect();
        chart.draw_series([Polygon::new(band, BLUE.mix(opacity).filled())])?;
    }
    if let Some(middle) = at(0.5) {
        let median = shown.iter().map(|o| (hours(o), o.row[middle]));
        chart
            .draw_series(LineSeries::new(median, BLUE.stroke_width(1)))?
            .label("median, bands to 50, 80 and 90 %")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLUE));
    }
    let came = shown.iter().map(|o| (hours(o), o.actual));
    chart
        .draw_series(LineSeries::new(came, BLACK.stroke_width(1)))?
        .label("what came")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLACK));
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

/// Share of values at or below each quantile against its level: the diagonal is right.
fn calibration(file: &Path, horizon: &str, models: &BTreeMap<&str, &[Outcome]>, levels: &[f64]) -> Plotted {
    let lines = models.iter().map(|(name, outcomes)| {
        let count = outcomes.len().max(1) as f64;
        let share = |q: usize| outcomes.iter().filter(|o| o.actual <= o.row[q]).count() as f64 / count;
        (*name, levels.iter().enumerate().map(|(q, level)| (*level, share(q))).collect::<Vec<_>>())
    });
    let mut lines: Vec<(&str, Vec<(f64, f64)>)> = lines.collect();
    lines.push(("as promised", vec![(0.0, 0.0), (1.0, 1.0)]));
    let labels = Labels { title: format!("calibration, {horizon} ahead"), x: "level", y: "share at or below" };
    chart(file, &labels, &lines, (0.0, 1.0), 1.0)
}

/// Mean absolute error of the median by hour of the day (UTC).
fn error_by_hour(file: &Path, horizon: &str, models: &BTreeMap<&str, &[Outcome]>, levels: &[f64]) -> Plotted {
    let Some(middle) = levels.iter().position(|level| (level - 0.5).abs() < 1e-9) else { return Ok(()) };
    let lines = models.iter().map(|(name, outcomes)| {
        let mut hours = [(0.0, 0.0); 24];
        for outcome in *outcomes {
            let hour = (outcome.target.millis().rem_euclid(DAY_MILLIS) / HOUR_MILLIS) as usize;
            hours[hour].0 += (outcome.actual - outcome.row[middle]).abs();
            hours[hour].1 += 1.0;
        }
        let known = hours.iter().enumerate().filter(|(_, sums)| sums.1 > 0.0);
        (*name, known.map(|(hour, sums)| (hour as f64, sums.0 / sums.1)).collect::<Vec<_>>())
    });
    let lines: Vec<(&str, Vec<(f64, f64)>)> = lines.collect();
    let highest = lines.iter().flat_map(|(_, line)| line.iter().map(|point| point.1)).fold(1e-9, f64::max);
    let labels = Labels { title: format!("error by hour, {horizon} ahead"), x: "hour (UTC)", y: "mean absolute error" };
    chart(file, &labels, &lines, (0.0, 23.0), 1.05 * highest)
}

struct Labels {
    title: String,
    x: &'static str,
    y: &'static str,
}

fn chart(file: &Path, labels: &Labels, lines: &[(&str, Vec<(f64, f64)>)], width: (f64, f64), height: f64) -> Plotted {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&labels.title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(width.0..width.1, 0.0..height)?;
    chart.configure_mesh().x_desc(labels.x).y_desc(labels.y).draw()?;
    for (index, (name, line)) in lines.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
