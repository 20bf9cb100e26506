//! Where each server listens. Rule: one without an address is off; a port alone is one of the loopback interface.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use prescale_domain::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Classes of priority that a limiter tells apart, at most.
const CLASSES_MAX: usize = 16;

/// The servers for other systems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterSettings {
    /// An answer that is older than this is not given.
    pub stale_after: Span,
    pub metrics: MetricsSettings,
    pub keda: KedaSettings,
    pub ratelimit: RateLimitSettings,
}

/// The external and custom metrics APIs of Kubernetes, over HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSettings {
    pub listen: Option<Listen>,
    /// `client_ca` is the CA of the front proxy (`requestheader-client-ca-file` of the API server), `client_names` its allowed
    /// names.
    pub tls: TlsSettings,
}

/// KEDA's external scaler, over gRPC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KedaSettings {
    pub listen: Option<Listen>,
    /// Without it no TLS is spoken.
    pub tls: Option<TlsSettings>,
}

/// Envoy's rate-limit service, over gRPC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitSettings {
    pub listen: Option<Listen>,
    /// Without it no TLS is spoken.
    pub tls: Option<TlsSettings>,
    /// Keys of the entries of a descriptor that name the service and the class of priority.
    pub service_key: String,
    pub priority_key: String,
    /// Classes of priority, the highest first.
    pub classes: Vec<String>,
    /// The class of what names none of these.
    pub default_class: String,
    /// What is told to who is over the limit where it can't be computed.
    pub retry_after: Span,
}

/// What a server shows of itself, and what it wants to see of others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM files, read at the start; without them a certificate is made.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Names and addresses in a certificate that is made.
    pub names: Vec<String>,
    /// PEM file of the authorities of callers; without it everybody may ask.
    pub client_ca: Option<PathBuf>,
    /// Common names that callers may have; empty = any.
    pub client_names: Vec<String>,
}

/// An address and port such as `0.0.0.0:6443`, or a port such as `6443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Listen(#[schemars(with = "String")] pub SocketAddr);

impl Default for AdapterSettings {
    fn default() -> Self {
        Self {
            // Three times the normal cadence of decisions: two may fail.
            stale_after: Span::from_minutes(3),
            metrics: MetricsSettings::default(),
            keda: KedaSettings::default(),
            ratelimit: RateLimitSettings::default(),
        }
    }
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self {
            listen: None,
            tls: None,
            service_key: "service".to_owned(),
            priority_key: "priority".to_owned(),
            classes: ["critical", "high", "normal", "low"].map(str::to_owned).to_vec(),
            default_class: "normal".to_owned(),
            retry_after: Span::from_secs(5),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let port = text.parse::<u16>().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        let address = port.or_else(|_| text.parse());
        address
            .map(Self)
            .map_err(|_| format!("`{text}` is neither an address and port such as 127.0.0.1:6443 nor a port"))
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.0.to_string()
    }
}

impl AdapterSettings {
    /// All that is wrong, each with the setting it is in.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.stale_after <= Span::ZERO {
            faults.push(("stale_after", format!("{} is not above 0", self.stale_after)));
        }
        let tls = [
            ("metrics.tls", Some(&self.metrics.tls)),
            ("keda.tls", self.keda.tls.as_ref()),
            ("ratelimit.tls", self.ratelimit.tls.as_ref()),
        ];
        for (place, tls) in tls.into_iter().filter_map(|(place, tls)| Some((place, tls?))) {
            faults.extend(tls.faults().into_iter().map(|fault| (place, fault)));
        }
        faults.extend(self.ratelimit.faults());
        faults
    }
}

impl TlsSettings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.certificate.is_some() != self.key.is_some() {
            faults.push("certificate and key go together: one is missing".to_owned());
        }
        if self.certificate.is_some() && !self.names.is_empty() {
            faults.push("names are those of a certificate that is made, and one is configured".to_owned());
        }
        if self.client_ca.is_none() && !self.client_names.is_empty() {
            faults.push("client_names without client_ca: nothing vouches for them".to_owned());
        }
        faults
    }
}

impl RateLimitSettings {
    /// The place of a class among those configured; of the default class where it is none of them.
    pub(crate) fn class(&self, name: Option<&str>) -> usize {
        let place = |name: &str| self.classes.iter().position(|class| class == name);
        name.and_then(place).or_else(|| place(&self.default_class)).unwrap_or(0)
    }

    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let (count, distinct) = (self.classes.len(), self.classes.iter().collect::<BTreeSet<_>>().len());
        if !(1..=CLASSES_MAX).contains(&count) {
            faults.push(("ratelimit.classes", format!("{count} classes, not between 1 and {CLASSES_MAX}")));
        }
        if distinct != count {
            faults.push(("ratelimit.classes", "a class is named twice".to_owned()));
        }
        if !self.classes.contains(&self.default_class) {
            faults.push(("ratelimit.default_class", format!("`{}` is none of the classes", self.default_class)));
        }
        if self.service_key == self.priority_key {
            faults.push(("ratelimit.priority_key", format!("`{}` is the key of services as well", self.service_key)));
        }
        if self.retry_after <= Span::ZERO {
            faults.push(("ratelimit.retry_after", format!("{} is not above 0", self.retry_after)));
        }
        faults
    }
}
