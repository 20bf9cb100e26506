//! Each route as a reader sees it, without a socket.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use futures::StreamExt;
use prescale_controller::view::{DecisionArchive, Handle, View};
use prescale_domain::{Decision, ServiceName, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::router::ROUTES;
use crate::{App, fake, router};

const MINUTE: i64 = 2220;

/// An archive that can't be read.
struct Broken;

impl DecisionArchive for Broken {
    fn decision(&self, _: &str) -> Result<Option<Decision>, String> {
        Err("state.redb: short read".to_owned())
    }

    fn decisions(&self, _: Option<&ServiceName>, _: Option<Timestamp>, _: usize) -> Result<Vec<Decision>, String> {
        Err("state.redb: short read".to_owned())
    }
}

async fn answer(handle: &Handle, method: Method, path: &str) -> Response<Body> {
    let app = App::new(handle.clone(), CancellationToken::new());
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    router(app).oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec()).unwrap()
}

/// GETs `path` of the made-up world and compares status, type and JSON body (lists cut to three) with the snapshot.
#[track_caller]
fn check(name: &str, path: &str) {
    let (_sender, handle) = fake::handle(MINUTE);
    check_with(&handle, name, Method::GET, path);
}

#[track_caller]
fn check_with(handle: &Handle, name: &str, method: Method, path: &str) {
    let (status, form, body) = block_on(async {
        let response = answer(handle, method, path).await;
        let form = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status(), form, text(response).await)
    });
    let body: Value = serde_json::from_str(&body).unwrap();
    insta::assert_json_snapshot!(name, json!({ "status": status.as_u16(), "type": form, "body": short(body) }));
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Long lists become their first three elements and a word on the rest.
fn short(value: Value) -> Value {
    match value {
        Value::Array(list) if list.len() > 8 => {
            let rest = format!("… {} more", list.len() - 3);
            Value::Array(list.into_iter().take(3).map(short).chain([Value::String(rest)]).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(short).collect()),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, short(value))).collect(),
        other => other,
    }
}

#[test]
fn health_and_readiness() {
    check("healthz", "/healthz");
    check("readyz", "/readyz");
    let (sender, handle) = fake::handle(MINUTE);
    sender.send_modify(|view| {
        Arc::make_mut(view).ready = Err("kafka: no broker answers at localhost:9092".to_owned());
    });
    check_with(&handle, "readyz-not", Method::GET, "/readyz");
}

#[test]
fn services() {
    check("services", "/api/v1/services");
    check("service", "/api/v1/services/checkout");
    check("service-percent-encoded", "/api/v1/services/media%2Fresize");
    check("service-unknown", "/api/v1/services/chekout");
    check("service-not-utf8", "/api/v1/services/%ff");
}

#[test]
fn forecasts() {
    check("forecast", "/api/v1/services/checkout/forecast");
    check("forecast-missing", "/api/v1/services/catalog/forecast");
}

#[test]
fn pauses_and_experiments() {
    check("pauses", "/api/v1/pause");
    check("experiments", "/api/v1/experiments");
}

#[test]
fn shadows() {
    check("shadow", "/api/v1/shadow?limit=4");
    check("shadow-next", "/api/v1/shadow?limit=4&after=2026-11-16T00:00:00Z%23catalog");
    check("shadow-service", "/api/v1/services/checkout/shadow");
    check("shadow-unseen", "/api/v1/services/search/shadow");
    check("shadow-unknown-service", "/api/v1/services/nobody/shadow");
    check("shadow-limit-0", "/api/v1/shadow?limit=0");
    check("shadow-after-text", "/api/v1/shadow?after=yesterday");
    let (_sender, mut handle) = fake::handle(MINUTE);
    handle.shadow = None;
    check_with(&handle, "shadow-off", Method::GET, "/api/v1/shadow");
}

#[test]
fn pages_of_shadows_give_each_report_once_newest_day_first() {
    let (_sender, handle) = fake::handle(MINUTE);
    for limit in 1..=7 {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/shadow?limit={limit}{after}");
            let body: Value =
                block_on(async { serde_json::from_str(&text(answer(&handle, Method::GET, &path).await).await) })
                    .unwrap();
            assert_eq!(body["totals"].as_array().unwrap().len(), if after.is_empty() { 4 } else { 0 });
            let told =
                |report: &Value| [&report["day"], &report["service"]].map(|text| text.as_str().unwrap().to_owned());
            found.extend(body["days"].as_array().unwrap().iter().map(told));
            let Some(next) = body["next"].as_str() else { break };
            after = format!("&after={}", next.replace('#', "%23").replace('/', "%2F"));
        }
        // Three services that have decided, on two days.
        let days = ["2026-11-17T00:00:00Z", "2026-11-16T00:00:00Z"];
        let all = days.iter().flat_map(|day| ["catalog", "checkout", "media/resize"].map(|name| [*day, name]));
        assert_eq!(found, all.map(|pair| pair.map(str::to_owned)).collect::<Vec<_>>(), "{limit}");
    }
}

#[test]
fn events_and_snapshot() {
    check("events", "/api/v1/events");
    check("snapshot", "/api/v1/snapshot");
}

