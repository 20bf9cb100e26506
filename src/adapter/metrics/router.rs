//! The route table, and who may ask. Rule: health is everybody's; anything else is asked by the front proxy for a user, where an
//! authority of it is configured.
//!
//! The API server authenticates and authorizes who asks it, and proxies the question with its own client certificate and the
//! user's name in a header (aggregation layer, request-header authentication). So that certificate and that header are all that
//! has to be seen here.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, MatchedPath, Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use prescale_telemetry::adapter::{Asked, Protocol};
use serde::Deserialize;
use serde_json::Value;

use super::status::Refusal;
use super::values::{self, Described};
use super::{CUSTOM, EXTERNAL, discovery};
use crate::Desk;
use crate::wire::Peer;

/// Whom the front proxy asks for (`--requestheader-username-headers`).
const USER: &str = "x-remote-user";

const HEADERS: [(HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "no-cache, private"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];

/// A path, its name where it is counted, and how its methods are built.
type Route = (&'static str, &'static str, fn() -> MethodRouter<Desk>);

const ROUTES: &[Route] = &[
    ("/healthz", "health", || get(healthy)),
    ("/livez", "health", || get(healthy)),
    ("/readyz", "health", || get(healthy)),
    ("/apis", "discovery", || get(async || Json(discovery::groups()))),
    ("/apis/external.metrics.k8s.io", "discovery", || get(async || Json(discovery::group(EXTERNAL)))),
    ("/apis/custom.metrics.k8s.io", "discovery", || get(async || Json(discovery::group(CUSTOM)))),
    ("/apis/external.metrics.k8s.io/v1beta1", "discovery", || get(async || Json(discovery::external()))),
    ("/apis/custom.metrics.k8s.io/v1beta2", "discovery", || get(async || Json(discovery::custom()))),
    ("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}", "external", || get(external)),
    ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/{resource}/{name}/{metric}", "custom", || get(custom)),
];

/// What may follow a path. Others, such as `timeout`, are the API server's.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Labels {
    label_selector: String,
    metric_label_selector: String,
}

/// All routes as a service.
pub(crate) fn router(desk: Desk, certified_only: bool) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |routes, (path, _, handlers)| routes.route(path, handlers()));
    let routes = routes
        .fallback(async |uri: Uri| Refusal::unknown_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method| Refusal::method(method.as_str()));
    let routes = if certified_only { routes.layer(middleware::from_fn(authenticate)) } else { routes };
    routes.layer(middleware::from_fn(finish)).with_state(desk)
}

async fn healthy() -> &'static str {
    "ok"
}

async fn external(
    State(desk): State<Desk>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Labels>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path((_, metric)) = path.map_err(|error| Refusal::bad_request(error.body_text()))?;
    let Query(labels) = query.map_err(|error| Refusal::bad_request(error.body_text()))?;
    values::external(&desk, &metric, &labels.label_selector).map(Json)
}

async fn custom(
    State(desk): State<Desk>,
    path: Result<Path<(String, String, String, String)>, PathRejection>,
    query: Result<Query<Labels>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path((namespace, resource, name, metric)) = path.map_err(|error| Refusal::bad_request(error.body_text()))?;
    let Query(labels) = query.map_err(|error| Refusal::bad_request(error.body_text()))?;
    let asked = Described {
        namespace: &namespace,
        resource: &resource,
        name: &name,
        metric: &metric,
        labels: &labels.label_selector,
        metric_labels: &labels.metric_label_selector,
    };
    values::custom(&desk, &asked).map(Json)
}

/// The name under which a route is counted.
fn call(path: Option<&MatchedPath>) -> &'static str {
    let path = path.map(MatchedPath::as_str);
    ROUTES.iter().find(|(known, ..)| Some(*known) == path).map_or("unmatched", |(_, call, _)| call)
}

async fn authenticate(request: Request, next: Next) -> Response {
    let health = call(request.extensions().get()) == "health";
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let certified = peer.is_some_and(|ConnectInfo(peer)| peer.certified);
    let user = request.headers().get(USER).is_some_and(|user| !user.is_empty());
    if health || (certified && user) {
        return next.run(request).await;
    }
    let message = if certified { "the front proxy names no user" } else { "no certificate of the front proxy" };
    Refusal::unauthorized(message).into_response()
}

/// Adds the headers and counts the request.
async fn finish(request: Request, next: Next) -> Response {
    let call = call(request.extensions().get());
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let result = match response.status() {
        StatusCode::OK => "ok",
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => "invalid",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::NOT_FOUND => "not-found",
        _ => "unavailable",
    };
    Asked { protocol: Protocol::Metrics, call, result }.emit();
    response
}
