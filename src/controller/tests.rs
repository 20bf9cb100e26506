//! What the loop does around its decisions: who follows it, who stops it, what it is limited by and tries out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prescale_actuate::TargetSettings;
use prescale_decide::experiment::{Arm, Design, ExperimentSettings, Guard, Metric, Verdict};
use prescale_decide::recompute;
use prescale_domain::{
    BudgetSettings, Decision, FeatureRow, FleetChangeSettings, Mode, PauseScope, ServiceName, SignalColumns, Span,
    ThrottleLevel, Timestamp,
};
use prescale_store::{MemoryStore, Store as _, Table, Write};
use tokio::sync::mpsc;

use crate::fixture::{Fixed, MINUTE, controller_with, history, minute, polled, run, settings, told, web};
use crate::intake::ClosedWindow;
use crate::view::{PauseOrder, ServiceView, View};
use crate::{ClockMode, Controller, ControllerSettings, Event, ExperimentSetup, Follower};

/// A controller in which the one service is acted on.
fn acting(change: impl FnOnce(&mut ControllerSettings), store: &Arc<MemoryStore>) -> Controller {
    let mut settings = settings(ClockMode::Event);
    settings.services[0].mode = Mode::Act;
    if let TargetSettings::Simulated(target) = &mut settings.services[0].target {
        target.allow_replay = true;
    }
    change(&mut settings);
    controller_with(settings, store, Arc::new(Fixed(minute(0))), None)
}

fn of_web(view: &View) -> &ServiceView {
    &view.services[&web()]
}

fn decisions(view: &View) -> Vec<Arc<Decision>> {
    of_web(view).decisions.iter().cloned().collect()
}

/// Notes what it hears.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Follower for Notes {
    fn closed(&mut self, service: &ServiceName, start: Timestamp, end: Timestamp, load: Option<f64>) {
        assert_eq!(end, start + MINUTE);
        self.0.lock().unwrap().push(format!("{service} {} {load:?}", start.millis() / MINUTE.millis()));
    }

    fn decided(&mut self, decision: &Decision) {
        self.0.lock().unwrap().push(format!("decided {}", decision.at.millis() / MINUTE.millis()));
    }

    fn take_writes(&mut self) -> Vec<Write> {
        self.0.lock().unwrap().push("kept".to_owned());
        vec![Write { table: Table::Shadow, key: b"note".to_vec(), value: Some(b"here".to_vec()) }]
    }
}

#[test]
fn a_follower_hears_all_in_order_and_is_kept_with_the_loop() {
    let (store, notes) = (Arc::new(MemoryStore::default()), Notes::default());
    let mut settings = settings(ClockMode::Event);
    settings.snapshot_windows = 2;
    let controller = controller_with(settings, &store, Arc::new(Fixed(minute(0))), None);
    run(controller.followed_by(Box::new(notes.clone())), vec![polled(5, 8)]);
    let heard = notes.0.lock().unwrap().clone();
    let expected = [
        "web 5 Some(7.0)",
        "decided 6",
        "web 6 Some(7.0)",
        "decided 7",
        "kept",
        "web 7 Some(7.0)",
        "decided 8",
        "kept",
    ];
    assert_eq!(heard, expected);
    assert_eq!(store.get(Table::Shadow, b"note").unwrap(), Some(b"here".to_vec()));
}

