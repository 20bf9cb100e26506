//! The verdicts are wrong as rarely as they promise, on generated data.

use prescale_domain::Span;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Normal, StandardNormal};

use super::*;

const START: Timestamp = Timestamp::from_millis(1_774_000_800_000);
const HOUR: Span = Span::from_minutes(60);

fn switchback(seed: u64, services: usize, pairs: i64) -> ExperimentSettings {
    ExperimentSettings {
        name: "risk-budget against buffered".to_owned(),
        seed,
        start: START,
        end: START + Span::from_minutes(120 * pairs),
        control: "buffered".to_owned(),
        treatment: "risk-budget".to_owned(),
        services: (0..services).map(|number| ServiceName::new(&format!("service-{number}"))).collect(),
        design: Design::Switchback { period: HOUR, washout: Span::from_minutes(15) },
        objective: Metric::CostUsdHour,
        alpha: 0.05,
        guard: Guard { metric: Metric::TimePct, margin: 1.0, alpha: 0.05 },
        tuned_at: 50,
    }
}

fn split(seed: u64, services: usize, days: i64) -> ExperimentSettings {
    ExperimentSettings {
        end: START + Span::from_minutes(1440 * days),
        design: Design::ServiceSplit { share: 0.5, first_look: Span::from_minutes(1440) },
        ..switchback(seed, services, 1)
    }
}

/// What a service does in an hour: its size, the hour of the day, noise, and the effect of the treatment.
fn hour(rng: &mut ChaCha8Rng, size: f64, number: i64, treated: bool, effect: f64, harm: f64) -> Sample {
    let daily = 1.0 + 0.5 * (std::f64::consts::TAU * number as f64 / 24.0).sin();
    let noise: f64 = StandardNormal.sample(rng);
    let rare: f64 = Exp1.sample(rng);
    let lifted = |by: f64| if treated { by } else { 0.0 };
    Sample {
        seconds: 3600.0,
        short_seconds: 20.0 * rare + lifted(36.0 * harm),
        demanded: 3.6e6 * daily,
        missed: 0.0,
        cost_usd: Some((size * daily + 0.2 * noise + lifted(effect)).max(0.0)),
        actions: 2,
        ..Sample::default()
    }
}

/// Runs an experiment and looks after every hour; the last report comes out.
fn run(settings: ExperimentSettings, effect: f64, harm: f64) -> ExperimentReport {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let sizes: Vec<f64> =
        settings.services.iter().map(|_| 2.0 + Normal::new(0.0, 0.3).unwrap().sample(&mut rng)).collect();
    let hours = settings.end.since(START).millis() / HOUR.millis();
    let services = settings.services.clone();
    let mut experiment = Experiment::new(settings);
    for number in 0..hours {
        // The sample begins after the washout.
        let at = START + Span::from_minutes(60 * number + 15);
        for (service, size) in services.iter().zip(&sizes) {
            let Some(arm) = experiment.arm(service, at) else { continue };
            let sample = hour(&mut rng, *size, number, arm == Arm::Treatment, effect, harm);
            experiment.record(service, at, &sample);
        }
        let report = experiment.judge(START + Span::from_minutes(60 * (number + 1)));
        if report.verdict != Verdict::Running {
            return report;
        }
    }
    panic!("an experiment ends at its end")
}

/// How many of `runs` verdicts are of that kind.
fn count(runs: u64, verdict: impl Fn(Verdict) -> bool, run: impl Fn(u64) -> ExperimentReport) -> u64 {
    (0..runs).map(|seed| u64::from(verdict(run(seed).verdict))).sum()
}

fn differences(rng: &mut ChaCha8Rng, mean: f64) -> impl Iterator<Item = f64> {
    StandardNormal.sample_iter(rng).map(move |value: f64| mean + 3.0 * value)
}

