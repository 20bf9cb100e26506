//! The way to a cluster's API. Rule: each call has its limits and its attempts, and ends in an answer or in an error of the
//! right kind; what changes something is only ever tried again where trying twice is trying once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use prescale_domain::Span;
use prescale_telemetry::actuate::CloudCall;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::api_error::{from_kube, retry_after};
use crate::target::limit_faults;
use crate::{ActuateError, Failure};

/// Who has set a field, as the API records it.
pub(super) const FIELD_MANAGER: &str = "prescale";

/// The first wait between two attempts; it doubles, and a share of it is drawn.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);

/// A server may ask for a longer wait than anybody here would wait for.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Where a cluster is, and how long to wait for it. What is not set comes from the standard environment: KUBECONFIG,
/// `~/.kube/config`, or in a pod its service account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// Another file than the environment's.
    pub kubeconfig: Option<PathBuf>,
    /// Another of its contexts than the current one.
    pub context: Option<String>,
    /// Limit of observing or applying with all its calls, and of one attempt of a call.
    pub timeout: Span,
    pub attempt_timeout: Span,
    pub max_attempts: u32,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            timeout: Span::from_secs(10),
            attempt_timeout: Span::from_secs(3),
            max_attempts: 3,
        }
    }
}

impl ClusterSettings {
    pub(crate) fn faults(&self) -> Vec<String> {
        limit_faults(self.timeout, self.attempt_timeout, Some(self.max_attempts))
    }
}

/// One call of the API, in words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// A verb phrase, for errors.
    pub(crate) operation: &'static str,
    /// For the count of calls.
    pub(crate) name: &'static str,
}

/// A cluster. It connects at its first use; clones share the connection.
#[derive(Clone)]
pub struct Cluster {
    settings: Arc<ClusterSettings>,
    /// On whose behalf it is called, in a few words.
    target: Arc<str>,
    client: Arc<OnceCell<Client>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("settings", &self.settings)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// `target` names in errors what the cluster is called for.
    pub fn new(settings: ClusterSettings, target: &str) -> Self {
        Self { settings: Arc::new(settings), target: target.into(), client: Arc::default() }
    }

    #[cfg(test)]
    pub(crate) fn connected(settings: ClusterSettings, target: &str, config: Config) -> Self {
        let client = connect(config, &settings).expect("the configuration of a test");
        Self { settings: Arc::new(settings), target: target.into(), client: Arc::new(OnceCell::new_with(Some(client))) }
    }

    pub(super) fn failure(&self, operation: &'static str, detail: String) -> Failure {
        Failure { operation, target: self.target.to_string(), detail }
    }

    /// The same with an end: whatever the calls within do, it answers within the time limit.
    pub(super) async fn within<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, ActuateError>>,
    ) -> Result<T, ActuateError> {
        let limit = self.settings.timeout;
        tokio::time::timeout(limit.to_std(), work)
            .await
            .unwrap_or_else(|_| Err(ActuateError::Timeout(self.failure(operation, format!("no end within {limit}")))))
    }

    /// One call, repeated while it is throttled, or fails by the way or the server: such calls change nothing, or are bound
    /// to the version of what they change.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: Call,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ActuateError> {
        let request = request.map_err(|error| self.invalid(call, &error))?;
        let mut backoff = BACKOFF_FIRST;
        let mut attempt = 1;
        loop {
            let (error, asked_wait) = match self.attempt(call, request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let may_pass = matches!(
                error,
                ActuateError::Throttled(_)
                    | ActuateError::Timeout(_)
                    | ActuateError::Unreachable(_)
                    | ActuateError::Other(_)
            );
            if !may_pass || attempt >= self.settings.max_attempts {
                return Err(error);
            }
            attempt += 1;
            let drawn = backoff.mul_f64(0.5 + 0.5 * drawn_share());
            tokio::time::sleep(drawn.max(asked_wait).min(BACKOFF_MAX)).await;
            backoff = backoff.saturating_mul(2);
        }
    }

    /// One call, once.
    pub(super) async fn ask_once<T: DeserializeOwned>(
        &self,
        call: Call,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ActuateError> {
        let request = request.map_err(|error| self.invalid(call, &error))?;
        self.attempt(call, request).await.map_err(|(error, _)| error)
    }

    /// The answer, or the error with the wait that the server asked for.
    async fn attempt<T: DeserializeOwned>(
        &self,
        call: Call,
        request: Request<Vec<u8>>,
    ) -> Result<T, (ActuateError, Duration)> {
        let client = self.client().await.map_err(|error| (error, Duration::ZERO))?;
        let limit = self.settings.attempt_timeout;
        let answer = tokio::time::timeout(limit.to_std(), client.request::<T>(request)).await;
        let failure = |detail| self.failure(call.operation, detail);
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err((from_kube(&error, failure), retry_after(&error))),
            Err(_) => Err((ActuateError::Timeout(failure(format!("no answer within {limit}"))), Duration::ZERO)),
        };
        CloudCall { operation: call.name, failure: answer.as_ref().err().map(|(error, _)| error.code()) }.emit();
        answer
    }

    fn invalid(&self, call: Call, error: &dyn std::error::Error) -> ActuateError {
        ActuateError::Invalid(self.failure(call.operation, error.to_string()))
    }

    async fn client(&self) -> Result<&Client, ActuateError> {
        let connecting = self.client.get_or_try_init(async || {
            let config = self.config().await?;
            connect(config, &self.settings).map_err(|error| from_kube(&error, |detail| self.failure("connect", detail)))
        });
        connecting.await
    }

    async fn config(&self) -> Result<Config, ActuateError> {
        let invalid = |error: &dyn std::error::Error| {
            let hint =
                "hint: set `kubeconfig` and `context` of the target, or KUBECONFIG, or run in a pod of the cluster";
            ActuateError::Invalid(self.failure("connect", format!("{error}\n{hint}")))
        };
        let ClusterSettings { kubeconfig, context, .. } = &*self.settings;
        let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
        match kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(|error| invalid(&error))?;
                Config::from_custom_kubeconfig(read, &options).await.map_err(|error| invalid(&error))
            }
            None if context.is_some() => Config::from_kubeconfig(&options).await.map_err(|error| invalid(&error)),
            None => Config::infer().await.map_err(|error| invalid(&error)),
        }
    }
}

fn connect(mut config: Config, settings: &ClusterSettings) -> kube::Result<Client> {
    config.connect_timeout = Some(settings.attempt_timeout.to_std());
    // Attempts, and how long they wait, are decided here.
    config.default_retry = false;
    Client::try_from(config)
}

/// Somewhere in 0 to 1. The keys of a hash map are as random as a wait needs to be.
fn drawn_share() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}
