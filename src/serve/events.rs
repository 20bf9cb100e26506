//! The calendar of events. Rule: reads are of what the loop knows; a write goes to the topic of events and nowhere else, is
//! answered once the brokers have it, and has its effect when the loop has read it back.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use prescale_controller::view::{EventLog, View};
use prescale_domain::{CalendarEvent, ServiceName, Timestamp};
use prescale_telemetry::serve::{EventChange, EventChanged, EventLogFailed};
use serde::Deserialize;

use crate::App;
use crate::api::{find, text};
use crate::event_body::{EventBody, EventInput, EventsBody, checked_id};
use crate::problem::Problem;
use crate::writer::Writer;

/// Bytes of a body: a thousand services with long names.
pub(crate) const BODY_MAX: usize = 256 * 1024;
/// Events in a page, unless asked for and at most.
const PAGE_MAX: usize = 500;
/// How long a write waits for those before it, each of which ends within some ten seconds.
const TURN_WITHIN: Duration = Duration::from_secs(20);
/// How long the loop may take to read back what was written, before the answer says that it has not yet.
const READ_BACK_WITHIN: Duration = Duration::from_secs(3);

/// Parameters of `/api/v1/events`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    service: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

/// Calendar events that are known now, by start.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(
    ("service" = Option<String>, Query, description = "only those that concern this service, or all services"),
    ("from" = Option<String>, Query, description = "only those that end after this time (RFC 3339)"),
    ("to" = Option<String>, Query, description = "only those that start before this time (RFC 3339)"),
    ("limit" = Option<usize>, Query, minimum = 1, maximum = 500, description = "events in the page; 500 unless given"),
    ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses(
    (status = 200, description = "a page of known events", body = ref("#/components/schemas/EventsBody")),
    (status = 400, description = "a parameter can't be understood", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 404, description = "no such service", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn events(
    State(app): State<App>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Json<EventsBody>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit {limit} is not in 1..{PAGE_MAX}")));
    }
    let (from, to) = (time("from", query.from.as_deref())?, time("to", query.to.as_deref())?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Problem::bad_request(format!("from {from} is not before to {to}")));
    }
    let after = query.after.as_deref().map(cursor).transpose()?;
    let view = app.view();
    let service = query.service.map(|name| find(&view, &name).map(|found| found.service.clone())).transpose()?;
    let concerns =
        |event: &CalendarEvent, service: &ServiceName| event.services.is_empty() || event.services.contains(service);
    let mut found: Vec<&CalendarEvent> = view
        .events
        .iter()
        .filter(|event| service.as_ref().is_none_or(|service| concerns(event, service)))
        .filter(|event| from.is_none_or(|from| event.end > from) && to.is_none_or(|to| event.start < to))
        .filter(|event| after.as_ref().is_none_or(|(start, id)| (event.start, &event.id) > (*start, id)))
        .collect();
    found.sort_by(|one, other| (one.start, &one.id).cmp(&(other.start, &other.id)));
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|event| format!("{}#{}", event.start, event.id));
    Ok(Json(EventsBody { events: found.into_iter().map(EventBody::new).collect(), next }))
}

