//! A simulated service on a port of this machine. Rule: a dropped connection closes without an answer, and a hang stays open
//! and silent until the client leaves; so it is hyper and not axum, which answers in any case.

use std::io;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prescale_actuate::wire::{WireAnswer, WireHandler, WireRequest};
use prescale_domain::Span;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// No call of AWS has a longer body.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Answers what comes in on a listener until it is dropped; connections end with it.
///
/// # Errors
/// The listener fails.
pub async fn serve_wire(listener: TcpListener, handler: WireHandler) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(converse(stream, WireHandler::clone(&handler)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, request after request.
async fn converse(stream: TcpStream, handler: WireHandler) {
    let service = service_fn(|request| answer(request, &handler));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // It ends with an error where the client leaves, or where it was to be dropped.
    drop(connection.await);
}

/// An error closes the connection without an answer.
async fn answer(request: Request<Incoming>, handler: &WireHandler) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = WireRequest {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: body.to_vec(),
    };
    match handler(request).await {
        WireAnswer::Reply { status, headers, body, after } => {
            wait(after).await;
            let status = StatusCode::from_u16(status).map_err(io::Error::other)?;
            let head = headers.iter().fold(Response::builder().status(status), |head, (name, value)| {
                head.header(name.as_str(), value.as_str())
            });
            head.body(Full::new(Bytes::from(body))).map_err(io::Error::other)
        }
        WireAnswer::Dropped { after } => {
            wait(after).await;
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }
        WireAnswer::Hang => std::future::pending().await,
    }
}

async fn wait(span: Span) {
    if span > Span::ZERO {
        tokio::time::sleep(span.to_std()).await;
    }
}
