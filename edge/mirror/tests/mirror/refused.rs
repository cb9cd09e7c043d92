//! Records that Kafka will never take.

use std::collections::HashMap;
use std::time::Duration;

use asset_stream::Event;
use edge_buffer::{Appended, Entry};
use edge_mirror::Mirror;

use crate::support::{
    Record, append, append_entries, config, create_topic, fresh, judge, kafka, open_log, open_log_with, read_all, wait_mirrored, wait_until,
};

fn entry(key: &str, timestamp: i64, size: usize) -> Entry {
    // Random digits, which compression can only halve.
    let noise: String = (0..size / 32 + 1).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    let value = format!(r#"{{"ID":"image","VALUE":"{noise}","TAG":"T","TYPE":"Events","attributes":{{}}}}"#);
    Entry { key: key.into(), timestamp, value: value.into_bytes() }
}

fn now() -> i64 {
    asset_stream::Timestamp::now().millis()
}

/// The gap events among the records, read: asset, and the log sequence that is missing.
fn gaps(records: &[Record]) -> Vec<(String, u64)> {
    let mut gaps = Vec::new();
    for record in records {
        let Ok(event) = Event::decode(&record.value) else { continue };
        if event.id == "gap" {
            let value: serde_json::Value = serde_json::from_str(event.value.as_str().expect("JSON text")).expect("JSON");
            assert_eq!(value["reason"], "refused_by_kafka");
            assert_eq!(value["item"], "image");
            gaps.push((record.key.clone(), value["sequences"][0].as_u64().expect("a sequence")));
        }
    }
    gaps.sort();
    gaps
}

#[test]
fn a_record_too_large_becomes_a_gap_and_the_others_go_on_in_order() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("large"));
    create_topic(&kafka, &topic, &[("max.message.bytes", "100000")]);
    append(&bench.log, 300, 10);
    append_entries(&bench.log, vec![entry("ASSET-003", now(), 250_000)]);
    append(&bench.log, 300, 10);
    // Larger than anything that is tried at all.
    append_entries(&bench.log, vec![entry("ASSET-004", now(), 500_000)]);
    append(&bench.log, 300, 10);
    let mut settings = config(&kafka, &topic);
    settings.max_record_bytes = 400_000;
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    let status = mirror.status();
    mirror.stop(Duration::from_secs(5));
    let records = read_all(&kafka, &topic);
    judge(&records, &bench.log, &[301, 602]);
    assert_eq!(gaps(&records), [("ASSET-003".to_owned(), 301), ("ASSET-004".to_owned(), 602)]);
    assert_eq!((status.refused, status.doubts), (2, 0), "a record that goes alone leaves no doubt: {status:#?}");
}

#[test]
fn a_large_record_that_compresses_well_is_taken() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("compresses"));
    create_topic(&kafka, &topic, &[("max.message.bytes", "20000")]);
    append(&bench.log, 2_000, 3);
    let value = format!(r#"{{"ID":"image","VALUE":"{}","TAG":"T","TYPE":"Events","attributes":{{}}}}"#, "0".repeat(500_000));
    append_entries(&bench.log, vec![Entry { key: "ASSET-001".into(), timestamp: now(), value: value.into_bytes() }]);
    append(&bench.log, 2_000, 3);
    let mirror = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    assert_eq!(mirror.status().refused, 0);
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&kafka, &topic), &bench.log, &[]);
}

#[test]
fn events_of_wrong_clocks_arrive_with_a_record_time_that_kafka_takes() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("clocks"));
    create_topic(&kafka, &topic, &[("message.timestamp.after.max.ms", "60000"), ("message.timestamp.before.max.ms", "604800000")]);
    let began = now();
    let mut wrong = HashMap::new();
    for timestamp in [began + 7_200_000, 1_000] {
        append(&bench.log, 2_000, 10);
        append_entries(&bench.log, (0..200).map(|n| entry(&format!("ASSET-{:03}", n % 10), timestamp, 10)).collect());
        wrong.extend((bench.log.durable() - 199..=bench.log.durable()).map(|sequence| (sequence, timestamp)));
    }
    append(&bench.log, 2_000, 10);
    let mirror = Mirror::start(config(&kafka, &topic), bench.log.clone()).expect("starts");
    wait_until("it says what Kafka refuses", &mirror, || {
        mirror.status().last_error.is_some_and(|(error, _)| error.contains("check the devices' clocks, and NTP on the edge"))
    });
    wait_mirrored(&mirror, &bench.log);
    let status = mirror.status();
    mirror.stop(Duration::from_secs(5));
    let mut records = read_all(&kafka, &topic);
    for record in &mut records {
        if let Some(timestamp) = wrong.get(&record.sequence) {
            assert!((began..=now()).contains(&record.timestamp), "the time of sending: {} of {record:?}", record.timestamp);
            record.timestamp = *timestamp;
        }
    }
    judge(&records, &bench.log, &[]);
    assert_eq!((status.refused, status.resent, status.holes), (0, 0, 0), "{status:#?}");
    assert!(status.producers <= 3, "the two directions are learnt once each: {status:#?}");
}

#[test]
fn a_record_that_kafka_refuses_at_the_head_of_a_full_log_is_told_when_there_is_room() {
    let Some(kafka) = kafka() else { return };
    let segment_bytes = 1 << 20;
    let when_full = edge_buffer::WhenFull::RefuseNew;
    let bench = open_log_with(edge_buffer::Config { segment_bytes, max_bytes: 4 * segment_bytes, when_full, ..Default::default() });
    let topic = fresh("full");
    create_topic(&kafka, &topic, &[("max.message.bytes", "100000")]);
    append_entries(&bench.log, vec![entry("ASSET-003", now(), 250_000)]);
    // Until not even a small event has room.
    for size in [50_000, 10] {
        while let Ok(Appended::Durable { .. }) = bench.log.append_durable(vec![entry("ASSET-004", now(), size)]) {}
    }
    let mirror = Mirror::start(config(&kafka, &topic), bench.log).expect("starts");
    let told = || gaps(&read_all(&kafka, &topic));
    wait_until("the gap is told", &mirror, || mirror.status().refused == 1 && told() == [("ASSET-003".to_owned(), 1)]);
    mirror.stop(Duration::from_secs(5));
}

#[test]
fn a_rate_limit_holds() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("rate"));
    append(&bench.log, 1_500, 10);
    let mut settings = config(&kafka, &topic);
    settings.rate = Some(1_000);
    let began = std::time::Instant::now();
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    let took = began.elapsed();
    mirror.stop(Duration::from_secs(5));
    assert!(took >= Duration::from_millis(1_350), "1500 events at 1000 a second, a tenth of a second at once: {took:?}");
    judge(&read_all(&kafka, &topic), &bench.log, &[]);
}
