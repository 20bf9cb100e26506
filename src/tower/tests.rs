//! What is logged of a request, in each way that it can end.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use prescale_domain::{Clock, Timestamp};
use serde_json::json;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{RequestLogLayer, RequestRecord};

#[derive(Clone, Copy)]
struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000)
    }
}

type Records = Arc<Mutex<Vec<RequestRecord>>>;

fn recorder() -> (RequestLogLayer, Records) {
    let records = Records::default();
    let kept = Arc::clone(&records);
    let log = RequestLogLayer::new("checkout", move |record| kept.lock().unwrap().push(record)).clock(Frozen);
    (log, records)
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// The one record that there must be by now.
fn only(records: &Records) -> RequestRecord {
    let records = records.lock().unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    records[0].clone()
}

async fn answer(body: &'static str, status: u16) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(Response::builder().status(status).body(Full::from(body)).unwrap())
}

#[tokio::test]
async fn a_request_is_logged_when_its_answer_is_complete() {
    let (log, records) = recorder();
    let service = log.instance("checkout-3").layer(service_fn(|_| answer("hello, you", 201)));
    let response = service.oneshot(get("/cart?user=7")).await.unwrap();
    assert_eq!(*records.lock().unwrap(), [], "the answer is not complete");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello, you");
    let record = only(&records);
    assert!((20.0..5000.0).contains(&record.latency_ms), "{record:?}");
    let written = serde_json::to_value(RequestRecord { latency_ms: 20.5, ..record }).unwrap();
    let expected = json!({"ts": "2023-11-14T22:13:20Z", "service": "checkout", "route": "/cart", "status": 201,
        "latency_ms": 20.5, "bytes": 10, "instance": "checkout-3"});
    assert_eq!(written, expected);
}

#[tokio::test]
async fn bodies_in_parts_are_counted_and_empty_ones_are_not_waited_for() {
    let (log, records) = recorder();
    let parts = || {
        let frames = ["one", "three", ""].map(|part| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(part))));
        StreamBody::new(Parts(frames.into_iter().collect()))
    };
    let service = log.layer(service_fn(move |_| async move { Ok::<_, Infallible>(Response::new(parts())) }));
    let body = service.oneshot(get("/")).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "onethree");
    assert_eq!(only(&records).bytes, 8);

    let (log, records) = recorder();
    let empty = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    let response = log.layer(empty).oneshot(get("/")).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!((only(&records).status, only(&records).bytes), (Some(200), 0));
}

/// A body that comes in parts.
struct Parts(std::collections::VecDeque<Result<http_body::Frame<Bytes>, Infallible>>);

impl futures::Stream for Parts {
    type Item = Result<http_body::Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

#[tokio::test]
async fn whoever_does_not_wait_is_logged_too() {
    let (log, records) = recorder();
    let slow = service_fn(|_| async {
        std::future::pending::<()>().await;
        answer("", 200).await
    });
    let asked = log.layer(slow).oneshot(get("/slow"));
    assert!(tokio::time::timeout(Duration::from_millis(10), asked).await.is_err());
    assert_eq!(only(&records).status, Some(499));

    let (log, records) = recorder();
    let response = log.layer(service_fn(|_| answer("half", 200))).oneshot(get("/")).await.unwrap();
    drop(response);
    assert_eq!((only(&records).status, only(&records).bytes), (Some(499), 0));
}

#[tokio::test]
async fn a_service_that_fails_has_no_status_and_its_error_goes_on() {
    let (log, records) = recorder();
    let broken = service_fn(|_: Request<()>| async { Err::<Response<Empty<Bytes>>, _>("broken") });
    assert_eq!(log.layer(broken).oneshot(get("/")).await.unwrap_err(), "broken");
    assert_eq!(only(&records).status, None);
}

#[tokio::test]
async fn a_full_sink_loses_lines_and_never_a_request() {
    let (sender, mut records) = tokio::sync::mpsc::channel(3);
    let log = RequestLogLayer::new("checkout", sender);
    let mut service = log.clone().layer(service_fn(|_| answer("x", 200)));
    for _ in 0..5 {
        let response = service.ready().await.unwrap().call(get("/")).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "x");
    }
    assert_eq!(log.dropped(), 2);
    let mut kept = 0;
    while records.try_recv().is_ok() {
        kept += 1;
    }
    assert_eq!(kept, 3);
    // Nobody reads any more: still no request is hurt.
    drop(records);
    service.ready().await.unwrap().call(get("/")).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(log.dropped(), 3);
}

#[tokio::test]
async fn a_route_can_be_named_by_what_was_matched() {
    #[derive(Clone)]
    struct Matched(&'static str);
    let (log, records) = recorder();
    let log = log.route(|_, extensions| extensions.get::<Matched>().map(|matched| matched.0.to_owned()));
    let mut request = get("/cart/17");
    request.extensions_mut().insert(Matched("/cart/{id}"));
    let service = log.layer(service_fn(|_| answer("", 200)));
    drop(service.oneshot(request).await.unwrap().into_body().collect().await.unwrap());
    assert_eq!(only(&records).route.as_deref(), Some("/cart/{id}"));
}
