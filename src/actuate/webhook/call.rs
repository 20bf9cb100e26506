//! One question to a receiver, with all its attempts. Rule: it ends within its limit, with an answer or with the last failure.
//!
//! Over the HTTP stack of the AWS SDK (hyper, rustls on aws-lc), which is linked anyway. `ureq`, which other crates use,
//! blocks: a thread of it would go on when the time limit has passed.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prescale_domain::{Span, Timestamp};
use prescale_telemetry::actuate::CloudCall;
use tokio::time::Instant;

use super::rules::{self, Kind, Verdict};
use crate::{ActuateError, Failure};

/// More is no answer to a question of this kind.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Of an answer's words, so many letters are shown.
const SHOWN: usize = 200;

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) body: Bytes,
    /// The same for each attempt; `None` = nothing is changed by the question.
    pub(super) key: Option<&'a str>,
    pub(super) now: Timestamp,
}

#[derive(Debug)]
pub(super) struct Caller {
    attempt_limit: Span,
    limit: Span,
    client: OnceLock<HttpClient>,
}

/// How an attempt went wrong: what the error would be, and what the receiver asked for.
struct Miss {
    error: ActuateError,
    again: bool,
    retry_after: Option<Span>,
}

impl Caller {
    pub(super) fn new(attempt_limit: Span, limit: Span) -> Self {
        Self { attempt_limit, limit, client: OnceLock::new() }
    }

    pub(super) async fn ask(
        &self,
        question: &Question<'_>,
        secret: &[u8],
        failure: impl Fn(String) -> Failure,
    ) -> Result<Bytes, ActuateError> {
        let deadline = Instant::now() + self.limit.to_std();
        let mut attempt = 0;
        let result = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = self.attempt_limit.to_std().min(left);
            let tried = tokio::time::timeout(limit, self.attempt(question, secret, &failure)).await;
            let miss = match tried {
                Ok(Ok(answer)) => break Ok(answer),
                Ok(Err(miss)) => miss,
                Err(_) => {
                    let error = ActuateError::Timeout(failure(format!("no answer within {}", self.attempt_limit)));
                    Miss { error, again: true, retry_after: None }
                }
            };
            let drawn = rules::backoff(question.key.unwrap_or(question.url), attempt);
            let wait = miss.retry_after.unwrap_or(drawn).max(drawn).to_std();
            // A wait beyond the limit would only delay the bad news.
            if !miss.again || Instant::now() + wait >= deadline {
                break Err(miss.error);
            }
            tokio::time::sleep(wait).await;
            attempt += 1;
        };
        let operation = if question.key.is_some() { "WebhookPost" } else { "WebhookGet" };
        CloudCall { operation, failure: result.as_ref().err().map(ActuateError::code) }.emit();
        result
    }

    async fn attempt(
        &self,
        question: &Question<'_>,
        secret: &[u8],
        failure: &impl Fn(String) -> Failure,
    ) -> Result<Bytes, Miss> {
        let Question { method, url, body, key, now } = question;
        let timestamp = now.millis().div_euclid(1000).to_string();
        let mut request = Request::builder()
            .method(method.clone())
            .uri(*url)
            .header("content-type", "application/json")
            .header("user-agent", concat!("prescale/", env!("CARGO_PKG_VERSION")))
            .header("prescale-signature", rules::signature(secret, &timestamp, body))
            .header("prescale-timestamp", timestamp);
        if let Some(key) = key {
            request = request.header("idempotency-key", *key);
        }
        let unusable =
            |error: String| Miss { error: ActuateError::Invalid(failure(error)), again: false, retry_after: None };
        let request = request.body(Full::new(body.clone())).map_err(|error| unusable(error.to_string()))?;
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let client = client().map_err(|error| unusable(error.to_string()))?;
                self.client.get_or_init(|| client)
            }
        };
        let unreachable = |error: &(dyn Error + 'static)| Miss {
            error: ActuateError::Unreachable(failure(causes(error))),
            again: true,
            retry_after: None,
        };
        let answer = client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let retry_after = answer.headers().get("retry-after").and_then(|header| header.to_str().ok());
        let retry_after = retry_after.and_then(|header| rules::retry_after(header, *now));
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unreachable(&*error))?.to_bytes();
        let (kind, again) = match rules::verdict(status.as_u16()) {
            Verdict::Done => return Ok(body),
            Verdict::Again(kind) => (kind, true),
            Verdict::Final(kind) => (kind, false),
        };
        let words: String = String::from_utf8_lossy(&body).trim().chars().take(SHOWN).collect();
        let colon = if words.is_empty() { "" } else { ": " };
        let failure = failure(format!("HTTP {}{colon}{words}", status.as_u16()));
        let error = match kind {
            Kind::NotFound => ActuateError::NotFound(failure),
            Kind::Denied => ActuateError::Denied(failure),
            Kind::Conflict => ActuateError::Conflict(failure),
            Kind::Throttled => ActuateError::Throttled(failure),
            Kind::Timeout => ActuateError::Timeout(failure),
            Kind::Invalid => ActuateError::Invalid(failure),
            Kind::Other => ActuateError::Other(failure),
        };
        Err(Miss { error, again, retry_after })
    }
}

/// TLS as everywhere in Prescale: the provider of the AWS SDK, and whom the machine trusts.
fn client() -> Result<HttpClient, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// The outer error says that something failed, the inner ones what.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
