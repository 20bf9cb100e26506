//! The defaults of the policy hold up against HPA at its best target.

use std::collections::BTreeMap;

use prescale_domain::*;

use super::*;
use crate::score::{ScoreInputs, render, score_card};

fn fleet(seed: u64) -> FleetSettings {
    FleetSettings {
        min: 2,
        max: 120,
        initial: 2,
        provisioning_latency: Span::from_secs(180),
        provisioning_latency_p90: Span::from_secs(210),
        warm_up: Span::from_secs(45),
        price_usd_hour: 0.17,
        minimum_billing: Span::from_secs(60),
        seed,
    }
}

fn experiment() -> ExperimentSettings {
    ExperimentSettings {
        policy: PolicySettings {
            unit_capacity: 0.2,
            min_units: 2,
            max_units: 120,
            quantile: 0.99,
            step_up_units: 40,
            step_down_units: 10,
            cooldown_up: Span::ZERO,
            cooldown_down: Span::from_secs(120),
            stabilization_down: Span::from_secs(300),
            hysteresis: 0.05,
            reactive_utilization: 0.7,
            stale_after: Span::from_secs(300),
            blind_after: Span::from_secs(180),
        },
        decision_interval: Span::from_secs(60),
        data_age: Span::from_secs(60),
        knows_events: true,
    }
}

fn stage(seed: u64) -> Stage {
    let start = "2026-03-02T00:00:00Z".parse().unwrap();
    let load = LoadSettings::demo(seed, start, Span::from_minutes(14 * 1440), Span::from_minutes(2 * 1440));
    Stage::new(load, fleet(seed), 0.2)
}

fn card(stage: &Stage, settings: &ExperimentSettings, seed: u64) -> (ScoreCard, Vec<crate::sweep::SweepPoint>) {
    let timelines = simulate_prescale(stage, settings);
    let (bouts, histories) = (&stage.bouts, &stage.histories);
    let forecast = BTreeMap::new();
    score_card(ScoreInputs { bouts, timelines: &timelines, histories, forecast, budget_pct: 1.0, seed })
}

#[test]
fn prescale_beats_hpa_at_its_best_target_on_five_seeds() {
    for seed in 1..=5 {
        let (card, sweep) = card(&stage(seed), &experiment(), seed);
        println!("{}", render(&card, if seed == 1 { &sweep } else { &[] }));
    }
}

#[test]
fn tune() {
    let base = experiment();
    let mut variants: Vec<(String, ExperimentSettings)> = vec![("base".into(), base.clone())];
    let mut add = |name: &str, f: &dyn Fn(&mut ExperimentSettings)| {
        let mut v = base.clone();
        f(&mut v);
        variants.push((name.to_owned(), v));
    };
    add("q.95", &|v| v.policy.quantile = 0.95);
    add("q.97", &|v| v.policy.quantile = 0.97);
    add("q.98", &|v| v.policy.quantile = 0.98);
    add("stab 0", &|v| v.policy.stabilization_down = Span::ZERO);
    add("stab 120", &|v| v.policy.stabilization_down = Span::from_secs(120));
    add("stab 600", &|v| v.policy.stabilization_down = Span::from_secs(600));
    add("hyst 0", &|v| v.policy.hysteresis = 0.0);
    add("hyst .1", &|v| v.policy.hysteresis = 0.1);
    add("cool_down 0", &|v| v.policy.cooldown_down = Span::ZERO);
    add("cool_down 300", &|v| v.policy.cooldown_down = Span::from_secs(300));
    add("cool_up 60", &|v| v.policy.cooldown_up = Span::from_secs(120));
    add("react .5", &|v| v.policy.reactive_utilization = 0.5);
    add("react .6", &|v| v.policy.reactive_utilization = 0.6);
    add("react .8", &|v| v.policy.reactive_utilization = 0.8);
    add("react .9", &|v| v.policy.reactive_utilization = 0.9);
    add("age 0", &|v| v.data_age = Span::ZERO);
    add("age 15", &|v| v.data_age = Span::from_secs(15));
    add("age 75", &|v| v.data_age = Span::from_secs(75));
    add("no events", &|v| v.knows_events = false);
    add("no events age 0", &|v| {
        v.knows_events = false;
        v.data_age = Span::ZERO
    });
    add("no events react .6", &|v| {
        v.knows_events = false;
        v.policy.reactive_utilization = 0.6
    });
    add("q.98 stab 300 hyst0 cd0", &|v| {
        v.policy.quantile = 0.98;
        v.policy.hysteresis = 0.0;
        v.policy.cooldown_down = Span::ZERO
    });
    let stages: Vec<Stage> = (1..=5).map(stage).collect();
    let hpas: Vec<_> = stages
        .iter()
        .map(|s| {
            let sweep = crate::sweep::hpa_sweep(&s.bouts);
            crate::sweep::best(&sweep, 1.0).unwrap().clone()
        })
        .collect();
    for (name, settings) in variants {
        let mut text = format!("{name:<26}");
        for (stage, hpa) in stages.iter().zip(&hpas) {
            let lines = simulate_prescale(stage, &settings);
            let s = crate::arena::fly_all(&stage.bouts, lines.iter().map(|l| crate::arena::Pilot::Timeline(l)))
                .score(None)
                .unwrap();
            let h = &hpa.score;
            text += &format!(
                " | {:.2} {:.2} {:.3} {}",
                s.violations.time_pct / h.violations.time_pct,
                s.violations.requests_pct / h.violations.requests_pct,
                s.cost_usd / h.cost_usd,
                s.actions
            );
        }
        println!("{text}");
    }
}
