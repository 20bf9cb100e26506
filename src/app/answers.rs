//! What others ask, answered from the view of the loop. Rule: a value is as old as the decision it comes from; what was not
//! decided is not answered.

use std::sync::Arc;

use prescale_adapter::{AdapterSettings, Admission, Answers, Dated, bind};
use prescale_controller::view::{ServiceView, View};
use prescale_decide::advice;
use prescale_domain::{Decision, QuantileForecast, ServiceName, Span, SystemClock};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::Failure;

/// Answers from what the loop shows.
pub(crate) struct FromView {
    view: watch::Receiver<Arc<View>>,
    changes: watch::Receiver<u64>,
}

impl FromView {
    /// Follows the view until it ends.
    fn new(view: watch::Receiver<Arc<View>>) -> Self {
        let (sender, changes) = watch::channel(view.borrow().version);
        let mut shown = view.clone();
        tokio::spawn(async move {
            while shown.changed().await.is_ok() {
                let version = shown.borrow_and_update().version;
                if sender.send(version).is_err() {
                    return;
                }
            }
        });
        Self { view, changes }
    }

    fn of<T>(
        &self,
        service: &ServiceName,
        find: impl FnOnce(&ServiceView, &Decision) -> Option<T>,
    ) -> Option<Dated<T>> {
        let view = self.view.borrow();
        let shown = view.services.get(service)?;
        let decision = shown.decisions.back()?;
        Some(Dated { value: find(shown, decision)?, at: decision.at })
    }
}

/// The load that a forecast expects so long after `decision`, at the quantile that the decision uses.
fn expected(shown: &ServiceView, decision: &Decision, ahead: Option<Span>) -> Option<f64> {
    let forecast: &QuantileForecast = shown.forecast.as_deref()?;
    let ahead = ahead.unwrap_or_else(|| decision.inputs.lead_time.until_effective());
    let at = (decision.at + ahead).since(forecast.origin).millis();
    let step = forecast.step.millis().max(1);
    let row = usize::try_from(at / step - 1).ok().and_then(|row| forecast.values.get(row))?;
    let level = decision.inputs.settings.quantile;
    let place =
        forecast.levels.iter().position(|known| *known >= level).unwrap_or(forecast.levels.len().checked_sub(1)?);
    row.get(place).copied()
}

impl Answers for FromView {
    fn services(&self) -> Vec<ServiceName> {
        self.view.borrow().services.keys().cloned().collect()
    }

    fn units(&self, service: &ServiceName, ahead: Option<Span>) -> Option<Dated<u32>> {
        self.of(service, |shown, decision| {
            let Some(ahead) = ahead else { return Some(decision.desired) };
            let settings = &decision.inputs.settings;
            let needed = (expected(shown, decision, Some(ahead))? / settings.unit_capacity).ceil();
            // The cast saturates.
            Some((needed as u32).max(settings.min_units).min(settings.max_units))
        })
    }

    fn load(&self, service: &ServiceName, ahead: Option<Span>) -> Option<Dated<f64>> {
        self.of(service, |shown, decision| expected(shown, decision, ahead))
    }

    fn unit_capacity(&self, service: &ServiceName) -> Option<Dated<f64>> {
        self.of(service, |_, decision| Some(decision.inputs.settings.unit_capacity))
    }

    fn active(&self, service: &ServiceName) -> Option<Dated<bool>> {
        self.of(service, |_, decision| Some(decision.desired > 0))
    }

    fn admission(&self, service: &ServiceName) -> Option<Dated<Admission>> {
        self.of(service, |_, decision| {
            let share = advice(decision).throttle.map_or(1.0, |throttle| throttle.admit);
            let rate = decision.inputs.load.filter(|_| share < 1.0).map(|load| load * share);
            Some(Admission { share, rate })
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// Starts the servers that are configured; they end with `shutdown`.
pub(crate) async fn start(
    settings: &AdapterSettings,
    view: watch::Receiver<Arc<View>>,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, Failure> {
    let bound = bind(settings).await.map_err(Failure::outside)?;
    let answers = Arc::new(FromView::new(view));
    Ok(tokio::spawn(async move {
        if let Err(error) = bound.serve(answers, Arc::new(SystemClock), shutdown).await {
            tracing::error!("{error}");
        }
    }))
}
