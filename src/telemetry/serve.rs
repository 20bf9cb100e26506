//! Events and metrics of `serve`. Rule: labels are bounded; a path that matches no route counts as `unmatched`.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::Labels;
use crate::catalogue::register;

/// The server accepts connections.
#[derive(Debug)]
pub struct Listening<'a> {
    pub url: &'a str,
}

/// A request was answered; for a stream, its head was.
#[derive(Debug)]
pub struct RequestServed<'a> {
    /// The pattern of the route, such as `/api/v1/decisions/{id}`; `None` = no route.
    pub route: Option<&'a str>,
    pub method: &'a str,
    pub status: u16,
    pub duration: Duration,
}

/// A reader began to follow the live view.
#[derive(Debug)]
pub struct StreamOpened;

/// A reader stopped following the live view.
#[derive(Debug)]
pub struct StreamClosed;

/// Recorded decisions could not be read.
#[derive(Debug)]
pub struct ArchiveFailed<'a> {
    pub error: &'a str,
}

/// What was done to an event of the calendar.
#[derive(Clone, Copy, Debug)]
pub enum EventChange {
    Told,
    TakenBack,
}

/// Somebody changed the calendar of events through the API, and Kafka has it.
#[derive(Debug)]
pub struct EventChanged<'a> {
    pub change: EventChange,
    pub id: &'a str,
    /// Where the caller is.
    pub peer: Option<IpAddr>,
}

/// A change of the calendar of events did not reach Kafka.
#[derive(Debug)]
pub struct EventLogFailed<'a> {
    pub error: &'a str,
}

type Durations = Family<Labels, Histogram, fn() -> Histogram>;

struct Metrics {
    requests: Family<Labels, Counter>,
    durations: Durations,
    streams: Gauge,
    archive_failures: Counter,
    event_changes: Family<Labels, Counter>,
    event_failures: Counter,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        requests: register("serve_requests", "HTTP requests answered, by route, method and status", Family::default()),
        durations: register(
            "serve_request_duration_seconds",
            "Time from a request to the head of its answer, by route",
            Durations::new_with_constructor(histogram),
        ),
        streams: register("serve_streams_open", "Readers that follow the live view now", Gauge::default()),
        archive_failures: register(
            "serve_archive_failures",
            "Reads of recorded decisions that failed",
            Counter::default(),
        ),
        event_changes: register(
            "serve_event_changes",
            "Changes of the calendar of events through the API, by change (told, taken-back)",
            Family::default(),
        ),
        event_failures: register(
            "serve_event_failures",
            "Changes of the calendar of events that Kafka has not acknowledged",
            Counter::default(),
        ),
    })
}

fn histogram() -> Histogram {
    // From a body out of memory to a read of the state file on a busy disk.
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5])
}

impl Listening<'_> {
    pub fn emit(&self) {
        // Registers all metrics, so that the first scrape has them at zero.
        metrics();
        tracing::info!(url = self.url, "serving API and dashboard");
    }
}

impl RequestServed<'_> {
    pub fn emit(&self) {
        let route = self.route.unwrap_or("unmatched");
        // Methods are free text on the wire.
        let method = match self.method {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => self.method,
            _ => "other",
        };
        let labels =
            vec![("route", route.to_owned()), ("method", method.to_owned()), ("status", self.status.to_string())];
        metrics().requests.get_or_create(&labels).inc();
        metrics().durations.get_or_create(&vec![("route", route.to_owned())]).observe(self.duration.as_secs_f64());
        tracing::debug!(route, method, status = self.status, seconds = self.duration.as_secs_f64(), "request served");
    }
}

impl StreamOpened {
    pub fn emit(&self) {
        let open = metrics().streams.inc() + 1;
        tracing::debug!(open, "live stream opened");
    }
}

impl StreamClosed {
    pub fn emit(&self) {
        let open = metrics().streams.dec() - 1;
        tracing::debug!(open, "live stream closed");
    }
}

impl ArchiveFailed<'_> {
    pub fn emit(&self) {
        metrics().archive_failures.inc();
        tracing::warn!(error = self.error, "failed to read recorded decisions");
    }
}

impl EventChanged<'_> {
    pub fn emit(&self) {
        let change = match self.change {
            EventChange::Told => "told",
            EventChange::TakenBack => "taken-back",
        };
        let peer = self.peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        metrics().event_changes.get_or_create(&vec![("change", change.to_owned())]).inc();
        tracing::info!(change, id = self.id, peer, "event changed through the API");
    }
}

impl EventLogFailed<'_> {
    pub fn emit(&self) {
        metrics().event_failures.inc();
        tracing::warn!(error = self.error, "failed to write to the topic of events");
    }
}
