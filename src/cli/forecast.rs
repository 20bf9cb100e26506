//! `prescale forecast`: how good are the models on a history.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use prescale_domain::{Series, Span, Timestamp};
use prescale_forecast::evaluate::{EvaluateSettings, Report, evaluate, parse_csv};
use prescale_forecast::models::ModelKind;

use super::{Failure, print};

/// Evaluate forecasting models on a history by rolling origin.
///
/// Models are fitted on the part before --train-until; the part from there to --test-from calibrates their quantiles; at
/// every origin of [--test-from, --test-to) they forecast with the data up to it. Horizon h of the origin window
/// [t, t+step) is the window that starts at t+h.
#[derive(Args)]
#[command(
    after_help = "Example:\n  prescale forecast --history requests_1m.csv.gz --step 1m --train-until 1995-07-19T04:00:00Z \\\n    --test-from 1995-07-21T04:00:00Z --test-to 1995-07-28T04:00:00Z --horizons 5m,10m,15m,30m,60m --models holt,lstm --json"
)]
pub(crate) struct Arguments {
    /// CSV with the header `timestamp,value`, RFC 3339 times; `.gz` is unpacked.
    #[arg(long, value_name = "FILE")]
    history: PathBuf,
    /// Width of a window.
    #[arg(long, default_value = "1m")]
    step: Span,
    /// End of the data that models are fitted on.
    #[arg(long, value_name = "TIME")]
    train_until: Timestamp,
    /// First test origin; default: where training ends.
    #[arg(long, value_name = "TIME")]
    test_from: Option<Timestamp>,
    /// End of the test; default: the end of the history.
    #[arg(long, value_name = "TIME")]
    test_to: Option<Timestamp>,
    /// Horizons, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "5m,10m,15m,30m,60m")]
    horizons: Vec<Span>,
    /// Models, separated by commas: seasonal-naive, holt, lstm.
    #[arg(long, value_delimiter = ',', value_parser = model, default_value = "seasonal-naive,holt,lstm")]
    models: Vec<ModelKind>,
    /// Time between origins.
    #[arg(long, default_value = "5m")]
    origin_every: Span,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

fn model(text: &str) -> Result<ModelKind, String> {
    ModelKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let names: Vec<_> = ModelKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("`{text}` is not a model; there are {}", names.join(", "))
    })
}

pub(crate) fn forecast(arguments: &Arguments) -> Result<(), Failure> {
    let series = read_history(&arguments.history, arguments.step)?;
    let settings = EvaluateSettings {
        train_until: arguments.train_until,
        test_from: arguments.test_from.unwrap_or(arguments.train_until),
        test_to: arguments.test_to.unwrap_or_else(|| series.end()),
        horizons: arguments.horizons.clone(),
        models: arguments.models.clone(),
        origin_every: arguments.origin_every,
        seed: arguments.seed,
    };
    let bar = progress_bar();
    let report = evaluate(&series, &settings, &mut |share: f64, what: &str| {
        bar.set_message(what.to_owned());
        bar.set_position((share * 1000.0) as u64);
    })
    .map_err(Failure::invalid)?;
    bar.finish_and_clear();
    if arguments.json {
        print(&serde_json::to_string_pretty(&report).map_err(|error| Failure::Bug(error.to_string()))?);
    } else {
        print(table(&report).map_err(|error| Failure::Bug(error.to_string()))?.trim_end());
    }
    Ok(())
}

/// A bar on stderr where that is a terminal.
pub(super) fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}% {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Reads a `timestamp,value` file, packed or not.
pub(super) fn read_history(path: &Path, step: Span) -> Result<Series, Failure> {
    let fail = |error: String| Failure::Invalid(format!("history `{}`: {error}", path.display()));
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|ending| ending == "gz") {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    parse_csv(reader, step).map_err(|error| fail(error.to_string()))
}

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = format!("{} origins, MASE scale {:.3}\n", report.origins, report.mase_scale);
    text.push_str("model            horizon     MAE    RMSE  sMAPE%    MASE  pinball.9  cover.9%\n");
    for (name, model) in &report.models {
        for (horizon, s) in &model.horizons {
            writeln!(
                text,
                "{:<16} {:>7} {:>7.2} {:>7.2} {:>7.2} {:>7.3} {:>10.3} {:>9.1}",
                name.name(),
                horizon.to_string(),
                s.mae,
                s.rmse,
                s.smape_pct,
                s.mase,
                s.pinball_p90,
                s.coverage_p90_pct
            )?;
        }
    }
    Ok(text)
}
