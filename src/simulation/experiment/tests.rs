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
    for knows in [true, false] {
        for (q, h, st) in [
            (0.99, 0.05, 300),
            (0.99, 0.1, 300),
            (0.98, 0.1, 300),
            (0.97, 0.1, 300),
            (0.97, 0.15, 300),
            (0.98, 0.15, 300),
            (0.98, 0.1, 600),
            (0.97, 0.15, 600),
            (0.95, 0.15, 600),
            (0.95, 0.2, 300),
        ] {
            add(&format!("{} q{q} h{h} st{st}", u8::from(knows)), &|v| {
                v.knows_events = knows;
                v.policy.quantile = q;
                v.policy.hysteresis = h;
                v.policy.stabilization_down = Span::from_secs(st);
            });
        }
        add(&format!("{} q.98 h.1 react.8", u8::from(knows)), &|v| {
            v.knows_events = knows;
            v.policy.quantile = 0.98;
            v.policy.hysteresis = 0.1;
            v.policy.reactive_utilization = 0.8;
        });
        add(&format!("{} q.98 h.1 react.8 age0", u8::from(knows)), &|v| {
            v.knows_events = knows;
            v.policy.quantile = 0.98;
            v.policy.hysteresis = 0.1;
            v.policy.reactive_utilization = 0.8;
            v.data_age = Span::ZERO;
        });
        add(&format!("{} q.98 h.1 react.7 age0", u8::from(knows)), &|v| {
            v.knows_events = knows;
            v.policy.quantile = 0.98;
            v.policy.hysteresis = 0.1;
            v.data_age = Span::ZERO;
        });
    }
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