#[test]
fn looking_at_every_pair_finds_nothing_where_there_is_nothing() {
    let runs = 4000;
    let (mut wrong, mut naive) = (0, 0);
    for seed in 0..runs {
        let mut moments = Moments::default();
        let (mut found, mut found_naively) = (false, false);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for difference in differences(&mut rng, 0.0).take(300) {
            moments.add(difference);
            let away = |estimate: Option<Estimate>| estimate.is_some_and(|found| found.low > 0.0 || found.high < 0.0);
            found |= away(anytime::interval(&moments, 0.05, 50));
            found_naively |= away(effect::student(&moments, 0.05));
        }
        wrong += u64::from(found);
        naive += u64::from(found_naively);
    }
    // The usual interval, looked at as often, is wrong in half of the experiments.
    assert!(naive > runs / 3, "{naive} of {runs}");
    assert!(wrong <= runs / 20, "{wrong} of {runs}");
}

#[test]
fn the_anytime_interval_holds_the_effect_at_all_times_at_once() {
    let runs = 2000;
    let covered = (0..runs).filter(|seed| {
        let mut moments = Moments::default();
        let mut rng = ChaCha8Rng::seed_from_u64(*seed);
        differences(&mut rng, 1.5).take(400).all(|difference| {
            moments.add(difference);
            anytime::interval(&moments, 0.1, 50).is_none_or(|found| found.low <= 1.5 && 1.5 <= found.high)
        })
    });
    let covered = covered.count();
    assert!(covered as f64 >= 0.9 * f64::from(runs as u32), "{covered} of {runs}");
}

#[test]
fn one_look_at_the_end_covers_as_often_as_it_says() {
    let (mut paired, mut two_groups) = (0, 0);
    let runs = 4000;
    for seed in 0..runs {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let found = effect::student(&differences(&mut rng, 1.5).take(12).collect(), 0.1).unwrap();
        paired += u64::from(found.low <= 1.5 && 1.5 <= found.high);
        let wide: Moments = differences(&mut rng, 2.0).take(9).collect();
        let narrow: Moments = differences(&mut rng, 0.0).take(20).map(|value| 0.2 * value).collect();
        let found = effect::welch(&narrow, &wide, 0.1).unwrap();
        two_groups += u64::from(found.low <= 2.0 && 2.0 <= found.high);
    }
    for covered in [paired, two_groups] {
        // 90 % of 4,000, three standard errors of 19 to either side.
        assert!((3540..=3660).contains(&covered), "{covered} of {runs}");
    }
}

#[test]
fn intervals_are_those_of_the_textbook() {
    // Student's quantile for 9 degrees of freedom at 0.975 is 2.262157, for 4 at 0.95 it is 2.131847.
    let ten: Moments = (1..=10).map(f64::from).collect();
    let found = effect::student(&ten, 0.05).unwrap();
    let error = (55.0_f64 / 6.0 / 10.0).sqrt();
    assert!((found.high - (5.5 + 2.262_157 * error)).abs() < 1e-5, "{found:?}");
    assert!((effect::t_quantile(4.0, 0.95).unwrap() - 2.131_847).abs() < 1e-5);
    // Welch's own degrees of freedom: equal variances and sizes give 2n − 2.
    let five: Moments = (1..=5).map(f64::from).collect();
    let found = effect::welch(&five, &five, 0.05).unwrap();
    assert!((found.high - 2.306_004).abs() < 1e-5 && found.effect == 0.0, "{found:?}");
    assert_eq!(effect::student(&[1.0].into_iter().collect(), 0.05), None);
    assert_eq!(effect::welch(&five, &[1.0].into_iter().collect(), 0.05), None);
}

#[test]
fn a_switchback_watched_hourly_is_wrong_within_alpha_and_finds_a_real_effect() {
    let claim = |verdict| matches!(verdict, Verdict::Better | Verdict::Worse);
    let runs = 400;
    let wrong = count(runs, claim, |seed| run(switchback(seed, 3, 100), 0.0, 0.0));
    assert!(wrong <= 20 + 13, "{wrong} of {runs} claims without an effect");
    // 0.15 USD an hour less, of 2.
    let found = count(100, |verdict| verdict == Verdict::Better, |seed| run(switchback(seed, 3, 100), -0.15, 0.0));
    assert!(found >= 95, "{found} of 100 effects were found");
    let report = run(switchback(1, 3, 100), -0.15, 0.0);
    assert!(report.decided_at.unwrap() < START + Span::from_minutes(120 * 60), "{report:?}");
}

