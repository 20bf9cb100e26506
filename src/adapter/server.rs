//! Binds, serves and stops the three servers. Rule: what can't be served is known before anything is; a stop is never held up by
//! a caller.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prescale_domain::Clock;
use prescale_telemetry::adapter::{AdapterListening, Protocol};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::keda::Scaler;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use crate::proto::externalscaler::external_scaler_server::ExternalScalerServer;
use crate::ratelimit::RateLimits;
use crate::tls::{self, Callers, TlsError};
use crate::wire::{Peer, Port, Tls};
use crate::{AdapterSettings, Answers, Desk, Listen, RateLimitSettings, TlsSettings, metrics};

/// How long open requests may take to end once a stop was asked for.
const STOP_WITHIN: Duration = Duration::from_secs(3);
/// A question is a few names; nobody has one that is longer.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// A caller that does not answer for so long is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Calls at a time on one connection, streams among them: as many as HTTP/2 suggests at least.
const CALLS_MAX: u32 = 256;

/// The servers could not start or go on.
#[derive(Debug, Error)]
pub enum AdapterError {
    #[error("{}", faults(.0))]
    Settings(Vec<(&'static str, String)>),
    #[error("{place}: {error}")]
    Tls { place: &'static str, error: TlsError },
    #[error(
        "listen on `{address}` for {place}: {error}\nhint: set {place}.listen to a free address and port of this machine, or take it out to switch the server off"
    )]
    Listen { place: &'static str, address: SocketAddr, error: io::Error },
    #[error("serve {place}: {error}")]
    Serve { place: &'static str, error: String },
}

/// Servers that have their ports, and answer nobody yet.
pub struct Bound {
    metrics: Option<(Port, bool)>,
    keda: Option<Port>,
    ratelimit: Option<(Port, RateLimitSettings)>,
    stale_after: prescale_domain::Span,
}

/// Where they are; `None` = off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub metrics: Option<SocketAddr>,
    pub keda: Option<SocketAddr>,
    pub ratelimit: Option<SocketAddr>,
}

fn faults(faults: &[(&'static str, String)]) -> String {
    let lines: Vec<String> = faults.iter().map(|(place, fault)| format!("{place}: {fault}")).collect();
    lines.join("\n")
}

/// Takes the ports of the servers that are configured, and reads their certificates.
pub async fn bind(settings: &AdapterSettings) -> Result<Bound, AdapterError> {
    let faults = settings.faults();
    if !faults.is_empty() {
        return Err(AdapterError::Settings(faults));
    }
    let AdapterSettings { stale_after, metrics, keda, ratelimit } = settings;
    Ok(Bound {
        metrics: match metrics.listen {
            None => None,
            Some(listen) => {
                let port = port("metrics", Protocol::Metrics, listen, Some(&metrics.tls)).await?;
                Some((port, metrics.tls.client_ca.is_some()))
            }
        },
        keda: match keda.listen {
            None => None,
            Some(listen) => Some(port("keda", Protocol::Keda, listen, keda.tls.as_ref()).await?),
        },
        ratelimit: match ratelimit.listen {
            None => None,
            Some(listen) => {
                let port = port("ratelimit", Protocol::RateLimit, listen, ratelimit.tls.as_ref()).await?;
                Some((port, ratelimit.clone()))
            }
        },
        stale_after: *stale_after,
    })
}

async fn port(
    place: &'static str,
    protocol: Protocol,
    Listen(address): Listen,
    settings: Option<&TlsSettings>,
) -> Result<Port, AdapterError> {
    // Health is asked for over HTTP without a certificate; gRPC has nothing that everybody may ask.
    let (application, callers) = match protocol {
        Protocol::Metrics => ("http/1.1", Callers::Any),
        Protocol::Keda | Protocol::RateLimit => ("h2", Callers::Certified),
    };
    let tls = settings.map(|settings| {
        let config = tls::config(settings, protocol, application, callers)?;
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            names: settings.client_names.clone(),
            certified_only: settings.client_ca.is_some() && callers == Callers::Certified,
        })
    });
    let tls = tls.transpose().map_err(|error| AdapterError::Tls { place, error })?;
    let failed = |error| AdapterError::Listen { place, address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let client_certificates = settings.is_some_and(|settings| settings.client_ca.is_some());
    AdapterListening { protocol, address, tls: tls.is_some(), client_certificates }.emit();
    Ok(Port { listener, address, protocol, tls })
}

impl Bound {
    pub fn addresses(&self) -> Addresses {
        Addresses {
            metrics: self.metrics.as_ref().map(|(port, _)| port.address),
            keda: self.keda.as_ref().map(|port| port.address),
            ratelimit: self.ratelimit.as_ref().map(|(port, _)| port.address),
        }
    }

    /// Answers until the token is cancelled; streams end with it, and what is still open a few seconds later is cut.
    pub async fn serve(
        self,
        answers: Arc<dyn Answers>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<(), AdapterError> {
        let desk = Desk::new(answers, clock, self.stale_after);
        let metrics = async {
            let Some((port, certified_only)) = self.metrics else { return Ok(()) };
            let routes = metrics::router(desk.clone(), certified_only);
            serve_http(port, routes, shutdown.clone()).await
        };
        let keda = async {
            let Some(port) = self.keda else { return Ok(()) };
            let service = ExternalScalerServer::new(Scaler::new(desk.clone(), shutdown.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            serve_grpc("keda", port, Routes::new(service), shutdown.clone()).await
        };
        let ratelimit = async {
            let Some((port, settings)) = self.ratelimit else { return Ok(()) };
            let service = RateLimitServiceServer::new(RateLimits::new(desk.clone(), settings))
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            serve_grpc("ratelimit", port, Routes::new(service), shutdown.clone()).await
        };
        let all = async { tokio::try_join!(metrics, keda, ratelimit).map(drop) };
        tokio::select! {
            ended = all => ended,
            () = async { shutdown.cancelled().await; tokio::time::sleep(STOP_WITHIN).await } => Ok(()),
        }
    }
}

async fn serve_http(port: Port, routes: axum::Router, shutdown: CancellationToken) -> Result<(), AdapterError> {
    let (incoming, accepting) = port.open(shutdown.clone());
    let service = routes.into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(incoming, service).with_graceful_shutdown(shutdown.cancelled_owned());
    let (ended, ()) = tokio::join!(served.into_future(), accepting);
    ended.map_err(|error| AdapterError::Serve { place: "metrics", error: error.to_string() })
}

async fn serve_grpc(
    place: &'static str,
    port: Port,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<(), AdapterError> {
    let (incoming, accepting) = port.open(shutdown.clone());
    let mut server =
        tonic::transport::Server::builder().http2_keepalive_interval(Some(KEEPALIVE)).max_concurrent_streams(CALLS_MAX);
    let served = server.add_routes(routes).serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned());
    let (ended, ()) = tokio::join!(served, accepting);
    ended.map_err(|error| AdapterError::Serve { place, error: error.to_string() })
}