#[test]
fn an_order_to_pause_counts_from_the_next_decision_on_and_after_a_restart() {
    let store = Arc::new(MemoryStore::default());
    let make = || {
        let mut settings = settings(ClockMode::Wall);
        settings.decision_interval = Span::from_millis(100);
        settings.cadence.normal = Span::from_millis(100);
        settings.cadence.fast = Span::from_millis(100);
        controller_with(settings, &store, Arc::new(prescale_domain::SystemClock), None)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let order = |service: Option<ServiceName>, pause| PauseOrder { service, pause, by: "me".to_owned() };
    runtime.block_on(async {
        let controller = make();
        let (mut handle, (sender, inbox)) = (controller.handle(), mpsc::channel(1));
        let running = tokio::spawn(controller.run(inbox, false));
        let switch = handle.pause.clone().unwrap();
        let pauses = switch.give(order(Some(web()), true)).await.unwrap();
        let pause = pauses.of(&web()).unwrap().clone();
        assert_eq!((pause.scope, pause.by.as_str()), (PauseScope::Service, "me"));
        // Readers see it at once.
        assert_eq!(of_web(&handle.view.borrow()).paused.as_ref(), Some(&pause));
        let known = handle.view.borrow().now;
        let decided = handle.view.wait_for(|view| view.now > known && !of_web(view).decisions.is_empty());
        let view = tokio::time::timeout(Duration::from_secs(30), decided).await.unwrap().unwrap().clone();
        assert_eq!(decisions(&view).last().unwrap().inputs.circumstances.paused.as_ref(), Some(&pause));
        sender.send(Event::Stop).await.unwrap();
        running.await.unwrap().unwrap();
        // The loop has ended: who asks is told.
        assert!(switch.give(order(None, true)).await.is_err());
    });
    let again = make();
    let view = again.handle().view.borrow().clone();
    assert_eq!(of_web(&view).paused.as_ref().map(|pause| pause.by.as_str()), Some("me"));
    assert_eq!(view.pauses.changes.len(), 1);
    let replay = controller_with(settings(ClockMode::Event), &store, Arc::new(Fixed(minute(0))), None);
    assert!(replay.handle().pause.is_none());
}

#[test]
fn the_fleet_changes_by_no_more_than_it_may_in_an_interval() {
    let fleet_change = FleetChangeSettings { units: Some(2), interval: Span::from_minutes(3) };
    let capped = |limit: FleetChangeSettings| {
        let store = Arc::new(MemoryStore::default());
        let controller = acting(
            |settings| {
                settings.fleet_change = limit;
                // One unit is there, and ten are needed.
                settings.services[0].policy.unit_capacity = 1.0;
            },
            &store,
        );
        let (view, _) = run(controller, vec![polled(5, 25)]);
        decisions(&view).iter().map(|decision| decision.desired).collect::<Vec<_>>()
    };
    let free = capped(FleetChangeSettings { units: None, ..fleet_change });
    let slow = capped(fleet_change);
    assert_ne!(free, slow);
    // From one unit on, in any three minutes by two at most.
    for window in std::iter::once(1).chain(slow.iter().copied()).collect::<Vec<_>>().windows(4) {
        let moved: u32 = window.windows(2).map(|pair| pair[0].abs_diff(pair[1])).sum();
        assert!(moved <= 2, "{slow:?}");
    }
    assert!(slow.last() > Some(&6), "{slow:?}");
}

#[test]
fn a_month_s_budget_knows_what_was_spent() {
    let store = Arc::new(MemoryStore::default());
    let controller = acting(
        |settings| {
            let rules = &mut settings.services[0].rules;
            rules.price_usd_hour = Some(6.0);
            rules.settings.budget = BudgetSettings { usd_hour: None, usd_month: Some(1000.0) };
        },
        &store,
    );
    let (view, _) = run(controller, vec![polled(5, 9)]);
    let spent: Vec<f64> = decisions(&view)
        .iter()
        .map(|decision| decision.inputs.circumstances.budget.unwrap().spent_month_usd.unwrap())
        .collect();
    // A unit costs ten cents a minute.
    assert!((spent[0], spent.len()) == (0.0, 4) && spent.is_sorted() && spent[3] > 0.29, "{spent:?}");
}

/// What the topic says of one window: a load of 7, and that much of an API's rate limit.
fn window(n: i64, usage: f64) -> ClosedWindow {
    let measures = [("requests_per_second".to_owned(), Some(7.0)), ("api_usage_max".to_owned(), Some(usage))];
    let row = FeatureRow {
        service: web(),
        window_start: minute(n),
        window_end: minute(n + 1),
        labels: Default::default(),
        measures: measures.into(),
    };
    ClosedWindow { start: minute(n), rows: [(web(), row)].into(), is_gap: false }
}

#[test]
fn callers_are_told_to_hold_back_and_once_that_they_need_not_any_more() {
    let store = Arc::new(MemoryStore::default());
    let signals = SignalColumns { api_usage: Some("api_usage_max".to_owned()), ..SignalColumns::default() };
    let mut controller = acting(|settings| settings.services[0].signals = signals, &store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut told = Vec::new();
    for (n, usage) in [(5, 0.5), (6, 0.8), (7, 1.0), (8, 0.6), (9, 0.6)] {
        let now = minute(n + 1);
        runtime.block_on(controller.close(&window(n, usage), now)).unwrap();
        let service = controller.settings.services[0].clone();
        runtime.block_on(controller.observe_targets(std::slice::from_ref(&service), now));
        let fleet = controller.fleet(std::slice::from_ref(&service), now);
        let decision = controller.decide_one(&service, now, &fleet);
        assert_eq!(decision.inputs.circumstances.signals.api_usage, Some(usage));
        let advice = controller.state.services.get_mut(&web()).unwrap().heard.advise(&decision);
        told.extend(advice.map(|advice| (n, advice.level, advice.admit, advice.reason.is_empty())));
    }
    let expected = [
        (6, Some(ThrottleLevel::Throttle), 0.7 / 0.8, false),
        (7, Some(ThrottleLevel::Reduce), 0.7, false),
        (8, None, 1.0, true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn each_decision_of_an_experiment_says_its_arm_and_is_made_by_it() {
    let store = Arc::new(MemoryStore::default());
    let experiment = |settings: &mut ControllerSettings| {
        settings.services[0].policy.planning.predictive = false;
        let service = &settings.services[0];
        let mut treated = service.policy.clone();
        treated.reactive_utilization = 0.35;
        let of = ExperimentSettings {
            name: "half-full".to_owned(),
            seed: 3,
            start: minute(0),
            end: minute(600),
            control: "configured".to_owned(),
            treatment: "treatment".to_owned(),
            services: vec![web()],
            design: Design::Switchback { period: Span::from_minutes(5), washout: Span::from_minutes(3) },
            objective: Metric::CostUsdHour,
            alpha: 0.05,
            guard: Guard { metric: Metric::TimePct, margin: 1.0, alpha: 0.05 },
            tuned_at: 20,
        };
        settings.services[0].rules.price_usd_hour = Some(1.0);
        settings.experiments = vec![ExperimentSetup { settings: of, treatments: [(web(), treated)].into() }];
    };
    let (view, _) = run(acting(experiment, &store), vec![polled(0, 110)]);
    // Twice the units cost more, and as much in each pair: that is soon known, and from then on control decides.
    let told = &view.experiments[0];
    assert_eq!((told.settings.name.as_str(), told.report.verdict), ("half-full", Verdict::Worse));
    let (effect, decided) = (told.report.objective.unwrap(), told.report.decided_at.unwrap());
    assert!(effect.low > 0.0 && effect.units >= 6 && decided < minute(110), "{:?}", told.report);
    assert!(told.report.treatment > told.report.control);
    assert_eq!(told.arms[&web()], Some(Arm::Control));
    let mut arms = [0, 0];
    for decision in decisions(&view) {
        let side = decision.inputs.circumstances.experiment.clone().unwrap();
        assert_eq!(side.name, "half-full");
        let expected = if side.treatment { 0.35 } else { 0.7 };
        assert_eq!(decision.inputs.settings.reactive_utilization, expected);
        assert!(recompute(&decision).is_ok());
        assert!(decision.at < decided || !side.treatment);
        arms[usize::from(side.treatment)] += 1;
    }
    assert!(arms[0] >= 20 && arms[1] >= 20, "{arms:?}");
    // The next run goes on with it; one that is configured otherwise begins anew.
    let verdict = |controller: Controller| controller.state.experiments[0].clone().judge(minute(110)).verdict;
    assert_eq!(verdict(acting(experiment, &store)), Verdict::Worse);
    let other = |settings: &mut ControllerSettings| {
        experiment(settings);
        settings.experiments[0].settings.seed = 4;
    };
    assert_eq!(verdict(acting(other, &store)), Verdict::Running);
}

#[test]
fn a_history_before_an_experiment_counts_in_it_not_at_all() {
    let store = Arc::new(MemoryStore::default());
    let (view, _) = run(
        controller_with(settings(ClockMode::Event), &store, Arc::new(Fixed(minute(0))), Some(history(-60, 0))),
        vec![polled(0, 2)],
    );
    assert!(view.experiments.is_empty());
    assert!(decisions(&view).iter().all(|decision| decision.inputs.circumstances.experiment.is_none()));
}

/// Time and load of each decision in seconds and requests per second, and the second from which on it was forecast.
fn told_by(view: &View) -> Vec<(i64, Option<f64>, Option<i64>)> {
    let second = |moment: Timestamp| moment.millis() / 1000;
    let of = |decision: &Arc<Decision>| {
        let inputs = &decision.inputs;
        (second(decision.at), inputs.load, inputs.forecast.as_ref().map(|forecast| second(forecast.from)))
    };
    decisions(view).iter().map(of).collect()
}

#[test]
fn an_open_window_is_decided_by_from_its_first_part_on_and_again_where_that_is_news() {
    let part = Span::from_secs(20);
    let early = |settings: &mut ControllerSettings| {
        (settings.early_step, settings.lateness) = (Some(part), Span::from_secs(5));
    };
    let of = |n: i64, place: i64, load: f64| {
        let start = minute(n) + Span::from_secs(20 * place);
        (start, start + part, load)
    };
    let whole = |n: i64, load: f64| (minute(n), minute(n + 1), load);
    let mut events = Vec::new();
    for n in 0..5 {
        events.push(told(&[of(n, 0, 100.0)], minute(n) + part));
        events.push(told(&[of(n, 1, 105.0), of(n, 2, 100.0), whole(n, 100.0)], minute(n + 1)));
    }
    // A burst in the second third of a minute; the next minute tells nothing in its first third.
    events.push(told(&[of(5, 0, 100.0)], minute(5) + part));
    events.push(told(&[of(5, 1, 300.0), of(5, 2, 310.0), whole(5, 240.0)], minute(6)));
    events.push(told(&[whole(6, 90.0)], minute(7)));
    let store = Arc::new(MemoryStore::default());
    let (view, summary) = run(acting(early, &store), events);
    let steady = [25, 85, 145, 205, 265, 325].map(|second| (second, Some(100.0)));
    let seen: Vec<_> = told_by(&view).into_iter().map(|(second, load, _)| (second, load)).collect();
    assert_eq!(seen, [&steady[..], &[(345, Some(300.0)), (385, Some(240.0))]].concat());
    assert_eq!(summary.windows, 7);
    // A forecast begins after the window that is open, or after the closed one where nothing is known of that.
    let forecast = told_by(&view).into_iter().filter_map(|(second, _, from)| Some((second, from?)));
    assert_eq!(forecast.collect::<Vec<_>>(), [(145, 180), (205, 240), (265, 300), (325, 360), (345, 360), (385, 360)]);
    assert!(decisions(&view).iter().all(|decision| recompute(decision).is_ok()));
    // Models and history know of closed windows only.
    let stored = controller_with(settings(ClockMode::Event), &store, Arc::new(Fixed(minute(0))), None);
    let loads: Vec<_> = stored.features.series(&web()).unwrap().values.iter().flatten().copied().collect();
    assert_eq!(loads, [100.0, 100.0, 100.0, 100.0, 100.0, 240.0, 90.0]);
}
