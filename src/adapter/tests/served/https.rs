//! The metrics API over TLS: certificates of files and of its own, and the front proxy's.

use std::net::SocketAddr;

use prescale_adapter::TlsSettings;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::kit::{Authority, connect, connector, serve};

const PATH: &str =
    "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/prescale_desired_units?labelSelector=service%3Dweb";

/// Status and body; an error of the connection as text.
async fn get(
    connector: &TlsConnector,
    address: SocketAddr,
    path: &str,
    headers: &str,
) -> Result<(u16, String), String> {
    let mut stream = connect(connector, address).await.map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn value(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["items"][0]["value"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_certificate_is_made_where_none_is_configured() {
    let served = serve(|_| {}).await;
    let address = served.addresses.metrics.unwrap();
    let (status, body) = get(&connector(None, None, "http/1.1"), address, PATH, "").await.unwrap();
    assert_eq!((status, value(&body).as_str()), (200, "3"));
    // Who checks it finds that nobody vouches for it.
    let folder = tempfile::tempdir().unwrap();
    let stranger = Authority::new(folder.path(), "stranger");
    let error = get(&connector(Some(&stranger), None, "http/1.1"), address, PATH, "").await.unwrap_err();
    assert!(error.contains("UnknownIssuer") || error.contains("CaUsedAsEndEntity"), "{error}");
}

#[tokio::test]
async fn the_certificate_of_files_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let served = serve(|settings| settings.metrics.tls = authority.server()).await;
    let trusting = connector(Some(&authority), None, "http/1.1");
    let address = served.addresses.metrics.unwrap();
    assert_eq!(get(&trusting, address, PATH, "").await.unwrap().0, 200);
    assert_eq!(get(&trusting, address, "/healthz", "").await.unwrap(), (200, "ok".to_owned()));
}

#[tokio::test]
async fn only_the_front_proxy_gets_answers_where_its_authority_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, proxies, strangers) = (
        Authority::new(folder.path(), "authority"),
        Authority::new(folder.path(), "front-proxy-ca"),
        Authority::new(folder.path(), "strangers"),
    );
    let served = serve(|settings| {
        settings.metrics.tls = TlsSettings {
            client_ca: Some(proxies.certificate()),
            client_names: vec!["front-proxy-client".to_owned()],
            ..authority.server()
        };
    })
    .await;
    let address = served.addresses.metrics.unwrap();
    let user = "X-Remote-User: system:serviceaccount:kube-system:horizontal-pod-autoscaler\r\n";
    let proxy = proxies.sign("front-proxy-client");
    let ask = async |own: Option<&_>, headers: &str, path: &str| {
        get(&connector(Some(&authority), own, "http/1.1"), address, path, headers).await
    };

    let (status, body) = ask(Some(&proxy), user, PATH).await.unwrap();
    assert_eq!((status, value(&body).as_str()), (200, "3"));
    assert_eq!(ask(Some(&proxy), "", PATH).await.unwrap().0, 401, "for nobody");
    assert_eq!(ask(None, user, PATH).await.unwrap().0, 401, "without a certificate");
    let other = proxies.sign("somebody-else");
    assert_eq!(ask(Some(&other), user, PATH).await.unwrap().0, 401, "of another name");
    assert_eq!(ask(None, "", "/readyz").await.unwrap().0, 200, "health");
    // A certificate of another authority does not get as far as asking.
    let stranger = strangers.sign("front-proxy-client");
    assert!(ask(Some(&stranger), user, PATH).await.is_err());
}
