//! CloudWatch through a real AWS-protocol server. Rule: what was put is read back; boto3, which passes each call on, checks that
//! it is one of CloudWatch's.

use std::time::Duration;

use prescale_actuate::{CloudWatch, CloudWatchSettings, Measure, MetricQuery, Sent, measures};
use prescale_domain::{Clock, Decision, Span, SystemClock, Timestamp};

use serde_json::Value;

use crate::kit;
use crate::kit::config::Setup;

fn cloudwatch(endpoint: &str, namespace: &str) -> CloudWatch {
    CloudWatch::new(CloudWatchSettings {
        namespace: namespace.to_owned(),
        dimensions: [("Stage".to_owned(), "test".to_owned())].into(),
        endpoint_url: Some(endpoint.to_owned()),
        region: Some("eu-west-1".to_owned()),
        timeout: Span::from_secs(30),
    })
}

fn query(namespace: &str, service: &str, metric: &str, statistic: &str) -> MetricQuery {
    MetricQuery {
        namespace: namespace.to_owned(),
        metric: metric.to_owned(),
        dimensions: [("Service".to_owned(), service.to_owned()), ("Stage".to_owned(), "test".to_owned())].into(),
        statistic: statistic.to_owned(),
        period: Span::from_secs(60),
    }
}

/// The start of the minute that was an hour ago: the server takes nothing that is too old.
fn an_hour_ago() -> Timestamp {
    let now = SystemClock.now().millis();
    Timestamp::from_millis(now - now % 60_000 - 3_600_000)
}

#[tokio::test]
async fn what_was_decided_and_forecast_is_read_back() {
    let Some(endpoint) = kit::cloudwatch() else { return };
    let namespace = kit::unique("Prescale");
    let samples: Vec<Decision> = serde_json::from_str(include_str!("../../schemas/samples/decisions.json")).unwrap();
    let start = an_hour_ago();
    let sample = measures(&samples[0]);
    let shift = start.since(samples[0].at);
    let moved: Vec<_> = sample.iter().map(|measure| Measure { at: measure.at + shift, ..measure.clone() }).collect();
    let cloudwatch = cloudwatch(&endpoint, &namespace);
    assert_eq!(cloudwatch.put(&moved).await.unwrap(), Sent { sent: moved.len(), left_out: 0 });
    let day = Span::from_secs(86_400);
    for measure in &moved {
        let found = cloudwatch
            .get(&[query(&namespace, &measure.service, measure.name, "Maximum")], start - day, start + day)
            .await
            .unwrap();
        let values: Vec<_> = found[0].iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [measure.value], "{}", measure.name);
    }
}

#[tokio::test]
async fn many_measures_go_in_calls_that_are_allowed() {
    let Some(endpoint) = kit::cloudwatch() else { return };
    let namespace = kit::unique("Many");
    let start = an_hour_ago();
    let measure = |second: i64, value: f64| Measure {
        name: "Load",
        service: "web".to_owned(),
        at: start + Span::from_millis(second * 1000),
        value,
    };
    let mut all: Vec<_> = (0..2500).map(|second| measure(second, 1.0)).collect();
    all.push(measure(0, f64::NAN));
    let cloudwatch = cloudwatch(&endpoint, &namespace);
    assert_eq!(cloudwatch.put(&all).await.unwrap(), Sent { sent: 2500, left_out: 1 });
    let queries = [query(&namespace, "web", "Load", "Sum"), query(&namespace, "nobody", "Load", "Sum")];
    let found = cloudwatch.get(&queries, start, start + Span::from_secs(3000)).await.unwrap();
    let minutes: Vec<_> = found[0].iter().map(|(at, value)| (at.since(start).millis() / 60_000, *value)).collect();
    // 2500 s are 41 whole minutes and 40 s.
    let expected: Vec<_> = (0..42).map(|minute| (minute, if minute < 41 { 60.0 } else { 40.0 })).collect();
    assert_eq!(minutes, expected);
    assert_eq!(found[1], []);
}

#[tokio::test]
async fn a_cloudwatch_that_is_not_there_is_unreachable() {
    let Some(_) = kit::cloudwatch() else { return };
    let settings = CloudWatchSettings {
        endpoint_url: Some(format!("http://127.0.0.1:{}", kit::free_port())),
        region: Some("eu-west-1".to_owned()),
        timeout: Span::from_secs(30),
        ..CloudWatchSettings::default()
    };
    let measure = Measure { name: "Load", service: "web".to_owned(), at: an_hour_ago(), value: 1.0 };
    let error = CloudWatch::new(settings).put(&[measure]).await.unwrap_err();
    assert_eq!(error.code(), "unreachable", "{error}");
}

