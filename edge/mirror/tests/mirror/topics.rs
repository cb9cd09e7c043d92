//! A topic that is not there.

use std::time::Duration;

use edge_mirror::{CreateTopics, Mirror, State};

use crate::support::{append, config, create_topic, fresh, judge, kafka, open_log, read_all, wait_mirrored, wait_until};

#[test]
fn a_missing_topic_is_waited_for_and_the_status_says_how_to_create_it() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("missing"));
    append(&bench.log, 100, 5);
    let mut settings = config(&kafka, &topic);
    settings.create_topics = CreateTopics::Never;
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_until("it says that the topic is missing", &mirror, || mirror.status().state == State::NoTopic);
    let sentence = mirror.status().sentence;
    assert!(sentence.contains(&format!("--create --topic {topic}")), "{sentence}");
    create_topic(&kafka, &topic, &[]);
    wait_mirrored(&mirror, &bench.log);
    assert_eq!(mirror.status().state, State::Mirroring);
    mirror.stop(Duration::from_secs(5));
    judge(&read_all(&kafka, &topic), &bench.log, &[]);
}

#[test]
fn a_missing_topic_is_created_as_configured() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("created"));
    append(&bench.log, 100, 50);
    let mut settings = config(&kafka, &topic);
    let more = [("retention.ms".to_owned(), "-1".to_owned())].into();
    settings.create_topics = CreateTopics::Create { partitions: 7, replication: 1, settings: more };
    let mirror = Mirror::start(settings, bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &bench.log);
    mirror.stop(Duration::from_secs(5));
    let records = read_all(&kafka, &topic);
    judge(&records, &bench.log, &[]);
    let partitions: std::collections::HashSet<i32> = records.iter().map(|record| record.partition).collect();
    assert!(partitions.len() > 4, "50 assets spread over 7 partitions: {partitions:?}");
}