#[test]
fn decisions() {
    check("decisions", "/api/v1/decisions?limit=2&service=checkout");
    check("decisions-limit-0", "/api/v1/decisions?limit=0");
    check("decisions-limit-text", "/api/v1/decisions?limit=many");
    check("decisions-unknown-parameter", "/api/v1/decisions?offset=3");
    check("decisions-before-text", "/api/v1/decisions?before=yesterday");
    check("decisions-unknown-service", "/api/v1/decisions?service=nobody");
    check("decision-unknown", "/api/v1/decisions/checkout@2026-11-16T00:00:00Z%2300");
}

#[test]
fn an_archive_that_fails_is_a_problem_not_an_empty_page() {
    let (_sender, mut handle) = fake::handle(MINUTE);
    handle.archive = Arc::new(Broken);
    check_with(&handle, "decisions-archive-fails", Method::GET, "/api/v1/decisions");
    check_with(&handle, "decision-archive-fails", Method::GET, "/api/v1/decisions/x");
}

#[test]
fn unknown_paths_and_methods_are_problems() {
    check("path-unknown", "/api/v2/services");
    let (_sender, handle) = fake::handle(MINUTE);
    check_with(&handle, "method-unknown", Method::DELETE, "/api/v1/services");
    let allow = block_on(answer(&handle, Method::POST, "/api/v1/services")).headers()["allow"].clone();
    assert_eq!(allow, "GET,HEAD");
}

#[test]
fn a_decision_is_found_by_its_percent_encoded_id_in_view_and_archive() {
    let (_sender, handle) = fake::handle(MINUTE);
    let in_view = handle.view.borrow().services[&"checkout".into()].decisions[0].clone();
    let archived = handle.archive.decisions(Some(&"checkout".into()), Some(in_view.at), 1).unwrap().remove(0);
    for wanted in [&*in_view, &archived] {
        let id = wanted.id.0.replace('@', "%40").replace(':', "%3A").replace('#', "%23");
        let body =
            block_on(async { text(answer(&handle, Method::GET, &format!("/api/v1/decisions/{id}")).await).await });
        assert_eq!(body, serde_json::to_string(wanted).unwrap(), "the body is the decision, byte for byte");
    }
}

#[test]
fn pages_give_each_decision_once_newest_first() {
    let (_sender, handle) = fake::handle(MINUTE);
    let (mut ids, mut moments, mut before) = (Vec::new(), Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/decisions?limit=70{before}");
        let body: Value =
            block_on(async { serde_json::from_str(&text(answer(&handle, Method::GET, &path).await).await) }).unwrap();
        for decision in body["decisions"].as_array().unwrap() {
            ids.push(decision["id"].as_str().unwrap().to_owned());
            moments.push(decision["at"].as_str().unwrap().to_owned());
        }
        let Some(next) = body["next"].as_str() else { break };
        before = format!("&before={}", next.replace('#', "%23").replace('+', "%2B"));
    }
    // Three services that decide, 301 minutes in the archive; the view holds the newest hundred of each.
    assert_eq!(ids.len(), 3 * 301);
    assert!(moments.is_sorted_by(|one, other| one >= other));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3 * 301);
}

#[test]
fn the_page_and_its_parts_are_embedded() {
    let (_sender, handle) = fake::handle(MINUTE);
    for (path, form, part) in [
        ("/", "text/html; charset=utf-8", "<script src=\"/assets/app.js\""),
        ("/assets/app.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
        ("/assets/app.js", "text/javascript; charset=utf-8", "EventSource"),
        ("/assets/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let response = block_on(answer(&handle, Method::GET, path));
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], form, "{path}");
        let body = block_on(text(response));
        assert!(body.contains(part), "{path} has no {part}");
        assert!(!body.replace("http://www.w3.org/", "").contains("http"), "{path} refers to another origin");
    }
}

#[test]
fn every_answer_has_the_security_headers() {
    let (_sender, handle) = fake::handle(MINUTE);
    for path in ["/", "/metrics", "/api/v1/services", "/nowhere", "/api/v1/decisions?limit=x"] {
        let headers = block_on(answer(&handle, Method::GET, path)).headers().clone();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
    }
}

#[test]
fn requests_are_counted_by_route_not_by_path() {
    let (_sender, handle) = fake::handle(MINUTE);
    block_on(answer(&handle, Method::GET, "/api/v1/services/checkout"));
    block_on(answer(&handle, Method::GET, "/a/made/up/path"));
    let metrics = block_on(async { text(answer(&handle, Method::GET, "/metrics").await).await });
    assert!(
        metrics.contains(
            "prescale_serve_requests_total{route=\"/api/v1/services/{service}\",method=\"GET\",status=\"200\"}"
        ),
        "{metrics}"
    );
    assert!(
        metrics.contains("prescale_serve_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"}"),
        "{metrics}"
    );
    assert!(metrics.contains("prescale_serve_request_duration_seconds_bucket"), "{metrics}");
    assert!(!metrics.contains("made"), "{metrics}");
}

