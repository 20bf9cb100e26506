//! What triggers may say, and what streams send when; all on a clock that is set by hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tonic::Request;

use super::*;
use crate::fake::{HandClock, Known, Scripted};
use crate::proto::externalscaler::MetricSpec;

struct Fixture {
    answers: Arc<Scripted>,
    clock: Arc<HandClock>,
    shutdown: CancellationToken,
    scaler: Scaler,
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

fn fixture() -> Fixture {
    let web = Known {
        at: second(0),
        units: Some(3),
        units_ahead: vec![(Span::from_minutes(10), 9)],
        load: Some(1234.5),
        unit_capacity: Some(50.5),
        active: Some(true),
        ..Known::default()
    };
    let answers = Arc::new(Scripted::new([("web", web), ("new", Known::default())]));
    let clock = Arc::new(HandClock::new(second(60)));
    let shutdown = CancellationToken::new();
    let desk = Desk::new(answers.clone(), clock.clone(), Span::from_minutes(3));
    Fixture { answers, clock, scaler: Scaler::new(desk, shutdown.clone()), shutdown }
}

fn reference(metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let metadata: HashMap<_, _> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ScaledObjectRef { name: "web".to_owned(), namespace: "shop".to_owned(), scaler_metadata: metadata }
}

impl Fixture {
    async fn spec(&self, metadata: &[(&str, &str)]) -> Result<MetricSpec, Status> {
        let answer = self.scaler.get_metric_spec(Request::new(reference(metadata))).await?;
        let [spec] = answer.into_inner().metric_specs.try_into().unwrap();
        Ok(spec)
    }

