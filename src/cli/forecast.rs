//! `prescale forecast`: how good are the models on a history.

mod plots;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use prescale_domain::{Span, Timestamp};
use prescale_forecast::ForecastCrateError;
use prescale_forecast::ensemble::EnsembleSettings;
use prescale_forecast::evaluate::{Contender, EvaluateSettings, Report, Stage, evaluate};
use prescale_forecast::models::ModelKind;
use prescale_forecast::past::{Covariate, Past};

use super::history::HistoryArguments;
use super::{Failure, print};

/// Evaluate forecasting models and their ensemble on a history by rolling origin.
///
/// Parameters are chosen on the part before --train-until. From there to --test-from the ensemble's weights and the
/// calibration of the quantiles are learnt as in service; at every origin of [--test-from, --test-to) all of them forecast
/// with the data up to it. Horizon h of the origin window [t, t+step) is the window that starts at t+h; every figure is of
/// that one value. sMAPE and MAPE are percentages, coverage is a share, the MASE scale is the mean absolute first difference
/// before --train-until.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  prescale forecast --history requests_1m.csv.gz --step 1m --train-until 1995-07-19T04:00:00Z \\\n    --test-from 1995-07-21T04:00:00Z --test-to 1995-07-28T04:00:00Z --horizons 5m,10m,15m,30m,60m \\\n    --models holt,lstm,ensemble --plots plots --json\n  prescale forecast --history http://prometheus:9090 --query 'sum(rate(http_requests_total[1m]))' \\\n    --from 2026-07-01T00:00:00Z --to 2026-07-28T00:00:00Z --train-until 2026-07-21T00:00:00Z"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    history: HistoryArguments,
    /// Further columns of the file that the LSTM looks at, separated by commas, such as queue_length.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    covariates: Vec<String>,
    /// Width of a window.
    #[arg(long, default_value = "1m")]
    step: Span,
    /// End of the data that parameters are chosen on.
    #[arg(long, value_name = "TIME")]
    train_until: Timestamp,
    /// First test origin; default: where training ends, or --calibrate after that.
    #[arg(long, value_name = "TIME", conflicts_with = "calibrate")]
    test_from: Option<Timestamp>,
    /// Time between the end of training and the test.
    #[arg(long, value_name = "SPAN")]
    calibrate: Option<Span>,
    /// End of the test; default: the end of the history.
    #[arg(long, value_name = "TIME")]
    test_to: Option<Timestamp>,
    /// Horizons, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "5m,10m,15m,30m,60m")]
    horizons: Vec<Span>,
    /// Models, separated by commas; `ensemble` is the mix of the experts.
    #[arg(long, value_delimiter = ',', value_parser = contender, default_value = "seasonal-naive,holt,lstm,ensemble")]
    models: Vec<Contender>,
    /// Experts of the ensemble, separated by commas; default: all but the costly ones.
    #[arg(long, value_delimiter = ',', value_parser = expert)]
    experts: Option<Vec<ModelKind>>,
    /// Fit the models again once a day of the test, on what had come by then.
    #[arg(long, conflicts_with = "frozen")]
    online: bool,
    /// Fit nothing after --test-from (the default); weights and calibration are learnt either way.
    #[arg(long)]
    frozen: bool,
    /// Time between origins that count.
    #[arg(long, default_value = "5m")]
    origin_every: Span,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write SVG plots into this folder: forecast fans, calibration, error by hour.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

fn contender(text: &str) -> Result<Contender, String> {
    text.parse::<Contender>().map_err(|error| match error {
        ForecastCrateError::NotBuilt { .. } => error.to_string(),
        _ => {
            let names: Vec<_> = ModelKind::EACH.iter().map(|kind| kind.name()).collect();
            format!("`{text}` is not a model; there are {} and ensemble", names.join(", "))
        }
    })
}