#[test]
fn a_service_split_watched_hourly_is_wrong_within_alpha_and_finds_a_real_effect() {
    let claim = |verdict| matches!(verdict, Verdict::Better | Verdict::Worse);
    let runs = 300;
    let wrong = count(runs, claim, |seed| run(split(seed, 20, 8), 0.0, 0.0));
    assert!(wrong <= 15 + 11, "{wrong} of {runs} claims without an effect");
    let found = count(100, |verdict| verdict == Verdict::Worse, |seed| run(split(seed, 20, 8), 0.8, 0.0));
    assert!(found >= 95, "{found} of 100 effects were found");
}

#[test]
fn harm_stops_before_the_objective_is_asked() {
    // Far cheaper, but three percent of time short where one is allowed.
    let harmed = count(50, |verdict| verdict == Verdict::Harm, |seed| run(switchback(seed, 3, 60), -0.02, 3.0));
    assert!(harmed >= 48, "{harmed} of 50");
    // At the margin itself it is rare.
    let harmed = count(200, |verdict| verdict == Verdict::Harm, |seed| run(switchback(seed, 3, 60), 0.0, 1.0));
    assert!(harmed <= 10 + 9, "{harmed} of 200");
}

#[test]
fn after_a_verdict_everybody_is_in_the_arm_that_it_names() {
    for (effect, harm, expected) in [(-1.0, 0.0, Arm::Treatment), (1.0, 0.0, Arm::Control), (0.0, 5.0, Arm::Control)] {
        let settings = switchback(3, 2, 60);
        let services = settings.services.clone();
        let mut experiment = Experiment::new(settings);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut number = 0;
        while experiment.judge(START + Span::from_minutes(60 * number)).verdict == Verdict::Running {
            let at = START + Span::from_minutes(60 * number + 20);
            for service in &services {
                let treated = experiment.arm(service, at) == Some(Arm::Treatment);
                experiment.record(service, at, &hour(&mut rng, 2.0, number, treated, effect, harm));
            }
            number += 1;
        }
        let later = START + Span::from_minutes(60 * 1000);
        assert!(services.iter().all(|service| experiment.arm(service, later) == Some(expected)));
        assert_eq!(experiment.arm(&"another".into(), later), None);
    }
}

#[test]
fn each_pair_of_periods_has_both_arms_and_each_arm_is_first_about_as_often() {
    let settings = switchback(7, 1, 400);
    let service = settings.services[0].clone();
    let roster = Roster::draw(&settings);
    let assign = |service: &ServiceName, at| roster.assign(&settings, service, at);
    let at = |number: i64, minute: i64| START + Span::from_minutes(60 * number + minute);
    let mut first = 0;
    for pair in 0..400 {
        let arm = |number| assign(&service, at(number, 30)).unwrap();
        let (one, other) = (arm(2 * pair), arm(2 * pair + 1));
        assert_ne!(one.arm, other.arm);
        assert_eq!((one.pair, other.pair), (Some(pair as u64), Some(pair as u64)));
        first += u32::from(one.arm == Arm::Treatment);
    }
    assert!((160..=240).contains(&first), "treatment is first in {first} of 400");
    let counted = |minute| assign(&service, at(5, minute)).unwrap().counted;
    assert!(!counted(0) && !counted(14) && counted(15) && counted(59));
    assert_eq!(assign(&service, START - Span::from_secs(1)), None);
    assert_eq!(assign(&service, settings.end), None);
    assert_eq!(assign(&"another".into(), START), None);
}

