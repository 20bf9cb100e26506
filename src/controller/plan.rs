//! What would be decided now. Rule: targets are looked at, nothing is acted on, published or kept.

use prescale_domain::Decision;

use crate::{Controller, ControllerError};

impl Controller {
    /// One decision for each service at this moment, from what the store and the histories tell; the loop ends with it.
    ///
    /// # Errors
    /// A history that can't be read.
    pub async fn plan(mut self) -> Result<Vec<Decision>, ControllerError> {
        let now = self.clock.now();
        let services = self.settings.services.clone();
        self.catch_up();
        self.observe_targets(&services, now).await;
        let fleet = self.fleet(&services, now);
        Ok(services.iter().map(|service| self.decide_one(service, now, &fleet)).collect())
    }

    /// Where the store has seen nothing of a service, its history is all there is: its last window counts as the last that
    /// was closed.
    fn catch_up(&mut self) {
        let step = self.settings.step;
        for service in self.settings.services.clone() {
            let Some(series) = self.features.series(&service.name) else { continue };
            let end = series.end();
            let last = series.values.iter().rposition(Option::is_some);
            let known =
                last.map(|index| series.start + prescale_domain::Span::from_millis(step.millis() * (index as i64 + 1)));
            let load = series.values.last().copied().flatten();
            let state = self.state.services.entry(service.name.clone()).or_default();
            if state.load_window_end.is_none() {
                (state.load, state.load_window_end) = (load, known);
            }
            self.state.window_end = self.state.window_end.max(Some(end));
        }
    }
}
