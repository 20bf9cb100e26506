//! Starting and stopping. Rule: a stop is not held up by who follows, by who is silent, or by who does not finish a handshake.

use std::time::{Duration, Instant};

use prescale_adapter::proto::externalscaler::external_scaler_client::ExternalScalerClient;
use prescale_adapter::{AdapterSettings, Listen, TlsSettings, bind};
use tokio::net::TcpStream;

use crate::grpc::{plain, web};
use crate::kit::serve;

#[tokio::test]
async fn a_stop_ends_streams_and_is_held_up_by_nobody() {
    let served = serve(|_| {}).await;
    let mut client = ExternalScalerClient::new(plain(served.addresses.keda.unwrap()).await);
    let mut stream = client.stream_is_active(web("units")).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().result);
    let silent = TcpStream::connect(served.addresses.metrics.unwrap()).await.unwrap();
    let begun = Instant::now();
    served.shutdown.cancel();
    assert!(stream.message().await.unwrap().is_none(), "the stream ends without an error");
    served.ended.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(silent);
}

#[tokio::test]
async fn who_does_not_finish_a_handshake_holds_nobody_up() {
    let served = serve(|_| {}).await;
    let address = served.addresses.metrics.unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let connector = crate::kit::connector(None, None, "http/1.1");
    let connecting = crate::kit::connect(&connector, address);
    tokio::time::timeout(Duration::from_secs(4), connecting).await.unwrap().unwrap();
}

#[tokio::test]
async fn each_server_is_off_without_an_address() {
    let bound = bind(&AdapterSettings::default()).await.unwrap();
    let addresses = bound.addresses();
    assert_eq!((addresses.metrics, addresses.keda, addresses.ratelimit), (None, None, None));
}

#[tokio::test]
async fn what_can_not_be_served_is_known_at_the_start() {
    let fault = async |change: fn(&mut AdapterSettings)| {
        let mut settings = AdapterSettings::default();
        settings.keda.listen = Some(Listen("127.0.0.1:0".parse().unwrap()));
        change(&mut settings);
        bind(&settings).await.err().unwrap().to_string()
    };
    let error = fault(|settings| {
        settings.keda.tls = Some(TlsSettings { certificate: Some("a.crt".into()), ..TlsSettings::default() });
        settings.ratelimit.default_class = "vip".to_owned();
        settings.ratelimit.classes.push("low".to_owned());
    })
    .await;
    assert_eq!(
        error,
        "keda.tls: certificate and key go together: one is missing\n\
         ratelimit.classes: a class is named twice\n\
         ratelimit.default_class: `vip` is none of the classes"
    );
    let error = fault(|settings| {
        let (certificate, key) = (Some("none.crt".into()), Some("none.key".into()));
        settings.keda.tls = Some(TlsSettings { certificate, key, ..TlsSettings::default() });
    })
    .await;
    assert!(error.starts_with("keda: read certificate `none.crt`: "), "{error}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = AdapterSettings::default();
    settings.ratelimit.listen = Some(Listen(taken.local_addr().unwrap()));
    let error = bind(&settings).await.err().unwrap().to_string();
    assert!(error.contains("for ratelimit") && error.contains("hint: "), "{error}");
}

#[test]
fn a_port_alone_is_of_the_loopback_interface() {
    let listen = |text: &str| Listen::try_from(text.to_owned()).map(|listen| listen.0.to_string());
    assert_eq!(listen("6443").unwrap(), "127.0.0.1:6443");
    assert_eq!(listen("0.0.0.0:6443").unwrap(), "0.0.0.0:6443");
    assert_eq!(listen("[::1]:6443").unwrap(), "[::1]:6443");
    for text in ["", "70000", "localhost:6443", ":6443"] {
        assert!(listen(text).is_err(), "{text}");
    }
    let settings: AdapterSettings = toml::from_str("keda = { listen = \"6443\" }").unwrap();
    assert_eq!(settings.keda.listen.unwrap().0.port(), 6443);
    assert!(toml::from_str::<AdapterSettings>("keda = { port = 6443 }").is_err());
}
