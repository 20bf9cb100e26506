//! One handler per route. Rule: a handler reads one view, whole, and answers; only the archive is waited for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prescale_controller::view::{Handle, ServiceView, View};
use prescale_domain::{Decision, ServiceName};
use prescale_telemetry::serve::ArchiveFailed;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::body::{
    DecisionsBody, ForecastBody, HealthBody, ModelsBody, ReadyBody, ServiceBody, ServiceSummary, ServicesBody,
    StatusBody,
};
use crate::history::{self, Before, Page};
use crate::problem::Problem;
use crate::writer::Writers;

/// Live streams that may be open at a time.
pub(crate) const STREAMS_MAX: usize = 64;
/// Decisions in a page, unless asked for and at most.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 500;
/// How long a read of the archive may take.
const ARCHIVE_WITHIN: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    pub(crate) handle: Handle,
    pub(crate) shutdown: CancellationToken,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) writers: Writers,
    /// Of what is written to Kafka, one at a time.
    pub(crate) writing: Arc<Semaphore>,
}

impl App {
    /// Lets programs on this machine change things.
    pub fn new(handle: Handle, shutdown: CancellationToken) -> Self {
        let [streams, writing] = [STREAMS_MAX, 1].map(|most| Arc::new(Semaphore::new(most)));
        Self { handle, shutdown, streams, writers: Writers::Local, writing }
    }

    /// Lets `writers` change things.
    pub fn with_writers(self, writers: Writers) -> Self {
        Self { writers, ..self }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.handle.view.borrow().clone()
    }
}

/// Parameters of `/api/v1/decisions`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionsQuery {
    service: Option<String>,
    limit: Option<usize>,
    before: Option<String>,
}

pub(crate) async fn index() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("assets/index.html"))
}

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("assets/app.css"))
}

pub(crate) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("assets/app.js"))
}

pub(crate) async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("assets/icon.svg"))
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "the process answers", body = ref("#/components/schemas/HealthBody"))))]
pub(crate) async fn healthz() -> Json<HealthBody> {
    Json(HealthBody { status: "alive" })
}

/// Whether everything needed to serve is there.
#[utoipa::path(get, path = "/readyz", tag = "operation", responses(
    (status = 200, description = "ready", body = ref("#/components/schemas/ReadyBody")),
    (status = 503, description = "not ready, and why", body = ref("#/components/schemas/ReadyBody"))))]
pub(crate) async fn readyz(State(app): State<App>) -> (StatusCode, Json<ReadyBody>) {
    match &app.view().ready {
        Ok(()) => (StatusCode::OK, Json(ReadyBody { ready: true, reason: None })),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(ReadyBody { ready: false, reason: Some(reason.clone()) }))
        }
    }
}

/// All metrics of the process as OpenMetrics text.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text", body = String)))]
pub(crate) async fn metrics() -> impl IntoResponse {
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], prescale_telemetry::render())
}

/// The state of the controller and of each service.
#[utoipa::path(get, path = "/api/v1/services", tag = "services",
    responses((status = 200, description = "all services by name", body = ref("#/components/schemas/ServicesBody"))))]
pub(crate) async fn services(State(app): State<App>) -> Json<ServicesBody> {
    let view = app.view();
    let services = view.services.values().map(|service| ServiceSummary::new(service)).collect();
    Json(ServicesBody { status: StatusBody::new(&view), services })
}

