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

    use prescale_store::MemoryStore;

    use super::*;
    use crate::fixture::{DAY, controller, history, load, minute, polled, run, web};

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