fn expert(text: &str) -> Result<ModelKind, String> {
    match contender(text)? {
        Contender::Model(kind) => Ok(kind),
        Contender::Ensemble => Err("the ensemble can't be an expert of itself".to_owned()),
    }
}

pub(crate) fn forecast(arguments: &Arguments) -> Result<(), Failure> {
    let series = arguments.history.series(arguments.step)?;
    let measured = arguments.history.columns(&arguments.covariates, arguments.step)?;
    let covariates: Vec<_> = measured.iter().map(|(name, series)| Covariate { name, series }).collect();
    let mut ensemble = EnsembleSettings::default();
    if let Some(experts) = &arguments.experts {
        ensemble.experts.clone_from(experts);
    }
    let settings = EvaluateSettings {
        train_until: arguments.train_until,
        test_from: arguments.test_from.unwrap_or(arguments.train_until + arguments.calibrate.unwrap_or(Span::ZERO)),
        test_to: arguments.test_to.unwrap_or_else(|| series.end()),
        horizons: arguments.horizons.clone(),
        models: arguments.models.clone(),
        ensemble,
        online: arguments.online && !arguments.frozen,
        origin_every: arguments.origin_every,
        seed: arguments.seed,
    };
    let bar = progress_bar();
    let mut watch = Watch::default();
    let past = Past::all(&series).with(&covariates);
    let mut report = evaluate(past, &settings, &mut |share: f64, stage: Stage| {
        watch.hear(stage);
        bar.set_message(match stage {
            Stage::Fit(kind) => format!("fitting {kind}"),
            Stage::Test => "forecasting".to_owned(),
        });
        bar.set_position((share * 1000.0) as u64);
    })
    .map_err(Failure::invalid)?;
    bar.finish_and_clear();
    report.train_seconds = Some(watch.fitting.as_secs_f64());
    if report.models.is_empty() {
        let reasons: Vec<String> = report.failed.values().cloned().collect();
        return Err(Failure::No(format!("no model could forecast: {}", reasons.join("; "))));
    }
    if let Some(folder) = &arguments.plots {
        plots::write(&report, folder)?;
    }
    if arguments.json {
        print(&serde_json::to_string_pretty(&report).map_err(|error| Failure::Bug(error.to_string()))?);
    } else {
        print(table(&report).map_err(|error| Failure::Bug(error.to_string()))?.trim_end());
    }
    Ok(())
}

/// How long the fits took.
#[derive(Default)]
struct Watch {
    since: Option<Instant>,
    fitting: Duration,
}

impl Watch {
    fn hear(&mut self, stage: Stage) {
        if let Some(since) = self.since.take() {
            self.fitting += since.elapsed();
        }
        if matches!(stage, Stage::Fit(_)) {
            self.since = Some(Instant::now());
        }
    }
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

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = format!("{} origins, MASE scale {:.4}\n", report.origins, report.mase_scale);
    text.push_str("model            horizon        MAE       RMSE  sMAPE%   MAPE%    MASE  pinball.9  cover.9\n");
    for (name, horizons) in &report.models {
        let mut horizons: Vec<_> = horizons.iter().collect();
        horizons.sort_by_key(|(horizon, _)| horizon.parse::<Span>().unwrap_or(Span::ZERO));
        for (horizon, s) in horizons {
            let at = |by_level: &BTreeMap<String, f64>| by_level.get("0.9").copied();
            let number = |value: Option<f64>, digits| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
            writeln!(
                text,
                "{name:<16} {horizon:>7} {:>10.4} {:>10.4} {:>7.2} {:>7} {:>7.3} {:>10} {:>8}",
                s.mae,
                s.rmse,
                s.smape,
                number(s.mape, 2),
                s.mase,
                number(at(&s.pinball), 4),
                number(at(&s.coverage), 3),
            )?;
        }
    }
    for (name, reason) in &report.failed {
        writeln!(text, "{name}: left out: {reason}")?;
    }
    Ok(text)
}
