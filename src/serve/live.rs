//! The live view: a whole snapshot, then what changed, as server-sent events. Rule: a slow reader gets fewer frames, not
//! a queue, and never holds the loop up.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::stream::{self, Stream};
use prescale_controller::view::{ServiceView, View};
use prescale_domain::{Actuation, CalendarEvent, QuantileForecast, ServiceName, Timestamp};
use prescale_telemetry::serve::{StreamClosed, StreamOpened};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::api::STREAMS_MAX;
use crate::body::{DecisionBrief, ModelEventBody, ServiceSummary, StatusBody};
use crate::problem::Problem;

/// Least time between two frames of a stream: five a second.
const FRAME_EVERY: Duration = Duration::from_millis(200);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Decisions, actuations and model events in a frame, per service.
const RECORDS_MAX: usize = 40;
/// Windows sent again with each frame, since late data may have changed them.
const OVERLAP: i64 = 5;

/// What a dashboard needs. In a frame that is not full, the lists hold what is new since the frame before, and a little
/// of what was sent already; a reader replaces by moment or id.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Frame {
    /// Replaces all that the reader holds.
    full: bool,
    status: StatusBody,
    services: Vec<ServiceFrame>,
    events: Vec<CalendarEvent>,
}

/// One service in a frame. For size, moments in lists are milliseconds since the Unix epoch.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ServiceFrame {
    summary: ServiceSummary,
    /// Window start and load, null = gap.
    load: Vec<(i64, Option<f64>)>,
    /// Moment, units desired, units ready.
    capacity: Vec<(i64, u32, Option<u32>)>,
    forecast: Option<ForecastFrame>,
    /// Oldest first.
    decisions: Vec<DecisionBrief>,
    actuations: Vec<Actuation>,
    model_events: Vec<ModelEventBody>,
}

/// A forecast; `values[k]` is for the window that starts at `origin + (k + 1) · step`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ForecastFrame {
    origin: i64,
    step: i64,
    model: String,
    reason: String,
    levels: Vec<f64>,
    values: Vec<Vec<f64>>,
}

/// What a reader has been sent of one service, by the moment of the newest.
#[derive(Clone, Copy)]
struct Mark {
    first: Timestamp,
    load: Timestamp,
    capacity: Timestamp,
    decision: Timestamp,
    actuation: Timestamp,
    model: Timestamp,
}

/// The view as one full frame.
#[utoipa::path(get, path = "/api/v1/snapshot", tag = "live",
    responses((status = 200, description = "a full frame", body = ref("#/components/schemas/Frame"))))]
pub(crate) async fn snapshot(State(app): State<App>) -> Json<Frame> {
    Json(Frame::full(&app.view()))
}