/// One known event.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "events",
    params(("id" = String, Path, description = "id of the event, percent-encoded")), responses(
    (status = 200, description = "the event", body = ref("#/components/schemas/EventBody")),
    (status = 404, description = "no such event", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn event(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<EventBody>, Problem> {
    let id = text(id)?;
    known(&app.view(), &id).map(|event| Json(EventBody::new(event))).ok_or_else(|| Problem::unknown_event(&id))
}

/// Tells an event, or tells it anew; it is known from now on. Told again as it is, nothing changes.
#[utoipa::path(put, path = "/api/v1/events/{id}", tag = "events",
    params(("id" = String, Path, description = "id of the event, percent-encoded; not beginning with `calendar/`")),
    request_body(content = ref("#/components/schemas/EventInput"), content_type = "application/json"), responses(
    (status = 200, description = "the event was known and is now as told", body = ref("#/components/schemas/EventBody")),
    (status = 201, description = "the event is new", body = ref("#/components/schemas/EventBody")),
    (status = 202, description = "the event is on the topic of events; the loop has not read it yet",
        body = ref("#/components/schemas/EventBody")),
    (status = 400, description = "id or body can't be understood", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 403, description = "the caller may not change things", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 409, description = "a calendar outside Kafka tells this event, or a replay is running",
        content_type = "application/problem+json", body = ref("#/components/schemas/Problem")),
    (status = 413, description = "the body is too large", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 415, description = "the body is not declared as JSON", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 422, description = "fields can't be used: `errors` has each", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "Kafka has not acknowledged the event", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn put_event(
    State(app): State<App>,
    writer: Writer,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<EventBody>), Problem> {
    let id = text(id)?;
    checked_id(&id).map_err(Problem::bad_request)?;
    not_of_a_calendar(&id)?;
    let input = input(&headers, body)?;
    let before = known(&app.view(), &id).cloned();
    if let Some(known) = before.as_ref().filter(|known| input.says(known)) {
        return Ok((StatusCode::OK, Json(EventBody::new(known))));
    }
    let told = input.event(&id);
    let event = written(&app, move |log| log.tell(told)).await?;
    EventChanged { change: EventChange::Told, id: &id, peer: writer.peer }.emit();
    let read_back =
        read_back(&app, |view| known(view, &id).is_some_and(|known| known.known_at >= event.known_at)).await;
    let status = match (read_back, before) {
        (false, _) => StatusCode::ACCEPTED,
        (true, None) => StatusCode::CREATED,
        (true, Some(_)) => StatusCode::OK,
    };
    Ok((status, Json(EventBody::new(&event))))
}

/// Takes an event back: from now on nobody knows it.
#[utoipa::path(delete, path = "/api/v1/events/{id}", tag = "events",
    params(("id" = String, Path, description = "id of the event, percent-encoded")), responses(
    (status = 204, description = "the event is no longer known"),
    (status = 202, description = "this is on the topic of events; the loop has not read it yet"),
    (status = 403, description = "the caller may not change things", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 404, description = "no such event", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 409, description = "a calendar outside Kafka tells this event, or a replay is running",
        content_type = "application/problem+json", body = ref("#/components/schemas/Problem")),
    (status = 503, description = "Kafka has not acknowledged it", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn delete_event(
    State(app): State<App>,
    writer: Writer,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = text(id)?;
    let before = known(&app.view(), &id).map(|event| event.known_at).ok_or_else(|| Problem::unknown_event(&id))?;
    not_of_a_calendar(&id)?;
    let taken = id.clone();
    written(&app, move |log| log.take_back(&taken)).await?;
    EventChanged { change: EventChange::TakenBack, id: &id, peer: writer.peer }.emit();
    // Told anew in between, it is known for another reason.
    let read_back = read_back(&app, |view| known(view, &id).is_none_or(|known| known.known_at > before)).await;
    Ok(if read_back { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}

fn known<'a>(view: &'a View, id: &str) -> Option<&'a CalendarEvent> {
    view.events.iter().find(|event| event.id == id)
}

/// What a calendar outside Kafka tells would be told again as it was.
fn not_of_a_calendar(id: &str) -> Result<(), Problem> {
    match CalendarEvent::calendar_of(id) {
        Some(calendar) => Err(Problem::event_of_a_calendar(id, calendar)),
        None => Ok(()),
    }
}

fn input(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<EventInput, Problem> {
    let form = headers.get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok()).unwrap_or_default();
    // Pages of other origins can send some other forms without being asked for permission.
    if !form.split(';').next().is_some_and(|form| form.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::not_json(form));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(BODY_MAX),
        _ => Problem::bad_request(rejection.body_text()),
    })?;
    let value =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))?;
    EventInput::read(&value).map_err(Problem::invalid_event)
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let read = |text: &str| text.parse().map_err(|error| Problem::bad_request(format!("{name} {error}")));
    text.map(read).transpose()
}

/// The start and id of the last event of a page.
fn cursor(text: &str) -> Result<(Timestamp, String), Problem> {
    let parts = text.split_once('#').and_then(|(start, id)| Some((start.parse().ok()?, id.to_owned())));
    parts.ok_or_else(|| Problem::bad_request(format!("after `{text}` is not the `next` of a page; # is written %23")))
}

/// Runs a write on a blocking thread, one at a time. Once begun it goes on, also if the caller has left.
async fn written<T: Send + 'static>(
    app: &App,
    write: impl FnOnce(&dyn EventLog) -> Result<T, String> + Send + 'static,
) -> Result<T, Problem> {
    let log = app.handle.event_log.clone().ok_or_else(Problem::replay)?;
    let failed = |error: &str| {
        EventLogFailed { error }.emit();
        Problem::event_log(error)
    };
    let Ok(Ok(turn)) = tokio::time::timeout(TURN_WITHIN, app.writing.clone().acquire_owned()).await else {
        return Err(failed("others before it are still waiting for Kafka"));
    };
    let work = move || {
        let done = write(&*log);
        drop(turn);
        done
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(&error)),
        Err(panicked) => Err(failed(&panicked.to_string())),
    }
}

/// Waits until the view is as `wanted`; says whether it is.
async fn read_back(app: &App, mut wanted: impl FnMut(&View) -> bool) -> bool {
    let mut view = app.handle.view.clone();
    let wait = view.wait_for(|view: &Arc<View>| wanted(view));
    matches!(tokio::time::timeout(READ_BACK_WITHIN, wait).await, Ok(Ok(_)))
}