/// One service with a day of load and capacity.
#[utoipa::path(get, path = "/api/v1/services/{service}", tag = "services",
    params(("service" = String, Path, description = "name of the service")), responses(
    (status = 200, description = "the service", body = ref("#/components/schemas/ServiceBody")),
    (status = 404, description = "no such service", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn service(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ServiceBody>, Problem> {
    Ok(Json(ServiceBody::new(&*find(&app.view(), &text(name)?)?)))
}

/// The present forecast of a service as quantiles per step, or why there is none.
#[utoipa::path(get, path = "/api/v1/services/{service}/forecast", tag = "services",
    params(("service" = String, Path, description = "name of the service")), responses(
    (status = 200, description = "the forecast, or why there is none", body = ref("#/components/schemas/ForecastBody")),
    (status = 404, description = "no such service", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn forecast(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ForecastBody>, Problem> {
    Ok(Json(ForecastBody::new(&*find(&app.view(), &text(name)?)?)))
}

/// What serves a service and how well, how long until something better will, and the patterns of its load.
#[utoipa::path(get, path = "/api/v1/services/{service}/models", tag = "services",
    params(("service" = String, Path, description = "name of the service")), responses(
    (status = 200, description = "its models and patterns", body = ref("#/components/schemas/ModelsBody")),
    (status = 404, description = "no such service", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn models(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelsBody>, Problem> {
    Ok(Json(ModelsBody::new(&*find(&app.view(), &text(name)?)?)))
}

/// Recorded decisions with inputs and reasons, newest first.
#[utoipa::path(get, path = "/api/v1/decisions", tag = "decisions", params(
    ("service" = Option<String>, Query, description = "only this service"),
    ("limit" = Option<usize>, Query, minimum = 1, maximum = 500, description = "decisions in the page; 50 unless given"),
    ("before" = Option<String>, Query, description = "`next` of the page before, or a time (RFC 3339): only earlier ones")),
    responses(
    (status = 200, description = "a page of decisions", body = ref("#/components/schemas/DecisionsBody")),
    (status = 400, description = "a parameter can't be understood", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 404, description = "no such service", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the archive does not answer", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn decisions(
    State(app): State<App>,
    query: Result<Query<DecisionsQuery>, QueryRejection>,
) -> Result<Json<DecisionsBody>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit {limit} is not in 1..{PAGE_MAX}")));
    }
    let view = app.view();
    let service = query.service.map(|name| find(&view, &name).map(|found| found.service.clone())).transpose()?;
    let before = query.before.as_deref().map(Before::parse).transpose().map_err(Problem::bad_request)?;
    let page = Page { service, before, limit };
    let archive = app.handle.archive.clone();
    let (decisions, next) = archived(move || history::page(&view, &*archive, &page)).await?;
    Ok(Json(DecisionsBody { decisions, next }))
}

/// One recorded decision with everything that it was computed from.
#[utoipa::path(get, path = "/api/v1/decisions/{id}", tag = "decisions",
    params(("id" = String, Path, description = "id of the decision, percent-encoded")), responses(
    (status = 200, description = "the decision", body = ref("#/components/schemas/Decision")),
    (status = 404, description = "no such decision", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the archive does not answer", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn decision(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Decision>, Problem> {
    let id = text(id)?;
    let view = app.view();
    let seen = view.services.values().flat_map(|service| &service.decisions).find(|decision| decision.id.0 == id);
    if let Some(decision) = seen {
        return Ok(Json(Decision::clone(decision)));
    }
    let archive = app.handle.archive.clone();
    let wanted = id.clone();
    archived(move || archive.decision(&wanted)).await?.map(Json).ok_or_else(|| Problem::unknown_decision(&id))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1 document", content_type = "application/json")))]
pub(crate) async fn openapi() -> Response {
    Json(crate::openapi::document()).into_response()
}

pub(crate) fn text(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(text)| text).map_err(|rejection| Problem::bad_request(rejection.body_text()))
}

pub(crate) fn find(view: &View, name: &str) -> Result<Arc<ServiceView>, Problem> {
    view.services.get(&ServiceName::new(name)).cloned().ok_or_else(|| {
        let known: Vec<&str> = view.services.keys().map(ServiceName::as_str).collect();
        Problem::unknown_service(name, &known)
    })
}

/// Runs a read of the archive on a blocking thread.
pub(crate) async fn archived<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Problem> {
    let read = tokio::time::timeout(ARCHIVE_WITHIN, tokio::task::spawn_blocking(read)).await;
    let error = match read {
        Ok(Ok(Ok(found))) => return Ok(found),
        Ok(Ok(Err(error))) => error,
        Ok(Err(panicked)) => panicked.to_string(),
        Err(_) => format!("no answer within {} s", ARCHIVE_WITHIN.as_secs()),
    };
    ArchiveFailed { error: &error }.emit();
    Err(Problem::archive(&error))
}
