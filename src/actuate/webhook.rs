//! Anything else: a decision is posted, signed, to a URL of its owner's. Rule: one decision has one key however often it is
//! sent, and nothing that was acknowledged is sent again.
//!
//! The request: `POST url` with the JSON object `{id, service, at, kind, desired, decision}`, where `desired` is within the
//! bounds and `decision` is the whole record; headers `idempotency-key` (the decision's id), `prescale-timestamp` (seconds
//! since 1970) and `prescale-signature: v1=` with HMAC-SHA256 over `timestamp.body`, in hex. Any 2xx acknowledges it. Its
//! body may be `{"desired": …, "ready": …, "min": …, "max": …}`, where `desired` is what was taken on and the others may be
//! absent, or `{"desired": …, "held": "why"}`. `GET observe_url`, signed over `timestamp.`, has the same answer.

mod call;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Method;
use hyper::body::Bytes;
use prescale_domain::{Decision, Outcome, Span, TargetState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use self::call::{Caller, Question};
use crate::error::refuse_unless_act;
use crate::target::{Bounds, limit_faults};
use crate::{ActuateError, Actuator, Failure};

/// A target behind a URL, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where decisions are posted to.
    pub url: String,
    /// Where the target's state is read; without it the last answer counts.
    #[serde(default)]
    pub observe_url: Option<String>,
    /// The key of signatures, as a reference to the environment or to a file: `${env:NAME}`, `${file:path}`.
    pub secret: Secret,
    /// Bounds of what is asked for; the target's own bounds hold as well, where it tells them.
    pub min: u32,
    pub max: u32,
    /// Units before the first answer, where nothing can be read; `min` unless set.
    #[serde(default)]
    pub initial: Option<u32>,
    #[serde(default)]
    pub price_usd_hour: Option<f64>,
    /// Limit of one call with all its attempts, and of one attempt.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    #[serde(default = "default_attempt_timeout")]
    pub attempt_timeout: Span,
    /// Mode `act` may be replayed against this target on the event clock: never for one that serves anybody.
    #[serde(default)]
    pub allow_replay: bool,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

fn default_timeout() -> Span {
    Span::from_secs(15)
}

fn default_attempt_timeout() -> Span {
    Span::from_secs(5)
}

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl WebhookSettings {
    /// A target with everything else at its default.
    pub fn new(url: &str, secret: &str, min: u32, max: u32) -> Self {
        Self {
            url: url.to_owned(),
            observe_url: None,
            secret: Secret::new(secret),
            min,
            max,
            initial: None,
            price_usd_hour: None,
            timeout: default_timeout(),
            attempt_timeout: default_attempt_timeout(),
            allow_replay: false,
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let Self { min, max, price_usd_hour, allow_replay, .. } = *self;
        Bounds { min, max, price_usd_hour, allow_replay }
    }

    /// Without what may be secret in a URL: user, password and query.
    pub(crate) fn describe(&self) -> String {
        format!("webhook `{}`", rules::shown(&self.url))
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let urls = [("url", Some(&self.url)), ("observe_url", self.observe_url.as_ref())];
        for (name, url) in urls.into_iter().filter_map(|(name, url)| Some((name, url?))) {
            let parsed = url.parse::<hyper::Uri>().ok();
            let usable = parsed.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
            });
            if !usable {
                faults.push(format!("{name} `{}` is not an http:// or https:// URL", rules::shown(url)));
            }
        }
        if self.secret.0.is_empty() {
            faults.push("secret is empty: the receiver could not tell who sends".to_owned());
        }
        faults.extend(limit_faults(self.timeout, self.attempt_timeout, None));
        faults
    }
}

/// What a receiver says of the target.
#[derive(Clone, Debug, Deserialize)]
struct Told {
    desired: u32,
    ready: Option<u32>,
    min: Option<u32>,
    max: Option<u32>,
    /// Why it goes on wanting what it wanted.
    held: Option<String>,
}

/// A target behind a URL. Clones share the connection, and what was acknowledged.
#[derive(Clone, Debug)]
pub struct Webhook {
    settings: Arc<WebhookSettings>,
    caller: Arc<Caller>,
    acknowledged: Arc<Mutex<Option<Told>>>,
}

impl Webhook {
    pub fn new(settings: WebhookSettings) -> Self {
        let caller = Caller::new(settings.attempt_timeout, settings.timeout);
        Self { settings: Arc::new(settings), caller: Arc::new(caller), acknowledged: Arc::default() }
    }

    async fn told(&self, now: Timestamp) -> Result<Told, ActuateError> {
        let Some(url) = &self.settings.observe_url else {
            let initial = self.settings.initial.unwrap_or(self.settings.min);
            let unknown = Told { desired: initial, ready: None, min: None, max: None, held: None };
            let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(acknowledged.clone().unwrap_or(unknown));
        };
        const OPERATION: &str = "read state";
        let question = Question { method: Method::GET, url, body: Bytes::new(), key: None, now };
        let answer = self.ask(OPERATION, &question).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            let detail = format!("an answer that is no state such as {{\"desired\": 3, \"ready\": 2}}: {error}");
            ActuateError::Other(self.failure(OPERATION, detail))
        })
    }

    async fn ask(&self, operation: &'static str, question: &Question<'_>) -> Result<Bytes, ActuateError> {
        self.caller.ask(question, self.settings.secret.0.as_bytes(), |detail| self.failure(operation, detail)).await
    }

    fn failure(&self, operation: &'static str, detail: String) -> Failure {
        Failure { operation, target: self.settings.describe(), detail }
    }
}

impl Actuator for Webhook {
    async fn observe(&self, now: Timestamp) -> Result<TargetState, ActuateError> {
        let Told { desired, ready, min, max, .. } = self.told(now).await?;
        Ok(TargetState { desired, ready, min, max, observed_at: now })
    }

    async fn apply(&self, decision: &Decision, now: Timestamp) -> Result<Outcome, ActuateError> {
        refuse_unless_act(decision, self.describe())?;
        let before = self.told(now).await?;
        let (low, high) = (before.min.unwrap_or_default(), before.max.unwrap_or(u32::MAX));
        let units = decision.desired.max(self.settings.min).min(self.settings.max).max(low).min(high);
        // An initial number that nobody acknowledged is a guess, and no reason to say nothing.
        let sure = self.settings.observe_url.is_some()
            || self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if sure && before.desired == units {
            return Ok(Outcome::Unchanged { units });
        }
        let body = json!({
            "id": decision.id,
            "service": decision.service,
            "at": decision.at,
            "kind": decision.kind,
            "desired": units,
            "decision": decision,
        });
        let body = Bytes::from(body.to_string());
        let question = Question { method: Method::POST, url: &self.settings.url, body, key: Some(&decision.id.0), now };
        let answer = self.ask("post decision", &question).await?;
        // Who says nothing of the state has taken on what was asked for.
        let told =
            serde_json::from_slice(&answer).unwrap_or(Told { desired: units, ready: None, held: None, ..before });
        *self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner) = Some(told.clone());
        Ok(match told.held {
            Some(reason) => Outcome::Held { units: told.desired, reason },
            None => Outcome::Applied { units: told.desired, clamped: told.desired != decision.desired },
        })
    }

    fn describe(&self) -> String {
        self.settings.describe()
    }
}
