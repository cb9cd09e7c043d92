//! Events that waited longer than the topic keeps records.

use std::time::Duration;

use edge_buffer::Entry;
use edge_mirror::Mirror;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{
    PATIENCE, append_entries, config, create_topic, fresh, judge, kafka, open_log, read_all, wait_mirrored, wait_until, wait_until_for,
};

const HOUR: i64 = 3_600_000;
const KEPT_FOR_AN_HOUR: [(&str, &str); 1] = [("retention.ms", "3600000")];

fn now() -> i64 {
    asset_stream::Timestamp::now().millis()
}

/// Events of ten assets.
fn entries(count: usize, timestamp: i64) -> Vec<Entry> {
    let value = r#"{"ID":"temp","VALUE":1,"TAG":"Temperature","TYPE":"Samples","attributes":{"timestamp":"x"}}"#;
    (0..count).map(|n| Entry { key: format!("ASSET-{:03}", n % 10).into(), timestamp, value: value.as_bytes().to_vec() }).collect()
}

/// Brings records two hours old into a topic that keeps them for one, and waits until Kafka has deleted them.
fn wait_until_kafka_has_deleted(brokers: &str, topic: &str) {
    create_topic(brokers, topic, &KEPT_FOR_AN_HOUR);
    let settings = ClientConfig::new().set("bootstrap.servers", brokers).clone();
    let producer: BaseProducer = settings.create().expect("a producer");
    let record = BaseRecord::to(topic).key("old").payload("old").partition(0).timestamp(now() - 2 * HOUR);
    producer.send(record).expect("taken");
    producer.flush(Duration::from_secs(10)).expect("acknowledged");
    let consumer: BaseConsumer = settings.create().expect("a consumer");
    wait_until_for("Kafka deletes what is too old", PATIENCE, String::new, || {
        consumer.fetch_watermarks(topic, 0, Duration::from_secs(5)).is_ok_and(|(first, end)| first == 1 && end == 1)
    });
}

#[test]
fn events_that_waited_longer_than_the_topic_keeps_records_arrive_and_stay() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("retention"));
    create_topic(&kafka, &topic, &KEPT_FOR_AN_HOUR);
    let began = now();
    let old = began - 2 * HOUR;
    append_entries(&bench.log, entries(1_000, old));
    append_entries(&bench.log, entries(1_000, began - HOUR / 4));
    let mirror = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_until("it says that events are too old", &mirror, || {
        mirror.status().last_error.is_some_and(|(error, _)| error.contains("the topic's retention.ms would soon delete them"))
    });
    wait_mirrored(&mirror, &bench.log);
    mirror.stop(Duration::from_secs(5));
    wait_until_kafka_has_deleted(&kafka, &fresh("deleted"));
    let mut records = read_all(&kafka, &topic);
    for record in records.iter_mut().filter(|record| record.sequence <= 1_000) {
        assert!(record.timestamp >= began, "the time of sending: {} of {record:?}", record.timestamp);
        record.timestamp = old;
    }
    judge(&records, &bench.log, &[]);
}
