//! What others ask of Prescale in their own protocols. Metrics: `prescale_adapter_*`. Rule: labels are bounded; no name that
//! a caller sends becomes one.

use std::net::SocketAddr;
use std::sync::OnceLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::Labels;
use crate::catalogue::register;

/// By which protocol somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// External and custom metrics of Kubernetes.
    Metrics,
    /// KEDA's external scaler.
    Keda,
    /// Envoy's rate-limit service.
    RateLimit,
}

/// A server accepts connections.
#[derive(Debug)]
pub struct AdapterListening {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub tls: bool,
    /// Whoever asks has to show a certificate.
    pub client_certificates: bool,
}

/// A server speaks TLS with a certificate that it made itself.
#[derive(Debug)]
pub struct CertificateMade {
    pub protocol: Protocol,
}

/// A connection ended before anything was asked.
#[derive(Debug)]
pub struct HandshakeFailed<'a> {
    pub protocol: Protocol,
    pub error: &'a str,
}

/// Something was asked and answered; for a stream, its head was.
#[derive(Debug)]
pub struct Asked {
    pub protocol: Protocol,
    /// The name of the call, of a closed list.
    pub call: &'static str,
    /// `ok`, or the class of the error.
    pub result: &'static str,
}

/// A caller began to follow changes.
#[derive(Debug)]
pub struct FollowerCame;

/// A caller stopped following changes.
#[derive(Debug)]
pub struct FollowerLeft;

/// How a question of the rate-limit service was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitOutcome {
    Admitted,
    OverLimit,
    /// Admitted, because nothing is known of what was asked for.
    Unknown,
    /// Admitted, because what is known is too old.
    Stale,
}

/// One descriptor of a question was answered.
#[derive(Debug)]
pub struct RateLimitAnswered<'a> {
    /// One of the configured classes.
    pub class: &'a str,
    pub outcome: RateLimitOutcome,
}

struct Metrics {
    asked: Family<Labels, Counter>,
    handshakes: Family<Labels, Counter>,
    followers: Gauge,
    rate_limits: Family<Labels, Counter>,
}

fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        asked: register("adapter_requests", "Questions of other systems, by protocol, call and result", Family::default()),
        handshakes: register(
            "adapter_handshake_failures",
            "Connections that ended before anything was asked, by protocol",
            Family::default(),
        ),
        followers: register("adapter_streams_open", "Callers that follow changes now", Gauge::default()),
        rate_limits: register(
            "adapter_rate_limits",
            "Descriptors that the rate-limit service answered, by class and outcome (admitted, over-limit, unknown, stale)",
            Family::default(),
        ),
    })
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Keda => "keda",
            Self::RateLimit => "rate-limit",
        }
    }
}

impl AdapterListening {
    pub fn emit(&self) {
        let (protocol, address) = (self.protocol.as_str(), self.address.to_string());
        let handshakes = &metrics().handshakes;
        drop(handshakes.get_or_create(&vec![("protocol", protocol.to_owned())]));
        tracing::info!(
            protocol,
            address,
            tls = self.tls,
            client_certificates = self.client_certificates,
            "answering other systems"
        );
    }
}

impl CertificateMade {
    pub fn emit(&self) {
        tracing::info!(protocol = self.protocol.as_str(), "made a certificate, because none is configured");
    }
}

impl HandshakeFailed<'_> {
    pub fn emit(&self) {
        let protocol = self.protocol.as_str();
        metrics().handshakes.get_or_create(&vec![("protocol", protocol.to_owned())]).inc();
        tracing::debug!(protocol, error = self.error, "handshake failed");
    }
}

impl Asked {
    pub fn emit(&self) {
        let protocol = self.protocol.as_str();
        let labels =
            vec![("protocol", protocol.to_owned()), ("call", self.call.to_owned()), ("result", self.result.to_owned())];
        metrics().asked.get_or_create(&labels).inc();
        tracing::debug!(protocol, call = self.call, result = self.result, "question answered");
    }
}

impl FollowerCame {
    pub fn emit(&self) {
        let open = metrics().followers.inc() + 1;
        tracing::debug!(open, "a caller follows changes");
    }
}

impl FollowerLeft {
    pub fn emit(&self) {
        let open = metrics().followers.dec() - 1;
        tracing::debug!(open, "a caller stopped following changes");
    }
}

impl RateLimitAnswered<'_> {
    pub fn emit(&self) {
        let outcome = match self.outcome {
            RateLimitOutcome::Admitted => "admitted",
            RateLimitOutcome::OverLimit => "over-limit",
            RateLimitOutcome::Unknown => "unknown",
            RateLimitOutcome::Stale => "stale",
        };
        let labels = vec![("class", self.class.to_owned()), ("outcome", outcome.to_owned())];
        metrics().rate_limits.get_or_create(&labels).inc();
        tracing::trace!(class = self.class, outcome, "rate limit answered");
    }
}
