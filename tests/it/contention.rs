//! Two services on a real broker, and a fleet that has not enough for both. Rule: at no moment more than there is, the more
//! critical one has its part, and the callers of the other are told.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kit;
use crate::kit::config::Setup;
use crate::kit::requests::request;

/// Units for both together.
const UNITS: u64 = 20;

#[test]
fn what_is_not_enough_for_both_is_shared_by_weight_and_callers_are_told() {
    let Some(kafka) = kit::kafka() else { return };
    let requests = kit::unique("requests");
    kit::create_topic(&kafka, &requests, 1);
    // The less critical one wants much from the beginning, the other from the fifth minute on.
    let rates = |minute: i64| [("batch", 20), ("checkout", if minute < 5 { 4 } else { 20 })];
    let of = |minute: i64, service: &'static str, count: i64| {
        (0..count).map(move |n| (minute, n * 60_000 / count, service)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> =
        (0..25).flat_map(|minute| rates(minute).map(|(service, count)| of(minute, service, count)).concat()).collect();
    all.sort();
    kit::produce(&kafka, &requests, 0, all.into_iter().map(|(minute, at, service)| request(minute, at, service, "/")));
    let target = |criticality: f64| {
        format!(
            "{{ kind = \"simulated\", allow_replay = true, fleet = {{ min = 1, max = 40, initial = 2 }} }}\ncriticality = {criticality:?}"
        )
    };
    let setup = Setup::new(&kafka, "contention")
        .with(&format!(
            "mode = \"act\"\n[fleet_limits]\nunits = {UNITS}\n[features]\npipelines = [\"{}\"]\nsources = {{ requests = \"{requests}\" }}\n",
            kit::root().join("pipelines/requests.sql").display()
        ))
        // A unit carries 1.2 a minute: twenty are more than sixteen units.
        .service("batch", 0.02, &target(1.0))
        .service("checkout", 0.02, &target(3.0));
    let finished = kit::run(&["run", "-c", &setup.config(), "--clock", "event", "--until-end"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);

    let decisions: Vec<Value> = kit::consume(&kafka, &setup.topic("decisions")).iter().map(kit::Record::json).collect();
    let mut rounds: BTreeMap<&str, BTreeMap<&str, &Value>> = BTreeMap::new();
    for decision in &decisions {
        let (at, service) = (decision["at"].as_str().unwrap(), decision["service"].as_str().unwrap());
        rounds.entry(at).or_default().insert(service, decision);
    }
    let units = |decision: &Value| decision["desired"].as_u64().unwrap();
    for (at, round) in &rounds {
        assert!(round.values().map(|decision| units(decision)).sum::<u64>() <= UNITS, "{at}: {round:?}");
    }
    let last = rounds.values().next_back().unwrap();
    let (batch, checkout) = (last["batch"], last["checkout"]);
    assert!(units(checkout) >= 13 && units(batch) >= 4 && units(batch) <= 6, "{last:#?}");
    let codes = |decision: &Value| -> Vec<String> {
        let reasons = decision["reasons"].as_array().unwrap().iter();
        reasons.map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
    };
    assert!(codes(batch).contains(&"granted".to_owned()), "{batch:#}");
    // It had more, and gave it up.
    let most = rounds.values().filter_map(|round| round.get("batch")).map(|decision| units(decision)).max();
    assert!(most > Some(units(batch) + 5), "{most:?}");

    let told: Vec<Value> = kit::consume(&kafka, &setup.topic("qos")).iter().map(kit::Record::json).collect();
    let batch_told: Vec<&Value> = told.iter().filter(|advice| advice["service"] == "batch").collect();
    let end = batch_told.last().unwrap();
    assert!(end["admit"].as_f64().unwrap() < 0.5 && end["level"] == "reduce", "{end}");
    assert!(end["reason"].as_str().unwrap().starts_with("the fleet has not enough for all: "), "{end}");
    let id = batch["id"].as_str().unwrap();
    let explained = kit::run(&["explain", "-c", &setup.config(), id]);
    assert!(
        explained.code == Some(0) && explained.stdout.contains("are granted at criticality 1"),
        "{}",
        explained.stdout
    );
}
