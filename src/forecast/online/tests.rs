//! The online loop on generated loads: scores, trainings, drift, campaigns, restarts.

use std::collections::BTreeMap;

use prescale_domain::{CalendarEvent, QuantileForecast, Series, ServiceName, Span, Timestamp};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Normal};

use super::job::{Figures, Outcome, Trained};
use super::*;
use crate::models::TrainingDevice;

mod campaigns;
mod covariates;
mod shift;
mod trials;

const STEP: Span = Span::from_minutes(5);

/// Quick: five-minute windows, half an hour ahead, small trainings.
fn settings() -> OnlineSettings {
    OnlineSettings {
        horizon_steps: 6,
        step: STEP,
        min_history: Span::from_minutes(6 * 60),
        refit_every: Span::from_minutes(12 * 60),
        update_every: Span::from_minutes(120),
        budget: BudgetSettings { first_samples: 1_280, refit_samples: 640, update_samples: 128 },
        ..OnlineSettings::default()
    }
}

fn names() -> Vec<ServiceName> {
    vec!["a".into(), "b".into()]
}

/// A noisy daily wave for each service; `factor` by window index.
fn loads(count: usize, factor: impl Fn(usize) -> f64) -> BTreeMap<ServiceName, Vec<Option<f64>>> {
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let noise = Normal::new(1.0, 0.08).unwrap();
    let mut value = |i: usize, mean: f64| {
        let wave = 1.0 + 0.5 * (i as f64 * std::f64::consts::TAU / 288.0).sin();
        let load = mean * wave * factor(i) * noise.sample(&mut random);
        (i % 97 != 13).then_some(load.max(0.0))
    };
    names()
        .into_iter()
        .zip([100.0, 900.0])
        .map(|(name, mean)| (name, (0..count).map(|i| value(i, mean)).collect()))
        .collect()
}

/// The loop of a controller: a training is run at its effective time.
#[derive(Clone)]
struct World {
    online: Online,
    histories: BTreeMap<ServiceName, Series>,
    job: Option<TrainingJob>,
    happened: Vec<OnlineEvent>,
}

impl World {
    fn new(settings: OnlineSettings) -> Self {
        let start = Timestamp::from_millis(1_750_032_000_000);
        let empty = Series { start, step: settings.step, values: Vec::new() };
        let histories = names().into_iter().map(|name| (name, empty.clone())).collect();
        Self { online: Online::new(settings, names()), histories, job: None, happened: Vec::new() }
    }

    fn step(
        &mut self,
        loads: &BTreeMap<ServiceName, Vec<Option<f64>>>,
        events: &[CalendarEvent],
    ) -> Vec<std::result::Result<QuantileForecast, Missing>> {
        let moment = self.histories.values().next().unwrap().end();
        let now = moment + STEP;
        if let Some(job) = self.job.take_if(|job| job.effective <= now) {
            let result = job.run();
            self.happened.extend(self.online.finish(now, result));
        }
        for (name, values) in loads {
            let series = self.histories.get_mut(name).unwrap();
            let value = values[series.values.len()];
            series.values.push(value);
            self.happened.extend(self.online.observe(name, moment, value));
        }
        let known: Vec<CalendarEvent> = events.iter().filter(|event| event.known_at <= now).cloned().collect();
        if self.job.is_none() {
            self.job = self.online.due(now, &self.histories, &known);
        }
        names().iter().map(|name| self.online.forecast(name, &self.histories[name], &known, now)).collect()
    }

    /// What a process does that died and came back.
    fn restart(&mut self, settings: OnlineSettings) {
        let bytes = self.online.save();
        self.online = Online::restore(&bytes, settings, names()).unwrap();
        assert_eq!(self.online.save(), bytes);
        self.job = self.online.resume(&self.histories, &[]);
    }

    fn kinds(&self) -> Vec<&str> {
        self.happened.iter().map(|event| event.kind.as_str()).collect()
    }
}

#[test]
fn a_service_goes_from_nothing_over_simple_models_to_a_mix_with_the_lstm() {
    let loads = loads(420, |_| 1.0);
    let mut world = World::new(settings());
    let mut reasons = Vec::new();
    for _ in 0..420 {
        let said = match &world.step(&loads, &[])[0] {
            Ok(forecast) => {
                forecast.validate().unwrap();
                assert_eq!(forecast.values.len(), 6);
                format!("{} {}", forecast.model, forecast.reason)
            }
            Err(missing) => missing.reason.clone(),
        };
        if reasons.last() != Some(&said) {
            reasons.push(said);
        }
    }
    assert_eq!(reasons, ["no-history", "ensemble cold-start", "ensemble champion"]);
    assert!(world.kinds().contains(&"promoted"), "{:?}", world.happened);
    let scores = world.online.scores(&"a".into()).unwrap();
    assert!(scores.leads[&1].outcomes > 350, "{scores:?}");
    assert!(scores.leads[&6].mase.unwrap() < 1.5, "{scores:?}");
}

