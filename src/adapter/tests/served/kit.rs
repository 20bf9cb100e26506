//! Servers on free ports, certificates for both sides, and a client of bytes over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prescale_adapter::fake::{HandClock, Known, Scripted};
use prescale_adapter::{AdapterError, AdapterSettings, Addresses, Admission, Listen, TlsSettings, bind};
use prescale_domain::{Span, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// A running adapter.
pub(crate) struct Served {
    pub(crate) addresses: Addresses,
    pub(crate) answers: Arc<Scripted>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), AdapterError>>,
}

pub(crate) fn second(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

/// All three servers on free ports of the loopback interface, asked about `web`.
pub(crate) async fn serve(change: impl FnOnce(&mut AdapterSettings)) -> Served {
    let free = || Some(Listen("127.0.0.1:0".parse().unwrap()));
    let mut settings = AdapterSettings { stale_after: Span::from_minutes(3), ..AdapterSettings::default() };
    (settings.metrics.listen, settings.keda.listen, settings.ratelimit.listen) = (free(), free(), free());
    change(&mut settings);
    let web = Known {
        at: second(0),
        units: Some(3),
        load: Some(1234.5),
        unit_capacity: Some(50.5),
        active: Some(true),
        admission: Some(Admission { share: 0.5, rate: None }),
        ..Known::default()
    };
    let (answers, clock) = (Arc::new(Scripted::new([("web", web)])), Arc::new(HandClock::new(second(60))));
    let bound = bind(&settings).await.unwrap();
    let (addresses, shutdown) = (bound.addresses(), CancellationToken::new());
    let ended = tokio::spawn(bound.serve(answers.clone(), clock.clone(), shutdown.clone()));
    Served { addresses, answers, clock, shutdown, ended }
}

/// An authority and what it has signed, as files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: &'static str,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &'static str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), issuer.pem()).unwrap();
        Self { issuer, folder: folder.to_owned(), name }
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}.crt", self.name))
    }

    /// Files of a certificate and its key, for a host and with a common name.
    pub(crate) fn sign(&self, common_name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.folder.join(format!("{}-{common_name}.{end}", self.name));
        std::fs::write(file("crt"), signed.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("crt"), file("key"))
    }

    /// Settings of a server that shows a certificate of this authority.
    pub(crate) fn server(&self) -> TlsSettings {
        let (certificate, key) = self.sign("server");
        TlsSettings { certificate: Some(certificate), key: Some(key), ..TlsSettings::default() }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How to connect: trusting an authority or nobody in particular, with a certificate or without.
pub(crate) fn connector(trusted: Option<&Authority>, own: Option<&(PathBuf, PathBuf)>, alpn: &str) -> TlsConnector {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match trusted {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider()))),
    };
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn connect(
    connector: &TlsConnector,
    address: std::net::SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await
}

/// As `insecureSkipTLSVerify` of an APIService.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
