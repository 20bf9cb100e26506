//! Champion, challenger and former champion: who serves, and what is told.

use std::sync::Arc;

use super::*;

use crate::registry::Training;

/// The next full training of a world whose LSTM serves, with a made-up outcome.
fn finish(world: &mut World, model: Vec<u8>, figures: Figures) -> Vec<OnlineEvent> {
    world.online.state.pending = None;
    world.online.state.next_fit = Some(Timestamp::MIN);
    if let Some(trial) = &world.online.state.trial {
        assert!(trial.role == trial::Role::Former);
    }
    let now = world.histories[&"a".into()].end();
    let job = world.online.due(now, &world.histories, &[]).unwrap();
    assert_eq!(job.kind, TrainingKind::Scheduled);
    let outcome = Ok(Outcome::Lstm(Trained { model, figures, training: Training::default(), shadow: None }));
    let result = TrainingResult { id: job.id, kind: job.kind, started: job.started, outcome };
    world.online.finish(now, result)
}

fn figures(challenger: f64, blocks: &[f64]) -> Figures {
    Figures { challenger, champion: Some(0.9), forecasts: 10, blocks: blocks.to_vec() }
}

fn kinds(events: &[OnlineEvent]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn champion(world: &World) -> Arc<Vec<u8>> {
    world.online.state.lstm.clone().unwrap()
}

/// Another model of the same form: all weights of the champion times `factor`.
fn other(world: &World, factor: f32) -> Vec<u8> {
    let mut model: serde_json::Value = serde_json::from_slice(&champion(world)).unwrap();
    let weights = &mut model["state"]["fitted"]["weights"];
    let text = weights.as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    let scaled = (0..text.len()).step_by(8).flat_map(|at| {
        let weight = f32::from_le_bytes([byte(at), byte(at + 2), byte(at + 4), byte(at + 6)]);
        (weight * factor).to_le_bytes()
    });
    *weights = serde_json::json!(scaled.map(|byte| format!("{byte:02x}")).collect::<String>());
    serde_json::to_vec(&model).unwrap()
}

#[test]
fn a_challenger_goes_into_the_shadow_and_serves_once_the_evidence_is_there() {
    let world = promoted();
    let model = champion(&world).to_vec();
    for (challenger, blocks, words) in [
        (f64::NAN, vec![], vec!["kept"]),
        (1.2, vec![0.5; 40], vec!["kept"]),
        (0.89, vec![], vec!["challenger"]),
        (0.89, vec![0.1; 4], vec!["challenger"]),
        (0.89, vec![0.1; 40], vec!["challenger", "promoted"]),
        (1.0, vec![-0.1; 40], vec!["challenger"]),
    ] {
        let mut world = world.clone();
        let before = champion(&world);
        let events = finish(&mut world, model.clone(), figures(challenger, &blocks));
        assert_eq!(kinds(&events), words, "{challenger}: {events:?}");
        let promoted = words.contains(&"promoted");
        assert_eq!(Arc::ptr_eq(&champion(&world), &before), !promoted);
        let role = world.online.state.trial.as_ref().map(|trial| trial.role);
        let expected = match words[..] {
            ["kept"] => None,
            ["challenger"] => Some(trial::Role::Challenger),
            _ => Some(trial::Role::Former),
        };
        assert_eq!(role, expected);
    }
}

/// Steps a world until an event of one of the kinds, at most `most` windows.
fn until(world: &mut World, most: usize, wanted: &[&str]) -> Option<OnlineEvent> {
    let begun = world.histories[&"a".into()].values.len();
    let loads = loads(begun + most, |_| 1.0);
    let before = world.happened.len();
    for _ in 0..most {
        drop(world.step(&loads, &[]));
        let found = world.happened[before..].iter().find(|event| wanted.contains(&event.kind.as_str()));
        if let Some(event) = found {
            return Some(event.clone());
        }
    }
    None
}

/// A world that trains no more by itself.
fn quiet(mut world: World) -> World {
    world.online.settings.update_every = Span::from_minutes(1_000_000);
    world.online.settings.refit_every = Span::from_minutes(1_000_000);
    world.online.state.next_fit = Some(Timestamp::from_millis(4_000_000_000_000));
    (world.online.state.pending, world.job) = (None, None);
    world
}

#[test]
fn a_challenger_that_is_worse_or_no_better_never_serves() {
    let base = quiet(promoted());
    let before = champion(&base);
    let mut worse = base.clone();
    assert_eq!(kinds(&finish(&mut worse, other(&base, 2.0), figures(0.8, &[]))), ["challenger"]);
    worse = quiet(worse);
    let ended = until(&mut worse, 400, &["promoted", "rejected"]).unwrap();
    assert!(ended.kind == "rejected" && ended.text.contains("is worse"), "{ended:?}");
    let mut same = base.clone();
    assert_eq!(kinds(&finish(&mut same, before.to_vec(), figures(0.8, &[]))), ["challenger"]);
    same = quiet(same);
    let ended = until(&mut same, 400, &["promoted", "rejected"]).unwrap();
    assert!(ended.kind == "rejected" && ended.text.contains("by its deadline"), "{ended:?}");
    assert!(Arc::ptr_eq(&champion(&worse), &before) && Arc::ptr_eq(&champion(&same), &before));
}

#[test]
fn a_promoted_model_that_is_worse_is_rolled_back_and_one_that_is_not_is_confirmed() {
    let base = quiet(promoted());
    let before = champion(&base);
    // The evidence of the past was wrong: what serves now has weights twice as large.
    let mut world = base.clone();
    let events = finish(&mut world, other(&base, 2.0), figures(0.5, &[0.5; 40]));
    assert_eq!(kinds(&events), ["challenger", "promoted"]);
    assert!(!Arc::ptr_eq(&champion(&world), &before));
    world = quiet(world);
    let ended = until(&mut world, 600, &["rolled-back", "confirmed"]).unwrap();
    assert_eq!(ended.kind, "rolled-back", "{ended:?}");
    assert_eq!(champion(&world), before);
    assert!(world.online.state.trial.is_none() && world.online.shadow.is_none());

    let mut world = base.clone();
    let events = finish(&mut world, before.to_vec(), figures(0.5, &[0.5; 40]));
    assert_eq!(kinds(&events), ["challenger", "promoted"]);
    world = quiet(world);
    let ended = until(&mut world, 800, &["rolled-back", "confirmed"]).unwrap();
    assert_eq!(ended.kind, "confirmed", "{ended:?}");
}

#[test]
fn a_trial_goes_on_byte_for_byte_after_a_restart() {
    let base = quiet(promoted());
    let mut world = base.clone();
    finish(&mut world, other(&base, 1.3), figures(0.8, &[0.05; 5]));
    let mut undisturbed = quiet(world);
    let mut disturbed = undisturbed.clone();
    let begun = undisturbed.histories[&"a".into()].values.len();
    let loads = loads(begun + 60, |_| 1.0);
    let settings = undisturbed.online.settings.clone();
    for index in 0..60 {
        if index % 7 == 3 {
            disturbed.restart(settings.clone());
        }
        assert_eq!(undisturbed.step(&loads, &[]), disturbed.step(&loads, &[]));
    }
    assert_eq!(undisturbed.online.save(), disturbed.online.save());
    assert_eq!(undisturbed.happened, disturbed.happened);
}

/// Saved state with the models of the given places overwritten.
fn corrupt(world: &World, places: &[&str]) -> Online {
    let mut state: serde_json::Value = serde_json::from_slice(&world.online.save()).unwrap();
    for place in places {
        let model = state.pointer_mut(place).unwrap_or_else(|| panic!("{place}"));
        let text = model.as_str().unwrap();
        *model = serde_json::json!(text[..text.len() / 2]);
    }
    Online::restore(state.to_string().as_bytes(), world.online.settings.clone(), names()).unwrap()
}

#[test]
fn where_a_model_cannot_be_read_the_last_good_one_serves_and_it_is_told() {
    let base = quiet(promoted());
    let mut world = base.clone();
    finish(&mut world, other(&base, 1.001), figures(0.5, &[0.5; 40]));
    let promoted = champion(&world);
    for (places, serves) in [
        (vec!["/lstm"], Some(promoted)),
        (vec!["/lstm", "/promoted"], Some(champion(&base))),
        (vec!["/lstm", "/promoted", "/trial/model"], None),
    ] {
        let mut online = corrupt(&world, &places);
        assert_eq!(online.state.lstm, serves, "{places:?}");
        let history = &world.histories[&"a".into()];
        let forecast = online.forecast(&"a".into(), history, &[], history.end()).unwrap();
        assert_eq!(forecast.reason == "champion", serves.is_some(), "{places:?}");
        let events = online.observe(&"a".into(), history.end(), Some(1.0));
        assert_eq!(kinds(&events), ["model-unreadable"], "{events:?}");
        assert_eq!(online.observe(&"b".into(), history.end(), Some(1.0)), []);
        let saved = online.save();
        assert_eq!(Online::restore(&saved, world.online.settings.clone(), names()).unwrap().save(), saved);
    }
}

#[test]
fn a_state_of_the_version_before_is_read() {
    let world = promoted();
    let mut state: serde_json::Value = serde_json::from_slice(&world.online.save()).unwrap();
    state["version"] = serde_json::json!(2);
    for new in ["trial", "promoted", "generation", "notices", "lineage", "follow_up", "experts_at", "experts_due"] {
        state.as_object_mut().unwrap().remove(new);
    }
    for own in state["services"].as_object_mut().unwrap().values_mut() {
        for new in ["demotion", "experts", "mix"] {
            own.as_object_mut().unwrap().remove(new);
        }
        let scores = own["scores"].as_object_mut().unwrap();
        for new in ["covered", "adwin", "errors", "inputs", "calibrator"] {
            scores.remove(new);
        }
        for waiting in scores["waiting"].as_array_mut().unwrap() {
            waiting.as_object_mut().unwrap().retain(|key, _| key != "upper" && key != "shadow" && key != "mixed");
        }
    }
    if let Some(pending) = state["pending"].as_object_mut() {
        pending.remove("generation");
    }
    let mut online = Online::restore(state.to_string().as_bytes(), settings(), names()).unwrap();
    let history = &world.histories[&"a".into()];
    let forecast = online.forecast(&"a".into(), history, &[], history.end()).unwrap();
    assert_eq!((forecast.model.as_str(), forecast.reason.as_str()), ("ensemble", "champion"));
    assert!(String::from_utf8(online.save()).unwrap().contains("\"version\":4"));
}

#[test]
fn a_training_that_started_from_a_model_that_was_replaced_changes_nothing() {
    let mut world = promoted();
    world.online.state.pending = None;
    world.online.state.next_fit = Some(Timestamp::MIN);
    let now = world.histories[&"a".into()].end();
    let job = world.online.due(now, &world.histories, &[]).unwrap();
    world.online.state.generation += 1;
    let before = champion(&world);
    let outcome = Ok(Outcome::Lstm(Trained {
        model: before.to_vec(),
        figures: figures(0.1, &[0.9; 50]),
        training: Training::default(),
        shadow: None,
    }));
    let result = TrainingResult { id: job.id, kind: job.kind, started: job.started, outcome };
    let events = world.online.finish(now, result);
    assert_eq!(kinds(&events), ["kept"]);
    assert!(Arc::ptr_eq(&champion(&world), &before) && world.online.state.trial.is_none());
}

#[test]
fn a_crash_in_training_is_a_failed_training() {
    let mut world = promoted();
    let mut broken = world.online.resume(&world.histories, &[]);
    if broken.is_none() {
        world.online.state.next_fit = Some(Timestamp::MIN);
        broken = world.online.due(world.histories[&"a".into()].end(), &world.histories, &[]);
    }
    let job = broken.unwrap().broken();
    let now = world.histories[&"a".into()].end();
    let before = champion(&world);
    let events = world.online.finish(now, job.run());
    assert_eq!(kinds(&events), ["training-failed"]);
    assert!(events[0].text.contains("made to crash"), "{events:?}");
    assert!(Arc::ptr_eq(&champion(&world), &before));
}

fn incident(start: Timestamp, length: Span, uplift: Option<f64>) -> CalendarEvent {
    CalendarEvent {
        id: "i".into(),
        kind: "incident".into(),
        services: vec!["a".into()],
        start,
        end: start + length,
        expected_uplift: uplift,
        known_at: start,
    }
}

#[test]
fn a_fall_without_reason_or_in_an_incident_does_not_lower_the_forecast() {
    let steady = loads(160, |_| 1.0);
    let mut world = quiet(promoted());
    let begun = world.histories[&"a".into()].values.len();
    for _ in begun..155 {
        drop(world.step(&steady, &[]));
    }
    let usual = world.clone().step(&steady, &[]).remove(0).unwrap();
    let mut fallen = steady.clone();
    fallen.get_mut(&ServiceName::from("a")).unwrap()[155] = Some(0.0);
    let held = world.clone().step(&fallen, &[]).remove(0).unwrap();
    assert!(held.reason.ends_with("+anomaly-held"), "{}", held.reason);
    held.validate().unwrap();
    for (held, usual) in held.values.iter().zip(&usual.values) {
        assert!(held[5] > 0.8 * usual[5], "{held:?} {usual:?}");
    }
    // An incident that somebody expects to halve the load.
    let now = world.histories[&"a".into()].end();
    let event = incident(now, Span::from_minutes(120), Some(0.1));
    let with = world.clone().step(&steady, std::slice::from_ref(&event)).remove(0).unwrap();
    for (with, usual) in with.values.iter().zip(&usual.values) {
        assert!(with[5] > 0.8 * usual[5], "{with:?} {usual:?}");
    }
}

#[test]
fn a_service_without_a_model_knows_when_it_will_have_one() {
    let steady = loads(150, |_| 1.0);
    let mut world = World::new(settings());
    let service = ServiceName::from("a");
    let ask = |world: &World| {
        let history = &world.histories[&service];
        world.online.readiness(&service, Some(history), history.end())
    };
    let minutes = Span::from_minutes;
    assert_eq!(ask(&world).reason, "no-history");
    assert_eq!(ask(&world).forecast_in, Some(minutes(15)));
    assert_eq!(ask(&world).model_in, Some(minutes(6 * 60 + 10)));
    for _ in 0..12 {
        drop(world.step(&steady, &[]));
    }
    let said =
        Readiness { reason: "cold-start".into(), forecast_in: Some(Span::ZERO), model_in: Some(minutes(5 * 60 + 10)) };
    assert_eq!(ask(&world), said);
    let stranger = world.online.readiness(&"stranger".into(), None, Timestamp::from_millis(0));
    assert_eq!((stranger.reason.as_str(), stranger.forecast_in), ("unknown-service", None));
    while world.job.is_none() {
        drop(world.step(&steady, &[]));
    }
    assert_eq!(ask(&world).reason, "training");
    assert!(ask(&world).model_in.is_some_and(|left| left <= minutes(15)), "{:?}", ask(&world));
    while !world.kinds().contains(&"promoted") {
        drop(world.step(&steady, &[]));
    }
    assert_eq!(
        ask(&world),
        Readiness { reason: "champion".into(), forecast_in: Some(Span::ZERO), model_in: Some(Span::ZERO) }
    );
    let gaps = Series { values: vec![None; 100], ..world.histories[&service].clone() };
    assert_eq!(world.online.readiness(&service, Some(&gaps), gaps.end()).reason, "no-history");
}

fn number(world: &World) -> Option<u64> {
    world.online.serving()?.lineage?.number
}

#[test]
fn a_version_of_the_registry_serves_and_is_taken_back_if_it_is_worse() {
    let base = quiet(promoted());
    let serving = base.online.serving().unwrap();
    let generation = serving.generation;
    assert_eq!(serving.bytes, champion(&base));
    assert_eq!(serving.lineage.map(|own| own.reason.as_str()), Some("initial"));
    let mut world = base.clone();
    world.online.registered(generation, 4);
    let now = world.histories[&"a".into()].end();
    let given = Lineage { number: Some(7), ..world.online.serving().unwrap().lineage.unwrap().clone() };
    assert!(world.online.adopt(now, b"no model".to_vec(), given.clone()).is_err());
    assert_eq!(number(&world), Some(4));
    let events = world.online.adopt(now, other(&base, 2.0), given).unwrap();
    assert!(events[0].kind == "promoted" && events[0].text.starts_with("version 7"), "{events:?}");
    assert_eq!(number(&world), Some(7));
    let ended = until(&mut world, 600, &["rolled-back", "confirmed"]).unwrap();
    assert_eq!(ended.kind, "rolled-back", "{ended:?}");
    assert_eq!(number(&world), Some(4));
}