#[test]
fn after_a_restart_at_any_moment_everything_goes_on_byte_for_byte() {
    let loads = loads(200, |_| 1.0);
    let mut undisturbed = World::new(settings());
    let mut disturbed = undisturbed.clone();
    let mut restarts_while_training = 0;
    for index in 0..200 {
        if index % 17 == 5 || (index > 70 && index < 80) {
            restarts_while_training += usize::from(disturbed.online.pending().is_some());
            disturbed.restart(settings());
        }
        assert_eq!(undisturbed.step(&loads, &[]), disturbed.step(&loads, &[]), "at {index}");
        assert_eq!(undisturbed.happened, disturbed.happened);
    }
    assert_eq!(undisturbed.online.save(), disturbed.online.save());
    assert!(restarts_while_training > 0 && undisturbed.kinds().contains(&"promoted"));
}

#[test]
fn models_beside_the_lstm_are_fitted_in_the_background_and_go_on_byte_for_byte_after_a_restart() {
    let models = vec![ModelKind::Naive, ModelKind::Holt, ModelKind::Regression];
    let settings = OnlineSettings { models, ..settings() };
    let loads = loads(760, |_| 1.0);
    let mut undisturbed = World::new(settings.clone());
    let mut disturbed = undisturbed.clone();
    let (mut restarts_while_fitting, mut with_regression) = (0, 0);
    for index in 0..760 {
        if index % 97 == 5 || disturbed.online.pending().is_some() {
            restarts_while_fitting += usize::from(disturbed.online.pending().is_some());
            disturbed.restart(settings.clone());
        }
        assert_eq!(undisturbed.step(&loads, &[]), disturbed.step(&loads, &[]), "at {index}");
        let weights = undisturbed.online.scores(&"a".into()).unwrap().weights;
        with_regression += usize::from(weights[&ModelKind::Regression] > 0.5);
    }
    assert_eq!(undisturbed.online.save(), disturbed.online.save());
    let refitted = undisturbed.kinds().iter().filter(|kind| **kind == "refitted").count();
    assert!(refitted >= 2 && restarts_while_fitting > 0, "{refitted} {restarts_while_fitting}");
    assert_eq!(undisturbed.happened, disturbed.happened);
    // It is fitted by a training alone, and does better on a wave than the others.
    assert!(with_regression > 0, "{:?}", undisturbed.online.scores(&"a".into()));
}

#[test]
fn where_no_quick_model_is_asked_for_none_is_fitted_on_the_way_of_a_decision() {
    let settings = OnlineSettings { models: vec![ModelKind::Lstm], ..settings() };
    let loads = loads(30, |_| 1.0);
    let mut world = World::new(settings);
    for _ in 0..30 {
        let missing = world.step(&loads, &[]).remove(0).unwrap_err();
        assert!(["no-history", "model-failed"].contains(&missing.reason.as_str()), "{missing:?}");
    }
    assert_eq!(world.online.state.services[&ServiceName::from("a")].fitted_known, 0);
}

#[test]
fn drift_is_reported_and_makes_a_training_due() {
    let mut settings = settings();
    settings.refit_every = Span::from_minutes(100 * 24 * 60);
    settings.update_every = settings.refit_every;
    settings.drift = DriftSettings { threshold: 15.0, cooldown: Span::from_minutes(60), ..settings.drift };
    // From window 400 on the load jumps between two heights every half an hour.
    let loads = loads(700, |i| if i > 400 && (i / 6) % 2 == 0 { 4.0 } else { 1.0 });
    let mut world = World::new(settings);
    let mut drift_jobs = Vec::new();
    for index in 0..700 {
        drop(world.step(&loads, &[]));
        if world.online.pending().is_some_and(|job| job.kind == TrainingKind::Drift) {
            drift_jobs.push(index);
        }
    }
    let first = world.happened.iter().position(|event| event.kind == "drift").unwrap();
    let at = world.happened[first].at.since(world.histories[&"a".into()].start).steps_up(STEP);
    assert!((401..520).contains(&at), "{at}: {:?}", world.happened);
    assert!(drift_jobs.first().is_some_and(|index| *index >= 400), "{drift_jobs:?}");
}

