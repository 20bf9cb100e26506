//! A controller of one service on generated loads, for the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prescale_actuate::{SimulatedSettings, TargetSettings};
use prescale_decide::Rules;
use prescale_domain::{
    CadenceSettings, Clock, FeatureRow, FeaturesRecord, FleetChangeSettings, Mode, OpeningHours, PlanningSettings,
    PolicySettings, Progress, RuleSettings, Series, ServiceName, SignalColumns, Span, Timestamp, Zone,
};
use prescale_forecast::online::OnlineSettings;
use prescale_ingest::{Polled, RawBatch};
use prescale_store::{MemoryStore, Store};
use tokio::sync::mpsc;

use crate::view::View;
use crate::{ClockMode, Controller, ControllerSettings, Event, OutTopics, Parts, ServiceSettings, Summary};

pub(crate) const MINUTE: Span = Span::from_minutes(1);
pub(crate) const DAY: i64 = 1440;

/// A clock that stands still.
pub(crate) struct Fixed(pub(crate) Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

pub(crate) fn minute(n: i64) -> Timestamp {
    Timestamp::from_millis(n * MINUTE.millis())
}

pub(crate) fn web() -> ServiceName {
    ServiceName::new("web")
}

pub(crate) fn load(n: i64) -> f64 {
    100.0 + 50.0 * (n as f64 * std::f64::consts::TAU / DAY as f64).sin()
}

pub(crate) fn history(from: i64, to: i64) -> Series {
    Series { start: minute(from), step: MINUTE, values: (from..to).map(|n| Some(load(n))).collect() }
}

pub(crate) fn target() -> TargetSettings {
    TargetSettings::Simulated(SimulatedSettings::default())
}

pub(crate) fn settings(clock: ClockMode) -> ControllerSettings {
    let policy = PolicySettings {
        unit_capacity: 10.0,
        min_units: 1,
        max_units: 100,
        quantile: 0.9,
        step_up_units: 100,
        step_down_units: 100,
        cooldown_up: Span::ZERO,
        cooldown_down: Span::ZERO,
        stabilization_down: Span::ZERO,
        hysteresis: 0.0,
        reactive_utilization: 0.7,
        stale_after: Span::from_minutes(5),
        blind_after: Span::from_minutes(10),
        planning: PlanningSettings::default(),
    };
    let service = ServiceSettings {
        name: web(),
        signal: "requests_per_second".to_owned(),
        covariates: vec![],
        calls: vec![],
        nodes: None,
        signals: SignalColumns::default(),
        mode: Mode::Recommend,
        policy,
        provisioning_latency: Span::from_minutes(3),
        warm_up: Span::ZERO,
        provisioning_median: None,
        latency_objective: None,
        learn_lead_time: false,
        confident_horizon: None,
        opening_hours: OpeningHours::usual(Zone::UTC),
        target: target(),
        rules: Rules {
            criticality: 1.0,
            partitions: None,
            settings: RuleSettings::default(),
            timetable: Arc::default(),
            opening_hours: OpeningHours::usual(Zone::UTC),
            zone: Zone::UTC,
            price_usd_hour: None,
            unit: Default::default(),
            fleet: Default::default(),
        },
    };
    let topic = |name: &str| name.to_owned();
    ControllerSettings {
        clock,
        step: MINUTE,
        early_step: None,
        lateness: Span::ZERO,
        retention: Span::from_minutes(35 * DAY),
        coarse_retention: Span::from_minutes(400 * DAY),
        decision_interval: MINUTE,
        cadence: CadenceSettings::default(),
        fleet_change: FleetChangeSettings::default(),
        pipelines: vec!["requests".to_owned()],
        services: vec![service],
        experiments: vec![],
        selector: None,
        // A training would only cost time here.
        online: OnlineSettings { min_history: Span::from_minutes(60 * DAY), ..OnlineSettings::default() },
        topics: OutTopics {
            forecasts: topic("f"),
            decisions: topic("d"),
            actuations: topic("a"),
            qos: topic("q"),
            weights: topic("w"),
        },
        snapshot_windows: 1,
    }
}

pub(crate) fn controller(
    store: &Arc<MemoryStore>,
    clock: ClockMode,
    now: i64,
    back_fill: Option<Series>,
) -> Controller {
    controller_with(settings(clock), store, Arc::new(Fixed(minute(now))), back_fill)
}

pub(crate) fn controller_with(
    settings: ControllerSettings,
    store: &Arc<MemoryStore>,
    clock: Arc<dyn Clock>,
    back_fill: Option<Series>,
) -> Controller {
    let targets = settings.services.iter().map(|service| (service.name.clone(), service.target.build().unwrap()));
    let parts = Parts {
        targets: targets.collect(),
        settings,
        clock,
        store: Arc::clone(store) as Arc<dyn Store>,
        sink: None,
        back_fill: back_fill.into_iter().map(|history| (web(), history)).collect(),
        events: vec![],
        models: None,
    };
    Controller::new(parts).unwrap()
}

/// What the topic says of loads between two moments, and how far it has come.
pub(crate) fn told(loads: &[(Timestamp, Timestamp, f64)], watermark: Timestamp) -> Event {
    let mut batch = RawBatch::new("features".into(), 0);
    for (start, end, load) in loads {
        let row = serde_json::json!({"service": web(), "window_start": start, "window_end": end,
            "requests_per_second": load});
        batch.push(batch.len() as i64, None, Some(row.to_string().as_bytes()));
    }
    let pipeline = "requests".to_owned();
    let progress = Progress { pipeline, partition: 0, watermark, gap: None, end: false, share: None };
    batch.push(batch.len() as i64, None, Some(&progress.to_json()));
    Event::Features(Polled { batches: vec![batch], partitions: vec![0], ..Polled::default() })
}

/// What the topic says of the windows `from..to`, and that they are closed.
pub(crate) fn polled(from: i64, to: i64) -> Event {
    let mut batch = RawBatch::new("features".into(), 0);
    for n in from..to {
        let row = FeatureRow {
            service: web(),
            window_start: minute(n),
            window_end: minute(n + 1),
            labels: BTreeMap::new(),
            measures: BTreeMap::from([("requests_per_second".to_owned(), Some(7.0))]),
        };
        let mut fields = serde_json::json!({"service": row.service, "window_start": row.window_start,
            "window_end": row.window_end});
        fields["requests_per_second"] = 7.0.into();
        assert_eq!(FeaturesRecord::from_json(fields.to_string().as_bytes()).unwrap(), FeaturesRecord::Row(row));
        batch.push(n, None, Some(fields.to_string().as_bytes()));
    }
    let progress = Progress {
        pipeline: "requests".to_owned(),
        partition: 0,
        watermark: minute(to),
        gap: None,
        end: false,
        share: None,
    };
    batch.push(to, None, Some(&progress.to_json()));
    Event::Features(Polled { batches: vec![batch], partitions: vec![0], ..Polled::default() })
}

/// Runs the loop over `events`, until all is decided, and gives what readers see then.
pub(crate) fn run(controller: Controller, events: Vec<Event>) -> (Arc<View>, Summary) {
    let mut handle = controller.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (sender, inbox) = mpsc::channel(events.len() + 1);
        for event in events {
            sender.send(event).await.unwrap();
        }
        let running = tokio::spawn(controller.run(inbox, false));
        let decided = async {
            while handle.view.borrow_and_update().ready.is_err() {
                handle.view.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), decided).await.unwrap();
        drop(sender);
        let summary = running.await.unwrap().unwrap();
        let view = Arc::clone(&handle.view.borrow());
        (view, summary)
    })
}
