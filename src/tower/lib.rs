//! A middleware for services on `tower` that logs each request as a record of the `requests` topic.
//!
//! **Owns** the record as a service writes it. **May depend on** `domain`. Rule: a request never waits for its log line: where
//! the sink is full the record is dropped, and counted.
//!
//! ```ignore
//! let (sender, records) = tokio::sync::mpsc::channel(10_000);
//! let log = RequestLogLayer::new("checkout", sender).instance("checkout-3");
//! let app = axum::Router::new().route("/cart", get(cart)).layer(log);
//! // A task of the service's own sends `records` to Kafka, as JSON.
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails should stop where it fails"))]

mod body;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Extensions, Request, Response, Uri};
use http_body::Body;
use pin_project_lite::pin_project;
use prescale_domain::{Clock, SystemClock, Timestamp};
use serde::Serialize;
use tokio::sync::mpsc::Sender;
use tower_layer::Layer;
use tower_service::Service;

pub use body::LoggedBody;

/// Status of a request whose caller was gone before the answer was complete; of NGINX's making.
const CALLER_GONE: u16 = 499;

/// One request, as `schemas/requests.avsc` has it. As JSON it is a record of the `requests` topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestRecord {
    /// When the request was received.
    pub ts: Timestamp,
    pub service: Arc<str>,
    pub route: Option<String>,
    /// Of the answer; 499 where the caller did not wait for it, `None` where the service failed without one.
    pub status: Option<u16>,
    /// From the request's head to the last byte of the answer.
    pub latency_ms: f64,
    /// Of the answer's body.
    pub bytes: u64,
    pub instance: Option<Arc<str>>,
}

/// Where records go.
pub trait Sink: Send + Sync + 'static {
    /// Takes the record, or refuses it at once; it must not wait.
    fn take(&self, record: RequestRecord) -> bool;
}

impl Sink for Sender<RequestRecord> {
    fn take(&self, record: RequestRecord) -> bool {
        self.try_send(record).is_ok()
    }
}

/// A function that takes every record.
impl<F: Fn(RequestRecord) + Send + Sync + 'static> Sink for F {
    fn take(&self, record: RequestRecord) -> bool {
        self(record);
        true
    }
}

type Route = dyn Fn(&Uri, &Extensions) -> Option<String> + Send + Sync;

struct Shared {
    service: Arc<str>,
    instance: Option<Arc<str>>,
    sink: Arc<dyn Sink>,
    route: Arc<Route>,
    clock: Arc<dyn Clock>,
    dropped: Arc<AtomicU64>,
}

/// Puts the log around a service. Clones share the sink, and the count of what was dropped.
#[derive(Clone)]
pub struct RequestLogLayer {
    shared: Arc<Shared>,
}

impl RequestLogLayer {
    /// The route is the path of the URL, unless [`RequestLogLayer::route`] says it better.
    pub fn new(service: &str, sink: impl Sink) -> Self {
        let shared = Shared {
            service: service.into(),
            instance: None,
            sink: Arc::new(sink),
            route: Arc::new(|uri, _| Some(uri.path().to_owned())),
            clock: Arc::new(SystemClock),
            dropped: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    #[must_use]
    pub fn instance(self, name: &str) -> Self {
        self.with(|shared| Shared { instance: Some(name.into()), ..shared })
    }

    /// How a route is named: paths with ids in them are one route each otherwise. With axum, the layer being put on by
    /// `Router::route_layer`: `|_, extensions| extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned())`.
    #[must_use]
    pub fn route(self, name: impl Fn(&Uri, &Extensions) -> Option<String> + Send + Sync + 'static) -> Self {
        self.with(|shared| Shared { route: Arc::new(name), ..shared })
    }

    #[must_use]
    pub fn clock(self, clock: impl Clock + 'static) -> Self {
        self.with(|shared| Shared { clock: Arc::new(clock), ..shared })
    }

    /// Records that the sink refused so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    fn with(self, change: impl FnOnce(Shared) -> Shared) -> Self {
        let Shared { service, instance, sink, route, clock, dropped } = &*self.shared;
        let copy = Shared {
            service: Arc::clone(service),
            instance: instance.clone(),
            sink: Arc::clone(sink),
            route: Arc::clone(route),
            clock: Arc::clone(clock),
            dropped: Arc::clone(dropped),
        };
        Self { shared: Arc::new(change(copy)) }
    }
}

impl fmt::Debug for RequestLogLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLogLayer").field("service", &self.shared.service).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RequestLogLayer {
    type Service = RequestLog<S>;

    fn layer(&self, inner: S) -> RequestLog<S> {
        RequestLog { inner, shared: Arc::clone(&self.shared) }
    }
}

/// A service whose requests are logged.
#[derive(Clone)]
pub struct RequestLog<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, A> Service<Request<B>> for RequestLog<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    A: Body,
{
    type Response = Response<LoggedBody<A>>;
    type Error = S::Error;
    type Future = Logged<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Logged<S::Future> {
        let line = Line {
            received: Instant::now(),
            record: Some(RequestRecord {
                ts: self.shared.clock.now(),
                service: Arc::clone(&self.shared.service),
                route: (self.shared.route)(request.uri(), request.extensions()),
                status: Some(CALLER_GONE),
                latency_ms: 0.0,
                bytes: 0,
                instance: self.shared.instance.clone(),
            }),
            shared: Arc::clone(&self.shared),
        };
        Logged { answer: self.inner.call(request), line: Some(line) }
    }
}

pin_project! {
    /// The answer to come.
    pub struct Logged<F> {
        #[pin]
        answer: F,
        line: Option<Line>,
    }
}

impl<F, A, E> Future for Logged<F>
where
    F: Future<Output = Result<Response<A>, E>>,
    A: Body,
{
    type Output = Result<Response<LoggedBody<A>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        let line = this.line.take();
        Poll::Ready(match answer {
            Ok(answer) => {
                let status = answer.status().as_u16();
                Ok(answer.map(|body| LoggedBody::new(body, line, status)))
            }
            Err(error) => {
                if let Some(line) = line {
                    line.end(None);
                }
                Err(error)
            }
        })
    }
}

/// A log line that is written once: when the answer is complete, or when nobody waits for it any more.
struct Line {
    received: Instant,
    /// `None` once it was written.
    record: Option<RequestRecord>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Line {
    fn count(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.bytes += bytes;
        }
    }

    fn end(mut self, status: Option<u16>) {
        if let Some(record) = &mut self.record {
            record.status = status;
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        record.latency_ms = self.received.elapsed().as_secs_f64() * 1000.0;
        if !self.shared.sink.take(record) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