#[test]
fn a_failed_training_keeps_the_serving_model_and_a_late_result_changes_nothing() {
    let loads = loads(150, |_| 1.0);
    let mut world = World::new(settings());
    while world.job.is_none() {
        drop(world.step(&loads, &[]));
    }
    let now = world.histories[&"a".into()].end();
    let late = world.job.take().unwrap().run();
    let events = world.online.failed(now, "out of memory");
    assert_eq!(events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["training-failed"]);
    assert!(events[0].text.contains("out of memory"));
    let before = world.online.save();
    assert_eq!(world.online.finish(now, late), []);
    assert_eq!(world.online.save(), before);
    let forecast = world.step(&loads, &[]).remove(0).unwrap();
    assert_eq!((forecast.model.as_str(), forecast.reason.as_str()), ("ensemble", "cold-start"));
}

/// A world whose LSTM serves.
fn promoted() -> World {
    let loads = loads(150, |_| 1.0);
    let mut world = World::new(settings());
    while !world.kinds().contains(&"promoted") {
        drop(world.step(&loads, &[]));
    }
    world
}

#[test]
fn an_lstm_that_does_worse_than_the_simple_models_is_demoted_and_readmitted() {
    // The load jumps between two heights every half an hour, which only the LSTM foresees. From window 240 to 900 it does
    // not jump, and an LSTM that has learnt jumps does worse; it is trained again only when the history has doubled.
    let mut settings = settings();
    settings.refit_every = Span::from_minutes(100 * 24 * 60);
    settings.update_every = settings.refit_every;
    settings.min_history = Span::from_minutes(16 * 60);
    settings.drift.threshold = 1e9;
    let loads = loads(1000, |i| if !(240..900).contains(&i) && (i / 6) % 2 == 0 { 4.0 } else { 1.0 });
    let mut world = World::new(settings);
    let (mut reasons, mut changes) = (Vec::new(), Vec::new());
    for index in 0..1000 {
        let Ok(forecast) = world.step(&loads, &[]).remove(0) else { continue };
        if reasons.last() != Some(&forecast.reason) {
            reasons.push(forecast.reason);
            changes.push(index);
        }
    }
    assert_eq!(reasons, ["cold-start", "champion", "lstm-demoted", "champion"]);
    assert!((240..900).contains(&changes[2]) && changes[3] >= 900, "{changes:?}");
}

#[test]
fn demotion_takes_a_clear_difference_and_readmission_a_smaller_one() {
    let world = promoted();
    let (service, history) = (ServiceName::from("a"), &world.histories[&"a".into()]);
    let mut saved = world.online.save();
    let mut served_after = |lstm_loss: f64, outcomes: f64| {
        let mut state: serde_json::Value = serde_json::from_slice(&saved).unwrap();
        let recent = &mut state["services"]["a"]["scores"]["recent"];
        assert!(recent.is_object(), "{state}");
        for (model, loss) in [("seasonal-naive", 20.0), ("holt", 10.0), ("lstm", lstm_loss)] {
            recent[model] = serde_json::json!({ "sum": loss * outcomes, "weight": outcomes });
        }
        let mut online = Online::restore(state.to_string().as_bytes(), settings(), names()).unwrap();
        let forecast = online.forecast(&service, history, &[], history.end()).unwrap();
        saved = online.save();
        forecast.reason
    };
    assert_eq!(served_after(12.9, 600.0), "champion");
    assert_eq!(served_after(90.0, 599.0), "champion", "too few outcomes to compare");
    assert_eq!(served_after(13.1, 600.0), "lstm-demoted");
    assert_eq!(served_after(11.1, 600.0), "lstm-demoted");
    assert_eq!(served_after(5.0, 599.0), "lstm-demoted", "too few outcomes to compare");
    assert_eq!(served_after(10.9, 600.0), "champion");
    assert_eq!(served_after(12.9, 600.0), "champion");
}

#[test]
fn what_cannot_be_forecast_says_why() {
    let mut online = Online::new(settings(), names());
    let start = Timestamp::from_millis(0);
    let mut ask = |name: &str, values: Vec<Option<f64>>| {
        let series = Series { start, step: STEP, values };
        let now = series.end();
        online
            .forecast(&name.into(), &series, &[], now)
            .map(|forecast| forecast.model)
            .map_err(|missing| missing.reason)
    };
    assert_eq!(ask("stranger", vec![Some(1.0); 9]), Err("unknown-service".into()));
    assert_eq!(ask("a", vec![]), Err("no-history".into()));
    assert_eq!(ask("a", vec![None; 40]), Err("no-history".into()));
    assert_eq!(ask("a", vec![Some(1.0); 2]), Err("no-history".into()));
    assert_eq!(ask("a", [vec![Some(1.0); 30], vec![None; 24]].concat()), Err("no-recent-data".into()));
    assert_eq!(ask("a", [vec![Some(1.0); 30], vec![None; 20]].concat()), Ok("ensemble".into()));
    assert_eq!(ask("b", vec![Some(0.0); 30]), Ok("ensemble".into()));
}