    /// Name, integer and float.
    async fn value(&self, metadata: &[(&str, &str)]) -> Result<(String, i64, f64), Status> {
        let request = GetMetricsRequest {
            scaled_object_ref: Some(reference(metadata)),
            metric_name: self.spec(metadata).await?.metric_name,
        };
        let [value] =
            self.scaler.get_metrics(Request::new(request)).await?.into_inner().metric_values.try_into().unwrap();
        Ok((value.metric_name, value.metric_value, value.metric_value_float))
    }
}

#[tokio::test]
async fn a_trigger_says_what_is_asked_for() {
    let fixture = fixture();
    let units = "prescale_desired_units".to_owned();
    let load = "prescale_forecast_load".to_owned();
    for (metadata, expected) in [
        (vec![("service", "web")], (units.clone(), 3, 3.0)),
        (vec![("service", "web"), ("scalerAddress", "x:1"), ("enableTLS", "true")], (units.clone(), 3, 3.0)),
        (vec![("service", " web "), ("metric", "units"), ("ahead", "15m")], (units, 9, 9.0)),
        (vec![("service", "web"), ("metric", "load")], (load, 1235, 1234.5)),
    ] {
        assert_eq!(fixture.value(&metadata).await.unwrap(), expected, "{metadata:?}");
    }
    for (metadata, expected) in [
        (vec![("service", "web")], (1, 1.0)),
        (vec![("service", "web"), ("target", "2.5")], (3, 2.5)),
        (vec![("service", "web"), ("target", "0.001")], (1, 0.001)),
        (vec![("service", "web"), ("metric", "load")], (51, 50.5)),
        (vec![("service", "web"), ("metric", "load"), ("target", "100")], (100, 100.0)),
    ] {
        let spec = fixture.spec(&metadata).await.unwrap();
        assert_eq!((spec.target_size, spec.target_size_float), expected, "{metadata:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused() {
    let fixture = fixture();
    let mut table = Vec::new();
    for metadata in [
        vec![],
        vec![("service", "")],
        vec![("service", "none")],
        vec![("service", "new")],
        vec![("service", "web"), ("metric", "cpu")],
        vec![("service", "web"), ("target", "0")],
        vec![("service", "web"), ("target", "-1")],
        vec![("service", "web"), ("target", "NaN")],
        vec![("service", "web"), ("target", "inf")],
        vec![("service", "web"), ("ahead", "soon")],
        vec![("service", "web"), ("ahead", "-5m")],
    ] {
        let status = fixture.value(&metadata).await.unwrap_err();
        table.push(format!("{metadata:?}\n  {:?}: {}\n", status.code(), status.message()));
    }
    insta::assert_snapshot!("refusals", table.concat());
    let request =
        GetMetricsRequest { scaled_object_ref: Some(reference(&[("service", "web")])), metric_name: "cpu".to_owned() };
    let status = fixture.scaler.get_metrics(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn zero_is_sent_as_zero() {
    let fixture = fixture();
    fixture.answers.set("web", |known| (known.units, known.active) = (Some(0), Some(false)));
    assert_eq!(fixture.value(&[("service", "web")]).await.unwrap().1, 0);
    let active = fixture.scaler.is_active(Request::new(reference(&[("service", "web")]))).await.unwrap();
    assert!(!active.into_inner().result);
}

#[tokio::test]
async fn what_is_too_old_is_not_told() {
    let fixture = fixture();
    let web = &[("service", "web")];
    fixture.clock.set(second(180));
    assert!(fixture.value(web).await.is_ok());
    fixture.clock.set(second(181));
    assert_eq!(fixture.value(web).await.unwrap_err().code(), Code::Unavailable);
    let active = fixture.scaler.is_active(Request::new(reference(web))).await;
    assert_eq!(active.unwrap_err().code(), Code::Unavailable);
    // A target that is configured does not age; one that was learnt does.
    assert!(fixture.spec(web).await.is_ok());
    assert_eq!(fixture.spec(&[("service", "web"), ("metric", "load")]).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_stream_sends_what_is_known_at_once_and_then_what_changes() {
    let fixture = fixture();
    let request = Request::new(reference(&[("service", "web")]));
    let mut stream = fixture.scaler.stream_is_active(request).await.unwrap().into_inner();
    assert!(stream.next().await.unwrap().unwrap().result);
    // Nothing is sent for what stays as it was.
    fixture.answers.set("web", |known| known.units = Some(4));
    assert!(stream.next().now_or_never().is_none());
    fixture.answers.set("web", |known| known.active = Some(false));
    assert!(!stream.next().await.unwrap().unwrap().result);
    fixture.answers.set("web", |known| known.active = Some(true));
    assert!(stream.next().await.unwrap().unwrap().result);
    // A stop ends it without an error, upon which KEDA comes back soonest.
    fixture.shutdown.cancel();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn pushed_targets_are_those_that_are_told_when_asked() {
    let fixture = fixture();
    let metadata = [("service", "web"), ("metric", "load")];
    let mut stream = fixture.scaler.stream_metric_spec(Request::new(reference(&metadata))).await.unwrap().into_inner();
    for capacity in [50.5, 60.0, 45.25] {
        fixture.answers.set("web", |known| known.unit_capacity = Some(capacity));
        let [pushed] = stream.next().await.unwrap().unwrap().metric_specs.try_into().unwrap();
        assert_eq!(pushed.target_size_float, capacity);
        assert_eq!(fixture.spec(&metadata).await.unwrap(), pushed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_its_answer_becomes_too_old() {
    let fixture = fixture();
    let request = Request::new(reference(&[("service", "web")]));
    let mut stream = fixture.scaler.stream_is_active(request).await.unwrap().into_inner();
    assert!(stream.next().await.unwrap().unwrap().result);
    let started = tokio::time::Instant::now();
    let ended = tokio::join!(stream.next(), async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        fixture.clock.set(second(181));
    });
    assert_eq!(ended.0.unwrap().unwrap_err().code(), Code::Unavailable);
    // It was fresh for two minutes more, by the clock of answers.
    assert_eq!(started.elapsed().as_secs(), 120);
    assert!(stream.next().await.is_none());
}
