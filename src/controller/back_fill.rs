//! Histories from elsewhere. Rule: they fill what is before all that the store holds, so that any start may offer them
//! again; a replay takes only what was over when its first window began.

use std::collections::BTreeMap;

use prescale_domain::{Series, ServiceName, Span, Timestamp};
use prescale_telemetry::controller as happenings;

use crate::ControllerError;
use crate::control::Controller;
use crate::settings::ClockMode;

impl Controller {
    /// On the wall clock histories count at once: the first decision has a forecast.
    pub(crate) fn back_fill_at_start(&mut self) -> Result<(), ControllerError> {
        if self.settings.clock == ClockMode::Event || self.back_fill.is_empty() {
            return Ok(());
        }
        let histories = std::mem::take(&mut self.back_fill);
        let now = self.clock.now();
        if self.enter(histories, now)? {
            self.start_training(now);
        }
        Ok(())
    }

    /// On the event clock they are known once it is, before the window that starts at `start` is closed.
    pub(crate) fn back_fill_before(&mut self, start: Timestamp) -> Result<(), ControllerError> {
        if self.back_fill.is_empty() {
            return Ok(());
        }
        let is_fresh = self.features.all().is_empty();
        let histories = std::mem::take(&mut self.back_fill);
        if self.enter(histories, start)? && is_fresh {
            self.show.restore(self.features.all());
        }
        Ok(())
    }

    /// Enters the windows that have ended by `now`. Says whether there were any that were new.
    fn enter(&mut self, histories: BTreeMap<ServiceName, Series>, now: Timestamp) -> Result<bool, ControllerError> {
        let (mut latest, mut is_new) = (None, false);
        for (service, mut history) in histories {
            let ended = history.before(now - history.step + Span::from_millis(1)).len();
            history.values.truncate(ended);
            let windows = self.features.back_fill(&service, &history)?;
            if windows == 0 {
                continue;
            }
            is_new = true;
            happenings::BackFilled { service: &service, windows }.emit();
            let Some(held) = self.features.series(&service) else { continue };
            latest = latest.max(Some(held.end()));
            let last = held.values.iter().rposition(Option::is_some).map(|index| (index, held.values[index]));
            let state = self.state.services.entry(service).or_default();
            if let (Some((index, load)), None) = (last, state.load_window_end) {
                state.load = load;
                let millis = held.step.millis() * (index as i64 + 1);
                state.load_window_end = Some(held.start + Span::from_millis(millis));
            }
        }
        self.state.window_end = self.state.window_end.or(latest);
        Ok(is_new)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prescale_actuate::{SimulatedSettings, TargetSettings};
    use prescale_domain::{Clock, FeatureRow, FeaturesRecord, Mode, OpeningHours, PolicySettings, Progress, Zone};
    use prescale_forecast::online::OnlineSettings;
    use prescale_ingest::{Polled, RawBatch};
    use prescale_store::{MemoryStore, Store};
    use tokio::sync::mpsc;

    use super::*;
    use crate::view::View;
    use crate::{ControllerSettings, Event, OutTopics, Parts, ServiceSettings, Summary};

    const MINUTE: Span = Span::from_minutes(1);
    const DAY: i64 = 1440;

    /// A clock that stands still.
    struct Fixed(Timestamp);

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_millis(n * MINUTE.millis())
    }

    fn web() -> ServiceName {
        ServiceName::new("web")
    }

    fn load(n: i64) -> f64 {
        100.0 + 50.0 * (n as f64 * std::f64::consts::TAU / DAY as f64).sin()
    }

    fn history(from: i64, to: i64) -> Series {
        Series { start: minute(from), step: MINUTE, values: (from..to).map(|n| Some(load(n))).collect() }
    }

    fn target() -> TargetSettings {
        TargetSettings::Simulated(SimulatedSettings::default())
    }

