//! The two APIs as a client of Kubernetes sees them, without a socket.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use prescale_domain::{Span, Timestamp};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::Desk;
use crate::fake::{HandClock, Known, Scripted};
use crate::wire::Peer;

const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop";
const CUSTOM: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop";

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(1_795_766_400_000) + Span::from_minutes(minute)
}

/// `web` and `api` are fresh at minute 10, `old` is not, `new` has no values yet.
fn desk() -> Desk {
    let web = Known {
        at: minute(10),
        units: Some(3),
        units_ahead: vec![(Span::from_minutes(5), 7)],
        load: Some(1234.5),
        load_ahead: vec![(Span::from_minutes(5), 2000.0)],
        ..Known::default()
    };
    let api = Known { units: Some(0), load: Some(0.0), ..web.clone() };
    let old = Known { at: minute(0), ..web.clone() };
    let new = Known { at: minute(10), ..Known::default() };
    let answers = Scripted::new([("web", web), ("api", api), ("old", old), ("new", new)]);
    Desk::new(Arc::new(answers), Arc::new(HandClock::new(minute(11))), Span::from_minutes(3))
}

async fn ask(request: Request<Body>, certified_only: bool) -> (StatusCode, Value) {
    let response = router(desk(), certified_only).oneshot(request).await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()["cache-control"], "no-cache, private");
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let json = serde_json::from_slice(&body);
    (status, json.unwrap_or_else(|_| Value::String(String::from_utf8(body.to_vec()).unwrap())))
}

async fn get(path: &str) -> (StatusCode, Value) {
    ask(Request::get(path).body(Body::empty()).unwrap(), false).await
}

