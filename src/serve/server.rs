//! Binds, serves and stops. Rule: a stop is never held up by a reader.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use prescale_telemetry::serve::Listening;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::{App, router};

/// How long open requests may take to end once a stop was asked for.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// The server could not start or go on.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error(
        "listen on `{address}`: the port is taken\nhint: stop the other process, or set serve.listen to a free port such as \"127.0.0.1:0\""
    )]
    Taken { address: String },
    #[error(
        "listen on `{address}`: not permitted\nhint: ports below 1024 need privileges; set serve.listen to a higher one"
    )]
    Denied { address: String },
    #[error(
        "listen on `{address}`: {error}\nhint: serve.listen is `host:port` of an address of this machine, such as \"127.0.0.1:8080\""
    )]
    Listen { address: String, error: io::Error },
    #[error("serve HTTP: {0}")]
    Serve(#[from] io::Error),
}

/// Listens on `address` (`host:port`; port 0 = any free one).
pub async fn bind(address: &str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| {
        let address = address.to_owned();
        match error.kind() {
            io::ErrorKind::AddrInUse => ServeError::Taken { address },
            io::ErrorKind::PermissionDenied => ServeError::Denied { address },
            _ => ServeError::Listen { address, error },
        }
    })
}

/// Answers requests until the token of `app` is cancelled; live streams end with it, and whatever is still open a few seconds
/// later is cut.
pub async fn serve(listener: TcpListener, app: App) -> Result<(), ServeError> {
    let url = format!("http://{}", listener.local_addr()?);
    let shutdown = app.shutdown.clone();
    let routes = router(app).into_make_service_with_connect_info::<SocketAddr>();
    Listening { url: &url }.emit();
    let served = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = served.into_future() => Ok(ended?),
        () = async { shutdown.cancelled().await; tokio::time::sleep(STOP_WITHIN).await } => Ok(()),
    }
}
