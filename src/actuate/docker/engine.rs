//! The Docker Engine's API as the targets use it. Rule: each call has a time limit and ends in an answer or in an error of
//! the kind that an operator would do something about.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;

use bollard::errors::Error as Bollard;
use bollard::{API_DEFAULT_VERSION, Docker};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;
use prescale_domain::Span;
use prescale_telemetry::actuate::CloudCall;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::target::limit_faults;
use crate::{ActuateError, Failure};

/// Where the engine of this machine listens, unless its owner moved it.
pub(super) const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// bollard's own limit, in seconds: ours is always shorter and more exact.
const NEVER_SECONDS: u64 = 24 * 3600;

/// One engine. It connects at its first use; clones share what was agreed on then.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    host: String,
    /// The target in a few words, for failures.
    target: String,
    /// For one call.
    limit: Span,
    client: Arc<OnceCell<Docker>>,
}

/// A call of the API: its name there, and what it is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) operation: &'static str,
}

impl Engine {
    pub(super) fn new(host: &str, target: String, limit: Span) -> Self {
        Self { host: host.to_owned(), target, limit, client: Arc::default() }
    }

    /// The client, once the engine has said which version of the API it speaks: an older one refuses a newer request.
    pub(super) async fn client(&self) -> Result<&Docker, ActuateError> {
        const CALL: Call = Call { name: "SystemVersion", operation: "connect" };
        let connect = async {
            let client = match self.host.strip_prefix("unix://") {
                Some(path) => Docker::connect_with_unix(path, NEVER_SECONDS, API_DEFAULT_VERSION),
                None => Docker::connect_with_http(&self.host, NEVER_SECONDS, API_DEFAULT_VERSION),
            };
            let client = client.map_err(|error| from_bollard(&error, self.failure(CALL.operation, String::new())))?;
            self.ask(CALL, client.negotiate_version()).await
        };
        self.client.get_or_try_init(|| connect).await
    }

    /// The answer to one call.
    pub(super) async fn ask<T>(
        &self,
        call: Call,
        answer: impl Future<Output = Result<T, Bollard>>,
    ) -> Result<T, ActuateError> {
        self.ask_for(call, self.limit, answer).await
    }

    /// The answer to a call that takes `longer` than others by its nature.
    pub(super) async fn ask_patiently<T>(
        &self,
        call: Call,
        longer: Span,
        answer: impl Future<Output = Result<T, Bollard>>,
    ) -> Result<T, ActuateError> {
        self.ask_for(call, self.limit + longer, answer).await
    }

    async fn ask_for<T>(
        &self,
        Call { name, operation }: Call,
        limit: Span,
        answer: impl Future<Output = Result<T, Bollard>>,
    ) -> Result<T, ActuateError> {
        let failure = |detail: String| self.failure(operation, detail);
        let result = match tokio::time::timeout(limit.to_std(), answer).await {
            Ok(answer) => answer.map_err(|error| from_bollard(&error, failure(String::new()))),
            Err(_) => Err(ActuateError::Timeout(failure(format!("no answer within {limit}")))),
        };
        CloudCall { operation: name, failure: result.as_ref().err().map(ActuateError::code) }.emit();
        result
    }

    /// What the engine tells below `path`, whole: bollard's types leave out what they do not know, and some that they mean to
    /// know, such as a service's health check. What is written back must have been read as it was.
    pub(super) async fn read(&self, call: Call, path: &str) -> Result<Value, ActuateError> {
        let version = self.client().await?.client_version();
        let request = self.exchange(Method::GET, format!("/v{version}{path}"), Bytes::new());
        self.ask(call, async { Ok(serde_json::from_slice(&request.await?)?) }).await
    }

    /// Gives the engine `body`.
    pub(super) async fn write(&self, call: Call, path: &str, body: &Value) -> Result<(), ActuateError> {
        let version = self.client().await?.client_version();
        let request = self.exchange(Method::POST, format!("/v{version}{path}"), Bytes::from(body.to_string()));
        self.ask(call, request).await.map(drop)
    }

