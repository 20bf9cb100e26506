//! The load of a window that is still open, from the parts of it that are over. Rule: it decides and is learnt from nowhere: a
//! history has closed windows only.

use prescale_domain::Timestamp;
use prescale_features::measure;
use serde::{Deserialize, Serialize};

use crate::intake::EarlyWindow;
use crate::settings::ClockMode;
use crate::{Controller, ControllerError};

/// A load this many times what a forecast was made with is news to it.
const NEWS: f64 = 1.1;

/// What is known of the open window of a service.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Early {
    pub(crate) window_start: Timestamp,
    /// Of the newest part.
    pub(crate) end: Timestamp,
    pub(crate) load: f64,
    /// The load with which it is forecast.
    pub(crate) told: f64,
}

impl Early {
    /// With the next part of the same window, or the first part of one.
    fn next(known: Option<Self>, window: &EarlyWindow, load: f64) -> Self {
        let told = known.map(|known| known.told).filter(|told| load <= NEWS * told);
        Self { window_start: window.window_start, end: window.end, load, told: told.unwrap_or(load) }
    }
}

impl Controller {
    /// Takes in a part of the open window, and decides where it is the first one or says what no forecast has heard of. A
    /// service without a row is decided by its last closed window: a part may be over before anything came.
    pub(crate) async fn take_early(&mut self, window: EarlyWindow) -> Result<(), ControllerError> {
        let mut is_news = window.is_first;
        for service in &self.settings.services {
            let load = window.rows.get(&service.name).and_then(|row| measure(&row.measures, &service.signal));
            let Some(load) = load.filter(|load| load.is_finite() && *load >= 0.0) else { continue };
            let state = self.state.services.entry(service.name.clone()).or_default();
            let early = Early::next(state.early, &window, load);
            if state.early.is_none_or(|known| known.told != early.told) {
                self.forecasts.remove(&service.name);
                is_news = true;
            }
            state.early = Some(early);
        }
        if !is_news {
            return Ok(());
        }
        match self.settings.clock {
            ClockMode::Event => self.decide_all(window.end + self.settings.lateness).await,
            ClockMode::Wall => {
                self.decide_all(self.clock.now()).await?;
                self.snapshot()
            }
        }
    }
}
