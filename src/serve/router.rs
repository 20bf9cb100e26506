//! The route table and what holds for every answer. Rule: the table is the only list of routes; the OpenAPI document is
//! tested against it.

#[cfg(test)]
mod tests;

use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use prescale_telemetry::serve::RequestServed;

use crate::problem::Problem;
use crate::{App, api, events, experiments, live, pause, shadow};

/// A path and how its methods are built.
type Route = (&'static str, fn() -> MethodRouter<App>);

/// Path pattern and handlers of each route.
pub(crate) const ROUTES: &[Route] = &[
    ("/", || get(api::index)),
    ("/assets/app.css", || get(api::style)),
    ("/assets/app.js", || get(api::script)),
    ("/assets/icon.svg", || get(api::icon)),
    ("/healthz", || get(api::healthz)),
    ("/readyz", || get(api::readyz)),
    ("/metrics", || get(api::metrics)),
    ("/api/v1/services", || get(api::services)),
    ("/api/v1/services/{service}", || get(api::service)),
    ("/api/v1/services/{service}/forecast", || get(api::forecast)),
    ("/api/v1/services/{service}/models", || get(api::models)),
    ("/api/v1/services/{service}/shadow", || get(shadow::service_shadow)),
    ("/api/v1/services/{service}/pause", || post(pause::pause_service)),
    ("/api/v1/services/{service}/resume", || post(pause::resume_service)),
    ("/api/v1/pause", || get(pause::pauses).post(pause::pause)),
    ("/api/v1/resume", || post(pause::resume)),
    ("/api/v1/shadow", || get(shadow::shadow)),
    ("/api/v1/decisions", || get(api::decisions)),
    ("/api/v1/decisions/{id}", || get(api::decision)),
    ("/api/v1/events", || get(events::events)),
    ("/api/v1/events/{id}", || get(events::event).put(events::put_event).delete(events::delete_event)),
    ("/api/v1/experiments", || get(experiments::experiments)),
    ("/api/v1/snapshot", || get(live::snapshot)),
    ("/api/v1/stream", || get(live::stream)),
    ("/api/v1/openapi.json", || get(api::openapi)),
];

/// Sent with every answer. Scripts and styles come from this origin alone, nothing may frame the page, and nothing is
/// kept by caches.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// All routes as a service.
pub fn router(app: App) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |routes, (path, handlers)| routes.route(path, handlers()))
        .fallback(async |uri: Uri| Problem::unknown_route(&uri))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| Problem::method(method.as_str(), &uri))
        .layer(DefaultBodyLimit::max(events::BODY_MAX))
        .layer(middleware::from_fn(finish))
        .with_state(app)
}

/// Adds the headers and counts the request.
async fn finish(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let event = RequestServed {
        route: route.as_ref().map(MatchedPath::as_str),
        method: method.as_str(),
        status: response.status().as_u16(),
        duration: begun.elapsed(),
    };
    event.emit();
    response
}