#[test]
fn a_running_service_tells_what_it_decides() {
    let (Some(endpoint), Some(kafka)) = (kit::cloudwatch(), kit::kafka()) else { return };
    let (namespace, port, input) = (kit::unique("Prescale"), kit::free_port(), kit::unique("told"));
    kit::create_topic(&kafka, &input, 1);
    let setup = Setup::new(&kafka, "told")
        .with(&format!(
            "mode = \"recommend\"\nserve.listen = \"127.0.0.1:{port}\"\npolicy.decision_interval = \"1s\"\n[cloudwatch]\nnamespace = \
             \"{namespace}\"\nendpoint_url = \"{endpoint}\"\nregion = \"eu-west-1\"\n[features]\npipelines = [\"{}\"]\nsources = {{ \
             requests = \"{input}\" }}\n",
            kit::root().join("pipelines/requests.sql").display()
        ))
        .service("shop", 1.0, r#"{ kind = "simulated", fleet = { min = 1, max = 20, initial = 7 } }"#);
    let mut running = kit::Running::start(&["run", "-c", &setup.config()], &setup.path("log"));
    let url = format!("http://127.0.0.1:{port}/api/v1/decisions?limit=1&service=shop");
    kit::wait_for("a decision", Duration::from_secs(60), || {
        let (_, body) = kit::try_http_get(&url)?;
        serde_json::from_str::<Value>(&body).ok()?["decisions"][0]["desired"].as_u64()
    });
    // What waits is sent before the end.
    running.signal("-TERM");
    assert!(running.finish(Duration::from_secs(60)).success());
    let query = MetricQuery {
        dimensions: [("Service".to_owned(), "shop".to_owned())].into(),
        ..query(&namespace, "shop", "DesiredUnits", "Maximum")
    };
    let now = SystemClock.now();
    let (from, until) = (now - Span::from_minutes(10), now + Span::from_minutes(2));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = runtime.block_on(cloudwatch(&endpoint, &namespace).get(&[query], from, until)).unwrap();
    assert!(!found[0].is_empty() && found[0].iter().all(|(_, units)| *units == 7.0), "{found:?}");
}

#[test]
fn what_cloudwatch_knows_becomes_rows_of_the_metrics_topic() {
    let (Some(endpoint), Some(kafka)) = (kit::cloudwatch(), kit::kafka()) else { return };
    let (namespace, topic) = (kit::unique("Metrics"), kit::unique("metrics"));
    kit::create_topic(&kafka, &topic, 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = cloudwatch(&endpoint, &namespace);
    let now = SystemClock.now();
    let minute = |back: i64| Timestamp::from_millis(now.millis() - now.millis() % 60_000 - back * 60_000);
    let put = |back: i64, value: f64| {
        let measure = Measure { name: "Load", service: "queue".to_owned(), at: minute(back), value };
        runtime.block_on(store.put(&[measure])).unwrap();
    };
    put(6, 60.0);
    put(5, 50.0);
    // Of a minute that may not be over at CloudWatch.
    put(0, 7.0);
    let setup = Setup::new(&kafka, "metrics").with(&format!(
        "mode = \"observe\"\n[features]\npipelines = [\"{}\"]\nsources = {{ metrics = \"{topic}\" }}\n[[cloudwatch_metrics]]\nname \
         = \"queue_length\"\nservice = \"checkout\"\ninterval = \"1s\"\nendpoint_url = \"{endpoint}\"\nregion = \
         \"eu-west-1\"\ntopic = \"{topic}\"\n[cloudwatch_metrics.query]\nnamespace = \"{namespace}\"\nmetric = \
         \"Load\"\ndimensions = {{ Service = \"queue\", Stage = \"test\" }}\nstatistic = \"Maximum\"\nperiod = \"1m\"\n",
        kit::root().join("pipelines/metrics.sql").display()
    ));
    let setup = setup.service("checkout", 5.0, r#"{ kind = "simulated", fleet = { initial = 2 } }"#);
    let mut running = kit::Running::start(&["run", "-c", &setup.config()], &setup.path("log"));
    let rows = || -> Vec<(String, f64)> {
        let records: Vec<Value> = kit::consume(&kafka, &topic).iter().map(kit::Record::json).collect();
        let row = |row: &Value| {
            assert_eq!((&row["service"], &row["name"]), (&"checkout".into(), &"queue_length".into()), "{row}");
            (row["ts"].as_str().unwrap().to_owned(), row["value"].as_f64().unwrap())
        };
        records.iter().map(row).collect()
    };
    let told = |count: usize| {
        kit::wait_for("rows of the metrics topic", Duration::from_secs(60), || (rows().len() >= count).then_some(()));
    };
    told(2);
    put(4, 40.0);
    told(3);
    running.signal("-TERM");
    assert!(running.finish(Duration::from_secs(60)).success(), "{}", running.printed());
    let expected = [(6, 60.0), (5, 50.0), (4, 40.0)].map(|(back, value)| (minute(back).to_string(), value));
    assert_eq!(rows(), expected, "each once");
}
