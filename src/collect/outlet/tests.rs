//! Against the brokers that librdkafka simulates, and against none.

use prescale_domain::{ServiceName, Timestamp};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::*;

fn records(count: u32) -> Vec<MetricRecord> {
    let record = |number: u32| MetricRecord {
        ts: Timestamp::from_millis(1_795_780_800_000 + i64::from(number)),
        service: ServiceName::new("web"),
        instance: None,
        name: "cpu_utilization",
        value: f64::from(number),
        labels: BTreeMap::new(),
    };
    (0..count).map(record).collect()
}

/// Key and value of each record of a topic of one partition, in order.
fn read(servers: &str, topic: &str, count: usize) -> Vec<(String, String)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "reader");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let message = consumer.poll(Duration::from_secs(20)).expect("a record within the time").unwrap();
        found.push((text(message.key()), text(message.payload())));
    }
    found
}

#[tokio::test]
async fn what_counts_as_sent_is_there() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let mut outlet = KafkaOutlet::open(KafkaOutletSettings::new(&servers, "metrics")).unwrap();
    outlet.put(&records(100)).unwrap();
    outlet.finish(Span::from_secs(20)).await.unwrap();
    assert_eq!((outlet.acknowledged(), outlet.given_up(), outlet.waiting()), (100, 0, 0));
    let found = read(&servers, "metrics", 100);
    let line = r#"{"ts":"2026-11-27T12:00:00.007Z","service":"web","instance":null,"name":"cpu_utilization","value":7.0,"labels":{}}"#;
    assert_eq!(found[7], ("web".to_owned(), line.to_owned()));
    assert!(found.iter().all(|(key, _)| key == "web"));
}

#[tokio::test]
async fn without_brokers_a_bounded_number_waits_and_each_that_does_not_arrive_is_counted() {
    let settings = KafkaOutletSettings {
        queue_records: 10,
        patience: Span::from_secs(1),
        // Nothing listens there.
        ..KafkaOutletSettings::new("127.0.0.1:1", "metrics")
    };
    let mut outlet = KafkaOutlet::open(settings).unwrap();
    for _ in 0..5 {
        outlet.put(&records(20)).unwrap();
        assert!(outlet.waiting() <= 10, "{}", outlet.waiting());
    }
    assert_eq!((outlet.acknowledged(), outlet.waiting() + outlet.given_up()), (0, 100));
    let error = outlet.finish(Span::from_secs(30)).await.unwrap_err();
    assert!(matches!(&error, CollectError::Undelivered { missing: 100, .. }), "{error}");
    assert_eq!((outlet.waiting(), outlet.given_up()), (0, 100));
    // Room again: it goes on.
    outlet.put(&records(3)).unwrap();
    assert_eq!(outlet.waiting(), 3);
}

#[tokio::test]
async fn records_wait_for_brokers_that_are_away_for_a_while() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("metrics", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let mut outlet = KafkaOutlet::open(KafkaOutletSettings::new(&servers, "metrics")).unwrap();
    cluster.broker_down(1).unwrap();
    outlet.put(&records(5)).unwrap();
    let waiting = outlet.finish(Span::from_secs(1)).await.unwrap_err();
    assert!(matches!(waiting, CollectError::Undelivered { missing: 5, .. }), "{waiting}");
    cluster.broker_up(1).unwrap();
    outlet.put(&records(5)).unwrap();
    outlet.finish(Span::from_secs(20)).await.unwrap();
    assert_eq!((outlet.acknowledged(), outlet.given_up()), (10, 0));
    assert!(!outlet.is_waiting);
}

#[test]
fn properties_pass_through_and_those_of_consumers_do_not() {
    let client = [("security.protocol", "SSL"), ("producer.linger.ms", "7"), ("linger.ms", "1"), ("consumer.x", "y")];
    let client = client.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let settings = KafkaOutletSettings { client, ..KafkaOutletSettings::new("a:1", "metrics") };
    let config = settings.config();
    assert_eq!(config.get("security.protocol"), Some("SSL"));
    assert_eq!(config.get("linger.ms"), Some("7"));
    assert_eq!(config.get("acks"), Some("all"));
    assert_eq!((config.get("consumer.x"), config.get("x")), (None, None));
    let unusable = [("no.such.property".to_owned(), "1".to_owned())].into();
    let opened = KafkaOutlet::open(KafkaOutletSettings { client: unusable, ..settings });
    assert!(matches!(opened.err(), Some(CollectError::Producer(error)) if error.contains("no.such.property")));
}