    fn settings(clock: ClockMode) -> ControllerSettings {
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
        };
        let service = ServiceSettings {
            name: web(),
            signal: "requests_per_second".to_owned(),
            covariates: vec![],
            mode: Mode::Recommend,
            policy,
            provisioning_latency: Span::from_minutes(3),
            warm_up: Span::ZERO,
            target: target(),
        };
        let topic = |name: &str| name.to_owned();
        ControllerSettings {
            clock,
            step: MINUTE,
            lateness: Span::ZERO,
            retention: Span::from_minutes(35 * DAY),
            coarse_retention: Span::from_minutes(400 * DAY),
            decision_interval: MINUTE,
            pipelines: vec!["requests".to_owned()],
            services: vec![service],
            // A training would only cost time here.
            online: OnlineSettings { min_history: Span::from_minutes(60 * DAY), ..OnlineSettings::default() },
            topics: OutTopics { forecasts: topic("f"), decisions: topic("d"), actuations: topic("a") },
            opening_hours: OpeningHours::usual(Zone::UTC),
            snapshot_windows: 1,
        }
    }

    fn controller(store: &Arc<MemoryStore>, clock: ClockMode, now: i64, back_fill: Option<Series>) -> Controller {
        let parts = Parts {
            settings: settings(clock),
            clock: Arc::new(Fixed(minute(now))),
            store: Arc::clone(store) as Arc<dyn Store>,
            sink: None,
            targets: BTreeMap::from([(web(), target().build().unwrap())]),
            back_fill: back_fill.into_iter().map(|history| (web(), history)).collect(),
            events: vec![],
            models: None,
        };
        Controller::new(parts).unwrap()
    }

    /// What the topic says of the windows `from..to`, and that they are closed.
    fn polled(from: i64, to: i64) -> Event {
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
    fn run(controller: Controller, events: Vec<Event>) -> (Arc<View>, Summary) {
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

    #[test]
    fn the_first_decision_after_a_back_fill_has_a_forecast_and_without_one_it_waits() {
        let store = Arc::new(MemoryStore::default());
        let (view, _) = run(controller(&store, ClockMode::Wall, 3 * DAY, None), vec![]);
        assert_eq!(view.services[&web()].forecast_missing, "no-history");

        // A history that goes on into the future, as a file may: what is not over is left out.
        let told = history(0, 3 * DAY + 60);
        let (view, _) = run(controller(&store, ClockMode::Wall, 3 * DAY, Some(told.clone())), vec![]);
        let shown = &view.services[&web()];
        let forecast = shown.forecast.as_ref().unwrap();
        assert_eq!(forecast.origin, minute(3 * DAY - 1));
        assert_eq!(shown.load.back(), Some(&(minute(3 * DAY - 1), Some(load(3 * DAY - 1)))));
        let decision = shown.decisions.back().unwrap();
        assert!(decision.inputs.forecast.is_some(), "{decision:?}");
        assert_eq!(decision.inputs.load_window_end, Some(minute(3 * DAY)));

        // The next start finds it in the store, and takes nothing in again.
        let mut next = controller(&store, ClockMode::Wall, 3 * DAY, Some(told));
        assert_eq!(next.features.take_writes(), []);
        assert_eq!(next.features.series(&web()).unwrap().values.len(), 3 * DAY as usize);
    }

    #[test]
    fn what_the_topic_tells_comes_before_what_a_history_tells() {
        let store = Arc::new(MemoryStore::default());
        let started = controller(&store, ClockMode::Wall, 2 * DAY, Some(history(DAY, 2 * DAY - 30)));
        // The topic reaches back into the history, and goes on after a time that neither knows.
        let (view, summary) = run(started, vec![polled(2 * DAY - 40, 2 * DAY - 35), polled(2 * DAY - 10, 2 * DAY)]);
        assert_eq!((summary.windows, summary.gaps), (40, 0));
        let again = controller(&store, ClockMode::Wall, 2 * DAY, None);
        let series = again.features.series(&web()).unwrap();
        let at = |n: i64| series.at(minute(2 * DAY - n));
        assert_eq!([at(41), at(40), at(36)], [Some(load(2 * DAY - 41)), Some(7.0), Some(7.0)]);
        assert_eq!(
            [at(35), at(31), at(30), at(11)],
            [Some(load(2 * DAY - 35)), Some(load(2 * DAY - 31)), Some(0.0), Some(0.0)]
        );
        assert_eq!((at(10), series.end()), (Some(7.0), minute(2 * DAY)));
        let shown = &view.services[&web()].load;
        assert!(shown.iter().map(|(start, _)| start).is_sorted());
        let found = shown.iter().rev().nth(39).unwrap();
        assert_eq!(*found, (minute(2 * DAY - 40), Some(7.0)));
    }

    #[test]
    fn a_stream_that_begins_after_the_history_leaves_a_gap_between_them() {
        let store = Arc::new(MemoryStore::default());
        let started = controller(&store, ClockMode::Wall, 2 * DAY, Some(history(DAY, 2 * DAY - 60)));
        let (_, summary) = run(started, vec![polled(2 * DAY - 10, 2 * DAY)]);
        assert_eq!((summary.windows, summary.zeros), (10, 0));
        let again = controller(&store, ClockMode::Wall, 2 * DAY, None);
        let series = again.features.series(&web()).unwrap();
        assert_eq!(series.at(minute(2 * DAY - 61)), Some(load(2 * DAY - 61)));
        assert_eq!(series.at(minute(2 * DAY - 30)), None);
    }

    #[test]
    fn a_replay_sees_nothing_of_a_history_that_was_not_over_when_it_began() {
        let store = Arc::new(MemoryStore::default());
        // The wall clock has nothing to say in a replay.
        let started = controller(&store, ClockMode::Event, 900 * DAY, Some(history(0, 4 * DAY)));
        let (view, summary) = run(started, vec![polled(2 * DAY, 2 * DAY + 3)]);
        assert_eq!((summary.windows, summary.decisions), (3, 3));
        let shown = &view.services[&web()];
        assert!(shown.decisions.iter().all(|decision| decision.inputs.forecast.is_some()));
        assert_eq!(shown.load.back(), Some(&(minute(2 * DAY + 2), Some(7.0))));
        let again = controller(&store, ClockMode::Event, 900 * DAY, Some(history(0, 4 * DAY)));
        let series = again.features.series(&web()).unwrap();
        assert_eq!((series.start, series.end()), (minute(0), minute(2 * DAY + 3)));
        assert_eq!(series.at(minute(2 * DAY - 1)), Some(load(2 * DAY - 1)));
    }
}
