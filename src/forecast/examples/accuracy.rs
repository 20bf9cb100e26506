//! Prints the accuracy table of the models on a history: `accuracy FILE.csv.gz STEP TRAIN_UNTIL TEST_FROM TEST_TO SEED
//! HORIZONS MODELS`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool that may stop on bad arguments")]

use std::time::Instant;

use prescale_forecast::evaluate::{EvaluateSettings, evaluate, parse_csv};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let file = std::fs::File::open(&arguments[1]).unwrap();
    let series = parse_csv(flate2::read::GzDecoder::new(file), arguments[2].parse().unwrap()).unwrap();
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    for model in list(&arguments[8]) {
        let settings = EvaluateSettings {
            train_until: arguments[3].parse().unwrap(),
            test_from: arguments[4].parse().unwrap(),
            test_to: arguments[5].parse().unwrap(),
            seed: arguments[6].parse().unwrap(),
            horizons: list(&arguments[7]).iter().map(|span| span.parse().unwrap()).collect(),
            models: vec![model.parse().unwrap()],
            ..EvaluateSettings::default()
        };
        let start = Instant::now();
        let mut fitted = 0.0;
        let report = evaluate(&series, &settings, &mut |share, _| {
            if share == 0.5 {
                fitted = start.elapsed().as_secs_f64();
            }
        })
        .unwrap();
        let total = start.elapsed().as_secs_f64();
        println!(
            "{model}: fit {fitted:.2} s, {} origins in {:.2} s, scale {:.2}",
            report.origins,
            total - fitted,
            report.mase_scale
        );
        for (horizon, f) in report.models.values().flat_map(|model| &model.horizons) {
            println!(
                "  {horizon:>4} mase {:.3} mae {:.2} rmse {:.2} smape {:.2} mape {:.2} pinball {:.2} cover {:.1} native {:.1} n {}",
                f.mase,
                f.mae,
                f.rmse,
                f.smape_pct,
                f.mape_pct,
                f.pinball_p90,
                f.coverage_p90_pct,
                f.coverage_p90_native_pct,
                f.n
            );
        }
    }
}
