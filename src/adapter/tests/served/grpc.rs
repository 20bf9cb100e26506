//! KEDA's and Envoy's protocols over real sockets, with clients of the same definitions.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prescale_adapter::TlsSettings;
use prescale_adapter::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use prescale_adapter::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use prescale_adapter::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use prescale_adapter::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use prescale_adapter::proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use prescale_adapter::proto::externalscaler::external_scaler_client::ExternalScalerClient;
use prescale_adapter::proto::externalscaler::{GetMetricsRequest, ScaledObjectRef};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::kit::{Authority, connect, connector, second, serve};

pub(crate) async fn plain(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn tls(connector: TlsConnector, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    let connecting = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(connect(&connector, address).await?)) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connecting).await
}

pub(crate) fn web(metric: &str) -> ScaledObjectRef {
    let metadata = [("service", "web"), ("metric", metric)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    ScaledObjectRef { name: "web".to_owned(), namespace: "shop".to_owned(), scaler_metadata: metadata.into() }
}

#[tokio::test]
async fn all_five_calls_of_an_external_scaler_are_answered() {
    let served = serve(|_| {}).await;
    let mut client = ExternalScalerClient::new(plain(served.addresses.keda.unwrap()).await);
    assert!(client.is_active(web("units")).await.unwrap().into_inner().result);
    let specs = client.get_metric_spec(web("load")).await.unwrap().into_inner().metric_specs;
    assert_eq!((specs[0].metric_name.as_str(), specs[0].target_size_float), ("prescale_forecast_load", 50.5));
    let request =
        GetMetricsRequest { scaled_object_ref: Some(web("load")), metric_name: "prescale_forecast_load".to_owned() };
    let values = client.get_metrics(request).await.unwrap().into_inner().metric_values;
    assert_eq!((values[0].metric_value, values[0].metric_value_float), (1235, 1234.5));

    let mut active = client.stream_is_active(web("units")).await.unwrap().into_inner();
    let mut targets = client.stream_metric_spec(web("load")).await.unwrap().into_inner();
    assert!(active.message().await.unwrap().unwrap().result);
    assert_eq!(targets.message().await.unwrap().unwrap().metric_specs, specs);
    served.answers.set("web", |known| (known.active, known.unit_capacity) = (Some(false), Some(60.0)));
    assert!(!active.message().await.unwrap().unwrap().result);
    assert_eq!(targets.message().await.unwrap().unwrap().metric_specs[0].target_size_float, 60.0);
    // What becomes too old ends as an error, for calls and streams alike.
    served.clock.set(second(181));
    served.answers.set("web", |_| {});
    assert_eq!(active.message().await.unwrap_err().code(), tonic::Code::Unavailable);
    assert_eq!(client.is_active(web("units")).await.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn a_rate_limit_is_asked_for_by_service_and_priority() {
    let served = serve(|_| {}).await;
    let mut client = RateLimitServiceClient::new(plain(served.addresses.ratelimit.unwrap()).await);
    let entry = |key: &str, value: &str| Entry { key: key.to_owned(), value: value.to_owned() };
    let descriptor = |priority: &str| RateLimitDescriptor {
        entries: vec![entry("service", "web"), entry("priority", priority)],
        hits_addend: None,
    };
    let mut over = [0; 2];
    for _ in 0..100 {
        for (over, priority) in over.iter_mut().zip(["critical", "low"]) {
            let request =
                RateLimitRequest { domain: "edge".to_owned(), descriptors: vec![descriptor(priority)], hits_addend: 0 };
            let answer = client.should_rate_limit(request).await.unwrap().into_inner();
            if answer.overall_code() == Code::OverLimit {
                *over += 1;
                assert_eq!(answer.response_headers_to_add[0].key, "retry-after");
            }
        }
    }
    // Half of all may go on, which is all of the critical ones.
    assert_eq!(over[0], 0);
    assert!(over[1] >= 84, "{over:?}");
}

#[tokio::test]
async fn grpc_over_tls_is_for_who_has_a_certificate_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, callers) = (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "callers"));
    let settings = TlsSettings {
        client_ca: Some(callers.certificate()),
        client_names: vec!["keda-operator".to_owned()],
        ..authority.server()
    };
    let served = serve(|adapter| adapter.keda.tls = Some(settings)).await;
    let address = served.addresses.keda.unwrap();
    let ask = async |own: Option<&_>| {
        let channel = tls(connector(Some(&authority), own, "h2"), address).await.map_err(|error| error.to_string())?;
        let mut client = ExternalScalerClient::new(channel);
        let answer = client.is_active(web("units"));
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.map_err(|error| error.to_string())?;
        answer.map(|answer| answer.into_inner().result).map_err(|status| status.to_string())
    };
    assert_eq!(ask(Some(&callers.sign("keda-operator"))).await, Ok(true));
    assert!(ask(Some(&callers.sign("somebody-else"))).await.is_err(), "of another name");
    assert!(ask(Some(&authority.sign("keda-operator"))).await.is_err(), "of another authority");
    assert!(ask(None).await.is_err(), "without a certificate");
}
