//! Certificates. Rule: a file that can't be used is an error that names it; a key is neither logged nor kept elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prescale_telemetry::adapter::{CertificateMade, Protocol};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::TlsSettings;

/// Names in a certificate that is made where none are configured.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("read {what} `{path}`: {error}")]
    File { what: &'static str, path: PathBuf, error: String },
    #[error("{what} `{path}` holds none")]
    Empty { what: &'static str, path: PathBuf },
    #[error("make a certificate for {names:?}: {error}")]
    Make { names: Vec<String>, error: String },
    #[error("use the certificate: {0}")]
    Unusable(#[from] rustls::Error),
    #[error("use client_ca `{path}`: {error}")]
    Authorities { path: PathBuf, error: String },
}

/// Whether callers without a certificate get as far as asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// They do not, where authorities are configured.
    Certified,
    /// They do; the protocol itself turns them away.
    Any,
}

/// The configuration of a server of one application protocol (`h2`, `http/1.1`).
pub(crate) fn config(
    settings: &TlsSettings,
    protocol: Protocol,
    application: &str,
    callers: Callers,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => (certificates("certificate", certificate)?, private_key(key)?),
        _ => {
            let made = make(&settings.names)?;
            CertificateMade { protocol }.emit();
            made
        }
    };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider, callers)?),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![application.as_bytes().to_vec()];
    Ok(config)
}

/// The common name in a certificate that was verified.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
    callers: Callers,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let unusable = |error: String| TlsError::Authorities { path: path.to_owned(), error };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", path)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match callers {
        Callers::Certified => builder,
        Callers::Any => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| unusable(error.to_string()))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| TlsError::File { what, path: path.to_owned(), error: error.to_string() })?;
    if found.is_empty() {
        return Err(TlsError::Empty { what, path: path.to_owned() });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "key";
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File {
        what,
        path: path.to_owned(),
        error: error.to_string(),
    })
}

type Made = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate that vouches for itself, for who does not check it or is given it by hand.
fn make(names: &[String]) -> Result<Made, TlsError> {
    let names = if names.is_empty() { LOOPBACK.map(str::to_owned).to_vec() } else { names.to_vec() };
    let made = rcgen::generate_simple_self_signed(names.clone())
        .map_err(|error| TlsError::Make { names, error: error.to_string() })?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| TlsError::Unusable(rustls::Error::General(error.to_owned())))?;
    Ok((vec![made.cert.der().clone()], key))
}