#[test]
fn the_stream_begins_with_a_full_frame_and_goes_on_with_what_is_new() {
    let (sender, handle) = fake::handle(MINUTE);
    let shutdown = CancellationToken::new();
    let app = App::new(handle, shutdown.clone());
    block_on(async {
        let request = Request::builder().uri("/api/v1/stream").body(Body::empty()).unwrap();
        let response = router(app).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut chunks = response.into_body().into_data_stream();
        let first = frame(&chunks.next().await.unwrap().unwrap());
        assert_eq!((first["full"].as_bool(), first["services"].as_array().unwrap().len()), (Some(true), 4));
        assert_eq!(first["services"][1]["load"].as_array().unwrap().len(), 1440);
        sender.send_replace(Arc::new(fake::view(MINUTE + 1)));
        let second = frame(&chunks.next().await.unwrap().unwrap());
        assert_eq!(second["full"], false);
        assert_eq!(second["status"]["version"], MINUTE + 1);
        let load = second["services"][1]["load"].as_array().unwrap();
        assert_eq!(load.len(), 7, "five windows again, the last one sent, and the new one");
        assert_eq!(second["services"][1]["decisions"].as_array().unwrap().len(), 2);
        shutdown.cancel();
        assert!(chunks.next().await.is_none(), "a stop ends the stream");
    });
}

/// The JSON of one server-sent event.
fn frame(chunk: &[u8]) -> Value {
    let event = std::str::from_utf8(chunk).unwrap();
    assert!(event.starts_with("event: frame\n"), "{}", &event[..60.min(event.len())]);
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(data).unwrap()
}

#[test]
fn streams_are_bounded() {
    let (_sender, handle) = fake::handle(MINUTE);
    let app = App::new(handle, CancellationToken::new());
    let open = || {
        let request = Request::builder().uri("/api/v1/stream").body(Body::empty()).unwrap();
        block_on(router(app.clone()).oneshot(request)).unwrap()
    };
    let held: Vec<_> = (0..crate::api::STREAMS_MAX).map(|_| open()).collect();
    assert_eq!(open().status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(held);
    assert_eq!(open().status(), StatusCode::OK);
}

#[test]
fn the_openapi_document_lists_every_route_of_the_api() {
    let document = crate::openapi::document();
    let page = |path: &str| path == "/" || path.starts_with("/assets/");
    let mut routes: Vec<&str> = ROUTES.iter().map(|(path, _)| *path).filter(|path| !page(path)).collect();
    let mut paths: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    routes.sort_unstable();
    paths.sort_unstable();
    assert_eq!(paths, routes);
    // With the methods that they take.
    let (_sender, handle) = fake::handle(MINUTE);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        let response = block_on(answer(&handle, Method::TRACE, &path));
        let allowed = response.headers()["allow"].to_str().unwrap().to_lowercase();
        let mut allowed: Vec<&str> = allowed.split(',').filter(|method| *method != "head").collect();
        let mut methods: Vec<&str> = operations.as_object().unwrap().keys().map(String::as_str).collect();
        allowed.sort_unstable();
        methods.sort_unstable();
        assert_eq!(methods, allowed, "{path}");
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not among the schemas");
    }
}

#[test]
fn bodies_conform_to_the_openapi_document() {
    let (_sender, handle) = fake::handle(MINUTE);
    let document = crate::openapi::document();
    for (path, body) in [
        ("/healthz", "HealthBody"),
        ("/readyz", "ReadyBody"),
        ("/api/v1/services", "ServicesBody"),
        ("/api/v1/services/checkout", "ServiceBody"),
        ("/api/v1/services/checkout/forecast", "ForecastBody"),
        ("/api/v1/services/checkout/models", "ModelsBody"),
        ("/api/v1/services/catalog/forecast", "ForecastBody"),
        ("/api/v1/pause", "PausesBody"),
        ("/api/v1/experiments", "ExperimentsBody"),
        ("/api/v1/shadow", "ShadowBody"),
        ("/api/v1/services/checkout/shadow", "ShadowBody"),
        ("/api/v1/decisions", "DecisionsBody"),
        ("/api/v1/events", "EventsBody"),
        ("/api/v1/events/autumn-sale", "EventBody"),
        ("/api/v1/snapshot", "Frame"),
        ("/api/v1/services/nobody", "Problem"),
    ] {
        let got: Value =
            block_on(async { serde_json::from_str(&text(answer(&handle, Method::GET, path).await).await) }).unwrap();
        let schema = json!({ "$ref": format!("#/components/schemas/{body}"), "components": document["components"] });
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let faults: Vec<String> =
            validator.iter_errors(&got).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert_eq!(faults, Vec::<String>::new(), "{path}");
    }
}

#[test]
fn a_view_without_services_is_served() {
    let (sender, handle) = fake::handle(MINUTE);
    sender.send_modify(|view| {
        let empty = View { services: Default::default(), ..(**view).clone() };
        *view = Arc::new(empty);
    });
    check_with(&handle, "services-empty", Method::GET, "/api/v1/services");
    check_with(&handle, "service-unknown-empty", Method::GET, "/api/v1/services/x");
}
