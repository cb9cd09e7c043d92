//! `ofa_edges`: who is there.

use std::time::{Duration, Instant};

use edge_buffer::Cursor;
use edge_mirror::{Announcement, Clock, Facts, Mirror, State};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{append, config, fresh, judge, kafka, open_log, read_all, wait_mirrored, wait_until};

#[test]
fn an_edge_announces_itself_and_the_older_of_two_gives_way() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("twins"));
    append(&bench.log, 100, 5);
    let mut settings = config(&kafka, &topic);
    settings.announce_every = Duration::from_millis(500);
    let older = Mirror::start(settings.clone(), bench.log.clone()).expect("starts");
    older.announce(Facts { devices: 3, connected: 2, clock: Clock::Free, host: "box-1".into(), version: "0.1.0".into() });
    wait_mirrored(&older, &bench.log);
    let found = wait_for_announcement(&kafka, &settings.edges_topic, |a| a.devices == 3 && a.mirrored == 100);
    assert_eq!((found.edge.as_str(), found.connected, found.clock.as_str()), ("EDGE-TEST", 2, "free"));
    assert_eq!((found.epoch, found.state.as_str()), (bench.log.epoch(), "mirroring"));

    // The same id on another box, with a log of its own.
    let twin = open_log();
    append(&twin.log, 100, 5);
    let younger = Mirror::start(settings, twin.log.clone()).expect("starts");
    wait_until("the older one gives way", &older, || older.status().state == State::Superseded);
    assert!(older.status().sentence.contains("another edge id"), "{}", older.status().sentence);
    append(&bench.log, 100, 5);
    wait_mirrored(&younger, &twin.log);
    append(&twin.log, 100, 5);
    wait_mirrored(&younger, &twin.log);
    assert_eq!(younger.status().state, State::Mirroring);
    let left = older.status();
    assert_eq!((left.acknowledged, left.backlog), (100, 100), "what came after giving way stays in its log");
    assert_eq!((left.rate, left.eta), (0.0, None), "and nobody is told that it will go");
    let turns = older.progress();
    wait_until("its loop still turns", &older, || older.progress() > turns);
    older.stop(Duration::from_secs(2));
    younger.stop(Duration::from_secs(2));
    let mut records = read_all(&kafka, &topic);
    records.retain(|record| record.epoch == twin.log.epoch() && record.edge == "EDGE-TEST");
    if bench.log.epoch() != twin.log.epoch() {
        judge(&records, &twin.log, &[]);
    }
}

#[test]
fn an_older_copy_of_the_log_is_not_sent_and_says_why() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("copy"));
    append(&bench.log, 100, 5);
    let (bench, backup) = bench.with_backup();
    let mut settings = config(&kafka, &topic);
    settings.announce_every = Duration::from_millis(100);
    let mirror = Mirror::start(settings.clone(), bench.log.clone()).expect("starts");
    append(&bench.log, 100, 5);
    wait_mirrored(&mirror, &bench.log);
    wait_for_announcement(&kafka, &settings.edges_topic, |a| a.acknowledged == 200);
    mirror.stop(Duration::from_secs(2));

    // Known from its announcements, or, without these, from what stands in the topic.
    let (backup, other) = backup.with_backup();
    let proofs = ["it ends at event 150, and 200 were mirrored", "Kafka holds 50 events of its epoch that it does not know"];
    for ((backup, edges_topic), proof) in [(backup, settings.edges_topic.clone()), (other, fresh("none"))].into_iter().zip(proofs) {
        assert_eq!(backup.log.epoch(), bench.log.epoch());
        let settings = edge_mirror::Config { edges_topic, ..settings.clone() };
        append(&backup.log, 50, 5);
        // The second time it has grown past what was mirrored.
        for more in [100, 0] {
            let mirror = Mirror::start(settings.clone(), backup.log.clone()).expect("starts");
            wait_until("it says that its log is an older copy", &mirror, || mirror.status().state == State::Outdated);
            append(&backup.log, more, 5);
            let status = mirror.status();
            assert!(status.sentence.contains(proof), "{}", status.sentence);
            assert_eq!((status.acknowledged, status.backlog), (0, 250), "it goes on collecting");
            mirror.stop(Duration::from_secs(2));
        }
    }
    judge(&read_all(&kafka, &topic), &bench.log, &[]);

    // A log of its own begins another epoch.
    let new = open_log();
    append(&new.log, 10, 5);
    let mirror = Mirror::start(settings, new.log.clone()).expect("starts");
    wait_mirrored(&mirror, &new.log);
    mirror.stop(Duration::from_secs(2));
}

#[test]
fn an_idle_edge_keeps_up_with_what_others_write_so_that_a_crash_leaves_little_to_read_back() {
    let Some(kafka) = kafka() else { return };
    let (bench, other, topic) = (open_log(), open_log(), fresh("idle"));
    append(&bench.log, 10, 5);
    let mut settings = config(&kafka, &topic);
    settings.announce_every = Duration::from_millis(100);
    let idle = Mirror::start(settings.clone(), bench.log.clone()).expect("starts");
    wait_mirrored(&idle, &bench.log);
    append(&other.log, 5_000, 50);
    settings.edge_id = "EDGE-OTHER".into();
    let busy = Mirror::start(settings, other.log.clone()).expect("starts");
    wait_mirrored(&busy, &other.log);
    let kept = || -> i64 {
        let note = bench.log.cursor(Cursor::MIRROR).expect("a cursor").note;
        let note: serde_json::Value = serde_json::from_slice(&note).expect("JSON");
        note["partitions"].as_object().expect("an object").values().map(|place| place["from"].as_i64().expect("an offset")).sum()
    };
    wait_until("reading back would begin behind what the other wrote", &idle, || kept() == 5_010);
    idle.stop(Duration::from_secs(2));
    busy.stop(Duration::from_secs(2));
}

fn wait_for_announcement(kafka: &str, topic: &str, wanted: impl Fn(&Announcement) -> bool) -> Announcement {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka).set("group.id", "judge").create().expect("a consumer");
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::Beginning).expect("valid");
    consumer.assign(&place).expect("assigned");
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = None;
    while Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            assert_eq!(message.key(), Some(b"EDGE-TEST".as_slice()));
            let announcement: Announcement = serde_json::from_slice(message.payload().expect("a value")).expect("valid JSON");
            if wanted(&announcement) {
                return announcement;
            }
            last = Some(announcement);
        }
    }
    panic!("no such announcement; the last one: {last:?}");
}