    async fn exchange(&self, method: Method, path: String, body: Bytes) -> Result<Bytes, Bollard> {
        let uri = match self.host.strip_prefix("unix://") {
            Some(socket) => hyperlocal::Uri::new(socket, &path).into(),
            None => format!("http://{}{path}", self.host.split("://").last().unwrap_or_default()).parse()?,
        };
        let request =
            Request::builder().method(method).uri::<hyper::Uri>(uri).header("content-type", "application/json");
        let request = request.body(Full::new(body))?;
        let client = Client::builder(TokioExecutor::new());
        let answer = match self.host.starts_with("unix://") {
            true => client.build(UnixConnector).request(request).await?,
            false => client.build(HttpConnector::new()).request(request).await?,
        };
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let told = serde_json::from_slice::<Value>(&body).ok();
        let message = told.as_ref().and_then(|told| told.get("message")?.as_str());
        let message = message.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
        Err(Bollard::DockerResponseServerError { status_code: status.as_u16(), message })
    }

    pub(super) fn failure(&self, operation: &'static str, detail: String) -> Failure {
        Failure { operation, target: self.target.clone(), detail }
    }
}

/// What is wrong with the settings that all targets of an engine have.
pub(super) fn faults(host: &str, timeout: Span, attempt_timeout: Span) -> Vec<String> {
    let mut faults = Vec::new();
    let address = ["unix://", "tcp://", "http://"].iter().find_map(|scheme| host.strip_prefix(scheme));
    if address.is_none_or(str::is_empty) {
        faults.push(format!("host `{host}` is neither unix:///path/of/a/socket nor tcp://host:port"));
    }
    faults.extend(limit_faults(timeout, attempt_timeout, None));
    faults
}

/// The error for one failed call; `failure` says which, its detail is filled in here.
fn from_bollard(error: &Bollard, failure: Failure) -> ActuateError {
    let with = |detail: String| Failure { detail, ..failure };
    match error {
        Bollard::DockerResponseServerError { status_code, message } => from_status(*status_code, message, with),
        Bollard::SocketNotFoundError(path) => {
            ActuateError::Unreachable(with(format!("there is no socket {path}; is the Docker Engine running?")))
        }
        Bollard::RequestTimeoutError => ActuateError::Timeout(with("no answer in time".to_owned())),
        Bollard::JsonDataError { .. } | Bollard::JsonSerdeError { .. } | Bollard::APIVersionParseError {} => {
            ActuateError::Other(with(format!("an answer that is not the Docker Engine's: {error}")))
        }
        Bollard::HyperLegacyError { .. } | Bollard::HyperResponseError { .. } | Bollard::IOError { .. } => {
            from_transport(error, with)
        }
        _ => ActuateError::Invalid(with(error.to_string())),
    }
}

fn from_status(status: u16, message: &str, with: impl FnOnce(String) -> Failure) -> ActuateError {
    let failure = with(format!("HTTP {status}: {}", message.trim()));
    match status {
        // Swarm's optimistic lock answers as if something had broken.
        500 if message.contains("update out of sequence") => ActuateError::Conflict(failure),
        _ if message.contains("not a swarm manager") => ActuateError::Invalid(failure),
        400 => ActuateError::Invalid(failure),
        401 | 403 => ActuateError::Denied(failure),
        404 => ActuateError::NotFound(failure),
        409 => ActuateError::Conflict(failure),
        429 => ActuateError::Throttled(failure),
        _ => ActuateError::Other(failure),
    }
}

fn from_transport(error: &(dyn Error + 'static), with: impl FnOnce(String) -> Failure) -> ActuateError {
    let mut kind = None;
    let mut cause = error;
    loop {
        kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(kind);
        match cause.source() {
            Some(next) => cause = next,
            None => break,
        }
    }
    match kind {
        Some(ErrorKind::PermissionDenied) => ActuateError::Denied(with(format!(
            "{cause}; may this user open the engine's socket? (it belongs to the group `docker`)"
        ))),
        Some(ErrorKind::TimedOut) => ActuateError::Timeout(with(cause.to_string())),
        _ => ActuateError::Unreachable(with(cause.to_string())),
    }
}
