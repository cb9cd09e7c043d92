//! A topic that is not what it was.

use std::time::Duration;

use asset_stream::Event;
use edge_mirror::{Mirror, OnChangedTopic};

use crate::support::{
    Bench, Record, append, config, create_topic, delete_topic, fresh, judge, kafka, open_log, read_all, wait_mirrored, wait_until,
};

/// What the edge itself said about changes.
fn said(records: &[Record]) -> Vec<String> {
    let own = records.iter().filter(|record| record.key == "EDGE-TEST");
    own.map(|record| Event::decode(&record.value).expect("an event").value.as_str().expect("text").to_owned()).collect()
}

fn remade(on_change: OnChangedTopic, more_meanwhile: usize) -> (Vec<Record>, Bench, u64) {
    let kafka = kafka().expect("checked by the caller");
    let (bench, topic) = (open_log(), fresh("remade"));
    create_topic(&kafka, &topic, &[]);
    append(&bench.log, 1_000, 10);
    let mut settings = config(&kafka, &topic);
    settings.on_changed_topic = on_change;
    let mirror = Mirror::start(settings.clone(), bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    mirror.stop(Duration::from_secs(5));
    delete_topic(&kafka, &topic);
    create_topic(&kafka, &topic, &[]);
    if more_meanwhile > 0 {
        // Another edge fills the new topic beyond where the old one ended.
        let other = open_log();
        append(&other.log, more_meanwhile, 10);
        let mut settings = config(&kafka, &topic);
        settings.edge_id = "EDGE-OTHER".into();
        let mirror = Mirror::start(settings, other.log.clone()).expect("starts");
        wait_mirrored(&mirror, &other.log);
        mirror.stop(Duration::from_secs(5));
    }
    append(&bench.log, 50, 10);
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    assert_eq!(mirror.status().changes, 1, "{:#?}", mirror.status());
    mirror.stop(Duration::from_secs(5));
    let mut records = read_all(&kafka, &topic);
    records.retain(|record| record.edge == "EDGE-TEST");
    (records, bench, 1_000)
}

#[test]
fn a_topic_made_anew_is_said_aloud_and_mirroring_continues() {
    if kafka().is_none() {
        return;
    }
    let (records, bench, before) = remade(OnChangedTopic::Continue, 0);
    let except: Vec<u64> = (1..=before).collect();
    judge(&records, &bench.log, &except);
    let said = said(&records);
    assert!(said.len() == 1 && said[0].contains("made anew or cut back"), "{said:?}");
}

#[test]
fn a_topic_made_anew_gets_everything_that_the_log_retains_if_so_configured() {
    if kafka().is_none() {
        return;
    }
    let (records, bench, _) = remade(OnChangedTopic::ResendRetained, 0);
    judge(&records, &bench.log, &[]);
    assert_eq!(said(&records).len(), 1);
}

#[test]
fn a_topic_made_anew_and_filled_by_others_is_recognised_by_what_stands_there() {
    if kafka().is_none() {
        return;
    }
    let (records, bench, _) = remade(OnChangedTopic::ResendRetained, 5_000);
    judge(&records, &bench.log, &[]);
    let said = said(&records);
    assert!(said.len() == 1 && said[0].contains("holds another record"), "{said:?}");
}

#[test]
fn a_topic_deleted_under_a_running_mirror_is_created_again_and_said_aloud() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("deleted"));
    append(&bench.log, 1_000, 10);
    let mut settings = config(&kafka, &topic);
    settings.on_changed_topic = OnChangedTopic::ResendRetained;
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    delete_topic(&kafka, &topic);
    append(&bench.log, 100, 10);
    wait_until("the change is noticed", &mirror, || mirror.status().changes == 1);
    wait_mirrored(&mirror, &bench.log);
    mirror.stop(Duration::from_secs(5));
    let records = read_all(&kafka, &topic);
    judge(&records, &bench.log, &[]);
    assert_eq!(said(&records).len(), 1);
}