fn campaign(start: Timestamp, known_at: Timestamp) -> CalendarEvent {
    CalendarEvent {
        id: "c".into(),
        kind: "campaign".into(),
        services: vec!["a".into()],
        start,
        end: start + Span::from_minutes(15),
        expected_uplift: Some(3.0),
        known_at,
    }
}

#[test]
fn an_uplift_shows_in_the_covered_windows_alone_and_only_once_it_is_known() {
    let loads = loads(160, |_| 1.0);
    let mut world = World::new(settings());
    for _ in 0..140 {
        drop(world.step(&loads, &[]));
    }
    // The next step's origin starts at the end of the history; its forecast covers the six windows after it.
    let origin = world.histories[&"a".into()].end();
    let window = |k: i64| origin + Span::from_millis(k * STEP.millis());
    let ask = |known_at: Timestamp| world.clone().step(&loads, &[campaign(window(3), known_at)]);
    let without = world.clone().step(&loads, &[]);
    assert_eq!(ask(window(1) + Span::from_millis(1)), without);
    let with = ask(window(1));
    assert_eq!(with[1], without[1], "the other service");
    let (with, without) = (with[0].clone().unwrap(), without[0].clone().unwrap());
    assert_eq!(with.reason, format!("{}+event-uplift", without.reason));
    for k in 0..6 {
        let covered = (2..5).contains(&k);
        let ratio = with.values[k][3] / without.values[k][3];
        assert!((ratio - if covered { 3.0 } else { 1.0 }).abs() < 1e-9, "window {k}: {ratio}");
    }
}

#[test]
fn a_saved_state_of_another_kind_or_version_is_refused_and_of_another_shape_begun_anew() {
    let online = Online::new(settings(), names());
    let text = String::from_utf8(online.save()).unwrap();
    let restore = |text: &str, settings| Online::restore(text.as_bytes(), settings, names());
    assert!(restore(&text[..text.len() / 2], settings()).is_err());
    assert!(restore(&text.replace("prescale-online", "other"), settings()).is_err());
    let error = restore(&text.replace("\"version\":4", "\"version\":7"), settings()).unwrap_err().to_string();
    assert!(error.contains("version 7"), "{error}");
    let longer = OnlineSettings { horizon_steps: 12, ..settings() };
    assert_eq!(restore(&text, longer.clone()).unwrap().save(), Online::new(longer, names()).save());
}

#[test]
fn settings_out_of_bounds_are_named_all_at_once() {
    let names = |settings: OnlineSettings| settings.faults().iter().map(|fault| fault.name).collect::<Vec<_>>();
    assert_eq!(settings().faults(), []);
    assert_eq!(OnlineSettings::default().faults(), []);
    let fault = SettingFault { name: "horizon_steps", value: "0".into(), expected: "1 to 1440" };
    assert_eq!(OnlineSettings { horizon_steps: 0, ..settings() }.faults(), [fault]);
    assert_eq!(names(OnlineSettings { step: Span::from_minutes(7), ..settings() }), ["step"]);
    for levels in [vec![0.1, 0.9], vec![0.5, 0.5], vec![0.9, 0.5], vec![0.5, 1.0], vec![f64::NAN, 0.5], vec![]] {
        assert_eq!(names(OnlineSettings { levels, ..settings() }), ["levels"]);
    }
    let drift = DriftSettings { delta: f64::NAN, threshold: 0.0, ..DriftSettings::default() };
    let budget = BudgetSettings { refit_samples: 0, ..BudgetSettings::default() };
    let all = OnlineSettings { models: vec![], update_every: Span::ZERO, drift, budget, ..settings() };
    assert_eq!(names(all), ["models", "update_every", "drift.delta", "drift.threshold", "budget.refit_samples"]);
    let on_gpu = names(OnlineSettings { device: TrainingDevice::Gpu, ..settings() });
    assert_eq!(on_gpu.is_empty(), cfg!(feature = "gpu"), "{on_gpu:?}");
    let with_prophet = OnlineSettings { models: vec![ModelKind::Naive, ModelKind::Prophet], ..settings() }.faults();
    let expected = "others, or a build with `--features prophet`";
    let fault = SettingFault { name: "models", value: "prophet".into(), expected };
    assert_eq!(with_prophet, if cfg!(feature = "prophet") { vec![] } else { vec![fault] });
}
