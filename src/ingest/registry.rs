//! A client of a schema registry that speaks Confluent's API. Rule: that the registry does not have a schema is an answer;
//! whatever else goes wrong is an error, which says what to look at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::decode::{RegisteredSchema, SchemaKind};

/// For one request, from the look-up of the host's name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Schemas that one schema may refer to, with all they refer to in turn.
const MAX_REFERENCES: usize = 100;

/// What the registry says of an id that it does not have, beside status 404 (which a wrong path gives as well).
const SCHEMA_NOT_FOUND: i64 = 40403;

/// Where a registry is, and who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Such as `https://registry.example.com`; with the path below which `/schemas/ids/1` is, if there is one.
    pub endpoint: String,
    /// User and password; `None` = nobody in particular.
    pub api_key: Option<String>,
    pub api_secret: Option<String>,
}

impl fmt::Debug for RegistrySettings {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.api_secret.as_ref().map(|_| "…");
        f.debug_struct("RegistrySettings")
            .field("endpoint", &self.endpoint)
            .field("api_key", &self.api_key)
            .field("api_secret", &secret)
            .finish()
    }
}

/// A schema that could not be had; it may be there all the same.
#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("schema registry `{endpoint}`: {error}\nhint: is schema_registry.endpoint right, and is the registry up?")]
    Unreachable { endpoint: String, error: String },
    #[error("schema registry `{endpoint}`: status {status} for `{path}`: {body}\nhint: {hint}")]
    Status { endpoint: String, path: String, status: u16, body: String, hint: &'static str },
    #[error("schema registry `{endpoint}`: the answer for `{path}` can't be used: {error}")]
    Answer { endpoint: String, path: String, error: String },
    #[error(
        "schema registry endpoint `{endpoint}` is not a URL: {error}\nhint: write schema_registry.endpoint = 'https://host:port'"
    )]
    Endpoint { endpoint: String, error: String },
}

/// A registry. Calls block.
pub struct Registry {
    agent: Agent,
    endpoint: String,
    authorization: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaBody {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<ReferenceBody>,
}

#[derive(Deserialize)]
struct ReferenceBody {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct ErrorBody {
    error_code: i64,
}

impl Registry {
    pub fn open(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let scheme = endpoint.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("http" | "https")) {
            let error = "it begins with neither http:// nor https://".to_owned();
            return Err(RegistryError::Endpoint { endpoint, error });
        }
        let mut config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT));
        if scheme == Some("https") {
            config = config.tls_config(tls());
        }
        let authorization = settings.api_key.as_ref().map(|key| {
            let secret = settings.api_secret.as_deref().unwrap_or_default();
            format!("Basic {}", STANDARD.encode(format!("{key}:{secret}")))
        });
        Ok(Self { agent: config.build().into(), endpoint, authorization })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The schema of an id with all that it refers to; `None` = the registry has no such id.
    pub fn schema(&self, id: u32) -> Result<Option<RegisteredSchema>, RegistryError> {
        let path = format!("/schemas/ids/{id}");
        let Some(body) = self.get(&path)? else { return Ok(None) };
        let mut left = MAX_REFERENCES;
        self.with_references(&path, body, &mut left).map(Some)
    }

    fn with_references(
        &self,
        path: &str,
        body: SchemaBody,
        left: &mut usize,
    ) -> Result<RegisteredSchema, RegistryError> {
        let answer =
            |error: String| RegistryError::Answer { endpoint: self.endpoint.clone(), path: path.to_owned(), error };
        let kind = match body.schema_type.as_deref() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("JSON") => SchemaKind::Json,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some(other) => return Err(answer(format!("its schema is of type `{other}`"))),
        };
        let mut references = Vec::with_capacity(body.references.len());
        for ReferenceBody { name, subject, version } in body.references {
            *left =
                left.checked_sub(1).ok_or_else(|| answer(format!("it has more than {MAX_REFERENCES} references")))?;
            let path = format!("/subjects/{}/versions/{version}", escaped(&subject));
            let missing = || answer(format!("its reference `{name}`, version {version} of `{subject}`, is not there"));
            let body = self.get(&path)?.ok_or_else(missing)?;
            references.push((name, self.with_references(&path, body, left)?));
        }
        Ok(RegisteredSchema { kind, text: body.schema, references })
    }

    /// `None` = the registry says that it has no such thing.
    fn get(&self, path: &str) -> Result<Option<SchemaBody>, RegistryError> {
        let endpoint = || self.endpoint.clone();
        let unreachable =
            |error: ureq::Error| RegistryError::Unreachable { endpoint: endpoint(), error: error.to_string() };
        let mut request = self.agent.get(format!("{}{path}", self.endpoint));
        request = request.header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request.call().map_err(unreachable)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().read_to_string().map_err(unreachable)?;
        if status == 200 {
            let parsed = serde_json::from_str(&body).map_err(|error| RegistryError::Answer {
                endpoint: endpoint(),
                path: path.to_owned(),
                error: error.to_string(),
            });
            return parsed.map(Some);
        }
        let code = serde_json::from_str::<ErrorBody>(&body).ok().map(|body| body.error_code);
        if status == 404 && code.is_some_and(|code| code == SCHEMA_NOT_FOUND || path.starts_with("/subjects/")) {
            return Ok(None);
        }
        let hint = match status {
            401 | 403 => "are schema_registry.api_key and schema_registry.api_secret right?",
            404 => "schema_registry.endpoint has to end where `/schemas/ids/1` begins",
            _ => "see the log of the registry",
        };
        let body = body.chars().take(200).collect();
        Err(RegistryError::Status { endpoint: endpoint(), path: path.to_owned(), status, body, hint })
    }
}

/// The certificates of this machine, as for everything else that goes out.
pub(crate) fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<Certificate<'static>> =
        found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build()
}

/// A part of a path, with what has a meaning there in percent signs.
fn escaped(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    part.bytes().fold(String::with_capacity(part.len()), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
        out
    })
}

#[cfg(test)]
mod tests;