/// Frames as server-sent events named `frame`, at most five a second: a full one, then one for each change of the view.
#[utoipa::path(get, path = "/api/v1/stream", tag = "live", responses(
    (status = 200, description = "frames as server-sent events", content_type = "text/event-stream",
        body = ref("#/components/schemas/Frame")),
    (status = 503, description = "too many streams are open", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn stream(
    State(app): State<App>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| Problem::too_many_streams(STREAMS_MAX))?;
    let reader = Reader::new(app.handle.view.clone(), app.shutdown.clone(), permit);
    let events = stream::unfold(reader, async |mut reader| {
        let frame = reader.next().await?;
        Some((Ok(frame), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One open stream.
struct Reader {
    view: watch::Receiver<Arc<View>>,
    shutdown: CancellationToken,
    marks: Option<BTreeMap<ServiceName, Mark>>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn new(view: watch::Receiver<Arc<View>>, shutdown: CancellationToken, permit: OwnedSemaphorePermit) -> Self {
        StreamOpened.emit();
        Self { view, shutdown, marks: None, _permit: permit }
    }

    /// The next frame; `None` when the loop or the server has ended.
    async fn next(&mut self) -> Option<Event> {
        if self.marks.is_some() {
            let view = &mut self.view;
            let changed = async {
                tokio::time::sleep(FRAME_EVERY).await;
                view.changed().await
            };
            tokio::select! {
                changed = changed => changed.ok()?,
                () = self.shutdown.cancelled() => return None,
            }
        }
        let view = self.view.borrow_and_update().clone();
        let frame = Frame::since(&view, self.marks.as_ref());
        self.marks = Some(view.services.iter().map(|(name, service)| (name.clone(), Mark::of(service))).collect());
        Event::default().event("frame").id(view.version.to_string()).json_data(&frame).ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        StreamClosed.emit();
    }
}

impl Frame {
    fn full(view: &View) -> Self {
        Self::since(view, None)
    }

    fn since(view: &View, marks: Option<&BTreeMap<ServiceName, Mark>>) -> Self {
        // History that grew at its old end, or another set of services, is sent whole.
        let marks = marks.filter(|marks| {
            marks.len() == view.services.len()
                && view
                    .services
                    .iter()
                    .all(|(name, service)| marks.get(name).is_some_and(|mark| Mark::of(service).first >= mark.first))
        });
        let services = view
            .services
            .iter()
            .map(|(name, service)| ServiceFrame::since(view, service, marks.and_then(|marks| marks.get(name))));
        Self {
            full: marks.is_none(),
            status: StatusBody::new(view),
            services: services.collect(),
            events: view.events.clone(),
        }
    }
}

impl ServiceFrame {
    fn since(view: &View, service: &ServiceView, mark: Option<&Mark>) -> Self {
        let mark = mark.copied().unwrap_or(Mark::NOTHING);
        let overlap = prescale_domain::Span::from_millis(view.step.millis().saturating_mul(OVERLAP));
        let load = service.load.iter().filter(|(start, _)| *start >= mark.load - overlap);
        let capacity = service.capacity.iter().filter(|point| point.at >= mark.capacity);
        let decisions = service.decisions.iter().filter(|decision| decision.at >= mark.decision);
        let actuations = service.actuations.iter().filter(|actuation| actuation.at >= mark.actuation);
        let model_events = service.model_events.iter().filter(|event| event.at >= mark.model);
        Self {
            summary: ServiceSummary::new(service),
            load: load.map(|(start, value)| (start.millis(), *value)).collect(),
            capacity: capacity.map(|point| (point.at.millis(), point.desired, point.ready)).collect(),
            forecast: service.forecast.as_ref().map(|forecast| ForecastFrame::new(forecast)),
            decisions: newest(decisions.map(|decision| DecisionBrief::new(decision))),
            actuations: newest(actuations.cloned()),
            model_events: newest(model_events.map(ModelEventBody::new)),
        }
    }
}

impl ForecastFrame {
    fn new(forecast: &QuantileForecast) -> Self {
        Self {
            origin: forecast.origin.millis(),
            step: forecast.step.millis(),
            model: forecast.model.clone(),
            reason: forecast.reason.clone(),
            levels: forecast.levels.clone(),
            values: forecast.values.clone(),
        }
    }
}

impl Mark {
    const NOTHING: Self = Self {
        first: Timestamp::MIN,
        load: Timestamp::MIN,
        capacity: Timestamp::MIN,
        decision: Timestamp::MIN,
        actuation: Timestamp::MIN,
        model: Timestamp::MIN,
    };

    fn of(service: &ServiceView) -> Self {
        Self {
            first: service.load.front().map_or(Timestamp::MAX, |(start, _)| *start),
            load: service.load.back().map_or(Timestamp::MIN, |(start, _)| *start),
            capacity: service.capacity.back().map_or(Timestamp::MIN, |point| point.at),
            decision: service.decisions.back().map_or(Timestamp::MIN, |decision| decision.at),
            actuation: service.actuations.back().map_or(Timestamp::MIN, |actuation| actuation.at),
            model: service.model_events.back().map_or(Timestamp::MIN, |event| event.at),
        }
    }
}

/// The last few, oldest first.
fn newest<T>(all: impl DoubleEndedIterator<Item = T>) -> Vec<T> {
    let mut last: Vec<T> = all.rev().take(RECORDS_MAX).collect();
    last.reverse();
    last
}
