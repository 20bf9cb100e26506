//! The kill switch. Rule: an order goes to the loop itself, so that it works when Kafka does not, and is answered once it is
//! kept; who gave it is the address that it came from, until callers have names.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use prescale_controller::view::{PauseChange, PauseOrder, Pauses};
use prescale_domain::{Pause, ServiceName};
use schemars::JsonSchema;
use serde::Serialize;

use crate::App;
use crate::api::{find, text};
use crate::problem::Problem;
use crate::writer::Writer;

/// `/api/v1/pause`: whose capacity does not change.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PausesBody {
    /// All services are paused, whether they are by themselves or not.
    all: Option<Pause>,
    /// Services that are paused by themselves.
    services: BTreeMap<String, Pause>,
    /// Who has paused and resumed, newest first.
    changes: Vec<PauseChange>,
}

impl PausesBody {
    fn new(pauses: &Pauses) -> Self {
        Self {
            all: pauses.all.clone(),
            services: pauses.services.iter().map(|(name, pause)| (name.to_string(), pause.clone())).collect(),
            changes: pauses.changes.iter().rev().cloned().collect(),
        }
    }
}

/// What is paused, by whom and since when.
#[utoipa::path(get, path = "/api/v1/pause", tag = "pause",
    responses((status = 200, description = "what is paused", body = ref("#/components/schemas/PausesBody"))))]
pub(crate) async fn pauses(State(app): State<App>) -> Json<PausesBody> {
    Json(PausesBody::new(&app.view().pauses))
}

/// Stops all changes of all services from the next decision on; decisions go on being made and told.
#[utoipa::path(post, path = "/api/v1/pause", tag = "pause", responses(
    (status = 200, description = "what is paused now", body = ref("#/components/schemas/PausesBody")),
    (status = 403, description = "the caller may not change things", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 409, description = "a replay is running", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the loop does not answer", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn pause(State(app): State<App>, writer: Writer) -> Result<Json<PausesBody>, Problem> {
    give(&app, &writer, None, true).await
}

/// Takes the stop of all services back; those that are paused by themselves stay so.
#[utoipa::path(post, path = "/api/v1/resume", tag = "pause", responses(
    (status = 200, description = "what is paused now", body = ref("#/components/schemas/PausesBody")),
    (status = 403, description = "the caller may not change things", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 409, description = "a replay is running", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the loop does not answer", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn resume(State(app): State<App>, writer: Writer) -> Result<Json<PausesBody>, Problem> {
    give(&app, &writer, None, false).await
}

/// Stops all changes of one service.
#[utoipa::path(post, path = "/api/v1/services/{service}/pause", tag = "pause",
    params(("service" = String, Path, description = "name of the service")), responses(
    (status = 200, description = "what is paused now", body = ref("#/components/schemas/PausesBody")),
    (status = 403, description = "the caller may not change things", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 404, description = "no such service", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 409, description = "a replay is running", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the loop does not answer", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn pause_service(
    State(app): State<App>,
    writer: Writer,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<PausesBody>, Problem> {
    let service = find(&app.view(), &text(name)?)?.service.clone();
    give(&app, &writer, Some(service), true).await
}

/// Takes the stop of one service back; while all are paused it stays paused with them.
#[utoipa::path(post, path = "/api/v1/services/{service}/resume", tag = "pause",
    params(("service" = String, Path, description = "name of the service")), responses(
    (status = 200, description = "what is paused now", body = ref("#/components/schemas/PausesBody")),
    (status = 403, description = "the caller may not change things", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 404, description = "no such service", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 409, description = "a replay is running", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem")),
    (status = 503, description = "the loop does not answer", content_type = "application/problem+json",
        body = ref("#/components/schemas/Problem"))))]
pub(crate) async fn resume_service(
    State(app): State<App>,
    writer: Writer,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<PausesBody>, Problem> {
    let service = find(&app.view(), &text(name)?)?.service.clone();
    give(&app, &writer, Some(service), false).await
}

async fn give(
    app: &App,
    writer: &Writer,
    service: Option<ServiceName>,
    pause: bool,
) -> Result<Json<PausesBody>, Problem> {
    let switch = app.handle.pause.clone().ok_or_else(Problem::replay_goes_on)?;
    let by = writer.peer.map(|peer| peer.to_string()).unwrap_or_default();
    // Once given it is carried out, also if the caller has left.
    let given = tokio::spawn(async move { switch.give(PauseOrder { service, pause, by }).await }).await;
    let pauses = given.map_err(|panicked| panicked.to_string()).and_then(|answer| answer);
    pauses.map(|pauses| Json(PausesBody::new(&pauses))).map_err(|error| Problem::no_answer(&error))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::extract::ConnectInfo;
    use axum::http::Request;
    use prescale_controller::view::Handle;
    use serde_json::Value;
    use std::net::SocketAddr;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use crate::{App, fake, router};

    async fn post(handle: &Handle, path: &str, peer: &str) -> (u16, Value) {
        let app = App::new(handle.clone(), CancellationToken::new());
        let mut request = Request::post(path).header("host", "localhost").body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        let response = router(app).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap())
    }

    #[test]
    fn who_may_not_write_may_not_pause_and_a_replay_goes_on() {
        let (_sender, handle) = fake::handle(2220);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (path, peer, expected, code) in [
                ("/api/v1/pause", "10.0.0.9:1", 403, "not-permitted"),
                ("/api/v1/services/checkout/resume", "10.0.0.9:1", 403, "not-permitted"),
                ("/api/v1/services/nobody/pause", "127.0.0.1:1", 404, "unknown-service"),
                ("/api/v1/pause", "127.0.0.1:1", 409, "replay-goes-on"),
                ("/api/v1/services/checkout/pause", "127.0.0.1:1", 409, "replay-goes-on"),
            ] {
                let (status, body) = post(&handle, path, peer).await;
                let kind = format!("urn:prescale:problem:{code}");
                assert_eq!((status, body["type"].as_str()), (expected, Some(kind.as_str())), "{path} {peer}");
            }
        });
    }
}