/// The values of an answer that is to be given.
async fn values(path: &str) -> Vec<String> {
    let (status, body) = get(path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["items"].as_array().unwrap().iter().map(|item| item["value"].as_str().unwrap().to_owned()).collect()
}

/// The reason and the message of one that is not.
async fn refusal(path: &str) -> (String, String) {
    let (status, body) = get(path).await;
    assert_eq!(body["kind"], "Status", "{body}");
    assert_eq!(body["code"], status.as_u16());
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (text("reason"), text("message"))
}

#[tokio::test]
async fn discovery_lists_what_there_is() {
    insta::assert_json_snapshot!("apis", get("/apis").await.1);
    insta::assert_json_snapshot!("external_group", get("/apis/external.metrics.k8s.io").await.1);
    insta::assert_json_snapshot!("external_resources", get("/apis/external.metrics.k8s.io/v1beta1").await.1);
    insta::assert_json_snapshot!("custom_group", get("/apis/custom.metrics.k8s.io").await.1);
    insta::assert_json_snapshot!("custom_resources", get("/apis/custom.metrics.k8s.io/v1beta2").await.1);
}

#[tokio::test]
async fn what_is_listed_is_answered() {
    let (_, external) = get("/apis/external.metrics.k8s.io/v1beta1").await;
    for resource in external["resources"].as_array().unwrap() {
        let metric = resource["name"].as_str().unwrap();
        assert_eq!(values(&format!("{EXTERNAL}/{metric}?labelSelector=service%3Dweb")).await.len(), 1, "{metric}");
    }
    let (_, custom) = get("/apis/custom.metrics.k8s.io/v1beta2").await;
    for resource in custom["resources"].as_array().unwrap() {
        let (object, metric) = resource["name"].as_str().unwrap().split_once('/').unwrap();
        assert_eq!(values(&format!("{CUSTOM}/{object}/web/{metric}")).await.len(), 1, "{object} {metric}");
    }
}

#[tokio::test]
async fn external_metrics_are_of_the_services_that_the_labels_select() {
    let url = format!("{EXTERNAL}/prescale_desired_units?labelSelector=service%3Dweb");
    insta::assert_json_snapshot!("external_value", get(&url).await.1);
    let url = format!("{EXTERNAL}/prescale_forecast_load?labelSelector=service%3Dweb%2Cahead%3D10m");
    insta::assert_json_snapshot!("external_value_ahead", get(&url).await.1);
    for (selector, expected) in [
        ("service=api", vec!["0"]),
        ("service in (web,api)", vec!["0", "3"]),
        ("service!=old,service!=new", vec!["0", "3"]),
        ("service=web,ahead=5m", vec!["7"]),
        ("service=web,ahead=1m", vec!["3"]),
    ] {
        let selector = selector.replace('=', "%3D").replace(',', "%2C").replace(' ', "+");
        let url = format!("{EXTERNAL}/prescale_desired_units?labelSelector={selector}");
        assert_eq!(values(&url).await, expected, "{selector}");
    }
    assert_eq!(values(&format!("{EXTERNAL}/prescale_forecast_load?labelSelector=service%3Dweb")).await, ["1234500m"]);
}

#[tokio::test]
async fn custom_metrics_are_of_the_object_of_the_name() {
    insta::assert_json_snapshot!(
        "custom_value",
        get(&format!("{CUSTOM}/deployments.apps/web/prescale_desired_units")).await.1
    );
    let url = format!(
        "{CUSTOM}/deployments.apps/frontend/prescale_desired_units?metricLabelSelector=service%3Dweb%2Cahead%3D5m"
    );
    insta::assert_json_snapshot!("custom_value_selected", get(&url).await.1);
}

#[tokio::test]
async fn a_stale_answer_is_an_error_and_spoils_the_sum() {
    for url in [
        format!("{EXTERNAL}/prescale_desired_units?labelSelector=service%3Dold"),
        format!("{EXTERNAL}/prescale_desired_units?labelSelector=service+in+%28web%2Cold%29"),
        format!("{EXTERNAL}/prescale_forecast_load?labelSelector=service%3Dold"),
        format!("{CUSTOM}/services/old/prescale_desired_units"),
        format!("{CUSTOM}/services/new/prescale_desired_units"),
    ] {
        assert_eq!(refusal(&url).await.0, "ServiceUnavailable", "{url}");
    }
    let (status, body) = get(&format!("{EXTERNAL}/prescale_desired_units?labelSelector=service%3Dold")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    insta::assert_json_snapshot!("stale", body);
}

#[tokio::test]
async fn errors_are_status_objects() {
    let mut table = Vec::new();
    for path in [
        "/",
        "/openapi/v2",
        "/apis/metrics.k8s.io/v1beta1",
        &format!("{EXTERNAL}/cpu"),
        &format!("{EXTERNAL}/prescale_desired_units?labelSelector=service%3Dnone"),
        &format!("{EXTERNAL}/prescale_desired_units?labelSelector=service+like+web"),
        &format!("{EXTERNAL}/prescale_desired_units?labelSelector=service%3Dweb%2Cahead%3Dsoon"),
        &format!("{EXTERNAL}/prescale_desired_units?labelSelector=service%3Dweb%2Cahead%21%3D5m"),
        &format!("{EXTERNAL}/prescale%ffunits"),
        &format!("{CUSTOM}/deployments.apps/none/prescale_desired_units"),
        &format!("{CUSTOM}/pods/web/prescale_desired_units"),
        &format!("{CUSTOM}/deployments.apps/*/prescale_desired_units?labelSelector=app%3Dweb"),
        &format!("{CUSTOM}/deployments.apps/web/prescale_desired_units?metricLabelSelector=team%3Dred"),
    ] {
        let (reason, message) = refusal(path).await;
        table.push(format!("{path}\n  {reason}: {message}\n"));
    }
    insta::assert_snapshot!("errors", table.concat());
    insta::assert_json_snapshot!("not_found", get(&format!("{EXTERNAL}/cpu")).await.1);
    let request = Request::delete(format!("{EXTERNAL}/prescale_desired_units")).body(Body::empty()).unwrap();
    insta::assert_json_snapshot!("method", ask(request, false).await.1);
}

#[tokio::test]
async fn only_the_front_proxy_may_ask_where_its_authority_is_configured() {
    let request = |path: &str, certified: bool, user: Option<&str>| {
        let mut request = Request::get(path).extension(ConnectInfo(Peer { certified }));
        if let Some(user) = user {
            request = request.header("X-Remote-User", user);
        }
        request.body(Body::empty()).unwrap()
    };
    let metric = format!("{CUSTOM}/services/web/prescale_desired_units");
    for path in [metric.as_str(), "/apis", "/openapi/v2"] {
        for (certified, user) in [(false, Some("hpa")), (true, None), (true, Some(""))] {
            let (status, body) = ask(request(path, certified, user), true).await;
            assert_eq!((status, &body["reason"]), (StatusCode::UNAUTHORIZED, &json!("Unauthorized")), "{path}");
        }
    }
    let (status, _) = ask(request(&metric, true, Some("system:serviceaccount:kube-system:hpa")), true).await;
    assert_eq!(status, StatusCode::OK);
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(ask(request(path, false, None), true).await, (StatusCode::OK, json!("ok")), "{path}");
    }
}
