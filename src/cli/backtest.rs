//! `prescale backtest`: what Prescale would have done on a history, what it would have cost, and what others would have.

mod courses;
mod fly;
mod records;
mod report;
mod sources;
mod streams;
mod topics;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use prescale_domain::{CalendarEvent, Mode, Series, Span, Timestamp};
use prescale_simulation::baselines::System;

use super::forecast::progress_bar;
use super::{Failure, print, say};
use crate::app::{self, RunMode};
use crate::config;
use sources::SourceArguments;
pub(super) use sources::of_files as histories;

/// Replay a history through the same forecasts and decisions that act, against a simulated fleet, beside other autoscalers.
///
/// What is before --from is learnt from; from there on every window is forecast and decided as in service, with the data
/// that were there by then. Baselines have their published defaults, and those that aim at a target the best one of a
/// sweep, chosen with hindsight; Prescale has what is configured. The frontier shows all of them over their targets, and
/// with --sweep Prescale over violation budgets.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  prescale backtest -c prescale.toml --history requests_1m.csv.gz --out backtest\n  prescale backtest -c prescale.toml --history requests_1m.csv.gz --from 2026-07-21T00:00:00Z --seeds 3 --sweep --json\n  prescale backtest -c prescale.toml --history http://prometheus:9090 --query 'sum by (service) (rate(http_requests_total[1m]))' --service-column service\n  prescale backtest -c prescale.toml --from-kafka --from-timestamp 2026-07-01T00:00:00Z --out backtest"
)]
pub(crate) struct Arguments {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    sources: SourceArguments,
    /// Events that were known ahead: NDJSON, as on the events topic and as `prescale simulate --what events` writes them; each
    /// counts from its known_at on.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Begin of the scored part; what is before it is learnt from. Default: the last quarter.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// End of the scored part. Default: the end of the history.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Provisioning latencies (p90) to try, separated by commas. Default: what is configured.
    #[arg(long, value_name = "SPAN", value_delimiter = ',')]
    lead_times: Vec<Span>,
    /// Systems to fly beside Prescale, separated by commas. Default: all.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = baseline)]
    baselines: Option<Vec<System>>,
    /// How many fleets, each with other provisioning latencies, to fly through; figures are means.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Fly Prescale over violation budgets too, for its frontier between cost and violations.
    #[arg(long)]
    sweep: bool,
    /// Folder for the report and for what a later run can use again.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

fn baseline(text: &str) -> Result<System, String> {
    match text.parse() {
        Ok(System::Prescale) => Err("prescale is always flown".to_owned()),
        Ok(system) => Ok(system),
        Err(error) => Err(format!("{error}")),
    }
}

pub(crate) fn backtest(arguments: &Arguments) -> Result<(), Failure> {
    let mut loaded = config::load(&arguments.config).map_err(Failure::invalid)?;
    if let Some(refusal) = config::refusal(&loaded.config).filter(|_| arguments.lead_times.is_empty()) {
        print(&refusal);
        return Err(Failure::No("the set-up is refused".to_owned()));
    }
    let step = loaded.config.features.step;
    let bar = progress_bar();
    let histories = arguments.sources.histories(&loaded, &bar)?;
    let parts = arguments.sources.parts(&loaded)?;
    // Decisions are as in service, but nothing outside is acted on.
    let modes: Vec<Mode> = loaded.config.services.iter().map(|s| s.mode.unwrap_or(loaded.config.mode)).collect();
    for service in &mut loaded.config.services {
        service.mode = Some(Mode::Recommend);
    }
    let first = histories.values().map(|series| series.start).min().unwrap_or_default();
    let last = histories.values().map(Series::end).max().unwrap_or_default();
    let to = arguments.to.unwrap_or(last).floor_to(step).min(last);
    let from = arguments.from.unwrap_or(first + Span::from_millis(last.since(first).millis() / 4 * 3)).floor_to(step);
    if from >= to || from < first {
        let text = format!("the scored part {from} .. {to} is not within the history {first} .. {last}");
        return Err(Failure::Invalid(format!("{text}\nhint: --from and --to name its begin and end")));
    }
    let mode = RunMode { event_clock: true, until_end: true };
    let settings = app::controller_settings(&loaded.config, mode)?;
    bar.reset();
    bar.set_message("forecasting");
    let begun = Instant::now();
    let question = streams::Question {
        settings,
        histories: &histories,
        parts: &parts,
        events: events(arguments.events.as_deref())?,
        from,
        to,
    };
    let made = streams::streams(question, arguments.out.as_deref(), &mut |share| {
        bar.set_position((share * 1000.0) as u64);
    })?;
    let forecasting = begun.elapsed();
    for (service, mode) in loaded.config.services.iter_mut().zip(modes) {
        service.mode = Some(mode);
    }
    let plan = fly::Plan {
        config: &loaded.config,
        histories: &histories,
        parts: &parts,
        streams: &made,
        scored: (from, to),
        lead_times: arguments.lead_times.clone(),
        baselines: arguments.baselines.clone().unwrap_or_else(|| System::baselines().collect()),
        seeds: courses::seeds(&loaded.config, arguments.seeds),
        sweep: arguments.sweep,
    };
    let (mut report, mut page) = fly::fly(&plan, &bar)?;
    report.timings.insert("forecasts".to_owned(), forecasting.as_secs_f64());
    page.timings.clone_from(&report.timings);
    bar.finish_and_clear();
    let json = serde_json::to_string_pretty(&report).map_err(|error| Failure::Bug(error.to_string()))?;
    if let Some(folder) = &arguments.out {
        streams::write_whole(&folder.join("report.json"), json.as_bytes())?;
        streams::write_whole(&folder.join("report.html"), prescale_simulation::report::html(&page).as_bytes())?;
        for (service, decisions) in &report.decisions {
            let lines: Vec<Vec<u8>> = decisions.iter().map(prescale_controller::decision_bytes).collect();
            let name = streams::file_name(service);
            streams::write_whole(&folder.join(format!("{name}.decisions.ndjson")), &lines.join(&b'\n'))?;
        }
        let [json, page] = ["report.json", "report.html"].map(|name| folder.join(name));
        say(&format!("written: {} and {}", json.display(), page.display()));
    }
    if arguments.json {
        print(&json);
    } else {
        print(report.table().map_err(|error| Failure::Bug(error.to_string()))?.trim_end());
    }
    Ok(())
}

fn events(path: Option<&Path>) -> Result<Vec<CalendarEvent>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Failure::Invalid(format!("read `{place}`: {error}")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line)
                .map_err(|error| Failure::Invalid(format!("events `{place}`, line {}: {error}", index + 1)))
        })
        .collect()
}
