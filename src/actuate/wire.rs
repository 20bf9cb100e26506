//! The AWS SDK over something else than a socket. Rule: the real SDK signs, retries and times out as ever; only what carries
//! the request is another, so that a test drives the client that serves in production, in virtual time and without a port.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aws_sdk_autoscaling::config::http::{HttpRequest, HttpResponse};
use aws_sdk_autoscaling::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use prescale_domain::Span;

/// One HTTP request as it would go out, signed and all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireRequest {
    pub method: String,
    /// Without the query, percent-encoded.
    pub path: String,
    /// Without the question mark, percent-encoded; empty = none.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireAnswer {
    /// An HTTP answer, `after` so long.
    Reply { status: u16, headers: Vec<(String, String)>, body: Vec<u8>, after: Span },
    /// The connection closes without an answer.
    Dropped { after: Span },
    /// The connection stays open and silent.
    Hang,
}

/// A [`WireAnswer`] to come.
pub type WireFuture = Pin<Box<dyn Future<Output = WireAnswer> + Send>>;

/// Something that answers requests.
pub type WireHandler = Arc<dyn Fn(WireRequest) -> WireFuture + Send + Sync>;

/// A way for the SDK to reach a [`WireHandler`]; clones lead to the same one. Waits are tokio's, so that a paused clock skips
/// them.
#[derive(Clone)]
pub struct Wire(WireHandler);

impl WireRequest {
    /// The first header of that name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Wire {
    pub fn new<F, Answer>(answer: F) -> Self
    where
        F: Fn(WireRequest) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = WireAnswer> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(answer(request))))
    }

    /// What answers, for a server that puts it on a port.
    pub fn handler(&self) -> WireHandler {
        Arc::clone(&self.0)
    }

    /// The HTTP client for any client of the SDK.
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = read(&request).map(|request| (self.0)(request));
        HttpConnectorFuture::new(async move { carry(answer?.await).await })
    }
}

fn read(request: &HttpRequest) -> Result<WireRequest, ConnectorError> {
    let body = request.body().bytes().ok_or_else(|| ConnectorError::user("a streaming body".into()))?;
    let (_, after_scheme) = request.uri().split_once("://").unwrap_or(("", request.uri()));
    let target = after_scheme.find(['/', '?']).map_or("/", |start| &after_scheme[start..]);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = request.headers().iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Ok(WireRequest {
        method: request.method().to_owned(),
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        query: query.to_owned(),
        headers: headers.collect(),
        body: body.to_vec(),
    })
}

async fn carry(answer: WireAnswer) -> Result<HttpResponse, ConnectorError> {
    match answer {
        WireAnswer::Reply { status, headers, body, after } => {
            wait(after).await;
            let status = status.try_into().map_err(|error| ConnectorError::user(Box::new(error)))?;
            let mut response = HttpResponse::new(status, SdkBody::from(body));
            for (name, value) in headers {
                response
                    .headers_mut()
                    .try_append(name, value)
                    .map_err(|error| ConnectorError::other(Box::new(error), None))?;
            }
            Ok(response)
        }
        WireAnswer::Dropped { after } => {
            wait(after).await;
            Err(ConnectorError::io("the connection closed before the answer".into()))
        }
        WireAnswer::Hang => std::future::pending().await,
    }
}

async fn wait(span: Span) {
    if span > Span::ZERO {
        tokio::time::sleep(span.to_std()).await;
    }
}