#[test]
fn a_split_has_the_share_it_was_asked_for_and_does_not_depend_on_the_order() {
    let mut settings = split(5, 11, 4);
    settings.design = Design::ServiceSplit { share: 0.3, first_look: HOUR };
    let treated = |settings: &ExperimentSettings| -> Vec<ServiceName> {
        let roster = Roster::draw(settings);
        let mut names = settings.services.clone();
        names.retain(|service| roster.arm(service) == Some(Arm::Treatment));
        names.sort();
        names
    };
    let before = treated(&settings);
    assert_eq!(before.len(), 3);
    settings.services.reverse();
    assert_eq!(treated(&settings), before);
    settings.seed += 1;
    let other = (0..10).any(|seed| treated(&ExperimentSettings { seed, ..settings.clone() }) != before);
    assert!(other, "the seed matters");
}

#[test]
fn an_experiment_that_is_written_down_and_read_back_goes_on_the_same() {
    let settings = switchback(9, 2, 30);
    let services = settings.services.clone();
    let mut whole = Experiment::new(settings.clone());
    let mut parts = Experiment::new(settings);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for number in 0..40 {
        let at = START + Span::from_minutes(60 * number + 20);
        for service in &services {
            let sample = hour(&mut rng, 2.0, number, false, 0.0, 0.0);
            whole.record(service, at, &sample);
            parts.record(service, at, &sample);
        }
        let now = START + Span::from_minutes(60 * (number + 1));
        let json = serde_json::to_string(&parts).unwrap();
        parts = serde_json::from_str(&json).unwrap();
        assert_eq!(whole.judge(now), parts.judge(now));
    }
    // Only the pair that is not over is kept.
    assert!(parts.open.len() <= 1);
    parts.record(&services[0], START + Span::from_minutes(20), &Sample::default());
    assert_eq!(parts.judge(START + Span::from_minutes(60 * 40)).late, 1);
}

#[test]
fn a_metric_without_its_denominator_is_absent() {
    let mut measured = Measured::default();
    assert_eq!(measured.value(Metric::TimePct), None);
    measured.add(&Sample {
        seconds: 3600.0,
        short_seconds: 36.0,
        cost_usd: Some(2.0),
        actions: 3,
        ..Sample::default()
    });
    assert_eq!(measured.value(Metric::TimePct), Some(1.0));
    assert_eq!(measured.value(Metric::CostUsdHour), Some(2.0));
    assert_eq!(measured.value(Metric::CostWithShortage { usd_short_hour: 100.0 }), Some(3.0));
    assert_eq!(measured.value(Metric::ActionsHour), Some(3.0));
    assert_eq!((measured.value(Metric::RequestsPct), measured.value(Metric::ForecastLoss)), (None, None));
    measured.add(&Sample { seconds: f64::NAN, ..Sample::default() });
    assert_eq!(measured.value(Metric::TimePct), Some(1.0));
    // An hour of unknown cost makes the cost of all unknown.
    measured.add(&Sample { seconds: 3600.0, ..Sample::default() });
    assert_eq!(measured.value(Metric::CostUsdHour), None);
}

#[test]
fn wrong_settings_are_named_all_at_once() {
    let mut settings = split(1, 3, 4);
    settings.treatment = settings.control.clone();
    settings.alpha = 0.7;
    settings.end = settings.start;
    insta::assert_snapshot!(settings.faults().join("\n"));
    assert_eq!(switchback(1, 1, 4).faults(), Vec::<String>::new());
    let mut settings = switchback(1, 1, 4);
    settings.design = Design::Switchback { period: HOUR, washout: HOUR };
    assert_eq!(settings.faults().len(), 1);
}

#[test]
fn looks_double_and_share_alpha() {
    let day = Span::from_minutes(1440);
    let due = |days: i64| anytime::look(Span::from_minutes(1440 * days), day);
    assert_eq!([0, 1, 2, 3, 4, 7, 8].map(due), [0, 1, 2, 2, 3, 3, 4]);
    let spent: f64 = (1..=1000).map(anytime::look_alpha).sum();
    assert!(spent < 1.0 && spent > 0.99);
}
